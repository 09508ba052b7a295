"""Time in which a team acts with a decision transformer: by what it remembers, or a pass over the context.

    python benchmarks/sequence_acting.py [--agents 10] [--battles 64] [--context 20] [--rounds 30]

Prints a table in Markdown. Published decision transformers run over the last C steps anew at every step. Both
forms act in one process, by turns. With one layer they must give the same outputs; with more, what is
remembered reaches further back than the window, as each layer looks C steps back. Times are processor time of
the single thread, the least over rounds: other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.modules.policies.base import Seen
from phalanx.modules.policies.decision_transformer import DecisionTransformer
from phalanx.modules.policies.sequence import Moments

SIZES = (176, 322, 18)  # O, S, A of MMM2
LIMIT = 400


class Team:
    """A policy in the midst of an episode, and the steps before.

    Args:
        agents: N.
        battles: B.
        keys: of the policy.
    """

    def __init__(self, agents: int, battles: int, **keys: object) -> None:
        O, S, A = SIZES
        self.spec = EnvSpec(agents, O, S, Discrete(A), episode_limit=LIMIT)
        torch.manual_seed(0)
        config = DecisionTransformer.Config.model_validate(keys)
        self.policy = DecisionTransformer(config, self.spec)
        C = self.context = config.context_length
        self.moments = Moments(
            torch.rand(battles, C, agents, O),
            torch.rand(battles, C, S),
            torch.randint(0, A + 1, (battles, C, agents)),
            torch.rand(battles, C) * 20,
            torch.arange(C).expand(battles, C),
        )
        carry = self.policy.init_carry(battles, torch.device("cpu"))
        before = Moments(*(x[:, :-1] for x in self.moments))
        with torch.no_grad():
            self.carry = carry | self.policy.look(before, None).memory

    @torch.no_grad()
    def remembering(self) -> Tensor:
        """Outputs (B, N, A) of the last step, by what was kept of those before."""
        now = Moments(*(x[:, -1:] for x in self.moments))
        return self.policy.look(now, self.carry).outputs[:, 0]

    @torch.no_grad()
    def anew(self) -> Tensor:
        """The same by a pass over all of the context."""
        return self.policy.look(self.moments, None).outputs[:, -1]

    def flops(self, step: int) -> int:
        """Of acting at this step of an episode."""
        at = torch.full_like(self.carry["step"], step)
        moments = Moments(*(x[:, -1] for x in self.moments))
        avail = torch.ones(*moments.obs.shape[:2], SIZES[2], dtype=torch.bool)
        alive, reward = avail[..., 0], torch.zeros(len(avail))
        seen = Seen(moments.obs, moments.state, avail, alive, reward)
        with FlopCounterMode(display=False) as counter:
            carry = self.carry | {"step": at, "seen": at}
            self.policy.act(seen, carry, 0, False, torch.Generator())
        return counter.get_total_flops()


def seconds(act: Callable[[], Tensor]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    act()
    return time.process_time() - start


def compare(tokens: str, agents: int, battles: int, context: int, rounds: int) -> str:
    """A row of the table."""
    shallow = Team(agents, battles, tokens=tokens, context_length=context, n_layer=1)
    torch.testing.assert_close(shallow.remembering(), shallow.anew(), atol=1e-5, rtol=1e-5)
    team = Team(agents, battles, tokens=tokens, context_length=context)
    early, late = team.flops(10), team.flops(LIMIT - 10)
    if early != late:
        raise SystemExit(f"acting costs {early} FLOPs at step 10 and {late} at step {LIMIT - 10}")
    for act in (team.remembering, team.anew):
        act()
    pairs = [(seconds(team.remembering), seconds(team.anew)) for _ in range(rounds)]
    fast, slow = (1000 * min(column) for column in zip(*pairs, strict=True))
    return (
        f"| {tokens} | {agents} | {battles} | {context} | {early / 1e6:.0f} | {fast:.2f} ms | "
        f"{slow:.2f} ms | {slow / fast:.1f} |"
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--battles", type=int, default=64)
    parser.add_argument("--context", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| tokens | agents | battles | C | MFLOP a step | remembering | anew | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for tokens in ("obs", "action_obs", "return_action_obs"):
        row = compare(
            tokens, arguments.agents, arguments.battles, arguments.context, arguments.rounds
        )
        print(row, flush=True)


if __name__ == "__main__":
    main()
