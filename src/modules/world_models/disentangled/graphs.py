"""Graphs between agents, for graph auto-encoders.

Axes: R rows (moments of episodes), N agents, F features. A graph is (R, N, N) of zeros and ones, symmetric,
with a zero diagonal. On the complete graph smoothing replaces every agent's features by the team's mean: all
that tells agents apart is lost, but for what layers with weights for a node's own row keep. Useful graphs are
sparser; ``none`` shows what the graph costs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GraphBuilder = Callable[[Tensor, "Tensor | None", "Tensor | None", int], Tensor]
"""Called with features (R, N, F), who is alive (R, N) or None, who sees whom (R, N, N) or None, and a number
of neighbours. Edges of dead agents are removed from what it returns."""

GRAPHS: dict[str, GraphBuilder] = {}
"""Graph builders by the name a config chooses them with."""

NEEDS_VISIBILITY: set[str] = set()
"""Names of the builders that want to know who sees whom."""


def register_graph(
    name: str, *, needs_visibility: bool = False
) -> Callable[[GraphBuilder], GraphBuilder]:
    """Function decorator that files a graph builder under ``name``."""

    def add(builder: GraphBuilder) -> GraphBuilder:
        GRAPHS[name] = builder
        if needs_visibility:
            NEEDS_VISIBILITY.add(name)
        return builder

    return add


@torch.no_grad()
def build_graph(
    name: str,
    features: Tensor,
    *,
    alive: Tensor | None = None,
    visibility: Tensor | None = None,
    neighbours: int = 3,
) -> Tensor:
    """Graph (R, N, N) float of the builder ``name``. No gradient passes through the choice of edges.

    Args:
        features: (R, N, F).
        alive: (R, N) bool; dead agents get no edge. Default: all are alive.
        visibility: (R, N, N) bool.
        neighbours: edges a builder of sparse graphs looks for, per agent.
    """
    graph = GRAPHS[name](features, alive, visibility, neighbours)
    if alive is not None:
        living = alive.to(graph.dtype)
        graph = graph * living[:, :, None] * living[:, None, :]
    return graph


@register_graph("complete")
def complete(
    features: Tensor, alive: Tensor | None, visibility: Tensor | None, neighbours: int
) -> Tensor:
    """Everybody is everybody's neighbour."""
    R, N = features.shape[:2]
    return (1 - torch.eye(N, device=features.device, dtype=features.dtype)).expand(R, N, N)


@register_graph("none")
def none(
    features: Tensor, alive: Tensor | None, visibility: Tensor | None, neighbours: int
) -> Tensor:
    """Nobody is linked: each agent is encoded on its own, by weights all share."""
    R, N = features.shape[:2]
    return features.new_zeros(R, N, N)


@register_graph("knn")
def knn(
    features: Tensor, alive: Tensor | None, visibility: Tensor | None, neighbours: int
) -> Tensor:
    """The nearest by cosine similarity, made symmetric by maximum.

    Choice: an agent looks for at most half of the other living, so that the graph of a small team, or of
    what is left of a team, is not the complete one. Two agents stay unlinked.
    """
    R, N = features.shape[:2]
    products = torch.bmm(features, features.transpose(1, 2))
    scale = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt()
    similarity = products * scale[:, None, :] * scale[:, :, None]
    # Ties go to the same pair seen from either end: the closest pair then shares a link, and what is left
    # never suffices for the complete graph.
    index = torch.arange(N, device=features.device)
    pair = torch.minimum(index, index[:, None]) * N + torch.maximum(index, index[:, None])
    similarity = similarity - 1e-4 / (N * N) * pair
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    most = min(neighbours, (N - 1) // 2)
    if alive is None:
        nearest = similarity.topk(most, dim=-1, sorted=False).indices
        linked: float | Tensor = 1.0
    else:
        similarity.masked_fill_(~alive[:, None, :], -torch.inf)
        nearest = similarity.topk(most, dim=-1, sorted=True).indices
        wanted = torch.div(alive.sum(dim=1) - 1, 2, rounding_mode="floor")  # (R,)
        place = torch.arange(most, device=features.device)
        linked = (place < wanted[:, None])[:, None, :].expand(R, N, most).to(similarity.dtype)
    graph = torch.zeros_like(similarity)
    graph = graph.scatter_(-1, nearest, linked)
    return torch.maximum(graph, graph.transpose(1, 2))


@register_graph("visibility", needs_visibility=True)
def visible(
    features: Tensor, alive: Tensor | None, visibility: Tensor | None, neighbours: int
) -> Tensor:
    """Agents are neighbours where one sees the other."""
    if visibility is None:
        raise ValueError(
            "the batch has no field visibility, which the graph 'visibility' is made of"
        )
    seen = (visibility | visibility.transpose(1, 2)).to(features.dtype)
    return seen * (1 - torch.eye(seen.shape[-1], device=seen.device, dtype=seen.dtype))
