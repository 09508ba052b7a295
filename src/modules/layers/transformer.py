"""Blocks of the multi-agent transformer: sequences run over the agents of one moment.

Axes: M moments, N agents (positions), D embedding. Weights are orthogonal with gain 0.01, before a GELU
with sqrt(2); residual blocks are normalised at their end, hidden layers as wide as the embedding (Wen et
al., 2022).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .normed import HIDDEN_GAIN, linear

SMALL_GAIN = 0.01


def feed_forward(width: int) -> nn.Sequential:
    """``D -> D -> GELU -> D``."""
    return nn.Sequential(
        linear(width, width, HIDDEN_GAIN), nn.GELU(), linear(width, width, SMALL_GAIN)
    )


def head_base(width: int) -> nn.Sequential:
    """What stands before the last layer of every head: ``Linear -> GELU -> LN``."""
    return nn.Sequential(linear(width, width, HIDDEN_GAIN), nn.GELU(), nn.LayerNorm(width))


def value_head(width: int) -> nn.Sequential:
    """A value (..., 1) of a representation (..., D)."""
    return nn.Sequential(*head_base(width), linear(width, 1, SMALL_GAIN))


class Attention(nn.Module):
    """Scaled dot-product attention of queries to keys and values of another sequence.

    Args:
        width: D.
        heads: they divide D.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = linear(width, width, SMALL_GAIN)
        self.key, self.value = (linear(width, width, SMALL_GAIN) for _ in range(2))
        self.out = linear(width, width, SMALL_GAIN)

    def forward(self, query: Tensor, source: Tensor, *, causal: bool) -> Tensor:
        """What each position of ``query`` (M, N, D) takes from ``source`` (M, N, D), (M, N, D).

        Args:
            causal: positions look at themselves and earlier ones only.
        """
        q, k, v = (self.split(x) for x in (self.query(query), *self.keys_values(source)))
        return self.join(F.scaled_dot_product_attention(q, k, v, is_causal=causal))

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., D) of what is looked at."""
        return self.key(source), self.value(source)

    def split(self, x: Tensor) -> Tensor:
        """(M, heads, N, D / heads) of x (M, N, D)."""
        return rearrange(x, "m n (h d) -> m h n d", h=self.heads)

    def join(self, x: Tensor) -> Tensor:
        """(M, N, D) of what was attended to, (M, heads, N, D / heads)."""
        y: Tensor = self.out(rearrange(x, "m h n d -> m n (h d)"))
        return y


class EncodeBlock(nn.Module):
    """Everyone looks at everyone, then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(width, heads), feed_forward(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(M, N, D) of x (M, N, D)."""
        x = self.norm1(x + self.attention(x, x, causal=False))
        y: Tensor = self.norm2(x + self.mlp(x))
        return y


class AgentEncoder(nn.Module):
    """Representations of all agents' observations, each knowing of the others.

    Args:
        inputs: length of an observation.
        width: D.
        blocks: how many blocks; 0 leaves every agent with its own observation.
        heads: of each.
    """

    def __init__(self, inputs: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.LayerNorm(inputs), linear(inputs, width, HIDDEN_GAIN), nn.GELU(), nn.LayerNorm(width)
        )
        self.blocks = nn.Sequential(*(EncodeBlock(width, heads) for _ in range(blocks)))

    def forward(self, obs: Tensor) -> Tensor:
        """(M, N, D) of obs (M, N, I)."""
        rep: Tensor = self.blocks(self.embed(obs))
        return rep


class RecurrentEncoder(nn.Module):
    """Representations by a GRU over the agents: each knows of those before it."""

    def __init__(self, inputs: int, width: int, layers: int = 2) -> None:
        super().__init__()
        self.own = AgentEncoder(inputs, width, blocks=0, heads=1)
        self.rnn = nn.GRU(width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, obs: Tensor) -> Tensor:
        """(M, N, D) of obs (M, N, I)."""
        rep: Tensor = self.norm(self.rnn(self.own(obs))[0])
        return rep


class DecodeBlock(nn.Module):
    """Actions look at earlier actions, then the agent's representation looks at these."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.actions, self.agents = Attention(width, heads), Attention(width, heads)
        self.mlp = feed_forward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, rep: Tensor) -> Tensor:
        """(M, N, D) of tokens x (M, N, D) and representations (M, N, D), causal."""
        x = self.norm1(x + self.actions(x, x, causal=True))
        x = self.norm2(rep + self.agents(rep, x, causal=True))
        y: Tensor = self.norm3(x + self.mlp(x))
        return y


class _BlockCache:
    """Keys and values of the positions decoded so far, and what can be computed before the first.

    Axes: P pairs of a moment and a head. Small tensors make every operation's own cost count, so there is
    one product where several would do the same, and queries are scaled beforehand.
    """

    def __init__(self, block: DecodeBlock, rep: Tensor) -> None:
        M, N, D = rep.shape
        h = block.agents.heads
        first, second, scale = block.actions, block.agents, (D // h) ** -0.5
        # Keys and values of both attentions: (2, P, N, d) each.
        self.kept1, self.kept2 = rep.new_empty(2, 2, M * h, N, D // h).unbind(0)
        self.queries = second.split(second.query(rep) * scale).flatten(0, 1)  # (P, N, d)
        self.qkv_weight = torch.cat(
            [first.query.weight * scale, first.key.weight, first.value.weight]
        )
        self.qkv_bias = torch.cat([first.query.bias * scale, first.key.bias, first.value.bias])
        self.kv_weight = torch.cat([second.key.weight, second.value.weight])
        self.kv_bias = torch.cat([second.key.bias, second.value.bias])

    def step(self, block: DecodeBlock, i: int, x: Tensor, rep: Tensor) -> Tensor:
        """Position ``i`` alone: (M, D) of its token x (M, D) and representation (M, D)."""
        D = x.shape[-1]
        qkv = F.linear(x, self.qkv_weight, self.qkv_bias)
        query = qkv[:, :D].reshape(-1, 1, D // block.actions.heads)
        x = block.norm1(x + self._look(block.actions, i, query, qkv[:, D:], self.kept1))
        kv = F.linear(x, self.kv_weight, self.kv_bias)
        query = self.queries[:, i : i + 1]
        x = block.norm2(rep + self._look(block.agents, i, query, kv, self.kept2))
        y: Tensor = block.norm3(x + block.mlp(x))
        return y

    @staticmethod
    def _look(attention: Attention, i: int, query: Tensor, kv: Tensor, kept: Tensor) -> Tensor:
        """What position ``i`` takes, (M, D), after adding its keys and values (M, 2 D) to those kept."""
        new = rearrange(kv, "m (two h d) -> two (m h) d", two=2, h=attention.heads)
        kept[:, :, i] = new
        keys, values = kept[:, :, : i + 1].unbind(0)
        weights = torch.bmm(query, keys.transpose(1, 2)).softmax(dim=-1)
        taken: Tensor = attention.out(torch.bmm(weights, values).view(kv.shape[0], -1))
        return taken


class AttentionDecoder(nn.Module):
    """Features of each agent given its representation and the actions of the agents before it."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(DecodeBlock(width, heads) for _ in range(blocks))

    def forward(self, tokens: Tensor, rep: Tensor) -> Tensor:
        """(M, N, D) of all tokens (M, N, D) and representations (M, N, D) at once."""
        x: Tensor = self.norm(tokens)
        for block in self._blocks():
            x = block(x, rep)
        return x

    def begin(self, rep: Tensor) -> list[_BlockCache]:
        """A cache for decoding one position after the other, see :meth:`step`."""
        return [_BlockCache(block, rep) for block in self._blocks()]

    def step(self, cache: list[_BlockCache], i: int, token: Tensor, rep: Tensor) -> Tensor:
        """Features (M, D) of position ``i`` alone, given its token (M, D)."""
        x: Tensor = self.norm(token)
        for block, kept in zip(self._blocks(), cache, strict=True):
            x = kept.step(block, i, x, rep[:, i])
        return x

    def _blocks(self) -> list[DecodeBlock]:
        return [block for block in self.blocks if isinstance(block, DecodeBlock)]


class RecurrentDecoder(nn.Module):
    """The same with a GRU over the agents in place of attention."""

    def __init__(self, width: int, layers: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rnn = nn.GRU(width, width, layers, batch_first=True)

    def forward(self, tokens: Tensor, rep: Tensor) -> Tensor:
        """(M, N, D) of all tokens (M, N, D) and representations (M, N, D) at once."""
        features: Tensor = self.rnn(self.norm(tokens + rep))[0]
        return features

    def begin(self, rep: Tensor) -> list[Tensor]:
        """A cache for decoding one position after the other, see :meth:`step`."""
        return [rep.new_zeros(self.rnn.num_layers, rep.shape[0], rep.shape[2])]

    def step(self, cache: list[Tensor], i: int, token: Tensor, rep: Tensor) -> Tensor:
        """Features (M, D) of position ``i`` alone, given its token (M, D)."""
        features, cache[0] = self.rnn(self.norm(token + rep[:, i])[:, None], cache[0])
        out: Tensor = features[:, 0]
        return out
