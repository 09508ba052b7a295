"""World model of VDFD: three branches whose imagination conditions the mixer.

Wang and Meger, "Leveraging World Model Disentanglement in Value-Based Multi-Agent Reinforcement Learning",
2024. There is no public code; what the paper leaves open is marked "choice" where it is decided.

Axes: B episodes, T steps, P entries that exist, N agents, O observation, H agent hidden, Z latent per agent,
C context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ....data.batch import EpisodeBatch
from ....envs.protocol import EnvSpec
from ....errors import ConfigError
from ....registry import WORLD_MODELS, PartConfig
from ....seeding import named_generator
from ...agents.base import Agent, AgentOutput
from ...layers.packing import Packing
from ..base import WorldModel, WorldModelOutput
from .action_conditioned import ActionConditioned, shuffled_actions
from .action_free import ActionFree
from .branch import Branch, BranchSettings, Entries, Noise, ObservingBranch, Steps
from .gala import Operators
from .graphs import NEEDS_VISIBILITY, build_graph
from .scale import mean_over_living
from .static import Static

PIECE = 512
"""Entries imagined at a time where no gradient is wanted; at least MEASURED."""
MEASURED = 128
"""Steps of a batch, at most, that an update's prediction errors are measured on."""


class _Look(NamedTuple):
    """What the branches together make of some entries."""

    context: Tensor  # (P, C)
    observed: dict[str, list[Tensor]]  # states of the branches that see observations only
    metrics: dict[str, Tensor]


@WORLD_MODELS.register("disentangled")
class Disentangled(WorldModel):
    """Action-conditioned, action-free and static branch with latent imagination (VDFD)."""

    class Config(PartConfig):
        latent_dim: int = Field(16, ge=1, description="Z, latent of one agent in each branch")
        rollout_dim: int = Field(64, ge=1, description="C, width of what the mixer gets")
        gala_hidden_dim: int = Field(32, ge=1, description="hidden width of graph auto-encoders")
        static_latent_dim: int = Field(32, ge=1, description="latent of an agent in the static one")
        static_hidden_dim: int = Field(64, ge=1, description="hidden width of the static one")
        vae_hidden_dim: int = Field(64, ge=1, description="hidden width of joint auto-encoders")
        rollout_horizon: int = Field(3, ge=0, description="imagined steps")
        graph: Literal["complete", "knn", "none", "visibility"] = Field(
            "knn", description="how agents are linked"
        )
        graph_neighbours: int = Field(3, ge=1, description="links of an agent that knn looks for")
        own_rows: bool = Field(
            True, description="graph layers also have weights for the agent's own row"
        )
        posterior: Literal["gala", "vae"] = Field(
            "gala", description="posterior networks: graph auto-encoder or joint auto-encoder"
        )
        prior: bool = Field(True, description="learn priors; without them nothing is imagined")
        residual_decoding: bool = Field(
            True, description="decoders say what changes; false: what will be, as in the paper"
        )
        imagined_actions: Literal["greedy", "soft"] = Field(
            "greedy", description="the best action, with the softmax's gradient, or a softmax"
        )
        temperature: float = Field(
            0.1, gt=0, description="of that softmax, in deviations of an agent's available values"
        )
        kl_balancing: bool = Field(True, description="move prior and posterior at different rates")
        kl_alpha: float = Field(
            0.2, ge=0, le=1, description="share of the balanced KL's gradient the posterior gets"
        )
        detach_prior_input: bool = Field(
            True, description="the KL moves a prior, not the state that it starts from"
        )
        mask_ac: float = Field(
            1.0, description="mask of the action-conditioned branch's output; 0 removes it"
        )
        mask_af: float = Field(
            1.0, description="mask of the action-free branch's output; 0 removes it"
        )
        mask_st: float = Field(1.0, description="mask of the static branch's output; 0 removes it")
        mask_losses: bool = Field(
            True, description="mask 0 removes the branch's losses too; false: its output only"
        )
        weight_ac_kl: float = Field(0.1, ge=0, description="beta 1, action-conditioned KL")
        weight_ac_rec: float = Field(1.0, ge=0, description="beta 2, action-conditioned errors")
        weight_ac_step: float = Field(
            1.0, ge=0, description="action-conditioned error one step ahead; 0 as in the paper"
        )
        weight_af_kl: float = Field(0.1, ge=0, description="beta 3, action-free KL")
        weight_af_rec: float = Field(1.0, ge=0, description="beta 4, action-free errors")
        weight_af_step: float = Field(
            1.0, ge=0, description="action-free error one step ahead; 0 as in the paper"
        )
        weight_st_rec: float = Field(1.0, ge=0, description="beta 5, static reconstruction error")
        train_share: float = Field(
            0.25,
            gt=0,
            le=1,
            description="share of the episodes, drawn anew for each update, the world model learns from",
        )
        train_agent: bool = Field(
            False, description="the branches' losses also train the agent whose states they model"
        )
        context: Literal["model", "random", "constant"] = Field(
            "model", description="what the mixer gets; noise and ones are there to compare with"
        )
        sample_context: bool = Field(
            False, description="imagine with samples, as in the paper, instead of means"
        )
        detach_context: bool = Field(
            True, description="keep the TD loss's gradient out of the world model"
        )
        target_context: Literal["online", "shared", "own"] = Field(
            "online",
            description="context of target networks: the online one, their own copy's, or (shared) their own "
            "where it comes of the agents' memory, the online one where it comes of observations alone",
        )

    def __init__(
        self, config: Config, spec: EnvSpec, *, agent: Agent, seed: int, device: torch.device
    ) -> None:
        super().__init__()
        self.config, self.n_actions = config, spec.n_actions
        self.output_dim = config.rollout_dim
        self.optional_fields = _optional_fields(config, spec)
        self._settings = settings = BranchSettings(
            n_agents=spec.n_agents,
            latent_dim=config.latent_dim,
            rollout_dim=config.rollout_dim,
            gala_hidden_dim=config.gala_hidden_dim,
            vae_hidden_dim=config.vae_hidden_dim,
            own_rows=config.own_rows,
            posterior=config.posterior,
            prior=config.prior,
            horizon=config.rollout_horizon,
            kl_alpha=config.kl_alpha if config.kl_balancing else None,
            detach_prior=config.detach_prior_input,
            residual=config.residual_decoding,
            sample=config.sample_context,
        )
        masks = {"ac": config.mask_ac, "af": config.mask_af, "st": config.mask_st}
        if config.context != "model":  # what it is compared with has no branches
            masks = {}
        self.masks = {name: mask for name, mask in masks.items() if mask}
        weights = {
            "ac_kl": config.weight_ac_kl,
            "ac_rec": config.weight_ac_rec,
            "ac_step": config.weight_ac_step if config.prior else 0.0,
            "af_kl": config.weight_af_kl,
            "af_rec": config.weight_af_rec,
            "af_step": config.weight_af_step if config.prior else 0.0,
            "st_rec": config.weight_st_rec,
        }
        # A branch whose mask is zero does not exist: neither its losses nor its cost, unless they are wanted.
        exists = [name for name, mask in masks.items() if mask or not config.mask_losses]
        self.loss_weights = {k: w for k, w in weights.items() if w and k[:2] in exists}
        build: dict[str, Callable[[], nn.Module]] = {
            "ac": lambda: ActionConditioned(
                settings,
                agent.hidden_dim,
                spec.n_actions,
                agent.head,
                config.temperature,
                config.imagined_actions,
                step=config.weight_ac_step > 0,
            ),
            "af": lambda: ActionFree(settings, spec.obs_dim, step=config.weight_af_step > 0),
            "st": lambda: Static(
                settings, spec.obs_dim, config.static_hidden_dim, config.static_latent_dim
            ),
        }
        self.branches = nn.ModuleDict({name: build[name]() for name in exists})
        self._noise = named_generator(seed, "world_model_noise", device)
        self._choice = named_generator(seed, "world_model_choice")

    @property
    def action_conditioned(self) -> ActionConditioned:
        """The branch of that name, where it exists."""
        return cast(ActionConditioned, self.branches["ac"])

    def observing(self, name: str) -> ObservingBranch:
        """The action-free branch ``af`` or the static one ``st``, where it exists."""
        return cast(ObservingBranch, self.branches[name])

    def forward(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing
    ) -> WorldModelOutput:
        """Context (P, C) for the mixer and the branches' losses.

        Choice: every entry gets its context, but losses are taken in a random share of the episodes only
        (``train_share``); where the TD loss trains the world model too, its gradient flows through the same
        episodes, scaled up so that on average it is that of the whole batch.
        """
        members = self._choose(packing)
        every = bool(members.all())
        learnt, rows = (packing, packing.index) if every else packing.part(members)
        losses, metrics = self._losses(unrolled, batch, learnt)
        if self.config.detach_context or every:
            look = self._look(unrolled, batch, packing, {})
            observed = look.observed if self.config.detach_context else {}
            return WorldModelOutput(look.context, losses, metrics | look.metrics, observed)
        context = batch.obs.new_zeros(len(packing.index), self.output_dim)
        with torch.no_grad():
            part, others = packing.part(~members)
            context.index_copy_(0, others, self._look(unrolled, batch, part, {}).context)
        look = self._look(unrolled, batch, learnt, {})
        scale = len(packing.index) / len(look.context)
        scaled = look.context.detach() + scale * (look.context - look.context.detach())
        return WorldModelOutput(context.index_copy(0, rows, scaled), losses, metrics | look.metrics)

    def context(
        self,
        unrolled: AgentOutput,
        batch: EpisodeBatch,
        packing: Packing,
        online: WorldModelOutput,
    ) -> Tensor:
        """The context (P, C) alone, as ``target_context`` says."""
        if self.config.target_context == "online" and online.context is not None:
            return online.context.detach()
        observed = online.observed if self.config.target_context == "shared" else {}
        return self._look(unrolled, batch, packing, observed).context

    def entries(self, features: Tensor, batch: EpisodeBatch, packing: Packing) -> Entries:
        """The entries of ``packing``, linked by the similarity of features (P, N, F)."""
        living, visibility = (
            None if field is None else packing.pack(field)
            for field in (batch.alive, batch.visibility)
        )
        graph = build_graph(
            self.config.graph,
            features,
            alive=living,
            visibility=visibility,
            neighbours=self.config.graph_neighbours,
        )
        draws = 2 * self.config.rollout_horizon + 4
        noise = Noise(len(features), self._settings.joint_dim, draws, self._noise)
        return Entries(Operators.of(graph), packing, living, noise)

    def _look(
        self,
        unrolled: AgentOutput,
        batch: EpisodeBatch,
        packing: Packing,
        observed: Mapping[str, list[Tensor]],
    ) -> _Look:
        """The context of the entries of ``packing``; of ``observed`` branches the states are known."""
        context = batch.obs.new_zeros(len(packing.index), self.output_dim)
        if self.config.context == "constant":
            return _Look(context + 1, {}, {})
        if self.config.context == "random":
            noise = torch.randn(context.shape, generator=self._noise, device=self._noise.device)
            return _Look(torch.tanh(noise), {}, {})
        # Detached or not, the maps from states to context learn: the TD loss is all they learn from.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.detach_context):
            states, metrics = self._imagine(unrolled, batch, packing, observed)
        for name, state in states.items():
            # Choice: each branch's share is squashed. The mixer's weights grow with the context, and a single
            # outlier among imagined latents otherwise makes a TD error that undoes what was learnt.
            share = torch.tanh(cast(Branch, self.branches[name]).context(state))
            context = context + self.masks[name] * share
        return _Look(context, {k: s for k, s in states.items() if k != "ac"}, metrics)

    def _imagine(
        self,
        unrolled: AgentOutput,
        batch: EpisodeBatch,
        packing: Packing,
        observed: Mapping[str, list[Tensor]],
    ) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
        """What each unmasked branch's context is made of, and metrics."""
        states, metrics = dict(observed), dict[str, Tensor]()
        if "ac" in self.masks:
            hidden, values = packing.pack(unrolled.hidden), packing.pack(unrolled.values)
            avail = packing.pack(batch.avail_actions)
            entries = self.entries(hidden, batch, packing)
            found = [
                self.action_conditioned.imagine(hidden[some], values[some], avail[some], part)
                for some, part in self._pieces(entries)
            ]
            states["ac"] = [torch.cat(parts) for parts in zip(*(s for s, _ in found), strict=True)]
            first = found[0][1]
            if first is not None:
                metrics = _agreement(first, values, avail, entries.living)
        unseen = [name for name in ("af", "st") if name in self.masks and name not in states]
        if unseen:
            obs = packing.pack(batch.obs)
            entries = self.entries(obs, batch, packing)
            for name in unseen:
                states[name] = self.observing(name).imagine(obs, entries)
        return states, metrics

    def _pieces(self, entries: Entries) -> Iterator[tuple[slice, Entries]]:
        """The entries, a few hundred at a time: imagination without gradient then stays within the caches.

        Noise, of which every entry has its own, is drawn for all at once.
        """
        P = len(entries.operators.smooth)
        rows = P if torch.is_grad_enabled() or self.config.sample_context else PIECE
        for start in range(0, P, rows):
            some = slice(start, start + rows)
            operators = Operators(*(operator[some] for operator in entries.operators))
            living = None if entries.living is None else entries.living[some]
            yield some, entries._replace(operators=operators, living=living)

    def _losses(
        self, unrolled: AgentOutput, batch: EpisodeBatch, packing: Packing
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the branches over the entries of ``packing``, and how well they predict."""
        found: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        learning = {name[:2] for name in self.loss_weights}
        if "ac" in learning:
            hidden = packing.pack(unrolled.hidden)
            if not self.config.train_agent:
                hidden = hidden.detach()
            last_actions = packing.pack(batch.last_actions)
            entries = self.entries(hidden, batch, packing)
            found = self.action_conditioned.losses(hidden, last_actions, entries)
            found = {f"ac_{kind}": loss for kind, loss in found.items()}
            if self.config.prior:
                metrics = self.prediction(hidden.detach(), last_actions, entries)
        observing = learning - {"ac"}
        if observing:
            obs = packing.pack(batch.obs)
            entries = self.entries(obs, batch, packing)
            for name in sorted(observing):
                losses = self.observing(name).losses(obs, entries)
                found |= {f"{name}_{kind}": loss for kind, loss in losses.items()}
        # What has no weight is no loss of this run.
        return {name: found[name] for name in self.loss_weights}, metrics

    @torch.no_grad()
    def prediction(
        self, hidden: Tensor, last_actions: Tensor, entries: Entries
    ) -> dict[str, Tensor]:
        """Squared errors in the living agents' hidden states one step ahead, on a sample of the steps.

        Of the model, of repeating the last state, and of the model told actions of other moments: a model
        that is worth its cost is well below the other two.

        Args:
            hidden: (P, N, H). last_actions: (P, N).
        """
        branch = self.action_conditioned
        steps = Steps.of(entries)
        M = len(steps.before)
        if M == 0:
            return {}
        some = torch.arange(0, M, max(1, -(-M // MEASURED)), device=hidden.device)
        before, operators = steps.before[some], Operators(*(o[some] for o in steps.operators))
        living = None if steps.living is None else steps.living[some]
        now, taken = hidden[before], last_actions[steps.after][some]
        change = hidden[steps.after][some] - now
        mean = branch.posterior(now, operators).mean
        guesses = {"prediction_error_repeat": torch.zeros_like(now)}
        for name, actions in (
            ("prediction_error", taken),
            ("prediction_error_shuffled", shuffled_actions(taken, living, self._choice)),
        ):
            guesses[name] = branch.predict(now, mean, [actions], operators)
        return {
            name: mean_over_living((guess - change).square(), living)
            for name, guess in guesses.items()
        }

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


def _agreement(
    actions: Tensor, values: Tensor, avail: Tensor, living: Tensor | None
) -> dict[str, Tensor]:
    """How far imagined first actions are those of the policy: mass on the greedy one, and entropy in nats.

    Args:
        actions: (P, N) int64, each plus one, or (P, N, A) shares.
    """
    some = slice(0, MEASURED)
    actions, values, avail = actions[some], values[some], avail[some]
    living = None if living is None else living[some]
    with torch.no_grad():
        greedy = values.masked_fill(~avail, -torch.inf).argmax(dim=-1, keepdim=True)
        if not actions.is_floating_point():
            actions = F.one_hot(actions - 1, values.shape[-1]).to(values.dtype)
        entropy = torch.special.entr(actions.clamp(0, 1)).sum(dim=-1, keepdim=True)
        return {
            "imagined_greedy": mean_over_living(actions.gather(-1, greedy), living),
            "imagined_entropy": mean_over_living(entropy, living),
        }


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
