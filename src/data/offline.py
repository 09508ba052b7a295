"""Batches from recorded episodes: what a learner gets where nothing is played."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from ..envs.protocol import Env, EnvSpec
from ..errors import ConfigError, DatasetError
from ..registry import BUFFERS, AbsolutePath, PartConfig
from ..seeding import named_generator
from .batch import OPTIONAL_FIELDS, EpisodeBatch
from .dataset import Dataset
from .dataset.description import differences
from .memory import gib
from .store import EpisodeStore

log = logging.getLogger("phalanx.data")


def _range(bounds: list[float]) -> list[float]:
    if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
        raise ValueError("expected [lowest, highest]")
    return bounds


class _Ordered(NamedTuple):
    """A batch that is being read.

    Attributes:
        place: the generator's state before it was drawn.
    """

    place: Tensor
    batch: Future[EpisodeBatch]


@BUFFERS.register("dataset")
class DatasetBuffer:
    """Recorded episodes, or windows of them, drawn at random with replacement; for runner=offline.

    While a batch is learnt from, a thread reads the next one.
    """

    class Config(PartConfig):
        dataset: AbsolutePath = Field("", description="folder of the dataset")
        batch_size: int = Field(64, ge=1, description="episodes or windows per gradient update")
        chunk_length: int = Field(
            0, ge=0, description="steps of a window within one episode; 0: whole episodes"
        )
        sampling: Literal["steps", "episodes"] = Field(
            "steps",
            description="what is equally likely: each step, so that long episodes come more often, or each "
            "episode",
        )
        top_share: float = Field(
            1.0,
            gt=0,
            le=1,
            description="share of the episodes that is used, those of highest return",
        )
        returns: Annotated[list[float], AfterValidator(_range)] = Field(
            [], description="only episodes with a return in [lowest, highest]; []: all"
        )

    on_policy = False
    takes_pieces = False
    gives_state = True
    fed = False

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        *,
        env: Env,
        seed: int,
        optional_fields: frozenset[str],
        frames: int = 1,
    ) -> None:
        if not config.dataset:
            raise ConfigError("buffer dataset needs a dataset to read: dataset=DIR.")
        if config.chunk_length and frames > 1:
            raise ConfigError(
                f"chunk_length={config.chunk_length} cuts windows out of episodes, and the {frames} frames "
                "that a part sees at once would be missing at their starts: set chunk_length=0, or frames=1."
            )
        self._config = config
        self.data = Dataset.open(config.dataset)
        _refuse_another_environment(self.data, spec)
        _tell_what_else_differs(self.data, env)
        missing = sorted(optional_fields - self.data.fields.keys())
        if missing:
            raise DatasetError(
                f"{config.dataset} does not hold {', '.join(missing)}, which a part of this run reads; it "
                f"holds {', '.join(self.data.fields)}. `phalanx dataset record` keeps all that an "
                "environment tells."
            )
        self.data.leave_out(OPTIONAL_FIELDS - optional_fields)
        self._rows = _chosen(self.data, config)
        self._ends = np.cumsum(self.data.lengths[self._rows])
        self._generator = named_generator(seed, "dataset")
        self._drawn = 0
        self._thread = ThreadPoolExecutor(1, "dataset")
        self._next: _Ordered | None = None
        log.info(
            "dataset %s: %d of %d episodes with %d steps, mean return %.2f, %s on the disk",
            Path(config.dataset).name,
            len(self._rows),
            len(self.data),
            self._ends[-1],
            self.data.returns[self._rows].mean(),
            gib(self.data.nbytes),
        )

    def insert(self, source: EpisodeStore, rows: NDArray[np.int64]) -> None:
        """Datasets do not change."""
        raise AssertionError("nothing is put into a dataset while it is read")

    def batches(self, t_env: int) -> Iterator[EpisodeBatch]:
        """One: the clock of such a run counts updates."""
        yield self.sample()

    def sample(self) -> EpisodeBatch:
        """``batch_size`` episodes, or windows with what is known of the steps before them."""
        wanted = self._next or self._order()
        batch = wanted.batch.result()
        self._next = self._order()
        self._drawn += int(batch.lengths.sum())
        return batch

    def _order(self) -> _Ordered:
        """Draw a batch, and let it be read."""
        place = self._generator.get_state()
        return _Ordered(place, self._thread.submit(self._read, *self._draw()))

    def _read(self, rows: NDArray[np.int64], at: NDArray[np.int64]) -> EpisodeBatch:
        if not self._config.chunk_length:
            return self.data.batch(rows)
        # A window that would go beyond the end is moved to the left.
        latest = np.maximum(self.data.lengths[rows] - self._config.chunk_length, 0)
        return self.data.batch(rows, np.minimum(at, latest), self._config.chunk_length)

    def _draw(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episodes (B,) and a step in each (B,)."""
        B = self._config.batch_size
        if self._config.sampling == "steps":
            draws = torch.randint(int(self._ends[-1]), (B,), generator=self._generator).numpy()
            index = np.searchsorted(self._ends, draws, side="right")
            rows = self._rows[index]
            return rows, draws - (self._ends[index] - self.data.lengths[rows])
        rows = self._rows[torch.randint(len(self._rows), (B,), generator=self._generator).numpy()]
        share = torch.rand(B, generator=self._generator, dtype=torch.float64).numpy()
        length = self._config.chunk_length
        starts = np.maximum(self.data.lengths[rows] - length, 0) + 1
        return rows, (share * starts).astype(np.int64)

    def metrics(self) -> dict[str, float]:
        """How often each step was drawn so far, on average."""
        return {"epochs": self._drawn / float(self._ends[-1])}

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Place in the sequence of samples, and which dataset it is of.

        What is read ahead was not yet given out: it will be drawn again.
        """
        ahead = self._next
        return {
            "generator": self._generator.get_state() if ahead is None else ahead.place,
            "drawn": self._drawn,
            "checksum": self.data.description.checksum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`; with another dataset sampling begins anew."""
        if state.get("checksum") != self.data.description.checksum:
            log.warning(
                "%s is not the dataset that the checkpoint was made with; this run draws from it as from "
                "the start.",
                self._config.dataset,
            )
            return
        self._next = None
        self._generator.set_state(state["generator"])
        self._drawn = state["drawn"]


def _refuse_another_environment(data: Dataset, spec: EnvSpec) -> None:
    differs = differences(data.spec, spec)
    if not differs:
        return
    recorded = data.description.environment
    options = recorded.get("options", {})
    named = [f"{k}={options[k]}" for k in ("map_name", "key", "game", "scenario") if k in options]
    where = " ".join([recorded.get("name") or "an environment that it does not name", *named])
    raise DatasetError(
        f"{data.folder} was recorded in another environment than this run tests in (dataset / run): "
        f"{'; '.join(differs)}. It was recorded in {where}; choose that one, or another dataset."
    )


def _tell_what_else_differs(data: Dataset, env: Env) -> None:
    then, now = data.description.environment.get("facts", {}), env.describe()
    differs = [
        f"{key} {then[key]!r} / {now[key]!r}"
        for key in sorted(then.keys() & now.keys())
        if then[key] != now[key]
    ]
    if differs:
        log.warning(
            "tests are played in an environment that says other things of itself than the one %s was "
            "recorded in (dataset / run): %s.",
            data.folder,
            "; ".join(differs),
        )


def _chosen(data: Dataset, config: DatasetBuffer.Config) -> NDArray[np.int64]:
    """The episodes that are drawn from: in the range, then the best share of these."""
    rows = np.arange(len(data))
    if config.returns:
        low, high = config.returns
        rows = rows[(data.returns >= low) & (data.returns <= high)]
    if not len(rows):
        there = (
            f"its returns go from {data.returns.min():g} to {data.returns.max():g}"
            if len(data)
            else "it has no episodes"
        )
        raise DatasetError(
            f"{data.folder} has no episode with a return in {config.returns}: {there}."
        )
    count = max(int(np.ceil(config.top_share * len(rows) - 1e-9)), 1)
    best = np.argsort(-data.returns[rows], kind="stable")[:count]
    return np.sort(rows[best])
