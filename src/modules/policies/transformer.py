"""The multi-agent transformer: a team acts as one sequence, each agent knowing what those before it do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.chunks import Chunks
from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import POLICIES, PartConfig
from ..layers.decoding import begin
from ..layers.distributions import distribution_of
from ..layers.normed import HIDDEN_GAIN, ActionHead, NormedMLP, linear
from ..layers.transformer import (
    AgentEncoder,
    AttentionDecoder,
    RecurrentDecoder,
    RecurrentEncoder,
    head_base,
    value_head,
)
from .base import Decision, Evaluation, Seen, StochasticPolicy


def tokens_of(actions: Tensor, choices: int) -> Tensor:
    """Tokens (...) of discrete actions (...): the action plus one, 0 being the start.

    Continuous ones (..., D) give (..., 1 + D): a flag that is set at the start only, and the action. Mixed
    ones (..., 1 + D) with C ``choices`` give (..., 1 + C + D): the choice is told as a one-hot.
    """
    if not actions.is_floating_point():
        return actions + 1
    if choices:
        chosen = F.one_hot(actions[..., 0].long(), choices).to(actions.dtype)
        actions = torch.cat([chosen, actions[..., 1:]], dim=-1)
    return F.pad(actions, (1, 0))


def shifted(actions: Tensor, choices: int) -> Tensor:
    """What each position is told of actions (M, N, ...): the start, then the action before."""
    tokens = tokens_of(actions, choices)
    start = torch.zeros_like(tokens[:, :1])
    if tokens.is_floating_point():
        start[..., 0] = 1.0
    return torch.cat([start, tokens[:, :-1]], dim=1)


@POLICIES.register("transformer")
class TransformerPolicy(StochasticPolicy):
    """Multi-agent transformer (Wen et al., 2022): encodes all observations, decodes actions one by one.

    Training decodes all agents in one causal pass; acting decodes agent after agent and keeps what was
    computed of earlier ones. ``encoder`` and ``decoder`` choose its variants:

    * attention and attention: MAT. attention and none: its encoder-only form, all agents at once.
    * none and attention: its decoder-only form, where values come from the decoder.
    * gru and gru: recurrent over the agents.

    It remembers nothing from step to step. Its values are those of the critic ``of_policy``.
    """

    class Config(PartConfig):
        encoder: Literal["attention", "gru", "none"] = Field(
            "attention", description="how agents know of each other's observations"
        )
        decoder: Literal["attention", "gru", "none"] = Field(
            "attention", description="how they know of the actions of those before them"
        )
        n_block: int = Field(1, ge=1, description="attention blocks of encoder and of decoder")
        n_embd: int = Field(64, ge=1, description="D, width of everything")
        n_head: int = Field(1, ge=1, description="attention heads")
        obs_agent_id: bool = Field(True, description="agents see which one of the team they are")
        random_agent_order: bool = Field(
            False, description="agents decide in an order drawn anew for each episode"
        )
        initial_scale: float = Field(
            1.0, description="s in the first deviation 0.5 sigmoid(s) of continuous actions"
        )
        test_greedy: bool = Field(True, description="tests take the most likely actions")

    recurrent = False

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        if config.n_embd % config.n_head:
            raise ConfigError(
                f"policy transformer: n_head={config.n_head} does not divide n_embd={config.n_embd}"
            )
        self._config, self.n_agents = config, spec.n_agents
        self.distribution = distribution_of(spec)
        self._action_shape, self._outputs = spec.action_shape, spec.policy_outputs
        self._choices, self._mask_dim = spec.choices, spec.mask_dim
        D, agents = config.n_embd, spec.n_agents if config.obs_agent_id else 0
        self.embed = NormedMLP([spec.obs_dim], [D], "gelu", agents=agents)
        blocks = config.n_block if config.encoder == "attention" else 0
        self.encoder: nn.Module = (
            RecurrentEncoder(D)
            if config.encoder == "gru"
            else AgentEncoder(D, blocks, config.n_head)
        )
        self.decoder: AttentionDecoder | RecurrentDecoder | None = None
        if config.decoder == "attention":
            self.decoder = AttentionDecoder(D, config.n_block, config.n_head)
        elif config.decoder == "gru":
            self.decoder = RecurrentDecoder(D)
        self.joint = self.decoder is not None
        if self.decoder is not None:
            width = 1 + spec.choices + spec.dimensions
            self.token = linear(width, D, HIDDEN_GAIN, bias=False)
        self.head = nn.Sequential(
            *head_base(D),
            ActionHead(
                D,
                spec.choices,
                spec.dimensions,
                initial_scale=config.initial_scale,
            ),
        )
        self.value = value_head(D)

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """With ``random_agent_order`` the agent (B, N) at each position, else nothing."""
        if not self._config.random_agent_order:
            return {}
        if generator is None:
            order = torch.arange(self.n_agents, device=device)
            return {"order": order.repeat(batch_size, 1)}
        draw = torch.rand(batch_size, self.n_agents, device=device, generator=generator)
        return {"order": draw.argsort(dim=1)}

    def act(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions for what is ``seen``, and the next carry."""
        order = carry.get("order")
        draws = None if test_mode and self._config.test_greedy else generator
        with torch.inference_mode():
            rep = self.encode(seen.obs, order)
            avail = _permuted(seen.avail_actions, order)
            actions = _restored(self.decode(rep, avail, draws), order)
        return actions.clone(), carry  # the clone is an ordinary tensor

    def decide(
        self,
        seen: Seen,
        carry: dict[str, Tensor],
        t_env: int,
        generator: torch.Generator | None,
    ) -> Decision:
        """See :meth:`StochasticPolicy.decide`; acting itself needs no outputs of all agents at once."""
        order = carry.get("order")
        rep = self.encode(seen.obs, order)
        decided = self.decode(rep, _permuted(seen.avail_actions, order), generator)
        outputs = _restored(self.head(self.features(rep, decided)), order)
        return Decision(outputs, _restored(decided, order), carry)

    def evaluate(self, chunks: Chunks) -> Evaluation:
        """Log-probabilities, entropies and values of all agents in one pass."""
        K, C = chunks.actions.shape[:2]
        order = chunks.carry.get("order")
        each = None if order is None else order[:, None].expand(K, C, -1)
        flat = None if each is None else each.flatten(0, 1)
        actions = chunks.actions.flatten(0, 1)
        rep = self.encode(chunks.obs.flatten(0, 1), flat)
        features = self.features(rep, _permuted(actions, flat))
        outputs = _restored(self.head(features), flat)
        log_prob, entropy = self.distribution.log_prob(
            outputs, chunks.avail_actions.flatten(0, 1), actions
        )
        values = _restored(self._value(rep, features), flat)
        return Evaluation(
            log_prob.view(K, C, *log_prob.shape[1:]),
            entropy.view(K, C, *entropy.shape[1:]),
            outputs.view(K, C, *outputs.shape[1:]),
            {} if each is None else {"order": each},
            values.view(K, C, -1),
        )

    def values(self, obs: Tensor, avail_actions: Tensor, carry: Mapping[str, Tensor]) -> Tensor:
        """Values (M, N) of obs (M, N, O), agents being in the order ``carry`` has.

        Where they come from the decoder they depend on earlier agents' actions: the most likely ones.
        """
        order = carry.get("order")
        rep = self.encode(obs, order)
        if self._config.encoder != "none":
            return _restored(self._value(rep, rep), order)
        actions = self.decode(rep, _permuted(avail_actions, order), None)
        return _restored(self._value(rep, self.features(rep, actions)), order)

    def encode(self, obs: Tensor, order: Tensor | None = None) -> Tensor:
        """Representations (M, N, D) of obs (M, N, O), by position in ``order`` (M, N)."""
        rep: Tensor = self.encoder(_permuted(self.embed(obs), order))
        return rep

    def features(self, rep: Tensor, actions: Tensor) -> Tensor:
        """(M, N, D), each agent's given the ``actions`` (M, N, ...) of those before it."""
        if self.decoder is None:
            return rep
        features: Tensor = self.decoder(self._embed_tokens(shifted(actions, self._choices)), rep)
        return features

    @torch.no_grad()
    def decode(self, rep: Tensor, avail: Tensor, generator: torch.Generator | None) -> Tensor:
        """Actions (M, N, ...), one agent after the other, without computing anything twice.

        Args:
            generator: draws them; None takes the most likely.
        """
        M, N, _ = rep.shape
        like = rep.new_empty(M, N, self._outputs)
        offsets = self.distribution.offsets(like, avail, generator)
        if self.decoder is None:
            return self.distribution.choose(self.head(rep), offsets)
        decoding = begin(self.decoder, self.head, rep)
        table = None if self._action_shape else decoding.enter(self._table())
        if table is not None and (choices := decoding.choose_all(table, offsets)) is not None:
            return choices
        blank = rep.new_zeros(M, 1, *self._action_shape)
        token = shifted(blank if self._action_shape else blank.long(), self._choices)[:, 0]
        actions = []
        for i, offset in enumerate(offsets.unbind(1)):
            entered = (
                decoding.enter(self._embed_tokens(token))
                if table is None
                else F.embedding(token, table)
            )
            actions.append(self.distribution.choose(decoding.step(i, entered), offset))
            token = tokens_of(actions[-1], self._choices)
        return torch.stack(actions, dim=1)

    def prepare(self) -> None:
        """Compile what decoding needs on this device, before anybody counts the time."""
        rep = next(self.parameters()).new_zeros(1, self.n_agents, self._config.n_embd)
        self.decode(rep, rep.new_ones(1, self.n_agents, self._mask_dim, dtype=torch.bool), None)

    def _table(self) -> Tensor:
        """Embeddings (A + 1, D) of all tokens of discrete actions."""
        return F.gelu(self.token.weight.t())

    def _embed_tokens(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., D) of ``tokens``, see :func:`tokens_of`."""
        if self._action_shape:
            return F.gelu(self.token(tokens))
        return F.embedding(tokens, self._table())

    def _value(self, rep: Tensor, features: Tensor) -> Tensor:
        values: Tensor = self.value(features if self._config.encoder == "none" else rep)
        return values.squeeze(-1)


def _permuted(x: Tensor, order: Tensor | None) -> Tensor:
    """x (M, N, ...) by position: agent ``order[m, k]`` at position k."""
    if order is None:
        return x
    return x[torch.arange(x.shape[0], device=x.device)[:, None], order]


def _restored(x: Tensor, order: Tensor | None) -> Tensor:
    """Undo :func:`_permuted`."""
    return x if order is None else _permuted(x, order.argsort(dim=1))
