"""World model of MARIE (Zhang et al., 2024): what each agent sees next, token by token.

Every agent has a sequence of its own, and all share one causal transformer. The block of a step is the K
tokens of what the agent sees, the n tokens of what it does, and a place g for what it is told of the others:
one vector, aggregated from all agents' tokens of that step. At g the transformer predicts the reward, whether
the episode goes on, which actions will be available and the first token of the next observation; at each
token of an observation but the last, the token after it.

With ``recall``, which is not published, a place that predicts a token is also told the token that its
successor's place held a step before: most of what agents see stays, and this way that need not be found by
attention first.

Windows lie within one episode and hold the observation their last action led to, the episode's last one too.
No mask within a sequence is then needed, and nothing after an end is ever learnt or imagined.

Axes: B rows, T steps, N agents, K tokens of an observation, n of an action, P = K + n + 1, V vocabulary,
A actions, E width.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange, repeat
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ....data.batch import EpisodeBatch
from ....envs.protocol import EnvSpec
from ....registry import WORLD_MODELS, PartConfig
from ...layers.attention import gaussian_linear
from ...tokenizers.base import Tokenizer
from ..base import Dream, Moment, Simulator, WorldModelOutput
from .actions import action_code
from .heads import BinnedReward, PlainReward, RewardCode, sampled, sampled_masks
from .perceiver import Perceiver
from .trunk import TokenTrunk


@WORLD_MODELS.register("marie")
class Marie(Simulator):
    """Causal transformer over each agent's tokens, told of the others by a Perceiver (MARIE)."""

    class Config(PartConfig):
        horizon: int = Field(
            15, ge=2, description="observations of a window; one step less is imagined"
        )
        n_layer: int = Field(10, ge=1, description="blocks of the transformer")
        n_head: int = Field(4, ge=1, description="its attention heads, they divide n_embd")
        n_embd: int = Field(256, ge=1, description="E, width of everything")
        dropout: float = Field(0.1, ge=0, lt=1, description="share left out in training")
        perceiver_depth: int = Field(2, ge=0, description="layers between the agents' vectors")
        perceiver_heads: int = Field(8, ge=1, description="attention heads of the aggregation")
        perceiver_head_dim: int = Field(64, ge=1, description="width of each of them")
        slot_embedding: bool = Field(
            True, description="the aggregation is told which token is which; false as published"
        )
        recall: bool = Field(
            False,
            description="what predicts a token is told what held its place a step before; false as published",
        )
        embedding_scale: float = Field(
            0.05,
            gt=0,
            description="first size of all embeddings; as published 0.02, and 1 for what tells agents apart",
        )
        reward: Literal["plain", "binned"] = Field(
            "plain", description="the reward itself, or a distribution over bins of its logarithm"
        )
        reward_bins: int = Field(128, ge=2, description="how many bins")
        reward_limit: float = Field(
            3.0, gt=0, description="largest logarithm sign(r) ln(1 + |r|) told apart"
        )
        action_bins: int = Field(
            256, ge=2, description="bins of each dimension of continuous actions"
        )

    def __init__(self, config: Config, spec: EnvSpec, *, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.spec, self.horizon = config, spec, config.horizon - 1
        self.actions = action_code(spec, config.action_bins)
        E, K, n = config.n_embd, tokenizer.tokens, self.actions.tokens
        self.tokens, self.block = K, K + n + 1
        self.obs_embedding = _embedding(tokenizer.vocabulary, E, config.embedding_scale)
        self.action_embedding = _embedding(self.actions.vocabulary, E, config.embedding_scale)
        self.recall = (
            _embedding(tokenizer.vocabulary, E, config.embedding_scale) if config.recall else None
        )
        # The last observation's last token predicts nothing.
        self.trunk = TokenTrunk(
            E, config.n_layer, config.n_head, self.horizon * self.block + K - 1, config.dropout
        )
        self.perceiver = Perceiver(
            E,
            spec.n_agents,
            K + n,
            config.perceiver_heads,
            config.perceiver_head_dim,
            config.perceiver_depth,
            config.slot_embedding,
            config.dropout,
            config.embedding_scale,
        )
        self.reward_code: RewardCode = (
            BinnedReward(config.reward_bins, config.reward_limit)
            if config.reward == "binned"
            else PlainReward()
        )
        self.predicts_masks = spec.mask_dim > 0 and not spec.dimensions
        self.token_head = _head(E, tokenizer.vocabulary, hidden=1)
        self.reward_head = _head(E, self.reward_code.width)
        self.end_head = _head(E, 1)
        self.mask_head = _head(E, spec.mask_dim) if self.predicts_masks else None

    # --- learning ---

    def losses(self, batch: EpisodeBatch) -> WorldModelOutput:
        """See :meth:`Simulator.losses`."""
        assert batch.codes is not None, "windows come with codes"
        features, told = self._features(batch.codes, self.actions.encode(batch.actions))
        filled = batch.filled
        exists = torch.cat([filled.any(dim=1, keepdim=True), filled], dim=1)  # (B, T+1)
        # What comes before each token that is predicted: all of an observation, less its first token where
        # nothing came before.
        within = rearrange(features[:, :, :, :-1], "b t n k e -> (b t) n k e")[exists.flatten()]
        before = torch.cat([within.flatten(0, 2), told[filled].flatten(0, 1)])
        targets = torch.cat(
            [batch.codes[exists][..., 1:].flatten(), batch.codes[:, 1:, :, 0][filled].flatten()]
        )
        logits = self.token_head(before)
        losses, metrics = self._outcomes(told[filled], batch, filled)
        losses["observation"] = F.cross_entropy(logits, targets)
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == targets).to(logits.dtype)
            metrics["next_token_accuracy"] = right.mean()
        return WorldModelOutput(losses=losses, metrics=metrics)

    def _outcomes(
        self, told: Tensor, batch: EpisodeBatch, filled: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and errors of what is read at g (M, N, E) of the M steps that are ``filled`` (B, T)."""
        N = self.spec.n_agents
        outputs, reward = self.reward_head(told), repeat(batch.reward[filled], "m -> m n", n=N)
        going = self.end_head(told)[..., 0]
        # An end that only the clock makes shows in nothing that agents see.
        over = (batch.terminated & ~batch.truncated)[filled]
        goes_on = repeat(~over, "m -> m n", n=N).to(going.dtype)
        losses = {
            "reward": self.reward_code.loss(outputs, reward),
            "continuation": F.binary_cross_entropy_with_logits(going, goes_on),
        }
        with torch.no_grad():
            metrics = {
                "reward_error": (self.reward_code.decode(outputs).mean(1) - reward[:, 0])
                .abs()
                .mean(),
                "continuation_error": (going.sigmoid() - goes_on).abs().mean(),
            }
        if self.mask_head is not None:
            # Nobody acts after an end.
            matters = ~batch.terminated[filled]
            masks = batch.avail_actions[:, 1:][filled][matters].to(told.dtype)
            guessed = self.mask_head(told)[matters]
            count = max(masks.numel(), 1)
            error = F.binary_cross_entropy_with_logits(guessed, masks, reduction="sum")
            losses["availability"] = error / count
            metrics["availability_error"] = ((guessed > 0) != masks.bool()).sum() / count
        return losses, metrics

    def _features(self, codes: Tensor, acts: Tensor) -> tuple[Tensor, Tensor]:
        """Features at the tokens of each observation, (B, T+1, N, K, E), and at g, (B, T, N, E).

        Args:
            codes: (B, T+1, N, K). acts: (B, T, N, n).
        """
        B, N, K = len(codes), codes.shape[2], self.tokens
        seen, done = self.obs_embedding(codes), self.action_embedding(acts)
        agreed = torch.cat([seen[:, :-1], done], dim=3)  # (B, T, N, K + n, E)
        told = rearrange(self.perceiver(agreed.flatten(0, 1)), "(b t) n e -> b t n e", b=B)
        if self.recall is not None:
            older = self.recall(codes[:, :-1])
            told = told + older[:, :, :, 0]
            # Each token of an observation predicts the one after it; none is older than the first's.
            seen = seen + F.pad(older[:, :, :, 1:], (0, 0, 0, 1, 0, 0, 1, 0))
        blocks = torch.cat([seen[:, :-1], done, told[:, :, :, None]], dim=3)
        sequence = torch.cat(
            [
                rearrange(blocks, "b t n p e -> (b n) (t p) e"),
                rearrange(seen[:, -1], "b n k e -> (b n) k e")[:, :-1],
            ],
            dim=1,
        )
        # One place more at the end, so that every observation has K.
        features = F.pad(self.trunk(sequence), (0, 0, 0, 1))
        of_blocks, of_last = features[:, :-K], features[:, -K:]
        of_blocks = rearrange(of_blocks, "(b n) (t p) e -> b t n p e", n=N, p=self.block)
        of_last = rearrange(of_last, "(b n) k e -> b 1 n k e", n=N)
        return torch.cat([of_blocks[:, :, :, :K], of_last], dim=1), of_blocks[:, :, :, -1]

    # --- imagining ---

    def begin(self, codes: Tensor, avail_actions: Tensor, generator: torch.Generator) -> TokenDream:
        """See :meth:`Simulator.begin`."""
        return TokenDream(self, codes, avail_actions, generator)

    def row_bytes(self, device: torch.device) -> int:
        """See :meth:`Simulator.row_bytes`: keys and values above all, and logits while one is drawn."""
        kept = self.trunk.cache_bytes(cache_dtype(device))
        passing = 4 * (4 * self.config.n_embd * self.block + 3 * self.obs_embedding.num_embeddings)
        return self.spec.n_agents * (kept + passing)


class TokenDream(Dream):
    """Rows imagined token by token: K passes of the transformer a step.

    An observation's last token waits for the actions that follow it and goes through with them, so that no
    pass is made for its sake.
    """

    def __init__(
        self, model: Marie, codes: Tensor, avail_actions: Tensor, generator: torch.Generator
    ) -> None:
        self._model, self._generator = model, generator
        self._codes, self._avail = codes, avail_actions
        device = codes.device
        self._caches = model.trunk.begin(
            codes.shape[0] * codes.shape[1], device, cache_dtype(device)
        )
        self._waiting = model.obs_embedding(codes).flatten(0, 1)  # (B N, K, E) not passed yet

    def step(self, actions: Tensor) -> Moment:
        """See :meth:`Dream.step`."""
        device = actions.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return self._step(actions)

    def _step(self, actions: Tensor) -> Moment:
        model, (B, N, _) = self._model, self._codes.shape
        done = model.action_embedding(model.actions.encode(actions))
        told = model.perceiver(torch.cat([model.obs_embedding(self._codes), done], dim=2))
        older = None if model.recall is None else model.recall(self._codes).flatten(0, 1)
        told = told.flatten(0, 1) if older is None else told.flatten(0, 1) + older[:, 0]
        passed = torch.cat([self._waiting, done.flatten(0, 1), told[:, None]], dim=1)
        at_g = model.trunk(passed, self._caches)[:, -1]
        outcome = rearrange(at_g, "(b n) e -> b n e", n=N)
        tokens, features = list[Tensor](), at_g
        while True:
            tokens.append(sampled(model.token_head(features).float(), self._generator))
            embedded = model.obs_embedding(tokens[-1])[:, None]
            if len(tokens) == model.tokens:
                break
            if older is not None:
                embedded = embedded + older[:, len(tokens), None]
            features = model.trunk(embedded, self._caches)[:, -1]
        self._waiting = embedded
        self._codes = torch.stack(tokens, dim=1).view(B, N, -1)
        return Moment(self._codes, self._masks(outcome), *self._rewards_and_ends(outcome))

    def _rewards_and_ends(self, outcome: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) each of g (B, N, E); the team's are the means of what is predicted at its agents'."""
        model = self._model
        reward = model.reward_code.decode(model.reward_head(outcome).float()).mean(dim=1)
        goes_on = model.end_head(outcome)[..., 0].float().sigmoid().mean(dim=1)
        draws = torch.rand(goes_on.shape, generator=self._generator, device=goes_on.device)
        return reward, draws >= goes_on

    def _masks(self, outcome: Tensor) -> Tensor:
        """(B, N, A) drawn, or those of the start where masks do not change."""
        if self._model.mask_head is None:
            return self._avail
        return sampled_masks(self._model.mask_head(outcome).float().sigmoid(), self._generator)


def cache_dtype(device: torch.device) -> torch.dtype:
    """What keys and values are kept in."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _embedding(rows: int, width: int, scale: float) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=scale)
    return table


def _head(width: int, outputs: int, hidden: int = 2) -> nn.Sequential:
    """``hidden`` layers with ReLU, and a linear one."""
    made: list[nn.Module] = []
    for _ in range(hidden):
        made += [gaussian_linear(width, width), nn.ReLU()]
    return nn.Sequential(*made, gaussian_linear(width, outputs))
