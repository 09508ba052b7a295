"""A world made by hand: a counter that goes up, and what a team earns is known before it acts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import Discrete, EnvSpec
from phalanx.modules.tokenizers.base import Tokenizer, TokenizerOutput
from phalanx.modules.world_models.base import Dream, Moment, Simulator, WorldModelOutput

END = 6
"""Count that ends an episode."""
SPEC = EnvSpec(
    n_agents=2, obs_dim=3, state_dim=4, action=Discrete(3), episode_limit=9, obs_bound=float(END)
)


class Counter(Tokenizer):
    """The count is an observation's only token; agents see it in its first number."""

    def __init__(self) -> None:
        super().__init__(SPEC, tokens=1, vocabulary=END + 1)

    def encode(self, obs: Tensor) -> Tensor:
        return obs[..., :1].long()

    def reconstruct(self, codes: Tensor) -> Tensor:
        return codes.float() * torch.tensor([1.0, 0.0, 0.0])

    def losses(self, obs: Tensor) -> TokenizerOutput:
        return TokenizerOutput({}, {})


class CountingDream(Dream):
    def __init__(self, codes: Tensor) -> None:
        self.count = codes[..., 0]

    def step(self, actions: Tensor) -> Moment:
        """Pays ten times the count before the step, and the first agent's action."""
        reward = 10.0 * self.count[:, 0] + actions[:, 0]
        self.count = (self.count + 1).clamp(max=END)
        # In odd states the last action is not there.
        avail = torch.ones(*self.count.shape, SPEC.n_actions, dtype=torch.bool)
        avail[..., -1] = self.count % 2 == 0
        return Moment(self.count[..., None], avail, reward, self.count[:, 0] == END)


class Counting(Simulator):
    """Imagines the counter, and has nothing to learn."""

    def __init__(self, horizon: int = 4) -> None:
        super().__init__()
        self.horizon = horizon

    def losses(self, batch: EpisodeBatch) -> WorldModelOutput:
        raise AssertionError("has nothing to learn")

    def begin(
        self, codes: Tensor, avail_actions: Tensor, generator: torch.Generator
    ) -> CountingDream:
        return CountingDream(codes)

    def row_bytes(self, device: torch.device) -> int:
        return 1000


def played(starts: list[int], actions: Tensor) -> EpisodeBatch:
    """The same world as real windows of as many steps as there are ``actions`` (B, T, N)."""
    B, T = actions.shape[:2]
    count = (torch.tensor(starts)[:, None] + torch.arange(T + 1)).clamp(max=END)
    filled = count[:, :-1] < END
    codes = count[:, :, None, None].expand(B, T + 1, 2, 1)
    blank = torch.zeros(B, T, dtype=torch.bool)
    return replace(
        EpisodeBatch(
            spec=SPEC,
            obs=Counter().decode(codes),
            state=torch.zeros(B, T + 1, 4),
            avail_actions=torch.ones(B, T + 1, 2, 3, dtype=torch.bool),
            actions=actions,
            reward=(10.0 * count[:, :-1] + actions[..., 0]) * filled,
            terminated=filled & (count[:, 1:] == END),
            truncated=blank,
            lengths=filled.sum(dim=1),
        ),
        codes=codes,
    )
