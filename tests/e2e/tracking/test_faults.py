"""What a run and its record look like when the database, or the run itself, goes away."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phalanx.tracking import experiment, mirror
from phalanx.tracking import server as embedded
from phalanx.tracking.experiment import run_experiment
from phalanx.tracking.queries import runs
from phalanx.tracking.record import read_metrics
from phalanx.tracking.sync import sync
from phalanx.tracking.target import Target

from .conftest import (
    HANGS,
    assert_nothing_lost,
    assert_same_points,
    finish,
    free_port,
    in_database,
    logged,
    read_until,
    wait_until,
)

KILLED = Path(__file__).with_name("killed.py")


def deliver(results, mongo):
    return [done.note for done in sync(results, Target("phalanx", mongo.url))]


def test_absent_from_the_start_then_sync(mongo, results, write):
    output = finish(write(results, 50, "--wait", "2", "--retry", "30", url=mongo.url))
    assert output.count("MongoDB is away") == 1
    assert "phalanx sync" in output
    (run,) = runs(results)
    assert (run.status, run.run_id) == ("COMPLETED", None)
    mongo.start()
    assert deliver(results, mongo) == ["delivered"]
    document = assert_same_points(mongo.db(), run.directory, logged(output))
    assert document["status"] == "COMPLETED"
    assert runs(results)[0].run_id == document["_id"]


def test_a_number_that_comes_late_does_not_stop_a_run(mongo, results, monkeypatch):
    mongo.start()
    started, stored = threading.Event(), mirror.sync.put_sources

    def slowly(files, run):  # between the two, Sacred has a document without a number
        started.wait()
        return stored(files, run)

    def body(handle):
        assert handle.run_id == handle.uid
        handle.log_scalar("loss", 0.0, 0)
        handle.log_scalar("return_mean", 0.0, 0)
        started.set()

    monkeypatch.setattr(mirror.sync, "put_sources", slowly)
    late = functools.partial(mirror.Mirror, start_wait=0.3)
    monkeypatch.setattr(experiment, "Mirror", late)
    run_experiment(body, name="qmix", config={}, results_dir=results, mongo_url=mongo.url)
    (run,) = runs(results)
    assert (run.status, run.run_id) == ("COMPLETED", 1)
    assert_same_points(mongo.db(), run.directory, [0])


def test_killed_in_the_middle_and_back(mongo, results, write):
    mongo.start()
    writer = write(results, 100, url=mongo.url)
    read_until(writer, "point 60")
    mongo.kill()
    lines = read_until(writer, "MongoDB is away")
    mongo.start()
    lines += read_until(writer, "MongoDB is back")
    finish(writer)
    (run,) = runs(results)
    document = assert_same_points(mongo.db(), run.directory)
    steps = read_metrics(run.directory)["loss"].steps
    assert steps == list(range(document["result"]))
    assert document["status"] == "COMPLETED"


def test_killed_and_back_after_the_end_then_sync(mongo, results, write):
    mongo.start()
    writer = write(results, 100, url=mongo.url)
    db = mongo.db()
    wait_until(lambda: db.metrics.count_documents({}) == 2)
    mongo.kill()
    read_until(writer, "MongoDB is away")
    output = finish(writer)
    assert "phalanx sync" in output
    mongo.start()
    before, found = in_database(mongo.db())
    assert before["status"] == "RUNNING"
    (run,) = runs(results)
    assert len(found["loss"]["steps"]) < len(read_metrics(run.directory)["loss"].steps)
    assert deliver(results, mongo) == ["delivered"]
    document = assert_same_points(mongo.db(), run.directory, list(range(run.result)))
    assert (document["status"], document["_id"]) == ("COMPLETED", before["_id"])


def test_the_next_run_delivers_what_was_left(mongo, results, write):
    first = finish(write(results, 20, url=mongo.url))
    mongo.start()
    (left,) = runs(results)
    writer = write(results, 20, "--seed", "2", url=mongo.url)
    read_until(writer, f"run {left.uid}, recorded while there was no database, is now run 2")
    finish(writer)
    assert runs(results)[0].run_id == 2
    assert_same_points(mongo.db(), left.directory, logged(first), uid=left.uid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_fifty_random_moments(mongo, results, tmp_path):
    mongo.start()
    logs = tmp_path / "logs"
    logs.mkdir()
    command = [sys.executable, str(KILLED), str(results), str(logs), mongo.url, "50", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=4 * HANGS)
    flushed = {}
    for path in logs.iterdir():
        words = [line.split() for line in path.read_text().splitlines()]
        if words:
            flushed[words[0][1]] = max([int(w[1]) for w in words[1:]], default=-1)
    assert sum(last >= 0 for last in flushed.values()) > 10
    recorded = {run.uid: run for run in runs(results)}
    assert set(flushed) <= set(recorded)
    assert {run.status for run in recorded.values()} == {"DIED"}
    list(sync(results, Target("phalanx", mongo.url)))
    db = mongo.db()
    for uid, run in recorded.items():
        # All that was flushed is there, without a gap; the database has the very same.
        kept = run.metrics()
        steps = kept["loss"].steps if kept else []
        assert steps == list(range(len(steps)))
        assert_nothing_lost(range(flushed.get(uid, -1) + 1), steps, "on disk")
        _, found = in_database(db, uid)
        assert {name: m["steps"] for name, m in found.items()} == {
            name: metric.steps for name, metric in kept.items()
        }
        for name, metric in kept.items():
            assert_nothing_lost(metric.steps, found[name]["steps"], name)
    assert db.runs.count_documents({}) == len(recorded)


def test_a_line_cut_short_is_left_out_and_mended(mongo, results, write):
    mongo.start()
    first = logged(finish(write(results, 50, url=mongo.url)))
    (run,) = runs(results)
    metrics = run.directory / "metrics.jsonl"
    whole = metrics.read_bytes()
    line = whole.splitlines()[0]
    metrics.write_bytes(whole + line[: len(line) // 2])
    assert [
        done.run_id for done in sync(results, Target("phalanx", mongo.url), everything=True)
    ] == [1]
    assert_same_points(mongo.db(), run.directory, first)
    last = first[-1]
    second = logged(finish(write(results, 30, "--resume", run.uid, str(last), url=mongo.url)))
    assert_same_points(mongo.db(), run.directory, [*first, *second])
    assert metrics.read_bytes().startswith(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
@pytest.mark.parametrize("freed", [True, False])
def test_a_full_disk_costs_nothing(mongo, results, write, freed):
    db = mongo.start().db()
    limits = ("--full", "20", "80" if freed else "1000000")
    output = finish(write(results, 150, *limits, url=mongo.url))
    assert output.count("cannot be written") == 1
    assert ("can be written again" in output) == freed
    document, found = in_database(db)
    assert document["status"] == "COMPLETED"
    for name in ("loss", "return_mean"):
        assert_nothing_lost(logged(output), found[name]["steps"], name)
    if freed:
        (run,) = runs(results)
        assert_same_points(db, run.directory, logged(output))


def test_two_deliveries_at_once_make_one_record(mongo, results, write):
    outputs = [finish(write(results, 20, "--seed", str(i), url="none")) for i in range(2)]
    mongo.start()
    code = (
        "import sys, pathlib; from phalanx.tracking.sync import sync\n"
        "from phalanx.tracking.target import Target\n"
        "for done in sync(pathlib.Path(sys.argv[1]), Target('phalanx', sys.argv[2])): print(done.note)"
    )
    command = [sys.executable, "-c", code, str(results), mongo.url]
    both = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(HANGS) for process in both] == [0, 0, 0]
    db = mongo.db()
    assert db.runs.count_documents({}) == 2
    assert db.metrics.count_documents({}) == 4
    for run, output in zip(runs(results), outputs, strict=True):
        assert_same_points(db, run.directory, logged(output), uid=run.uid)
    assert db.fs.files.count_documents({"filename": {"$regex": "^artifact://"}}) == 2


@pytest.fixture
def black_hole():
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        taken = []

        def accept():
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"mongodb://127.0.0.1:{listener.getsockname()[1]}"
        for connection in taken:
            connection.close()


def test_a_server_that_never_answers_does_not_hold_a_run(black_hole, mongo, results, write):
    output = finish(write(results, 50, "--wait", "2", "--retry", "30", url=black_hole))
    assert output.count("MongoDB is away") == 1
    assert read_metrics(runs(results)[0].directory)["loss"].steps == logged(output)
    mongo.start()
    assert deliver(results, mongo) == ["delivered"]
    assert_same_points(mongo.db(), runs(results)[0].directory, logged(output))


def test_interrupted_twice_a_run_ends_at_once(black_hole, results, write):
    writer = write(results, 20, url=black_hole)
    read_until(writer, "point 20")
    writer.send_signal(signal.SIGINT)
    wait_until(lambda: runs(results)[0].status == "INTERRUPTED")  # now it waits for the server
    writer.send_signal(signal.SIGINT)
    assert "did not take the end" not in writer.communicate(timeout=HANGS)[0]
    assert writer.returncode != 0
    (run,) = runs(results)
    assert run.metrics()["loss"].steps[:20] == list(range(20))


def test_a_wrong_password_does_not_stop_a_run_and_is_shown_nowhere(mongo, results, write):
    mongo.start()
    url = mongo.url.replace("//", "//somebody:s3cret@")
    output = finish(write(results, 30, url=url))
    (run,) = runs(results)
    assert run.status == "COMPLETED"
    assert "s3cret" not in output
    assert "MongoDB" in output
    assert mongo.db().runs.count_documents({}) == 0
    for path in run.directory.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()
    assert deliver(results, mongo) == ["delivered"]
    assert_same_points(mongo.db(), run.directory, logged(output))


def test_the_embedded_server_is_found_again_after_a_kill(results, write):
    folder = results / "db"
    first = embedded.start(folder)
    assert embedded.start(folder) == embedded.status(folder) == first
    writer = write(results, 50)
    read_until(writer, "point 40")
    _kill(first.pid)
    read_until(writer, "MongoDB is back")  # the run itself has started it again
    second = embedded.status(folder)
    assert second is not None
    assert second.pid != first.pid
    finish(writer)
    (run,) = runs(results)
    db = Target("phalanx", server_dir=folder).connect()
    assert_same_points(db, run.directory, list(range(run.result)))
    assert embedded.stop(folder)
    assert embedded.status(folder) is None
    assert not embedded.stop(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_hung_server_can_be_stopped(results):
    running = embedded.start(results / "db")
    os.kill(running.pid, signal.SIGSTOP)
    assert embedded.status(results / "db") is None
    assert embedded.stop(results / "db", timeout=1)
    assert not embedded._exists(running)


def test_starts_at_once_make_one_server(results):
    code = (
        "import sys, pathlib; from phalanx.tracking import server\n"
        "print(server.start(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(results / "db")]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=HANGS)[0] for process in starts}
    assert len(answers) == 1
    assert "Server(pid=" in answers.pop()


def test_a_busy_port_is_passed_over(results, monkeypatch):
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        monkeypatch.setattr(embedded, "FIRST_PORT", port)
        assert embedded.start(results / "db").port > port


def _kill(pid):
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
