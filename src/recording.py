"""What a dataset says of the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import Composed
from .data.compact import float_type
from .data.dataset.description import Description
from .data.dataset.recorder import Recorder
from .envs.protocol import Env
from .errors import ConfigError
from .registry import RUNNERS
from .tracking.identity import BOOKKEEPING


def description_of(
    composed: Composed,
    env: Env,
    policy: Mapping[str, Any],
    seed: int,
    optional_fields: frozenset[str],
) -> Description:
    """Of episodes that are played in ``env``, the environment of ``composed``, by ``policy``."""
    return Description.of(
        env.spec,
        float_type("auto", env.spec)[0],
        environment_of(composed, env),
        optional=optional_fields,
        policies=[policy],
        seeds=[seed],
    )


def policy_of(composed: Composed, **more: Any) -> dict[str, Any]:
    """What a dataset says of a policy that a run trained."""
    config = {k: v for k, v in composed.nested().items() if k not in BOOKKEEPING}
    return {"name": composed.run.name, **more, "config": config}


def environment_of(composed: Composed, env: Env) -> dict[str, Any]:
    """An environment's name, every option, and what it says of itself."""
    return {
        "name": composed.chosen["env"],
        "options": composed.parts["env"].model_dump(mode="json"),
        "facts": env.describe(),
    }


def recorder_of(composed: Composed, env: Env, optional_fields: frozenset[str]) -> Recorder | None:
    """What ``record=DIR`` asks for; None without it.

    Raises:
        ConfigError: the run plays nothing.
        DatasetError: there is something in DIR already.
    """
    run, runner = composed.run, composed.chosen["runner"]
    if not run.record:
        return None
    if not RUNNERS.get(runner).plays:
        raise ConfigError(
            f"record={run.record}: runner {runner} plays no episodes that could be recorded. Leave record "
            "out, or play the trained policy afterwards: phalanx dataset record RUN --episodes N --out DIR."
        )
    description = description_of(composed, env, policy_of(composed), run.seed, optional_fields)
    return Recorder(Path(run.record), description, resumed=bool(run.resume))
