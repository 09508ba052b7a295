"""The control for size is as large as what it is compared with."""

from __future__ import annotations

import pytest
import torch

from phalanx.build import make_env
from phalanx.config.compose import compose
from phalanx.registry import Assembler


def parameters(algorithm: str, map_name: str) -> int:
    """Parameters that learn, of the shipped config."""
    composed = compose(algorithm, "sc2", [f"map_name={map_name}", "engine=embedded"])
    spec = make_env(composed, 1, "env").spec
    assembler = Assembler(
        composed.chosen, composed.parts, spec=spec, seed=0, device=torch.device("cpu")
    )
    learner = assembler.build("learner")
    modules = [learner.policy, learner.mixer, learner.world_model]
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("map_name", ["3s_vs_3z", "5m_vs_6m", "MMM2"])
def test_qmix_wide_has_as_many_parameters_as_vdfd(map_name: str) -> None:
    wanted = parameters("vdfd", map_name)
    assert parameters("qmix_wide", map_name) == pytest.approx(wanted, rel=0.01)
    assert parameters("qmix", map_name) < wanted / 3
