"""What a dataset says of the run that made it, and playing a checkpoint into one."""

from __future__ import annotations

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
    composed: Composed, env: Env, optional_fields: frozenset[str] = frozenset(), **policy: Any
) -> Description:
    """Of episodes that ``composed`` plays in ``env``; ``policy`` says more of who acts."""
    config = {k: v for k, v in composed.nested().items() if k not in (*BOOKKEEPING, "record")}
    return Description.of(
        env.spec,
        float_type("auto", env.spec)[0],
        environment_of(composed, env),
        optional=optional_fields,
        policies=[{"name": composed.run.name, **policy, "config": config}],
        seeds=[composed.run.seed],
    )


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
            "out, or play the trained policy afterwards: phalanx dataset record RUN."
        )
    description = description_of(composed, env, optional_fields)
    return Recorder(Path(run.record), description, resumed=bool(run.resume))
