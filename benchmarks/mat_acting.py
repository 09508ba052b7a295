"""Time in which a team acts with MAT: with its key/value cache against running the decoder anew per agent.

    python benchmarks/mat_acting.py [--agents 10] [--battles 64] [--rounds 20]

Prints a table in Markdown. Both forms act in one process, by turns, on the same observations with the same
noise, and must choose the same actions. Times are processor time of the single thread, the least over rounds:
other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor

from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.modules.policies.base import Seen
from phalanx.modules.policies.transformer import TransformerPolicy

SIZES = (176, 322, 18)  # O, S, A of MMM2


@torch.inference_mode()
def anew(policy: TransformerPolicy, obs: Tensor, avail: Tensor) -> Tensor:
    """Actions (B, N) by a whole pass of the decoder for every agent, of which one row is used."""
    rep = policy.encode(obs)
    generator = torch.Generator()  # the seed of a new one is always the same
    offsets = policy.distribution.offsets(torch.empty(avail.shape), avail, generator)
    actions = torch.zeros(obs.shape[:2], dtype=torch.int64)
    for i in range(obs.shape[1]):
        outputs = policy.head(policy.features(rep, actions))[:, i]
        actions[:, i] = policy.distribution.choose(outputs, offsets[:, i])
    return actions


def seconds(act: Callable[[], Tensor]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    act()
    return time.process_time() - start


def compare(agents: int, battles: int, rounds: int) -> str:
    """A row of the table."""
    O, S, A = SIZES
    torch.manual_seed(0)
    policy = TransformerPolicy(
        TransformerPolicy.Config(), EnvSpec(agents, O, S, Discrete(A), episode_limit=100)
    )
    obs = torch.rand(battles, agents, O)
    avail = torch.rand(battles, agents, A) < 0.5
    avail[..., 0] = True
    alive = torch.ones(battles, agents, dtype=torch.bool)
    seen = Seen(obs, torch.zeros(battles, S), avail, alive, torch.zeros(battles))

    def cached() -> Tensor:
        return policy.act(seen, {}, 0, False, torch.Generator())[0]

    def without() -> Tensor:
        return anew(policy, obs, avail)

    if not torch.equal(cached(), without()):
        raise SystemExit("the two forms do not choose the same actions")
    pairs = [(seconds(cached), seconds(without)) for _ in range(rounds)]
    fast, slow = (1000 * min(column) for column in zip(*pairs, strict=True))
    return f"| {agents} | {battles} | {fast:.2f} ms | {slow:.2f} ms | {slow / fast:.1f} |"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--agents", type=int, nargs="+", default=[3, 10, 27])
    parser.add_argument("--battles", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| agents | battles | with the cache | decoder anew per agent | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for agents in arguments.agents:
        print(compare(agents, arguments.battles, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
