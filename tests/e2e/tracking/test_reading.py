"""Looking at runs: the database and the results folder give the same answers."""

import dataclasses
import os
import subprocess
import sys

import pytest

from phalanx.errors import ConfigError, TrackingError
from phalanx.tracking.copying import copy_database
from phalanx.tracking.export import tidy_rows
from phalanx.tracking.queries import runs
from phalanx.tracking.target import Target, named_target

from .conftest import HANGS, Mongo, finish


def phalanx(*words, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "PHALANX_MONGO_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "phalanx.main", *map(str, words)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    return done.returncode, done.stdout, done.stderr


def without_place(run):
    return dataclasses.replace(run, directory=None, tags=())


def test_database_and_folder_give_the_same_answers(mongo, results, write, tmp_path):
    db = mongo.start().db()
    writers = [write(results, 40, "--seed", str(seed), url=mongo.url) for seed in (1, 2)]
    for writer in writers:
        finish(writer)
    target = Target("phalanx", mongo.url)
    here, there = runs(results), runs(tmp_path / "elsewhere", target)
    assert [run.directory for run in there] == [None, None]
    assert [without_place(run) for run in here] == [without_place(run) for run in there]
    assert list(tidy_rows(here)) == list(tidy_rows(there))
    for local, distant in zip(here, there, strict=True):
        assert local.metrics(["loss"]) == distant.metrics(["loss"]) != {}
        assert distant.metrics(["los"]) == {}
    # A run that only the folder has is listed beside those of the database, once each.
    finish(write(results, 20, "--seed", "3", url="none"))
    both = runs(results, target)
    assert [run.config["seed"] for run in both][2] == 3
    assert [run.run_id for run in both][2] is None
    # Tags are the database's; a run deleted there is gone; one that others recorded is shown.
    db.runs.update_one({"_id": 1}, {"$set": {"omniboard": {"tags": ["best"]}}})
    db.runs.delete_one({"_id": 2})
    # What it holds is data: Sacred's marks for pickled objects are not acted upon.
    evil = {
        "engine": {"py/reduce": [{"py/type": "os.mkdir"}, {"py/tuple": [str(tmp_path / "ran")]}]}
    }
    theirs = {"_id": 7, "status": "FAILED", "experiment": {"name": "theirs"}, "info": evil}
    db.runs.insert_one(theirs)
    shown = runs(results, target)
    assert [run.info for run in shown if run.run_id == 7] == [evil]
    assert {run.run_id: run.tags for run in shown} == {1: ("best",), 7: (), None: ()}
    commands = (
        ("runs", "tags=best", "--columns", "id,seed,tags"),
        ("export", "1", "--metric", "loss"),
        ("runs", "show", "1"),
    )
    for words in commands:
        elsewhere = phalanx(*words, "--results", tmp_path / "no", PHALANX_MONGO_URL=mongo.url)
        local = phalanx(*words, "--results", results, f"--mongo-url={mongo.url}")
        assert elsewhere[0] == local[0] == 0
        same = [line for line in elsewhere[1].splitlines() if "files in" not in line]
        assert same == [line for line in local[1].splitlines() if "files in" not in line]
    assert not (tmp_path / "ran").exists()
    mongo.kill()
    status, out, warned = phalanx("runs", "--results", results, f"--mongo-url={mongo.url}")
    assert (status, warned.count("cannot be read")) == (0, 1)
    assert out.count("COMPLETED") == 3


def test_a_database_is_copied_with_ids_and_files(mongo, results, write, tmp_path, monkeypatch):
    source = mongo.start().db()
    for seed in (1, 2):
        finish(write(results, 20, "--seed", str(seed), url=mongo.url))
    other = Mongo(tmp_path / "other").start()
    try:
        monkeypatch.setenv("LAB_MONGO", other.url)
        words = ("db", "copy", mongo.url, "env:LAB_MONGO", "--results", results)
        for _ in range(2):
            status, out, error = phalanx(*words, LAB_MONGO=other.url)
            assert (status, out.splitlines()[-1][:13]) == (0, "2 runs copied"), error
        copy = other.db()
        for name in ("runs", "metrics", "fs.files", "fs.chunks"):
            originals = list(source[name].find().sort("_id"))
            assert originals
            assert list(copy[name].find().sort("_id")) == originals
        assert set(copy.metrics.index_information()) == set(source.metrics.index_information())
        copy.runs.update_one({"_id": 2}, {"$set": {"meta.uid": "another"}})
        with pytest.raises(TrackingError, match="run 2 of the destination is another run"):
            copy_database(
                named_target(mongo.url, results),
                named_target("env:LAB_MONGO", results),
                lambda name, documents: None,
            )
    finally:
        other.kill()


def test_passwords_are_refused_on_the_command_line(results):
    with pytest.raises(ConfigError, match="password"):
        named_target("mongodb://me:s3cret@lab", results)
    with pytest.raises(ConfigError, match="LAB_MONGO is not set"):
        named_target("env:LAB_MONGO", results)
    for words in (
        ("db", "copy", "embedded", "mongodb://me:s3cret@lab"),
        ("sync", "--mongo-url", "me:s3cret@lab"),
        ("runs", "--mongo-url", "mongodb://lab/?tls=true&tlsCertificateKeyFilePassword=s3cret"),
    ):
        status, out, error = phalanx(*words, "--results", results)
        assert status == 1
        assert "s3cret" not in out + error
        assert "environment variable" in error
