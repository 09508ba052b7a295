"""Blocks of the multi-agent transformer: sequences run over the agents of one moment.

Axes: M moments, N agents (positions), D embedding. Weights are orthogonal with gain 0.01, before a GELU
with sqrt(2); residual blocks are normalised at their end, hidden layers as wide as the embedding (Wen et
al., 2022).
"""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .normed import HIDDEN_GAIN, as_function, linear

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
        M, N, D = x.shape
        return x.view(M, N, self.heads, D // self.heads).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """(M, N, D) of what was attended to, (M, heads, N, D / heads)."""
        y: Tensor = self.out(x.transpose(1, 2).flatten(2))
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


class _Attending:
    """An attention over positions that come one after the other.

    What is looked at is kept as it came. The product with the keys' weights is made on the query's side,
    ``q . (K x + b) = (K^T q) . x + const``, and that with the values' after the sum, as weights add up to
    one: one product before looking and one after, in place of four.

    Args:
        rep: anything of the sequence's shape (N, M, D).
    """

    def __init__(self, attention: Attention, rep: Tensor) -> None:
        D, h = rep.shape[-1], attention.heads
        self._shape, scale = (h, D), (D // h) ** -0.5
        # By head: of queries, keys and values (h, d, D), of outputs (h, D, d).
        query, key, value = (
            layer.weight.view(h, -1, D)
            for layer in (attention.query, attention.key, attention.value)
        )
        out = attention.out.weight.view(D, h, -1).transpose(0, 1)
        self._query = torch.bmm(key.mT, query).view(-1, D) * scale
        bias = attention.query.bias.view(h, 1, -1)
        self._query_bias = torch.bmm(bias, key).flatten() * scale
        self._out = torch.bmm(out, value).transpose(1, 2).reshape(-1, D)
        self.out_bias = attention.out(attention.value.bias)
        self._seen = torch.empty_like(rep)

    def query(self, x: Tensor) -> Tensor:
        """Queries (..., h D) of x (..., D)."""
        return F.linear(x, self._query, self._query_bias)

    def look(self, i: int, query: Tensor, x: Tensor, residual: Tensor) -> Tensor:
        """``residual`` (M, D), which has :attr:`out_bias`, plus what position ``i`` takes, (M, D).

        Args:
            query: (M, h D) of what looks.
            x: (M, D) to be kept and looked at as well.
        """
        self._seen[i] = x
        seen = self._seen[: i + 1, :, None]
        query = query.reshape(-1, *self._shape)
        weights = (seen * query).sum(dim=-1, keepdim=True).softmax(dim=0)
        taken = (weights * seen).sum(dim=0)
        return torch.addmm(residual, taken.flatten(1), self._out)


class _DecodingBlock:
    """A block that decodes one position after the other.

    Small tensors make every operation's own cost count, so biases are added where it happens once for all.

    Args:
        rep: representations (N, M, D).
    """

    def __init__(self, block: DecodeBlock, rep: Tensor) -> None:
        self._norm1, self._norm2, self._norm3, self._mlp = (
            as_function(layer) for layer in (block.norm1, block.norm2, block.norm3, block.mlp)
        )
        self._actions, self._agents = (_Attending(a, rep) for a in (block.actions, block.agents))
        D, h = rep.shape[-1], block.actions.heads
        self._widths = [D, D, h * D]
        self._queries = self._agents.query(rep).unbind(0)
        self._residuals = (rep + self._agents.out_bias).unbind(0)

    def enter(self, x: Tensor) -> Tensor:
        """All that depends on x (..., D) alone: itself, with a bias, and its query, (..., 2 D + h D)."""
        return torch.cat([x, x + self._actions.out_bias, self._actions.query(x)], dim=-1)

    def step(self, i: int, entered: Tensor) -> Tensor:
        """Position ``i`` alone: (M, D) of what entered of it (M, 2 D + h D)."""
        x, residual, query = torch.split(entered, self._widths, dim=-1)
        x = self._norm1(self._actions.look(i, query, x, residual))
        x = self._norm2(self._agents.look(i, self._queries[i], x, self._residuals[i]))
        return self._norm3(x + self._mlp(x))


class Decoding(Protocol):
    """A decoder at work on one position after the other, computing nothing twice while weights stay."""

    def enter(self, tokens: Tensor) -> Tensor:
        """All that depends on tokens (..., D) alone, (..., E)."""
        ...

    def step(self, i: int, entered: Tensor) -> Tensor:
        """Features (M, D) of position ``i``, after those before it, by what entered of its token (M, E)."""
        ...


class AttentionDecoder(nn.Module):
    """Features of each agent given its representation and the actions of the agents before it."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(DecodeBlock(width, heads) for _ in range(blocks))

    def forward(self, tokens: Tensor, rep: Tensor) -> Tensor:
        """(M, N, D) of all tokens (M, N, D) and representations (M, N, D) at once."""
        x: Tensor = self.norm(tokens)
        for block in self.blocks:
            x = block(x, rep)
        return x

    def begin(self, rep: Tensor) -> Decoding:
        """The same, position by position of representations (M, N, D)."""
        return _AttentionDecoding(self, rep)


class _AttentionDecoding:
    def __init__(self, decoder: AttentionDecoder, rep: Tensor) -> None:
        by_position = rearrange(rep, "m n d -> n m d").contiguous()
        self._norm = decoder.norm
        self._first, *self._others = (
            _DecodingBlock(block, by_position)
            for block in decoder.blocks
            if isinstance(block, DecodeBlock)
        )

    def enter(self, tokens: Tensor) -> Tensor:
        return self._first.enter(self._norm(tokens))

    def step(self, i: int, entered: Tensor) -> Tensor:
        x = self._first.step(i, entered)
        for block in self._others:
            x = block.step(i, block.enter(x))
        return x


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

    def begin(self, rep: Tensor) -> Decoding:
        """The same, position by position of representations (M, N, D)."""
        return _RecurrentDecoding(self, rep)


class _RecurrentDecoding:
    def __init__(self, decoder: RecurrentDecoder, rep: Tensor) -> None:
        M, _, D = rep.shape
        self._decoder, self._rep = decoder, rep
        self._hidden = rep.new_zeros(decoder.rnn.num_layers, M, D)

    def enter(self, tokens: Tensor) -> Tensor:
        return tokens

    def step(self, i: int, entered: Tensor) -> Tensor:
        x = self._decoder.norm(entered + self._rep[:, i])
        features, self._hidden = self._decoder.rnn(x[:, None], self._hidden)
        out: Tensor = features[:, 0]
        return out
