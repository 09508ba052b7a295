"""What a run and its record look like when the database, or the run itself, goes away."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phalanx.errors import TrackingError
from phalanx.tracking import experiment, mirror
from phalanx.tracking import server as embedded
from phalanx.tracking.claim import claim_run
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
    # The start does not wait at all, the end until the number is there, however slow the machine is.
    late = functools.partial(mirror.Mirror, start_wait=0.0, end_wait=HANGS)
    monkeypatch.setattr(experiment, "Mirror", late)
    patient = functools.partialmethod(Target.connect, timeout=HANGS)
    monkeypatch.setattr(Target, "connect", patient)
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


def test_of_a_run_that_was_killed_the_next_says_what_is_true(mongo, results, write):
    mongo.start()
    writer = write(results, 100, url=mongo.url)
    db = mongo.db()
    wait_until(lambda: db.metrics.count_documents({}) == 2)
    writer.kill()
    writer.wait(HANGS)
    (left,) = runs(results)
    later = write(results, 20, "--seed", "2", url=mongo.url)
    told = f"run {left.uid}, which ended before the database had all of it, is now complete there"
    said = []
    for line in later.stdout:
        said.append(line)
        if line.startswith(told):
            break
    said.append(finish(later))
    assert told in "".join(said)
    assert "no database" not in "".join(said)
    assert_same_points(db, left.directory, uid=left.uid)


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


NO_LIMITS = pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")


@NO_LIMITS
@pytest.mark.parametrize("freed", [True, False])
def test_a_full_disk_costs_nothing_where_there_is_a_database(mongo, results, write, freed):
    db = mongo.start().db()
    limits = ("--full", "20", "80" if freed else "1000000")
    output = finish(write(results, 150, *limits, url=mongo.url))
    assert output.count("cannot be written (") == 1 + (not freed)
    assert ("can be written again" in output) == freed
    assert ("The database has all of it as run 1" in output) != freed
    document, found = in_database(db)
    assert document["status"] == "COMPLETED"
    for name in ("loss", "return_mean"):
        assert_nothing_lost(logged(output), found[name]["steps"], name)
    (run,) = runs(results)
    if freed:
        assert_same_points(db, run.directory, logged(output))
    # A delivery of the folder, which has less, does not take it away again.
    notes = [done.note for done in sync(results, Target("phalanx", mongo.url), everything=True)]
    assert notes == [
        "delivered" if freed else "the database has more of it than the folder, left alone"
    ]
    assert in_database(db)[1] == found or freed


@NO_LIMITS
def test_a_disk_that_stays_full_fails_the_run_in_words(results, write):
    writer = write(results, 150, "--full", "20", "1000000", url="none")
    output = writer.communicate(timeout=HANGS)[0]
    assert writer.returncode == 1
    assert "and how it ended, as it cannot be written" in output
    assert "it is lost. Make room, then go on" in output
    for untrue in ("nothing is missing", "Nothing is lost"):
        assert untrue not in output


@NO_LIMITS
def test_a_resume_on_a_full_disk_is_refused_and_changes_nothing(mongo, results, write):
    mongo.start()
    first = logged(finish(write(results, 60, url=mongo.url)))
    (run,) = runs(results)
    again = write(results, 30, "--resume", run.uid, "20", "--full", "-2", "0", url=mongo.url)
    output = again.communicate(timeout=HANGS)[0]
    assert again.returncode == 1
    assert f"error: run {run.uid} cannot be resumed" in output
    assert "Traceback" not in output
    assert runs(results)[0].status == "COMPLETED"
    assert_same_points(mongo.db(), run.directory, first)


def test_of_resumes_at_once_one_is_accepted(results, write):
    finish(write(results, 60, url="none"))
    (run,) = runs(results)
    writers = [write(results, 40, "--resume", run.uid, "29", url="none") for _ in range(3)]
    # The accepted one goes on until its input is closed.
    wait_until(lambda: sum(writer.poll() is not None for writer in writers) == 2)
    outputs = [writer.communicate(timeout=HANGS)[0] for writer in writers]
    (accepted,) = [output for output in outputs if "error: " not in output]
    for output in outputs:
        refused = output != accepted
        assert (f"error: run {run.uid} cannot be resumed: process" in output) == refused
    assert_nothing_lost([*range(30), *logged(accepted)], run.metrics()["loss"].steps)


def test_a_run_that_waits_for_its_database_at_the_end_cannot_be_resumed(black_hole, results, write):
    writer = write(results, 20, url=black_hole)
    writer.stdin.close()
    wait_until(lambda: runs(results) and runs(results)[0].status == "COMPLETED")
    (run,) = runs(results)
    with pytest.raises(
        TrackingError, match=r"has it\. It is still running, or hands its last points"
    ):
        claim_run(run.directory)
    writer.kill()
    writer.wait()
    claim_run(run.directory).release()


def test_what_a_record_names_outside_its_folder_is_not_delivered(mongo, results, write, tmp_path):
    db = mongo.start().db()
    finish(write(results, 20, url="none"))
    (run,) = runs(results)
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cret")
    record = json.loads((run.directory / "run.json").read_text())
    record["experiment"]["sources"] += [["a.py", "../../secret.txt"], ["b.py", str(secret)]]
    record["artifacts"] += ["../../../../secret.txt", "link.txt"]
    (run.directory / "artifacts" / "link.txt").symlink_to(secret)
    (run.directory / "run.json").write_text(json.dumps(record))
    assert deliver(results, mongo) == ["delivered"]
    document, _ = in_database(db)
    assert [artifact["name"] for artifact in document["artifacts"]] == ["note.txt"]
    assert not {"a.py", "b.py"} & {name for name, _ in document["experiment"]["sources"]}
    assert not any(b"s3cret" in chunk["data"] for chunk in db.fs.chunks.find())


def test_what_was_resumed_without_a_database_is_delivered_again(mongo, results, write):
    mongo.start()
    finish(write(results, 60, url=mongo.url))
    (run,) = runs(results)
    more = logged(finish(write(results, 30, "--resume", run.uid, "29", url="none")))
    assert deliver(results, mongo) == ["delivered"]
    assert_same_points(mongo.db(), run.directory, [*range(30), *more])


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


def test_a_server_that_never_answers_does_not_hold_a_run(black_hole, mongo, results, write):
    output = finish(write(results, 50, "--wait", "2", "--retry", "30", url=black_hole))
    assert output.count("MongoDB is away") == 1
    assert read_metrics(runs(results)[0].directory)["loss"].steps == logged(output)
    mongo.start()
    assert deliver(results, mongo) == ["delivered"]
    assert_same_points(mongo.db(), runs(results)[0].directory, logged(output))


def test_interrupted_twice_a_run_ends_at_once(black_hole, results, write):
    writer = write(results, 20, "--patience", "60", url=black_hole)
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


def starting(folders):
    """What ``start`` answers in processes that all begin at the same moment, one for each folder."""
    code = (
        "import sys, pathlib; from phalanx.tracking import server\n"
        "sys.stdin.read(); running = server.start(pathlib.Path(sys.argv[1]), timeout=300)\n"
        "print(running.pid, running.port)"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    for process in starts:
        process.stdin.close()
        process.stdin = None
    return [tuple(map(int, process.communicate(timeout=HANGS)[0].split())) for process in starts]


def test_folders_that_start_at_once_get_servers_of_their_own(tmp_path):
    folders = [tmp_path / name / "db" for name in "abcd"]
    try:
        answers = starting(folders)
        assert len({pid for pid, _ in answers}) == len({port for _, port in answers}) == 4
        for folder, (pid, port) in zip(folders, answers, strict=True):
            assert embedded.status(folder) == embedded.Server(pid, port)
            data = str(folder / "data").encode()
            assert data in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        # Each folder's stop ends its own, and no other.
        assert embedded.stop(folders[0])
        assert embedded.status(folders[0]) is None
        assert [embedded.status(f).pid for f in folders[1:]] == [pid for pid, _ in answers[1:]]
    finally:
        for folder in folders:
            embedded.stop(folder)


def test_another_folders_server_is_neither_taken_nor_stopped(results, tmp_path):
    running = embedded.start(results / "db")
    copied = tmp_path / "copied" / "db"
    copied.mkdir(parents=True)
    state = (results / "db" / embedded.STATE_FILE).read_text()
    (copied / embedded.STATE_FILE).write_text(state)
    assert embedded.status(copied) is None
    assert not embedded.stop(copied)
    assert embedded.status(results / "db") == running
    (copied / embedded.STATE_FILE).write_text(state)
    try:
        own = embedded.start(copied)
        assert own.pid != running.pid
        assert own.port != running.port
    finally:
        embedded.stop(copied)


def test_a_server_whose_starter_was_killed_is_found(results):
    code = (
        "import sys, pathlib; from phalanx.tracking import server\n"
        "server._pid_behind = lambda port: print('launched', flush=True) or sys.stdin.read()\n"
        "server.start(pathlib.Path(sys.argv[1]))"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(results / "db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout.readline() == "launched\n"
    starter.kill()
    starter.communicate()
    left = json.loads((results / "db" / embedded.STATE_FILE).read_text())["pid"]
    assert embedded.start(results / "db", timeout=HANGS).pid == left


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(TrackingError, match=r"needs .*db, which cannot be written"):
        embedded.start(tmp_path / "results" / "db")


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
