"""Runs from Python: train one, and let a trained team act anywhere.

>>> import phalanx  # doctest: +SKIP
>>> run = phalanx.train("qmix", "sc2", map_name="3m", t_max=200_000)  # doctest: +SKIP
>>> team = phalanx.load(run)  # doctest: +SKIP
>>> team.act(obs, avail_actions)  # doctest: +SKIP
array([6, 1, 6])
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from .acting import Team
from .config import words_of
from .session import Trained
from .session import open_run as _open_run
from .session import train as _train


def train(
    config: str | os.PathLike[str] | None = None,
    env_config: str | os.PathLike[str] | None = None,
    **updates: Any,
) -> Trained:
    """Train one run in this process, recorded like one of the command line.

    ``phalanx.train("qmix", "sc2", map_name="3m", seed=1)`` is
    ``phalanx --config=qmix --env-config=sc2 with map_name=3m seed=1``.

    Args:
        config: name of a shipped algorithm or path of a YAML file; None with ``resume`` or
            ``checkpoint_path``.
        env_config: likewise for the environment.
        **updates: config keys, bare or full (``mixer_args={"mixing_embed_dim": 64}``).

    Returns:
        The run's name and folder, and what its last test came to.

    Raises:
        PhalanxError: it cannot be run, or ended in an error; says what is wrong and what to try.
        KeyboardInterrupt: it was stopped; it has a checkpoint and can be resumed.
    """
    return _train(_text(config), _text(env_config), words_of(updates), ())


def load(
    run: str | int | os.PathLike[str] | Trained,
    which: Literal["latest", "best"] | int = "latest",
    *,
    seed: int = 0,
    **updates: Any,
) -> Team:
    """The trained team of a run, ready to act; no environment is built.

    Args:
        run: what :func:`train` returned, a run's number, name, uid or folder, or a checkpoint's folder.
        which: its newest checkpoint, the one that did best in a test, or the step of one.
        seed: of what is random in acting.
        **updates: keys to set otherwise than in the run, e.g. ``device="cpu"``; ``trust_plugins=True`` lets
            the run's own plugins be imported; ``local_results_path`` says where runs are.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit.
        TrackingError: there is no such run.
    """
    name = run.folder if isinstance(run, Trained) else Path(str(run))
    checkpoint, composed = _open_run(name, words_of(updates), which)
    return Team.of(checkpoint, composed, seed)


def _text(config: str | os.PathLike[str] | None) -> str | None:
    return None if config is None else os.fspath(config)


__all__ = ["Team", "Trained", "load", "train"]
