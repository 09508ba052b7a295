"""Time of one step of acting: the agent's network against the same written plainly.

    python benchmarks/acting.py [--map-sizes 3m] [--envs 1 16]

Prints a table in Markdown. Plain is what a step comes to at the least with torch's own functions: one-hot
inputs side by side, a linear layer, ``torch.gru_cell``, a linear layer. Times are processor time of one
thread, the best of many runs taken by turns.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from update import SIZES, make_spec

from phalanx.modules.agents.rnn import RNNAgent


def plain_step(agent: RNNAgent, obs: Tensor, last_actions: Tensor, carry: Tensor) -> Tensor:
    """Values (B, N, A) and nothing else, from obs (B, N, O), last_actions (B, N) and carry (B, N, H)."""
    B, N, A = *last_actions.shape, agent.n_actions
    last = F.one_hot(last_actions, A + 1)[..., 1:].to(obs.dtype)
    eye = torch.eye(N).expand(B, N, N)
    x = torch.relu(agent.fc1(torch.cat([obs, last, eye], dim=-1)))
    weights = (agent.rnn.weight_ih_l0, agent.rnn.weight_hh_l0)
    biases = (agent.rnn.bias_ih_l0, agent.rnn.bias_hh_l0)
    hidden = torch.gru_cell(x.flatten(0, 1), carry.flatten(0, 1), *weights, *biases)
    values: Tensor = agent.fc2(hidden)
    return values.view(B, N, A)


def best_by_turns(
    runs: dict[str, Callable[[], object]], rounds: int, times: int
) -> dict[str, float]:
    """Shortest mean time of ``times`` calls in a row, over ``rounds`` turns."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(times):
                run()
            found[name] = min(found[name], (time.process_time() - start) / times)
    return found


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--map-sizes", choices=SIZES, default="3m")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = make_spec(options.map_sizes)
    agent = RNNAgent(RNNAgent.Config(), spec)
    print(
        f"{options.map_sizes} sizes, torch {torch.__version__}, {platform.machine()}, one thread\n"
    )
    print("| environments | plain us | agent us | ratio |\n|---|---|---|---|")
    for B in options.envs:
        obs = torch.randn(B, spec.n_agents, spec.obs_dim)
        last = torch.randint(0, spec.n_actions + 1, (B, spec.n_agents))
        carry = torch.randn(B, spec.n_agents, agent.hidden_dim)
        runs = {
            "plain": lambda o=obs, a=last, c=carry: plain_step(agent, o, a, c),
            "agent": lambda o=obs, a=last, c=carry: agent(o[:, None], a[:, None], c),
        }
        torch.testing.assert_close(runs["plain"](), runs["agent"]().values[:, 0])
        seconds = best_by_turns(runs, rounds=40, times=100)
        plain, ours = seconds["plain"] * 1e6, seconds["agent"] * 1e6
        print(f"| {B} | {plain:.0f} | {ours:.0f} | {ours / plain:.2f} |")


if __name__ == "__main__":
    main()
