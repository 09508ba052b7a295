"""The multi-agent decision transformer."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import POLICIES
from ..layers.causal import BandedAttention
from .tokens import TokenConfig, TokenPolicy


@POLICIES.register("decision_transformer")
class DecisionTransformer(TokenPolicy):
    """Each agent's own past, read by causal attention, and the return asked for (Meng et al., 2023: MADT).

    Acting costs the same at every step, and one pass over a row gives what acting gave: each layer looks
    ``context_length`` steps back, at what it remembers of them.
    """

    class Config(TokenConfig):
        n_head: int = Field(2, ge=1, description="attention heads, they divide D")

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        if config.n_embd % config.n_head:
            raise ConfigError(
                f"policy decision_transformer: n_head={config.n_head} does not divide "
                f"n_embd={config.n_embd}"
            )
        mixer = partial(BandedAttention, heads=config.n_head, context=config.context_length)
        super().__init__(config, spec, mixer)
