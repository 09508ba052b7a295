"""Every error that is the user's to mend. Anything else that escapes is a bug of ours.

Messages say what happened, where, what was expected and what to try.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PhalanxError(Exception):
    """Root of all errors with a message meant for the user."""


class ConfigError(PhalanxError):
    """A key, value or composition in a config file or on the command line is wrong."""


class RegistryError(PhalanxError):
    """A part is unknown, registered twice, or could not be imported."""


class MissingDependencyError(RegistryError):
    """A chosen part needs an optional package that is not installed."""


class EnvError(PhalanxError):
    """An environment cannot be built, or was used against its protocol."""


class UnavailableActionError(EnvError, AssertionError):
    """An agent was told to do what its action mask rules out (SMAC raises an AssertionError)."""


class TraceError(PhalanxError):
    """A recorded battle cannot be read."""


class RenderError(PhalanxError):
    """A recorded battle cannot be drawn as asked."""


class BufferMemoryError(PhalanxError):
    """A buffer would not fit into free memory."""


class CheckpointError(PhalanxError):
    """A checkpoint is missing, broken, or belongs to another config."""


class DivergedError(PhalanxError):
    """A loss, a gradient or a number from an environment is not finite: going on would spoil the run."""


class TrackingError(PhalanxError):
    """A tracking command (not a run: tracking never ends a run) cannot go on."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the closest known words, else an empty string.

    >>> did_you_mean("qmxi", ["qmix", "vdn"])
    " Did you mean 'qmix'?"
    """
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(c) for c in close) + "?"
