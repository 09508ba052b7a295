"""From Python: a run, and its team acting without an environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import phalanx
from phalanx.acting import Team
from phalanx.build import build_player, make_env
from phalanx.checkpoint import load_checkpoint
from phalanx.config import compose, words_of
from phalanx.config.sources import read_words
from phalanx.errors import ConfigError
from phalanx.modules.policies.base import Seen
from phalanx.runners.rollout import Rollout, play_episodes

from ..families import small
from .modules.toys import plain

TINY = {"game": "two_step", "t_max": 60, "test_interval": 60, "test_nepisode": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return phalanx.train(
        "qmix", "matrix", **TINY, local_results_path=tmp_path_factory.mktemp("r"), mongo_url="none"
    )


def test_importing_is_light_and_names_are_there() -> None:
    script = (
        "import sys, phalanx\n"
        "assert {'train', 'load', 'VecBattle'} <= set(dir(phalanx))\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "phalanx.check_env\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert all(getattr(phalanx, name) for name in phalanx.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = phalanx.trian  # type: ignore[attr-defined]


def test_a_run_says_where_it_is_and_goes_on(run: Any) -> None:
    assert run.folder.name == run.uid
    assert (run.folder / "checkpoints" / "latest").is_dir()
    assert set(run.result) >= {"return_mean", "ep_length_mean"}
    results = run.folder.parent.parent
    complete = phalanx.train(resume=run.uid, local_results_path=results, mongo_url="none")
    assert (complete.uid, complete.result) == (run.uid, run.result)


def test_a_team_acts_as_the_runner_does(run: Any, tmp_path: Path) -> None:
    team = phalanx.load(run)
    composed = compose("qmix", "matrix", words_of({**TINY, "game": "two_step"}))
    env = make_env(composed, 1, "test_env")
    state = load_checkpoint(run.folder / "checkpoints" / "latest")
    player = build_player(composed, env.spec, torch.device("cpu"), state)
    rollout = Rollout(env, player, torch.Generator(), torch.device("cpu"))
    for _ in range(2):
        play_episodes(rollout, np.array([True]), 60, test_mode=True)
        episode = rollout.store.pack(np.array([0]))
        team.reset()
        for t in range(int(episode["lengths"][0])):
            taken = team.act(episode["obs"][t], episode["avail_actions"][t])
            assert taken.tolist() == episode["actions"][t].tolist()


class Remembering:
    """Chooses how often it was asked since the start, and looks at the state when told to."""

    def __init__(self, looks_at: str = "obs") -> None:
        self.looks_at = looks_at

    def init_carry(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        return {"asked": torch.zeros(batch_size, 2, dtype=torch.int64)}

    def act(
        self,
        seen: Seen,
        carry: dict[str, torch.Tensor],
        t_env: int,
        test_mode: bool,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.cat([getattr(seen, self.looks_at), seen.obs])
        return carry["asked"], {"asked": carry["asked"] + 1}

    def metrics(self, t_env: int) -> dict[str, float]:
        return {}


def team(looks_at: str = "obs") -> Team:
    spec = make_env(compose("qmix", "matrix"), 1, "spec").spec
    return Team(plain(Remembering(looks_at)), spec, torch.device("cpu"), 0, torch.Generator())


def test_a_team_remembers_until_it_is_reset() -> None:
    ours = team()
    one = np.zeros((2, ours.spec.obs_dim))
    assert [ours.act(one).tolist() for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]
    ours.reset()
    many = np.stack([one] * 3)
    ours.act(many)
    ours.reset([False, True, False])
    assert ours.act(many).tolist() == [[1, 1], [0, 0], [1, 1]]
    with pytest.raises(ConfigError, match=r"obs has 1 games, and there were 3 .* call reset\(\)"):
        ours.act(one)
    with pytest.raises(ConfigError, match=r"mask of shape \(3,\)"):
        ours.reset([True])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"obs": np.zeros((3, 5))}, r"obs has shape \(3, 5\); this team was trained with \(2, "),
        (
            {"avail_actions": np.ones((2, 7))},
            r"avail_actions has shape \(2, 7\); .* \(2, \d\) \(2 agents\)",
        ),
        ({"looks_at": "state"}, r"policy looks at state: give it, act\(\.\.\., state=\.\.\.\)"),
    ],
)
def test_what_does_not_fit_or_is_missing_is_said(arguments: dict[str, Any], said: str) -> None:
    ours = team(arguments.pop("looks_at", "obs"))
    arguments = {"obs": np.zeros((2, ours.spec.obs_dim)), **arguments}
    with pytest.raises(ConfigError, match=said):
        ours.act(**arguments)


@pytest.mark.parametrize(
    "value",
    ["007", "'quoted'", "3m", "null", 3, np.float64(0.5), [1, "b"], True, None, Path("a/b")],
)
def test_python_values_come_through_words(value: Any) -> None:
    entry = read_words(words_of({"label": value}))[0]
    wanted = value.item() if isinstance(value, np.generic) else value
    wanted = str(value) if isinstance(value, Path) else wanted
    assert wanted in (entry.value, entry.text)


def test_small_words_are_words() -> None:
    given = dict(word.split("=") for word in small("qmix"))
    assert words_of(given) == list(small("qmix"))
