"""A variational bottleneck in attention's place: what a token takes goes through a few noisy numbers.

Axes: M rows, T steps, P tokens of a step, R of which ask, D width, C context, h heads.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .causal import Band, Mixer
from .gaussian import Gaussian, kl_standard_normal


class LagMix(nn.Module):
    """Sums of the tokens of the last C steps, with a learnt weight for each age and pair of tokens.

    Channels of one head share their weights. They belong to ages and not to places in a window, so that they
    are the same for whole rows and single steps. To begin with a token is given the sum of those of its own
    step up to itself: a weight moves by the learning rate at each update, and from 0 on it is thousands of
    updates before what is asked for counts beside what is seen.

    Args:
        tokens: P.
        context: C.
        heads: h.
    """

    def __init__(self, tokens: int, context: int, heads: int) -> None:
        super().__init__()
        earlier = torch.ones(tokens, tokens, context, dtype=torch.bool)
        earlier[..., 0] = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        weight = torch.zeros(heads, tokens, tokens, context)
        weight[..., 0] = earlier[..., 0]
        self.weight = nn.Parameter(weight)  # by head, token that asks, token that is seen, age
        self.register_buffer("seen", earlier, persistent=False)
        self.seen: Tensor

    def forward(self, x: Tensor, band: Band) -> Tensor:
        """(M, T, R, D) of x (M, before + T, P, D), see :meth:`.causal.Mixer.forward`."""
        h = len(self.weight)
        weight = (self.weight * self.seen)[:, -band.asked :].flip(-1).flatten(0, 1)
        rows = rearrange(x, "m t p (h d) -> (m d) (h p) t", h=h)
        rows = F.pad(rows, (band.context - 1 - band.before, 0))
        mixed = F.conv1d(rows, weight, groups=h)
        return rearrange(mixed, "(m d) (h r) t -> m t r (h d)", m=len(x), h=h)


class VAEMixer(Mixer):
    """``decoder(z)``, z being drawn from what the encoder makes of a token and those it sees (MADVAE).

    Without ``mix`` each token passes alone, as in the published code; with it a :class:`LagMix` comes first.
    Noise is drawn in training mode alone, else z is its mean, unless ``always_noisy``. The cost is the
    divergence of z from a standard normal, summed over its dimensions.

    Weights are as torch begins them. With a deviation of 0.02, as published, what passes five layers is a
    hundred-thousandth of what came, and nothing is learnt of other tokens for thousands of updates.

    Args:
        width: D; z has D/2 dimensions.
        context: C.
        tokens: P.
        mix: none or causal.
        heads: h, groups of channels that are mixed alike; they divide D.
        logvar_bounds: between which log-variances are kept; None: anywhere.
        always_noisy: draw noise whatever the mode, as the published code does.
    """

    def __init__(
        self,
        width: int,
        context: int,
        tokens: int,
        *,
        mix: Literal["none", "causal"] = "causal",
        heads: int = 1,
        logvar_bounds: tuple[float, float] | None = None,
        always_noisy: bool = False,
    ) -> None:
        super().__init__()
        self.context, self._bounds, self._always = context, logvar_bounds, always_noisy
        self.mix = LagMix(tokens, context, heads) if mix == "causal" else None
        self.encoder = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.mean, self.logvar = (nn.Linear(width, width // 2) for _ in range(2))
        self.decoder = nn.Sequential(
            nn.Linear(width // 2, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, x: Tensor, band: Band) -> tuple[Tensor, Tensor]:
        """See :meth:`.causal.Mixer.forward`."""
        given = x[:, band.before :, -band.asked :] if self.mix is None else self.mix(x, band)
        hidden = self.encoder(given)
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        if self._bounds is not None:
            logvar = logvar.clamp(*self._bounds)
        latent = Gaussian(mean, logvar)
        noisy = self.training or self._always
        z = latent.sample(torch.randn_like(mean)) if noisy else mean
        return self.decoder(z), kl_standard_normal(latent).sum(dim=-1)
