"""Every error that is the user's to mend. Anything else that escapes is a bug of ours.

Messages say what happened, where, what was expected and what to try.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


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


class DatasetError(PhalanxError):
    """A dataset is missing, damaged, or not of this run's environment."""


class CheckpointError(PhalanxError):
    """A checkpoint is missing, broken, or belongs to another config."""


class DivergedError(PhalanxError):
    """A loss, a gradient or a number from an environment is not finite: going on would spoil the run."""


class TrackingError(PhalanxError):
    """A tracking command (not a run: tracking never ends a run) cannot go on."""


class RunBusyError(TrackingError):
    """Another process has the folder of a run."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the closest known words, else an empty string.

    >>> did_you_mean("qmxi", ["qmix", "vdn"])
    " Did you mean 'qmix'?"
    """
    words = list(dict.fromkeys(known))
    # A whole part of the word counts more than likeness: ppo_learner means ppo, not q_learner.
    parts = word.lower().split("_")
    close = [w for w in words if w.lower() in parts and len(w) > 1]
    close = close or difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(c) for c in close) + "?"


def users_fault(error: BaseException) -> bool:
    """Whether an exception passed through code that is neither this package's nor an installed library's."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(_is_users(frame.filename) for frame in frames)


def unforeseen(error: BaseException) -> bool:
    """Whether nobody but Phalanx itself is to blame."""
    return not (isinstance(error, (PhalanxError, OSError, MemoryError)) or users_fault(error))


def in_words(error: BaseException) -> str:
    """What ended a run or a command, in a sentence for its user."""
    if isinstance(error, PhalanxError):
        return str(error)
    if users_fault(error):
        return (
            f"code outside Phalanx, a plugin or an environment, failed: {own_words(error)}. Mend it there, "
            "or choose another part; -d shows how it got there."
        )
    if isinstance(error, OSError):
        where = f" ({str(error.filename)[:80]})" if error.filename else ""
        return f"{error.strerror or error}{where}. Give another path, or make room or way there."
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({error})."
    return (
        f"that is a fault of Phalanx itself: {own_words(error)}. Please report it with the lines "
        "above."
    )


def own_words(error: BaseException) -> str:
    """What foreign code raised, and where: ``ValueError: boom (toy.py:12 in step)``.

    The place is the last one in code that is neither this package's nor an installed library's, where the
    error passed through such code, else where it was raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if _is_users(frame.filename)]
    message = " ".join(str(error).split())
    said = f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
    if not frames:
        return said
    frame = (foreign or frames)[-1]
    return f"{said} ({frame.filename}:{frame.lineno} in {frame.name})"


def _is_users(filename: str) -> bool:
    """Whether a file belongs to whoever wrote a plugin or an environment."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    ours = [Path(__file__).resolve().parent]
    ours += [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")]
    return not any(path.is_relative_to(folder) for folder in ours)
