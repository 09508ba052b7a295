"""Agents that decide one after the other over structured state spaces (MADS4).

Axes: B rows, T steps, N agents, O observation, S state, E embedding, H features, K outputs of an agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...envs.protocol import EnvSpec
from ...registry import POLICIES
from ..layers.normed import ActionHead
from ..layers.s4 import Discretisation, Kernel, Trained
from ..layers.s4_stack import Stack, Through
from .sequence import Looked, Moments, SequenceConfig, SequencePolicy


@POLICIES.register("s4")
class S4Policy(SequencePolicy):
    """Each agent's own past through a stack of state spaces, and the return asked for (MADS4).

    Agents decide one after the other in a fixed order, with one set of weights. What they share goes to
    those behind them within the same step, and what these learn from it goes back to whom it came from.
    Learning takes whole rows by convolution, acting goes step by step, and both give the same outputs.
    """

    class Config(SequenceConfig):
        share: Literal["none", "logits", "memory", "both"] = Field(
            "logits",
            description="what agents tell those behind them: their outputs, the mean of their last layer's "
            "states, both or nothing",
        )
        detach: bool = Field(
            False,
            description="agents do not learn from what those behind them make of what they tell",
        )
        use_state: bool = Field(True, description="agents see the global state, in acting too")
        obs_agent_id: bool = Field(True, description="agents see which one of the team they are")
        return_scale: float = Field(20.0, gt=0, description="the return that the network sees as 1")
        embed_dim: int = Field(128, ge=1, description="E, width in which each input is told")
        features: int = Field(96, ge=1, description="H, state spaces of a layer, one per feature")
        states: int = Field(96, ge=2, multiple_of=2, description="states of each of them")
        layers: int = Field(3, ge=1, description="of state spaces")
        kernel: Kernel = Field(
            "dplr",
            description="HiPPO-LegS as it is (S4), its normal part alone, or evenly spaced frequencies (S4D)",
        )
        disc: Discretisation = Field("bilinear", description="from time to steps; dplr: bilinear")
        train_ssm: Trained = Field(
            "none",
            description="what is learnt of state spaces besides what goes in and comes out: nothing, the "
            "sizes of steps, or all",
        )
        ssm_lr: float = Field(
            1e-3, gt=0, description="learning rate of that, which has no weight decay"
        )
        dt_min: float = Field(0.001, gt=0, description="shortest step to begin with")
        dt_max: float = Field(0.1, gt=0, description="longest step to begin with")
        head_gain: float = Field(1.0, gt=0, description="size of the first outputs")
        initial_scale: float = Field(
            1.0, description="s in the first deviation 0.5 sigmoid(s) of continuous actions"
        )
        norm: bool = Field(False, description="a layer norm before each layer")
        skip: bool = Field(False, description="what goes into a layer is added to what comes out")

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__(config, spec)
        self._config = config
        N, E, H, K = spec.n_agents, config.embed_dim, config.features, spec.policy_outputs
        self.embed = nn.ModuleDict({"return": nn.Linear(1, E), "obs": nn.Linear(spec.obs_dim, E)})
        self.reads_state = config.use_state
        if config.use_state:
            self.embed["state"] = nn.Linear(spec.state_dim, E)
        shared = {"logits": K, "memory": H}
        self._shared = [x for x in shared if config.share in (x, "both")]
        self.tell = nn.ModuleDict({name: nn.Linear(shared[name], E) for name in self._shared})
        if "memory" in self._shared:  # means of states are a thousandth of anything else
            self.tell["memory"] = nn.Sequential(nn.LayerNorm(H), self.tell["memory"])
        # One linear layer of everything, in parts: agent, inputs, what those before told, last action.
        self._widths = {
            "agent": N if config.obs_agent_id else 0,
            **dict.fromkeys(self.embed, E),
            **dict.fromkeys(self._shared, (N - 1) * E),
            "action": spec.choices if self._discrete else 0,
        }
        self.enter = nn.Linear(sum(self._widths.values()), H)
        self.stack = Stack(
            H,
            config.states,
            config.layers,
            norm=config.norm,
            skip=config.skip,
            kernel=config.kernel,
            disc=config.disc,
            train_ssm=config.train_ssm,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
        )
        self.head = ActionHead(
            H,
            spec.choices,
            spec.dimensions,
            gain=config.head_gain,
            initial_scale=config.initial_scale,
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """State spaces, where they are learnt, apart from the rest."""
        own = self.stack.ssm_parameters()
        ids = {id(p) for p in own}
        rest = [p for p in self.parameters() if id(p) not in ids]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if own:
            groups.append({"params": own, "lr": self._config.ssm_lr, "weight_decay": 0.0})
        return groups

    def remember_nothing(self, batch_size: int, device: torch.device) -> dict[str, Tensor]:
        """States (B, N, layers, H, states / 2), complex."""
        states = self.stack.begin(batch_size * self.n_agents, device)
        return {"states": states.view(batch_size, self.n_agents, *states.shape[1:])}

    def look(self, moments: Moments, memory: Mapping[str, Tensor] | None) -> Looked:
        """See :meth:`SequencePolicy.look`; behind more than one step no states are made."""
        states, x = None if memory is None else memory["states"], self._entered(moments)
        if not self._shared:  # nobody waits for anybody: their rows are rows of one
            x = x.transpose(1, 2).flatten(0, 1)[:, :, None]
            states = None if states is None else states.flatten(0, 1)[:, None]
        shared = "memory" in self._shared
        through = self.stack.through(x.shape[1], states, memory=shared)
        outputs, after = self._in_turn(x, through), through.behind()
        apart = (len(moments.obs), self.n_agents)
        if not self._shared:
            outputs = outputs.view(*apart, x.shape[1], -1).transpose(1, 2)
        return Looked(
            outputs, {} if after is None else {"states": after.view(*apart, *after.shape[2:])}
        )

    def _entered(self, moments: Moments) -> Tensor:
        """(B, T, N, H) what goes into the stack, but for what agents tell each other."""
        weight = self._weights()
        asked = moments.return_to_go / self._config.return_scale
        x = F.linear(self.embed["obs"](moments.obs), weight["obs"], self.enter.bias)
        team = F.linear(self.embed["return"](asked[..., None]), weight["return"])
        if "state" in self.embed:
            team = team + F.linear(self.embed["state"](moments.state), weight["state"])
        x = x + team[:, :, None]
        if self._config.obs_agent_id:
            x = x + weight["agent"].mT
        if self._discrete:  # row 0: there was no action
            x = x + F.embedding(moments.last_actions, F.pad(weight["action"].mT, (0, 0, 1, 0)))
        return x

    def _weights(self) -> dict[str, Tensor]:
        """Parts of the weight that everything enters by, (H, width) each."""
        parts = torch.split(self.enter.weight, list(self._widths.values()), dim=1)
        return dict(zip(self._widths, parts, strict=True))

    def _in_turn(self, x: Tensor, through: Through) -> Tensor:
        """Outputs (B, T, N, K) of x (B, T, N, H).

        The place in which something is told is its sender's, so that all who come later take up the same.
        """
        weights, told, outputs = self._weights(), torch.zeros_like(x[:, :, 0]), []
        last = x.shape[2] - 1
        for i in range(last + 1):
            passed = through(x[:, :, i] + told, i)
            outputs.append(self.head(passed.features))
            tells = {"logits": outputs[-1], "memory": passed.memory}
            for name in self._shared if i < last else ():
                told = told + self._told(name, tells[name], weights[name], i)
        return torch.stack(outputs, dim=2)

    def _told(self, name: str, x: Tensor | None, weight: Tensor, sender: int) -> Tensor:
        """(B, T, H) what others make of what the ``sender`` tells, (B, T, K or H)."""
        assert x is not None
        E = self._config.embed_dim
        place = weight[:, sender * E : (sender + 1) * E]
        return F.linear(self.tell[name](x.detach() if self._config.detach else x), place)
