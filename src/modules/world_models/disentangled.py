"""World model of VDFD: three branches whose imagination conditions the mixer.

Wang and Meger, "Leveraging World Model Disentanglement in Value-Based Multi-Agent Reinforcement Learning",
2024. There is no public code; what the paper leaves open is marked "choice" where it is decided.

Axes: B episodes, T steps, P entries that exist, N agents, O observation, H agent hidden, Z latent per agent,
C context.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ...data.batch import EpisodeBatch
from ...envs.protocol import EnvSpec
from ...errors import ConfigError, did_you_mean
from ...registry import WORLD_MODELS, PartConfig
from ...seeding import named_generator
from ..agents.base import Agent, AgentOutput
from ..layers.gala import Operators
from ..layers.graphs import GRAPHS, NEEDS_VISIBILITY, build_graph
from ..layers.packing import Packing
from .action_conditioned import ActionConditioned
from .action_free import ActionFree
from .base import WorldModel, WorldModelOutput
from .branch import BranchOutput, BranchSettings, Noise
from .static import Static


class _Seen(NamedTuple):
    """Context (P, C) and losses of all branches together."""

    context: Tensor
    losses: dict[str, Tensor]


@WORLD_MODELS.register("disentangled")
class Disentangled(WorldModel):
    """Action-conditioned, action-free and static branch with latent imagination (VDFD)."""

    class Config(PartConfig):
        latent_dim: int = Field(16, ge=1, description="Z, latent of one agent in each branch")
        rollout_dim: int = Field(64, ge=1, description="C, width of what the mixer gets")
        gala_hidden_dim: int = Field(64, ge=1, description="hidden width of graph auto-encoders")
        vae_hidden_dim: int = Field(64, ge=1, description="hidden width of joint auto-encoders")
        rollout_horizon: int = Field(3, ge=0, description="imagined steps")
        graph: str = Field("knn", description=f"how agents are linked: {', '.join(sorted(GRAPHS))}")
        graph_neighbours: int = Field(3, ge=1, description="links of an agent that knn looks for")
        posterior: Literal["gala", "vae"] = Field(
            "gala", description="posterior networks: graph auto-encoder or joint auto-encoder"
        )
        prior: bool = Field(True, description="learn priors; without them nothing is imagined")
        imagined_actions: Literal["soft", "hard"] = Field(
            "soft", description="softmax over values, or their maximum with the softmax's gradient"
        )
        temperature: float = Field(1.0, gt=0, description="of the softmax over action values")
        kl_balancing: bool = Field(True, description="move prior and posterior at different rates")
        kl_alpha: float = Field(
            0.2, ge=0, le=1, description="share of the KL's gradient the posterior gets"
        )
        mask_ac: float = Field(
            1.0, description="mask of the action-conditioned branch; 0 removes it"
        )
        mask_af: float = Field(1.0, description="mask of the action-free branch; 0 removes it")
        mask_st: float = Field(1.0, description="mask of the static branch; 0 removes it")
        weight_ac_kl: float = Field(0.1, ge=0, description="beta 1, action-conditioned KL")
        weight_ac_rec: float = Field(1.0, ge=0, description="beta 2, action-conditioned errors")
        weight_af_kl: float = Field(0.1, ge=0, description="beta 3, action-free KL")
        weight_af_rec: float = Field(1.0, ge=0, description="beta 4, action-free errors")
        weight_st_rec: float = Field(1.0, ge=0, description="beta 5, static reconstruction error")
        train_share: float = Field(
            0.25,
            gt=0,
            le=1,
            description="share of the episodes, drawn anew for each update, the world model learns from",
        )
        detach_context: bool = Field(
            False, description="keep the TD loss's gradient out of the world model"
        )

        @field_validator("graph")
        @classmethod
        def _known_graph(cls, name: str) -> str:
            if name not in GRAPHS:
                raise ValueError(
                    f"should be one of {', '.join(sorted(GRAPHS))}.{did_you_mean(name, GRAPHS)}"
                )
            return name

    def __init__(
        self, config: Config, spec: EnvSpec, *, agent: Agent, seed: int, device: torch.device
    ) -> None:
        super().__init__()
        self.config = config
        self.output_dim = config.rollout_dim
        self.optional_fields = _optional_fields(config, spec)
        self._settings = settings = BranchSettings(
            n_agents=spec.n_agents,
            latent_dim=config.latent_dim,
            rollout_dim=config.rollout_dim,
            gala_hidden_dim=config.gala_hidden_dim,
            vae_hidden_dim=config.vae_hidden_dim,
            posterior=config.posterior,
            prior=config.prior,
            horizon=config.rollout_horizon,
            kl_alpha=config.kl_alpha if config.kl_balancing else None,
            detach=config.detach_context,
        )
        self.masks = {
            name: mask
            for name, mask in (
                ("ac", config.mask_ac),
                ("af", config.mask_af),
                ("st", config.mask_st),
            )
            if mask != 0
        }
        # A branch whose mask is zero does not exist: neither its losses nor its cost.
        self.action_conditioned = self.action_free = self.static = None
        if "ac" in self.masks:
            self.action_conditioned = ActionConditioned(
                settings,
                agent.hidden_dim,
                spec.n_actions,
                agent.head,
                config.temperature,
                config.imagined_actions,
            )
        if "af" in self.masks:
            self.action_free = ActionFree(settings, spec.obs_dim)
        if "st" in self.masks:
            self.static = Static(settings, spec.obs_dim)
        weights = {
            "ac_kl": config.weight_ac_kl,
            "ac_rec": config.weight_ac_rec,
            "af_kl": config.weight_af_kl,
            "af_rec": config.weight_af_rec,
            "st_rec": config.weight_st_rec,
        }
        self.loss_weights = {k: w for k, w in weights.items() if k[:2] in self.masks}
        self._noise = named_generator(seed, "world_model_noise", device)
        self._choice = named_generator(seed, "world_model_choice")

    def forward(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing
    ) -> WorldModelOutput:
        """Context (P, C) for the mixer and the branches' losses.

        Choice: every entry gets its context, but gradients flow (and losses are taken) in a random share
        of the episodes only, scaled up so that on average they are those of the whole batch. Learning
        from all episodes (``train_share: 1``) would make an update about twice as slow.
        """
        members = self._choose(packing)
        if bool(members.all()):
            return WorldModelOutput(*self._look(unrolled, batch, packing, learn=True))
        context = batch.obs.new_zeros(len(packing.index), self.output_dim)
        with torch.no_grad():
            part, rows = packing.part(~members)
            others = self._look(unrolled, batch, part, learn=False).context
            context.index_copy_(0, rows, others)
        part, rows = packing.part(members)
        seen = self._look(unrolled, batch, part, learn=True)
        scale = len(packing.index) / len(rows)
        scaled = seen.context.detach() + scale * (seen.context - seen.context.detach())
        return WorldModelOutput(context.index_copy(0, rows, scaled), seen.losses)

    def operators(self, features: Tensor, batch: EpisodeBatch, packing: Packing) -> Operators:
        """Smoothing and sharpening (P, N, N) of the graph between agents with features (P, N, F)."""
        alive, visibility = (
            None if field is None else packing.pack(field)
            for field in (batch.alive, batch.visibility)
        )
        graph = build_graph(
            self.config.graph,
            features,
            alive=alive,
            visibility=visibility,
            neighbours=self.config.graph_neighbours,
        )
        return Operators.of(graph)

    def _look(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing, *, learn: bool
    ) -> _Seen:
        """All branches over the entries of ``packing``."""
        P, horizon = len(packing.index), self.config.rollout_horizon
        draw = Noise(P, self._settings.joint_dim, 2 * horizon + 4, self._noise)
        found: dict[str, BranchOutput] = {}
        if self.action_conditioned is not None:
            hidden = packing.pack(unrolled.hidden)
            found["ac"] = self.action_conditioned(
                hidden,
                packing.pack(unrolled.values),
                packing.pack(batch.avail_actions),
                packing.pack(batch.last_actions),
                self.operators(hidden, batch, packing),
                packing,
                draw,
                learn,
            )
        if self.action_free is not None or self.static is not None:
            obs = packing.pack(batch.obs)
            operators = self.operators(obs, batch, packing)
            if self.action_free is not None:
                found["af"] = self.action_free(obs, operators, packing, draw, learn)
            if self.static is not None:
                found["st"] = self.static(obs, operators, learn)
        # Choice: each branch's share is squashed. The mixer's weights grow with the context, and a single
        # outlier among imagined latents otherwise makes a TD error that undoes what was learnt.
        context = batch.obs.new_zeros(P, self.output_dim)
        losses: dict[str, Tensor] = {}
        for name, branch in found.items():
            context = context + self.masks[name] * torch.tanh(branch.context)
            losses |= {f"{name}_{kind}": loss for kind, loss in branch.losses.items()}
        return _Seen(context, losses)

    def _choose(self, packing: Packing) -> Tensor:
        """(B,) bool on the CPU: episodes to learn from, by place in the packing's order."""
        B = len(packing.order)
        members = torch.zeros(B, dtype=torch.bool)
        count = max(1, round(self.config.train_share * B))
        members[torch.randperm(B, generator=self._choice)[:count]] = True
        return members

    def get_extra_state(self) -> dict[str, Any]:
        """The generators' states belong to what a checkpoint holds."""
        return {"noise": self._noise.get_state(), "choice": self._choice.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Undo :meth:`get_extra_state`."""
        self._noise.set_state(state["noise"].cpu())
        self._choice.set_state(state["choice"].cpu())


def _optional_fields(config: Disentangled.Config, spec: EnvSpec) -> frozenset[str]:
    """Fields of the batch that are stored only because this world model reads them."""
    if config.graph not in NEEDS_VISIBILITY:
        return frozenset()
    if not spec.has_visibility:
        raise ConfigError(
            f"graph={config.graph} needs an environment that tells who sees whom, and this one does "
            "not. Use graph=knn."
        )
    return frozenset({"visibility"})
