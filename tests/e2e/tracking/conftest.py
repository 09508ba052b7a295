"""A real server on a port of its own, and runs in processes of their own. All on 127.0.0.1."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pymongo
import pytest

from phalanx.tracking import server as embedded
from phalanx.tracking.record import read_metrics

from ...patience import HANGS

REPORT = Path(__file__).resolve().parents[3] / "build" / "artifacts" / "tracking_faults.txt"
WRITER = Path(__file__).with_name("writer.py")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Mongo:
    """A server the test may kill and start again, always on the same port."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.url = f"mongodb://127.0.0.1:{self.port}"

    def start(self):
        self.folder.mkdir(exist_ok=True)
        command = [embedded.executable(), "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--storage-path", str(self.folder / "data"), "--standalone", "--sync-on-commit"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--cache-size", "64M"], stdout=log, stderr=log, cwd=self.folder
            )
        end = time.monotonic() + HANGS
        while time.monotonic() < end:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("no server")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def db(self, name="phalanx"):
        return pymongo.MongoClient(self.url, serverSelectionTimeoutMS=5000)[name]


@pytest.fixture
def mongo(tmp_path):
    if embedded.executable() is None:
        pytest.skip("the extra `server` is not installed")
    server = Mongo(tmp_path / "mongo")
    yield server
    server.kill()


@pytest.fixture
def results(tmp_path):
    """A results folder whose embedded server, if one was started, is stopped afterwards."""
    folder = tmp_path / "results"
    folder.mkdir()
    yield folder
    embedded.stop(folder / "db")


@pytest.fixture
def write():
    """Starts a writer; the process is ended after the test."""
    processes = []

    def start(results, points, *options, url=None):
        environment = {k: v for k, v in os.environ.items() if k != "PHALANX_MONGO_URL"}
        if url is not None:
            environment["PHALANX_MONGO_URL"] = url
        process = subprocess.Popen(
            [sys.executable, str(WRITER), str(results), str(points), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def finish(process):
    """Output of a writer, which is asked to end and must end well."""
    output = process.communicate(timeout=HANGS)[0]
    assert process.returncode == 0, output
    return output


def read_until(process, start):
    """The first line of a writer that begins with ``start``."""
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the writer ended without saying {start!r}")


def wait_until(holds, seconds=HANGS):
    """Wait for a condition that must come to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def logged(output):
    """Steps of the points a writer said it had logged."""
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith("point ")]


def in_database(db, uid=None):
    """The one run document, or that of a uid, and its points by metric."""
    run = db.runs.find_one({} if uid is None else {"meta.uid": uid})
    found = {m["name"]: m for m in db.metrics.find({"run_id": run["_id"]})}
    return run, found


def assert_nothing_lost(expected, found, what=""):
    """Every step once; the number of those lost and doubled is left in build/artifacts."""
    lost = len(set(expected) - set(found))
    doubled = len(found) - len(set(found))
    test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].split(" ")[0]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    with open(REPORT, "a") as report:
        line = f"{test} {what}: {len(expected)} points, {lost} lost, {doubled} duplicated"
        report.write(line.replace(" :", ":") + "\n")
    assert (lost, doubled) == (0, 0)


def assert_same_points(db, directory, steps=None, uid=None):
    """No point lost, none doubled, all in order: on disk and in the database."""
    run, found = in_database(db, uid)
    spooled = read_metrics(directory)
    assert set(found) == set(spooled) == {"loss", "return_mean"}
    for name, metric in spooled.items():
        if steps is not None:
            assert metric.steps == steps
        assert_nothing_lost(metric.steps if steps is None else steps, found[name]["steps"], name)
        assert found[name]["steps"] == metric.steps
        assert found[name]["values"] == metric.values
        assert len(found[name]["timestamps"]) == len(metric.steps)
        assert {"name": name, "id": str(found[name]["_id"])} in run["info"]["metrics"]
    return run
