"""Sequence policies that are a trunk over tokens: what decision transformers have in common.

Axes: B rows, T steps, N agents, P tokens of a step, D width, C context, K outputs of an agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ..layers.causal import Mixer, Trunk
from ..layers.normed import ActionHead
from .sequence import Looked, Moments, SequenceConfig, SequencePolicy


class TokenConfig(SequenceConfig):
    """Keys of all policies of the family."""

    tokens: Literal["obs", "action_obs", "return_action_obs"] = Field(
        "return_action_obs",
        description="what a step is told as, in this order: the return asked for, the action before it, the "
        "observation",
    )
    context_length: int = Field(20, ge=1, description="C, steps each layer sees")
    n_layer: int = Field(2, ge=1, description="blocks of the trunk")
    n_embd: int = Field(32, ge=1, description="D, width of everything")
    return_scale: float = Field(20.0, gt=0, description="the return that the network sees as 1")
    obs_agent_id: bool = Field(True, description="agents see which one of the team they are")
    head_gain: float = Field(0.01, gt=0, description="size of the first outputs")
    initial_scale: float = Field(
        1.0, description="s in the first deviation 0.5 sigmoid(s) of continuous actions"
    )

    @property
    def kinds(self) -> list[str]:
        """What each of the P tokens of a step tells."""
        return self.tokens.split("_")


class TokenPolicy(SequencePolicy):
    """One network for all agents, over each agent's own sequence of tokens.

    A step is the return still asked for, the action before it and the observation, or the last of these, each
    a token. All of them are known when the agent acts, and its action is read off the observation's. To each
    is added what a table has of the step's absolute time.

    Args:
        config: keys of the family.
        spec: the environment's description.
        mixer: makes what mixes tokens in each block, of this width.

    Raises:
        ConfigError: tokens of actions are wanted and actions are vectors.
    """

    def __init__(self, config: TokenConfig, spec: EnvSpec, mixer: Callable[[int], Mixer]) -> None:
        super().__init__(config, spec)
        self._kinds = config.kinds
        if "action" in self._kinds and spec.action_shape:
            raise ConfigError(
                f"tokens={config.tokens} tells agents their last action and needs discrete actions; this "
                "environment's are vectors. Set tokens=obs."
            )
        D, self._return_scale = config.n_embd, config.return_scale
        self.tokens = nn.ModuleDict({"obs": nn.Linear(spec.obs_dim, D)})
        if "return" in self._kinds:
            self.tokens["return"] = nn.Linear(1, D)
        if "action" in self._kinds:
            self.tokens["action"] = _table(spec.n_actions + 1, D, 0.02)
        self.agents = _table(spec.n_agents, D, 0.02) if config.obs_agent_id else None
        self.time = _table(spec.episode_limit + 1, D, 0.0)
        self.trunk = Trunk(D, config.n_layer, mixer, read=1)
        self.head = ActionHead(
            D,
            spec.choices,
            spec.dimensions,
            gain=config.head_gain,
            initial_scale=config.initial_scale,
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights of linear layers, and the rest, which does not decay: biases, norms, tables, mixes."""
        linear = {id(x.weight) for x in self.modules() if isinstance(x, nn.Linear)}
        weights = [p for p in self.parameters() if id(p) in linear]
        rest = [p for p in self.parameters() if id(p) not in linear]
        return [{"params": weights}, {"params": rest, "weight_decay": 0.0}]

    def remember_nothing(self, batch_size: int, device: torch.device) -> dict[str, Tensor]:
        """Steps seen (B,), and what each block remembers of them (B, N, C - 1, P, D)."""
        blocks = self.trunk.begin(batch_size * self.n_agents, len(self._kinds), device)
        return self._named(torch.zeros(batch_size, dtype=torch.int64, device=device), blocks)

    def look(self, moments: Moments, memory: Mapping[str, Tensor] | None) -> Looked:
        """See :meth:`SequencePolicy.look`."""
        N, T = self.n_agents, moments.step.shape[1]
        x = rearrange(self.embed(moments), "b t n p d -> (b n) t p d")
        seen, past, of_rows = torch.zeros_like(moments.step[:, 0]), None, None
        if memory is not None:
            seen = memory["seen"]
            past = [memory[f"block_{i}"].flatten(0, 1) for i in range(len(self.trunk.blocks))]
            of_rows = seen.repeat_interleave(N)
        features, blocks, costs = self.trunk(x, past, of_rows)
        outputs = self.head(rearrange(features, "(b n) t 1 d -> b t n d", n=N))
        return Looked(outputs, self._named(seen + T, blocks), self.costs(costs))

    def costs(self, of_blocks: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """What is to be kept small, (B, T, N) by name, of what each block's mixer costs (B N, T, R)."""
        return {}

    def embed(self, moments: Moments) -> Tensor:
        """Tokens (B, T, N, P, D), in the order in which the key ``tokens`` names them."""
        told = {"obs": self.tokens["obs"](moments.obs)}
        if self.agents is not None:
            told["obs"] = told["obs"] + self.agents.weight
        if "return" in self._kinds:
            asked = moments.return_to_go / self._return_scale
            told["return"] = self.tokens["return"](asked[..., None, None]).expand_as(told["obs"])
        if "action" in self._kinds:
            told["action"] = self.tokens["action"](moments.last_actions)
        tokens = torch.stack([told[kind] for kind in self._kinds], dim=3).tanh()
        # Copies that wait for others to finish count on; what they do is not looked at.
        times: Tensor = self.time(moments.step.clamp(max=self.time.num_embeddings - 1))
        return tokens + times[:, :, None, None]

    def _named(self, seen: Tensor, blocks: list[Tensor]) -> dict[str, Tensor]:
        apart = (rearrange(x, "(b n) c p d -> b n c p d", n=self.n_agents) for x in blocks)
        return {"seen": seen} | {f"block_{i}": x for i, x in enumerate(apart)}


def _table(rows: int, width: int, std: float) -> nn.Embedding:
    """An embedding with normal weights, zeros without ``std``."""
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=std)
    return table
