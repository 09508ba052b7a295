"""Time of one gradient update: QMIX against its floor, and VDFD against QMIX.

    python benchmarks/update.py [--map-sizes MMM2] [--batch 32] [--updates 10]

Prints a table in Markdown. Both algorithms run in one process, by turns, on the same batch of random
episodes; times are processor time of their single thread. The floor is the matrix products of QMIX's
networks on filled steps, each as fast as this machine multiplies matrices of that shape.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.learners.q_learner import QLearner
from phalanx.registry import REGISTRIES, Assembler

SIZES = {
    # name: (N, O, S, A, episode limit), as the battle engine has them
    "3m": (3, 30, 48, 9, 60),
    "5m_vs_6m": (5, 55, 98, 12, 70),
    "MMM2": (10, 176, 322, 18, 180),
}
SHORTEST = 1 / 3  # of the limit; lengths are uniform from there


def make_spec(name: str) -> EnvSpec:
    """Sizes of a map."""
    N, O, S, A, limit = SIZES[name]
    return EnvSpec(N, O, S, Discrete(A), limit, has_alive=True)


def random_batch(spec: EnvSpec, batch_size: int) -> EpisodeBatch:
    """Episodes of random length, padded like those of a replay."""
    g = torch.Generator().manual_seed(0)
    B, N, A, limit = batch_size, spec.n_agents, spec.n_actions, spec.episode_limit
    lengths = torch.randint(int(limit * SHORTEST), limit + 1, (B,), generator=g)
    T = int(lengths.max())
    entries = torch.arange(T + 1) <= lengths[:, None]
    steps = torch.arange(T) < lengths[:, None]
    avail = torch.rand(B, T + 1, N, A, generator=g) < 0.5
    avail[..., 0] = True
    actions = torch.rand(B, T, N, A, generator=g).masked_fill(~avail[:, :-1], -1).argmax(-1)
    last = torch.arange(T) == lengths[:, None] - 1
    return EpisodeBatch(
        spec=spec,
        obs=torch.rand(B, T + 1, N, spec.obs_dim, generator=g) * entries[..., None, None],
        state=torch.rand(B, T + 1, spec.state_dim, generator=g) * entries[..., None],
        avail_actions=avail & entries[..., None, None],
        actions=actions * steps[..., None],
        reward=torch.rand(B, T, generator=g) * steps,
        terminated=last,
        truncated=torch.zeros_like(last),
        lengths=lengths,
        alive=entries[..., None].expand(B, T + 1, N).clone(),
    )


def make_learner(spec: EnvSpec, world_model: str) -> QLearner:
    """QMIX, or VDFD with the world model ``disentangled``, with default settings."""
    chosen = {
        "agent": "rnn",
        "policy": "value",
        "action_selector": "epsilon_greedy",
        "mixer": "qmix",
        "world_model": world_model,
        "learner": "q_learner",
    }
    torch.manual_seed(0)
    configs = {kind: REGISTRIES[kind].get(name).Config() for kind, name in chosen.items()}
    assembler = Assembler(chosen, configs, spec=spec, seed=0, device=torch.device("cpu"))
    learner: QLearner = assembler.build("learner")
    return learner


def qmix_products(spec: EnvSpec, entries: int, steps: int) -> list[tuple[int, int, int, int]]:
    """Matrix products (rows, in, out, times) of one QMIX update on filled entries only.

    Times: forward passes of online and target network, and the backward pass to weights and to inputs
    (to weights only in layers whose input is data).
    """
    N, O, S, A, H = spec.n_agents, spec.obs_dim, spec.state_dim, spec.n_actions, 64
    rows = entries * N
    # Hypernets (64 wide), biases and V of a mixer with 32 units.
    from_state, inner = [64, 64, 32, 32], [(64, N * 32), (64, 32), (32, 1)]
    return [
        (rows, O, H, 3),
        (rows, H, 3 * H, 4),  # GRU, input side
        (rows, H, 3 * H, 4),  # GRU, hidden side
        (rows, H, A, 4),
        *((steps, S, width, 3) for width in from_state),
        *((steps, a, b, 4) for a, b in inner),
    ]


def matmul_seconds(rows: int, inner: int, outer: int) -> float:
    """Measured time of one product of this shape."""
    x, w = torch.randn(rows, inner), torch.randn(inner, outer)
    out = torch.empty(rows, outer)
    return best(lambda: torch.mm(x, w, out=out), 15)


def best(run: Callable[[], object], times: int) -> float:
    """Shortest of some runs, after one to warm up."""
    run()
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--map-sizes", choices=SIZES, default="MMM2")
    parser.add_argument("--batch", type=int, default=32, help="episodes per update")
    parser.add_argument("--updates", type=int, default=10, help="timed updates of each algorithm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = make_spec(options.map_sizes)
    batch = random_batch(spec, options.batch)
    steps = int(batch.lengths.sum())
    entries = steps + batch.batch_size

    products = qmix_products(spec, entries, steps)
    flops = sum(2 * rows * a * b * times for rows, a, b, times in products)
    floor = sum(matmul_seconds(rows, a, b) * times for rows, a, b, times in products)
    learners = {"QMIX": make_learner(spec, "none"), "VDFD": make_learner(spec, "disentangled")}
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for update in range(options.updates + 2):
        for name, learner in learners.items():
            start = time.process_time()
            learner.learn(batch, 0)
            if update >= 2:
                seconds[name].append(time.process_time() - start)

    N, O, S, A, _ = SIZES[options.map_sizes]
    print(f"{options.map_sizes} sizes: N={N}, O={O}, S={S}, A={A}; {options.batch} episodes,")
    print(
        f"{steps} filled of {batch.batch_size * batch.max_t} steps; one thread, {platform.machine()},"
    )
    print(f"torch {torch.__version__}\n")
    print("| | best ms | median ms | of the floor | of QMIX |")
    print("|---|---|---|---|---|")
    rate = flops / floor / 1e9
    print(
        f"| floor: {flops / 1e9:.1f} GFLOP at {rate:.0f} GFLOP/s | {floor * 1e3:.0f} | | 1.00 | |"
    )
    base = min(seconds["QMIX"])
    middle = statistics.median(seconds["QMIX"])
    for name, times in seconds.items():
        low, mid = min(times), statistics.median(times)
        ratio = f"{low / base:.2f} (median {mid / middle:.2f})"
        print(f"| {name} | {low * 1e3:.0f} | {mid * 1e3:.0f} | {low / floor:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
