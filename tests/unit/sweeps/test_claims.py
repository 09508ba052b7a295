"""One owner per row, whoever wants it, dies, sleeps or comes back."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from phalanx.sweeps.claims import DONE, FAILED, FREED, STOPPED, Claims, Standing

from ...patience import HANGS

FORK: Any = multiprocessing.get_context("fork")
ROWS = 100


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    (tmp_path / "claims").mkdir()
    return Claims(tmp_path, 120.0)


def _take_all(folder: Path, gate: Any, taken: Any) -> None:
    claims = Claims(folder, 120.0)
    gate.wait()
    mine = [row for row in range(ROWS) if claims.take(row, Standing(), 0) is not None]
    taken.put(mine)


def test_of_four_at_once_none_gets_what_another_has(claims: Claims, tmp_path: Path) -> None:
    gate, taken = FORK.Barrier(4), FORK.Queue()
    processes = [FORK.Process(target=_take_all, args=(tmp_path, gate, taken)) for _ in range(4)]
    for process in processes:
        process.start()
    mine = [taken.get() for _ in processes]
    for process in processes:
        process.join()
    assert sorted(row for rows in mine for row in rows) == list(range(ROWS))


def test_a_row_is_free_before_its_first_claim_and_after_each_that_was_given_back(
    claims: Claims,
) -> None:
    for end in (STOPPED, FREED):
        hold = claims.take(0, claims.standing(0), 7)
        assert hold is not None
        assert claims.standing(0).alive
        assert not claims.standing(0).free
        with hold:
            hold.end(end, sentence="later")
        assert claims.standing(0).free
        assert claims.standing(0).end == end
    hold = claims.take(0, claims.standing(0), 7)
    assert hold is not None
    with hold:
        hold.end(FAILED, sentence="boom")
    assert not claims.standing(0).free
    assert (claims.standing(0).said or {})["sentence"] == "boom"
    assert claims.free(0, claims.standing(0))
    assert claims.standing(0).free
    assert not claims.free(0, Standing(number=2)), "somebody was faster"


def _die_with(folder: Path, row: int) -> None:
    claims = Claims(folder, 120.0)
    with claims.take(row, claims.standing(row), 7):  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_on_this_machine_is_seen_at_once(claims: Claims, tmp_path: Path) -> None:
    for deaths in (1, 2):
        process = FORK.Process(target=_die_with, args=(tmp_path, 3))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        standing = claims.standing(3)
        assert standing.free
        assert standing.at(7)
        assert claims.deaths(3, standing) == deaths


def _make_foreign(path: Path) -> None:
    owner = json.loads(path.read_text())
    path.write_text(json.dumps(owner | {"machine": "elsewhere"}))


def test_another_machines_claim_is_stale_when_it_shows_no_life(
    claims: Claims, tmp_path: Path
) -> None:
    assert (
        claims.take(0, Standing(), 0) is not None
    )  # nobody beats, and the lock is not to be seen there
    path = tmp_path / "claims" / "0000.0"
    _make_foreign(path)
    now = path.stat().st_mtime
    os.utime(path, (now, now - 100))
    assert claims.standing(0).alive
    os.utime(path, (now, now - 130))
    assert claims.standing(0).free
    assert claims.take(0, claims.standing(0), 0) is not None
    assert claims.take(0, Standing(number=0), 0) is None, "two saw it stale, one gets it"


def test_whoever_holds_a_row_shows_life_until_it_is_lost(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    claims = Claims(tmp_path, 0.06)
    hold = claims.take(0, Standing(), 0)
    assert hold is not None
    lost = threading.Event()
    hold.when_lost = lost.set
    path = tmp_path / "claims" / "0000.0"
    _make_foreign(path)
    os.utime(path, (0, 0))
    with hold:
        while path.stat().st_mtime == 0:
            time.sleep(0.001)
        assert not lost.is_set()
        # It slept, and another took its row.
        assert claims.take(0, Standing(number=0), 0) is not None
        assert lost.wait(HANGS)


def test_a_claim_that_is_being_made_counts(claims: Claims, tmp_path: Path) -> None:
    (tmp_path / "claims" / "0004.0").touch()  # created, and nothing in it yet
    assert claims.standing(4).alive
    assert not Standing(end=DONE).free
