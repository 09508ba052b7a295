"""Policy of actor-critic methods that act on their own: an agent network and a distribution."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ...data.batch import EpisodeBatch
from ...data.chunks import Chunks
from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import POLICIES, PartConfig
from ..action_selectors.epsilon_greedy import linear_schedule
from ..agents.base import Agent
from ..agents.frames import none_before, with_those_before
from ..layers.distributions import MASKED, distribution_of
from .base import Decision, Evaluation, Seen, StochasticPolicy


def with_floor(logits: Tensor, avail_actions: Tensor, epsilon: float) -> Tensor:
    """Logits (..., A) of ``(1 - epsilon) softmax + epsilon uniform`` over available actions (..., A).

    With it no available action is less likely than epsilon over their number (Foerster et al., 2018).
    """
    if not epsilon:
        return logits
    p = logits.masked_fill(~avail_actions, MASKED).softmax(dim=-1)
    count = avail_actions.sum(dim=-1, keepdim=True).clamp(min=1)
    return ((1 - epsilon) * p + epsilon / count).log()


@POLICIES.register("actor")
class ActorPolicy(StochasticPolicy):
    """Decentralised stochastic acting: every agent draws from its own network's distribution."""

    class Config(PartConfig):
        test_greedy: bool = Field(True, description="tests take the most likely action")
        epsilon_start: float = Field(
            0.0, ge=0, le=1, description="share of the uniform policy in training, at the start"
        )
        epsilon_finish: float = Field(0.0, ge=0, le=1, description="the same in the end")
        epsilon_anneal_time: int = Field(
            50_000, ge=1, description="environment steps from start to finish, linear"
        )

    def __init__(self, config: Config, spec: EnvSpec, *, agent: Agent) -> None:
        super().__init__()
        if config.epsilon_start and spec.action_shape:
            raise ConfigError(
                "policy actor: epsilon_start mixes in a uniform choice and needs discrete actions; this "
                "environment's are vectors. Set epsilon_start=0."
            )
        self._config = config
        self._epsilon = config.epsilon_start  # of the latest actions in training
        self._spec = spec
        self.n_agents, self._greedy = spec.n_agents, config.test_greedy
        self.agent: Agent = agent
        self.recurrent = bool(getattr(agent, "recurrent", True))
        self.distribution = distribution_of(spec)
        self._discrete = not spec.action_shape

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Hidden state (B, N, H), last action plus one (B, N), and frames; zeros start an episode."""
        last = torch.zeros(batch_size, self.n_agents, dtype=torch.int64, device=device)
        before = none_before(self.agent, self._spec, batch_size, device)
        return {"hidden": self.agent.init_carry(batch_size, device), "last_actions": last} | before

    # no_grad, not inference_mode: runners write into the carry, which inference tensors refuse.
    @torch.no_grad()
    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for what is ``seen``, and the next carry."""
        outputs, after = self._advance(seen, carry)
        if not test_mode:
            self.acted(t_env)
            outputs = with_floor(outputs, seen.avail_actions, self._epsilon)
        draws = None if test_mode and self._greedy else generator
        actions = self.draw(outputs, seen.avail_actions, draws)
        return actions, self._having_done(actions, after)

    def decide(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        generator: torch.Generator | None,
    ) -> Decision:
        """See :meth:`StochasticPolicy.decide`."""
        outputs, after = self._advance(seen, carry)
        if generator is not None:
            self.acted(t_env)
            outputs = with_floor(outputs, seen.avail_actions, self._epsilon)
        actions = self.draw(outputs, seen.avail_actions, generator)
        return Decision(outputs, actions, self._having_done(actions, after))

    def _advance(self, seen: Seen, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs (B, N, K) for what is seen, and the carry but for the actions it leads to."""
        obs, before = with_those_before(seen.obs, carry)
        out = self.agent(obs, carry["last_actions"][:, None], carry["hidden"])
        return out.values[:, 0], {**carry, "hidden": out.carry, **before}

    def _having_done(self, actions: Tensor, carry: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**carry, "last_actions": actions + 1} if self._discrete else carry

    def acted(self, t_env: int) -> None:
        """See :meth:`.StochasticPolicy.acted`: how likely its actions were depends on epsilon."""
        self._epsilon = self.epsilon(t_env)

    def draw(
        self, outputs: Tensor, avail_actions: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Actions (..., *action_shape) of outputs (..., K); the most likely ones without a generator."""
        offsets = self.distribution.offsets(outputs, avail_actions, generator)
        return self.distribution.choose(outputs, offsets)

    def epsilon(self, t_env: int) -> float:
        """Share of the uniform policy after ``t_env`` environment steps of training."""
        c = self._config
        return linear_schedule(c.epsilon_start, c.epsilon_finish, c.epsilon_anneal_time, t_env)

    def unroll(self, batch: EpisodeBatch) -> Tensor:
        """Log-probabilities (B, T+1, N, A) of all discrete actions as they were drawn, at every entry."""
        start = self.start_of(batch)["hidden"]
        obs = batch.frames("obs", self.agent.frames)
        out = self.agent(obs, batch.last_actions, start, batch.lengths + 1)
        outputs = with_floor(out.values, batch.avail_actions, self._epsilon)
        return F.log_softmax(outputs.masked_fill(~batch.avail_actions, MASKED), dim=-1)

    def metrics(self, t_env: int) -> dict[str, float]:
        """The share of the uniform policy, where there is one."""
        return {"epsilon": self.epsilon(t_env)} if self._config.epsilon_start else {}

    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities and entropies of what was done; an agent alone needs a network of its own."""
        start = chunks.carry["hidden"]
        extra = {} if chunks.member is None else {"member": chunks.member}
        lengths = chunks.lengths if self.recurrent else None
        obs = chunks.frames("obs", self.agent.frames)
        out = self.agent(obs, chunks.last_actions, start, lengths, **extra)
        outputs = with_floor(out.values, chunks.avail_actions, self._epsilon)
        log_prob, entropy = self.distribution.log_prob(
            outputs, chunks.avail_actions, chunks.actions
        )
        before = torch.cat([start[:, None], out.hidden[:, :-1]], dim=1)
        carry = {"hidden": before, "last_actions": chunks.last_actions}
        return Evaluation(log_prob, entropy, outputs, carry)
