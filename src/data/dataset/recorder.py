"""Files the episodes of a training run as its runner hands them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ..store import EpisodeStore
from .description import Description
from .reader import Dataset
from .writer import DatasetWriter, refuse_what_is_there


class Recorder:
    """Stands between a runner and its buffer, and writes every whole episode that goes by.

    Pieces of episodes, as on-policy buffers get them, are put together: the runner's store says which copy of
    the environment a row is of. An episode of which a piece is missing (a game that crashed, a
    run that began to record within it) is left out.

    Args:
        folder: of the dataset.
        description: of what will be recorded; the run's name is added to its policies.
        resumed: the run goes on, and so does its dataset.

    Raises:
        DatasetError: there is something in ``folder`` already.
    """

    def __init__(self, folder: Path, description: Description, *, resumed: bool = False) -> None:
        self.folder, self._description = folder, description
        self._writer: DatasetWriter | None = None
        self._kept: int | None = None  # shards of a run that goes on
        self._open: dict[int, list[dict[str, NDArray[Any]]]] = {}
        if not resumed:
            refuse_what_is_there(folder)

    def begin(self, run: str) -> None:
        """Open the dataset; ``run`` is the name that others find this run by."""
        policies = [{**policy, "run": run} for policy in self._description.policies]
        if self._kept is not None:
            self._writer = DatasetWriter.reopened(self.folder, self._kept)
        else:
            self._writer = DatasetWriter(self.folder, replace(self._description, policies=policies))

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """File what ``rows`` of a runner's store complete."""
        assert self._writer is not None, "begin() comes first"
        for row in rows.tolist():
            length, begins = int(source.lengths[row]), int(source.begins[row])
            copy = int(source.copies[row])
            earlier = [] if not begins else self._open.pop(copy, [])
            self._open.pop(copy, None)
            if sum(len(piece["reward"]) for piece in earlier) != begins:
                continue
            over = source.arrays["terminated"][row, length - 1]
            over |= source.arrays["truncated"][row, length - 1]
            if over and not earlier:
                self._writer.append_row(source, row)
                continue
            pieces = [*earlier, self._piece(source, row, length)]
            if over:
                self._writer.append(self._joined(pieces), source.outcomes[row])
            else:
                self._open[copy] = pieces

    def _piece(self, source: EpisodeStore, row: int, length: int) -> dict[str, NDArray[Any]]:
        return {
            name: source.arrays[name][row, : field.steps(length)].copy()
            for name, field in self._description.fields.items()
        }

    def _joined(self, pieces: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """One episode; what is seen at the end of a piece is seen again at the beginning of the next."""
        return {
            name: np.concatenate(
                [piece[name][: len(piece["reward"])] for piece in pieces[:-1]] + [pieces[-1][name]]
            )
            for name in self._description.fields
        }

    def state_dict(self) -> dict[str, Any]:
        """How much was written; the open shard is closed first, so that a resumed run can go on there."""
        if self._writer is None:
            return {"shards": 0, "open": {}}
        return {"shards": self._writer.seal(), "open": self._open}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Undo :meth:`state_dict`; nothing is changed on the disk before :meth:`begin`.

        Args:
            state: None where the run did not record until now.

        Raises:
            DatasetError: the dataset is gone or damaged, or has less than was written.
        """
        if state is None:
            refuse_what_is_there(self.folder)
            return
        there = len(Dataset.open(self.folder).description.shards)
        self._kept, self._open = int(state["shards"]), dict(state["open"])
        if there < self._kept:
            raise DatasetError(
                f"{self.folder} has {there} shards, but the checkpoint was made when there were "
                f"{self._kept}: some are gone. Go on with record='' or another folder."
            )

    def close(self) -> None:
        """Write what is left. Safe to call twice."""
        if self._writer is not None:
            self._writer.close()


class RecordedBuffer:
    """A buffer before which a :class:`Recorder` stands; all else is the buffer's own."""

    def __init__(self, buffer: Any, recorder: Recorder) -> None:
        self._buffer, self._recorder = buffer, recorder

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """File the episodes, then hand them on."""
        self._recorder.insert(source, rows)
        self._buffer.insert(source, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)
