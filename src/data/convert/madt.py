"""MADT's format: a torch file per episode, in a folder per map and tier.

``episode[agent][step] = [state, observation, [action], [reward], done, mask]``, as lists. ``done`` is of the
agent and after the action: it is dead, or the episode is over. Nothing is kept of what followed the last
action. States are of the agents' own views; here the first agent's is kept, as other converted sets have it.
OMIGA's battles are a choice of these files.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...envs.protocol import Discrete, EnvSpec
from ...errors import DatasetError
from .foreign import Episode, Found, ends, team_reward

_ELEMENTS = ("state", "obs", "actions", "reward", "done", "avail_actions")
_MOST = 2**31  # bytes of an answer


class SealedReader:
    """Reads torch files of lists and numbers in a process of its own, see :mod:`.sealed`.

    Raises:
        DatasetError: this system cannot limit what a process may do.
    """

    def __init__(self) -> None:
        if os.name != "posix":
            raise DatasetError(
                "torch files are pickles, and are read only where a process can be limited: on Linux "
                "or macOS."
            )
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("sealed.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            # Each of its threads would claim addresses.
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )

    def columns(self, file: Path) -> list[NDArray[Any]]:
        """Of ``episode[agent][step] = [first, second, ...]`` an array (N, T, ...) per element.

        Raises:
            DatasetError: the file is not that; says why. Nothing in it was run.
        """
        content, (ask, hear) = file.read_bytes(), self._pipes
        try:
            ask.write(struct.pack("<Q", len(content)) + content)
            ask.flush()
            status, length = struct.unpack("<BQ", self._heard(hear, 9))
            answer = self._heard(hear, min(length, _MOST))
        except (BrokenPipeError, EOFError):
            raise DatasetError(
                f"{file} could not be read within the time and memory that are admitted."
            ) from None
        if status:
            raise DatasetError(f"{file} {answer.decode(errors='replace')}. Nothing of it was run.")
        stream, found = io.BytesIO(answer), []
        while stream.tell() < len(answer):
            found.append(np.lib.format.read_array(stream, allow_pickle=False))
        return found

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    @staticmethod
    def _heard(pipe: IO[bytes], count: int) -> bytes:
        content = pipe.read(count)
        if len(content) < count:
            raise EOFError
        return content

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in self._pipes:
            pipe.close()


def read_madt(source: Path, limit: int | None = None) -> Found:
    """The episodes in the folder ``source``, those of one map and tier.

    Args:
        limit: steps after which the clock ends an episode: such a one counts as cut off too.

    Raises:
        DatasetError: there is no file, or one is not what the format says.
    """
    files = sorted(path for path in source.glob("*") if path.is_file())
    if not files:
        raise DatasetError(
            f"{source} has no files: give the folder of one map and tier, with a file per episode."
        )
    episodes = _episodes(files, limit)
    name, first = next(episodes)
    _, N, O = first["obs"].shape
    A = first["avail_actions"].shape[-1]
    spec = EnvSpec(N, O, first["state"].shape[-1], Discrete(A), episode_limit=0, has_alive=True)
    return Found("madt", spec, files, itertools.chain([(name, first)], episodes))


def _episodes(files: list[Path], limit: int | None) -> Iterator[tuple[str, Episode]]:
    with closing(SealedReader()) as reader:
        for file in files:
            yield str(file), _episode(file, reader.columns(file), limit)


def _episode(file: Path, columns: list[NDArray[Any]], limit: int | None) -> Episode:
    """Our fields of the elements (N, T, ...)."""
    if len(columns) < len(_ELEMENTS):
        raise DatasetError(
            f"{file} has {len(columns)} elements a step, not {', '.join(_ELEMENTS)}."
        )
    by_step = {
        name: column.swapaxes(0, 1) for name, column in zip(_ELEMENTS, columns, strict=False)
    }
    axes = {name: array.ndim for name, array in by_step.items()}
    if axes != dict.fromkeys(_ELEMENTS, 3) | {"done": 2}:
        raise DatasetError(
            f"{file} has elements {axes}; each must be a list of numbers, and done one number."
        )
    done = by_step["done"] != 0
    # Whoever dies in a step still acted in it.
    alive = np.ones_like(done)
    alive[1:] = ~np.logical_or.accumulate(done)[:-1]
    over = bool(done[-1].all())
    return {
        "state": by_step["state"][:, 0],
        "obs": by_step["obs"],
        "avail_actions": by_step["avail_actions"],
        "alive": alive,
        "actions": by_step["actions"][..., 0],
        "reward": team_reward(by_step["reward"], str(file)),
        **ends(len(done), terminated=over, truncated=not over or len(done) == limit),
    }
