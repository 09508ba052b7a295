"""Graphs between agents, and the operators of the graph auto-encoder."""

from __future__ import annotations

import math

import pytest
import torch

from phalanx.modules.world_models.disentangled.gala import (
    GALA,
    GraphLayer,
    Operators,
    sharpening,
    smoothing,
)
from phalanx.modules.world_models.disentangled.graphs import GRAPHS, build_graph

# Three nodes in a row: 0 - 1 - 2.
PATH = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_operators_of_a_path_by_hand() -> None:
    a, b = 1 / math.sqrt(6), -1 / math.sqrt(12)
    torch.testing.assert_close(
        smoothing(PATH), torch.tensor([[1 / 2, a, 0], [a, 1 / 3, a], [0, a, 1 / 2]])
    )
    torch.testing.assert_close(
        sharpening(PATH), torch.tensor([[2 / 3, b, 0], [b, 1 / 2, b], [0, b, 2 / 3]])
    )


def random_graphs(count: int, n: int) -> torch.Tensor:
    upper = torch.triu((torch.rand(count, n, n) < torch.rand(count, 1, 1)).float(), diagonal=1)
    return upper + upper.transpose(1, 2)


def test_sharpening_never_blows_up() -> None:
    torch.manual_seed(0)
    radius = torch.linalg.eigvalsh(sharpening(random_graphs(100, 9))).abs().amax()
    assert radius <= 1 + 1e-6


@pytest.mark.parametrize("name", sorted(GRAPHS))
@pytest.mark.parametrize("n", [1, 2, 6])
def test_graphs_are_symmetric_without_loops_and_spare_the_dead(name: str, n: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(20, n, 4, requires_grad=True)
    alive, sees = torch.rand(20, n) < 0.7, torch.rand(20, n, n) < 0.5
    graph = build_graph(name, x, alive=alive, visibility=sees, neighbours=3)
    assert not graph.requires_grad
    assert set(graph.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(graph, graph.transpose(1, 2))
    assert not graph.diagonal(dim1=1, dim2=2).any()
    assert not graph[~alive].any()


def test_knn_links_the_most_similar() -> None:
    # Two pairs that point the same way, whatever their length.
    x = torch.tensor([[[1.0, 0], [5, 0.1], [0, 1], [0.1, 7]]])
    expected = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    assert torch.equal(build_graph("knn", x, neighbours=1)[0], expected)


def test_knn_skips_dead_agents_for_living_ones() -> None:
    x = torch.tensor([[[1.0, 0], [1, 0], [-1, 1], [-1, 0.9]]])
    alive = torch.tensor([[True, False, True, True]])
    graph = build_graph("knn", x, alive=alive, neighbours=1)[0]
    expected = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    assert torch.equal(graph, expected)


@pytest.mark.parametrize("n", [2, 3, 4, 9])
@pytest.mark.parametrize("alike", [False, True])
def test_knn_never_links_all_the_living(n: int, alike: bool) -> None:
    """Whatever has died: two of them, or more, are never all linked to each other."""
    torch.manual_seed(0)
    x = torch.ones(400, n, 8) if alike else torch.randn(400, n, 8)
    alive = torch.rand(400, n) < torch.rand(400, 1)
    alive[0] = True
    for neighbours in (1, 3, 8):
        graph = build_graph("knn", x, alive=alive, neighbours=neighbours)
        count = alive.sum(dim=1)
        several = count >= 2
        assert bool((graph.sum(dim=(1, 2)) < count * (count - 1))[several].all())
        # From three on nobody is left alone.
        linked = graph.sum(dim=-1) > 0
        assert bool((linked == alive)[count >= 3].all())


def test_complete_graph_forgets_who_is_who() -> None:
    x = torch.randn(1, 5, 3)
    smooth = smoothing(build_graph("complete", x))
    torch.testing.assert_close(smooth @ x, x.mean(dim=1, keepdim=True).expand_as(x))


def test_autoencoder_size_does_not_depend_on_the_team() -> None:
    net = GALA(features=11, hidden=64, code=64, latent=32)
    parameters = sum(p.numel() for p in net.parameters())
    for n in (3, 27):
        x = torch.randn(2, n, 11)
        operators = Operators.of(build_graph("knn", x))
        assert net.encode(x, operators).shape == (2, n, 64)
        assert net.decode(torch.randn(2, n, 32), operators).shape == (2, n, 11)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("own_rows", [True, False])
@pytest.mark.parametrize(("features", "out"), [(2, 5), (5, 2)])
def test_layer_is_operator_times_features_times_weights(
    features: int, out: int, own_rows: bool
) -> None:
    layer = GraphLayer(features, out, own_rows=own_rows)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    operator, x = smoothing(random_graphs(4, 3)), torch.randn(4, 3, features)
    expected = operator @ x @ layer.weight.t() + layer.bias
    if own_rows:
        assert layer.own is not None
        expected = expected + x @ layer.own.t()
    torch.testing.assert_close(layer(x, operator), expected)
