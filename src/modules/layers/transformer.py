"""Blocks of the multi-agent transformer: sequences run over the agents of one moment.

Axes: M moments, N agents (positions), D embedding. Weights are orthogonal with gain 0.01, before a GELU
with sqrt(2); residual blocks are normalised at their end, hidden layers as wide as the embedding (Wen et
al., 2022).
"""

from __future__ import annotations

from torch import Tensor, nn

from .attention import Attention
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


def attention(width: int, heads: int) -> Attention:
    """Attention between positions of this width."""
    return Attention(width, width, width, heads, lambda i, o: linear(i, o, SMALL_GAIN))


class EncodeBlock(nn.Module):
    """Everyone looks at everyone, then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = attention(width, heads), feed_forward(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(M, N, D) of x (M, N, D)."""
        x = self.norm1(x + self.attention(x, x, causal=False))
        y: Tensor = self.norm2(x + self.mlp(x))
        return y


class AgentEncoder(nn.Sequential):
    """Representations of all agents, each knowing of the others: (M, N, D) of embeddings (M, N, D).

    Args:
        width: D.
        blocks: how many blocks; 0 leaves every agent with its own embedding.
        heads: of each.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__(*(EncodeBlock(width, heads) for _ in range(blocks)))


class RecurrentEncoder(nn.Module):
    """The same by a GRU over the agents: each knows of those before it."""

    def __init__(self, width: int, layers: int = 2) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, embedded: Tensor) -> Tensor:
        """(M, N, D) of embeddings (M, N, D)."""
        rep: Tensor = self.norm(self.rnn(embedded)[0])
        return rep


class DecodeBlock(nn.Module):
    """Actions look at earlier actions, then the agent's representation looks at these."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.actions, self.agents = attention(width, heads), attention(width, heads)
        self.mlp = feed_forward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, rep: Tensor) -> Tensor:
        """(M, N, D) of tokens x (M, N, D) and representations (M, N, D), causal."""
        x = self.norm1(x + self.actions(x, x, causal=True))
        x = self.norm2(rep + self.agents(rep, x, causal=True))
        y: Tensor = self.norm3(x + self.mlp(x))
        return y


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
