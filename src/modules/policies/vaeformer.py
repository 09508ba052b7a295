"""The VAEFormer of MADVAE: a decision transformer whose attention is a variational bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from ...envs.protocol import EnvSpec
from ...errors import ConfigError
from ...registry import POLICIES
from ..layers.vae_mixer import VAEMixer
from .tokens import TokenConfig, TokenPolicy


@POLICIES.register("vaeformer")
class VAEFormer(TokenPolicy):
    """Each agent's own past, mixed by age and passed through a few noisy numbers, and the return asked for.

    What a token takes of those it sees goes through a latent z with half its width (MADVAE). While it learns
    from data z is drawn, and its divergence from a standard normal is a loss of the policy's own (``kl``,
    weight ``beta_vae``). Otherwise z is its mean: tests repeat exactly, and the ratios of PPO say how the
    policy has moved and nothing else.
    """

    class Config(TokenConfig):
        mix: Literal["none", "causal"] = Field(
            "causal",
            description="causal: tokens take from those of the last C steps, by weights for each age; none: "
            "each token passes alone, as in the published code",
        )
        n_head: int = Field(2, ge=1, description="groups of channels mixed alike, they divide D")
        beta_vae: float = Field(
            1e-4,
            ge=0,
            description="weight of KL(z || N(0, 1)) per step and agent, summed over blocks",
        )
        lv_clip: list[float] = Field(
            [-8.0, 4.0],
            min_length=2,
            max_length=2,
            description="bounds of log-variances, low and high",
        )
        eval_noise: bool = Field(
            False,
            description="z is drawn always, in acting and tests too, as in the published code",
        )

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        low, high = config.lv_clip
        if config.n_embd % config.n_head or config.n_embd % 2:
            raise ConfigError(
                f"policy vaeformer: n_embd={config.n_embd} must be even, for a latent of half its width, and "
                f"a multiple of n_head={config.n_head}"
            )
        if low >= high:
            raise ConfigError(
                f"policy vaeformer: lv_clip={config.lv_clip} must be a low bound and a higher one, e.g. "
                "[-8.0, 4.0]"
            )
        if config.mix == "none" and config.tokens != "obs":
            raise ConfigError(
                f"policy vaeformer: with mix=none no token knows of another, and of tokens={config.tokens} "
                "the action would depend on the last one alone. Set tokens=obs, or mix=causal."
            )
        mixer = partial(
            VAEMixer,
            # Tokens that pass alone need not be remembered.
            context=config.context_length if config.mix == "causal" else 1,
            tokens=len(config.kinds),
            mix=config.mix,
            heads=config.n_head,
            logvar_bounds=(low, high),
            always_noisy=config.eval_noise,
        )
        super().__init__(config, spec, mixer)
        self.loss_weights = {"kl": config.beta_vae}
        self.eval()  # learners that learn from data turn noise on while they do

    def costs(self, of_blocks: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """``kl`` (B, T, N): the divergence of the latents, summed over blocks, a mean over tokens in each."""
        kl = torch.stack([x.mean(dim=-1) for x in of_blocks if x is not None]).sum(dim=0)
        return {"kl": rearrange(kl, "(b n) t -> b t n", n=self.n_agents)}
