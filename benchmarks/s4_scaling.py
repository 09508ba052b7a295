"""What state spaces cost as episodes grow longer, in acting and in training, beside attention and a GRU.

    python benchmarks/s4_scaling.py [--device cuda] [--battles 32] [--rows 4] [--steps 50 200 500 2000]
        [--rounds 3] [--plot FILE]

Prints two tables in Markdown. Acting compares a step of the recurrence, early and late in an episode, with
the convolution over all steps so far run anew, which is how published code acts; both must give the same
outputs. The training step is forward and backward of layers alone, with the same number of parameters
(56,000): the stack of `mads4`, three blocks of full causal attention, and a GRU. Memory is what the graph
keeps for the way back, and with CUDA the peak. Times are processor time of the single thread, or CUDA's, the
least over rounds.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.modules.layers.causal import BandedAttention, Trunk
from phalanx.modules.layers.s4_stack import Stack
from phalanx.modules.policies.s4 import S4Policy
from phalanx.modules.policies.sequence import Moments

AGENTS, SIZES, LIMIT = 3, (64, 81, 9), 400  # O, S, A of 3m
WIDTHS = {"S4": 96, "attention": 48, "GRU": 96}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return time.process_time() - start


def least(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Milliseconds of the fastest of several calls, after one that does not count."""
    work()
    return 1000 * min(seconds(work, device) for _ in range(rounds))


def moments(rows: int, steps: int, device: torch.device) -> Moments:
    """Steps of episodes."""
    O, S, A = SIZES
    return Moments(
        torch.rand(rows, steps, AGENTS, O, device=device),
        torch.rand(rows, steps, S, device=device),
        torch.randint(0, A + 1, (rows, steps, AGENTS), device=device),
        torch.rand(rows, steps, device=device) * 20,
        torch.arange(steps, device=device).expand(rows, steps),
    )


@torch.no_grad()
def acting(rows: int, device: torch.device, rounds: int) -> list[str]:
    """Rows of the first table."""
    O, S, A = SIZES
    spec = EnvSpec(AGENTS, O, S, Discrete(A), episode_limit=LIMIT)
    torch.manual_seed(0)
    policy = S4Policy(S4Policy.Config(), spec).to(device)
    lines = []
    for steps in (10, 50, 200, 390):
        told = moments(rows, steps, device)
        carry, x = policy.init_carry(rows, device), None
        for t in range(steps):
            now, before = Moments(*(m[:, t : t + 1] for m in told)), carry
            x, memory, *_ = policy.look(now, carry)
            carry = {**carry, **memory}
        anew = partial(policy.look, told, None)
        assert x is not None
        torch.testing.assert_close(x[:, 0], anew().outputs[:, -1], atol=1e-4, rtol=1e-4)
        step = least(partial(policy.look, now, before), device, rounds * 5)
        again = least(anew, device, rounds)
        lines.append(f"| {steps} | {step:.2f} ms | {again:.1f} ms | {again / step:.1f} |")
    return lines


class Attention(nn.Module):
    """Full causal attention over up to ``steps`` steps."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        mixer = partial(BandedAttention, heads=4, context=steps)
        self.trunk = Trunk(width, 3, mixer)

    def forward(self, x: Tensor) -> Tensor:
        """(M, L, D) of x (M, L, D)."""
        features: Tensor = self.trunk(x[:, :, None]).features[:, :, 0]
        return features


class Spaces(nn.Module):
    """The stack of state spaces."""

    def __init__(self, width: int, kernel: str, learnt: str) -> None:
        super().__init__()
        self.stack = Stack(
            width, 96, 3, norm=False, skip=False, kernel=kernel, disc="bilinear", train_ssm=learnt
        )

    def forward(self, x: Tensor) -> Tensor:
        """(M, L, H) of x (M, L, H)."""
        return self.stack.through(x.shape[1], None, memory=False)(x, 0).features


class GRU(nn.Module):
    """One layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(M, L, H) of x (M, L, H)."""
        features: Tensor = self.gru(x)[0]
        return features


@dataclass
class Cost:
    """Of a training step."""

    name: str
    steps: int
    milliseconds: float
    mebibytes: float


def models(steps: int) -> dict[str, nn.Module]:
    """What is compared, with about the same number of parameters that are learnt."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        "S4": Spaces(WIDTHS["S4"], "dplr", "none"),
        "S4D, all learnt": Spaces(WIDTHS["S4"], "s4d_legs", "all"),
        "attention": Attention(WIDTHS["attention"], steps),
        "GRU": GRU(WIDTHS["GRU"]),
    }
    for name, model in found.items():
        count = sum(p.numel() for p in model.parameters())
        if abs(count - 56_000) > 1500:
            raise SystemExit(f"{name} has {count} parameters")
    return found


def training(
    name: str, model: nn.Module, rows: int, steps: int, device: torch.device, rounds: int
) -> Cost:
    """Forward and backward of one model."""
    width = WIDTHS[name.partition(",")[0].replace("S4D", "S4")]
    x = torch.randn(rows * AGENTS, steps, width, device=device)
    model.to(device)

    def step() -> None:
        model.zero_grad()
        model(x).square().mean().backward()

    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers(), x]}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    step()  # kernels of fixed state spaces are made once
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        size = torch.cuda.max_memory_allocated()
    else:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            loss = model(x).square().mean()
        size = sum(kept.values())
        del loss
    return Cost(name, steps, least(step, device, rounds), size / 2**20)


def drawn(costs: list[Cost], file: str) -> None:
    """Both costs over the number of steps, one line per model."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name in dict.fromkeys(cost.name for cost in costs):
        own = [cost for cost in costs if cost.name == name]
        for axis, what in zip(axes, ("milliseconds", "mebibytes"), strict=True):
            values = [getattr(cost, what) for cost in own]
            axis.plot([cost.steps for cost in own], values, marker="o", label=name)
    for axis, title in zip(axes, ("a training step, ms", "kept or peak memory, MiB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="steps of a row", title=title)
    axes[0].legend()
    figure.savefig(file, dpi=110)


def main() -> None:
    """Parse the command line, measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--battles", type=int, default=32)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 200, 500, 2000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(
        f"{where}, torch {torch.__version__}, {AGENTS} agents; acting in "
        f"{arguments.battles} battles, training on {arguments.rows} rows\n"
    )
    print("| t | one step | the convolution over t steps anew | ratio |\n| --- | --- | --- | --- |")
    print("\n".join(acting(arguments.battles, device, arguments.rounds)), flush=True)
    print("\n| steps | model | training step | memory |\n| --- | --- | --- | --- |")
    costs = []
    for steps in arguments.steps:
        for name, model in models(steps).items():
            cost = training(name, model, arguments.rows, steps, device, arguments.rounds)
            costs.append(cost)
            print(
                f"| {steps} | {name} | {cost.milliseconds:.1f} ms | {cost.mebibytes:.1f} MiB |",
                flush=True,
            )
    if arguments.plot:
        drawn(costs, arguments.plot)


if __name__ == "__main__":
    main()
