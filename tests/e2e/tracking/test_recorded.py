"""What ends up in the database when all goes well."""

from collections import Counter

import gridfs

from phalanx.tracking import record
from phalanx.tracking.experiment import run_experiment
from phalanx.tracking.queries import runs
from phalanx.tracking.sync import sync
from phalanx.tracking.target import Target

from .conftest import assert_same_points, finish, logged, wait_until


def test_a_run_is_recorded_and_a_replay_changes_nothing(mongo, results, write):
    db = mongo.start().db()
    output = finish(write(results, 80, "-c", "first", url=mongo.url))
    (run,) = runs(results)
    document = assert_same_points(db, run.directory, logged(output))
    assert document["_id"] == run.run_id == 1
    assert document["status"] == "COMPLETED"
    assert document["result"] == len(logged(output))
    assert document["config"] == run.config
    assert document["config"]["env_args"]["map_name"] == "3m"
    assert document["meta"]["uid"] == run.uid
    assert document["meta"]["comment"] == "first"
    assert document["info"]["engine"] == "embedded"
    last = len(logged(output)) - 1
    assert document["info"]["summary"] == {
        "points": last + 1,
        "steps": last,
        "last": {"loss": last / 2, "return_mean": last},
        "min": {"loss": 0.0, "return_mean": 0.0},
        "max": {"loss": last / 2, "return_mean": last},
    }
    assert {"python", "torch", "sacred", "phalanx"} <= document["info"]["versions"].keys()
    assert "run 1 " in document["captured_out"]
    files = gridfs.GridFS(db)
    (artifact,) = document["artifacts"]
    assert files.get(artifact["file_id"]).read().decode().endswith("points")
    names = [name for name, _ in document["experiment"]["sources"]]
    assert "tracking/mirror.py" in names
    for repository in document["experiment"]["repositories"]:
        assert {"url", "commit", "dirty"} == repository.keys()
    # Delivery from the folder gives the very same document, and repeating it stores nothing twice.
    counts = {name: db[name].count_documents({}) for name in ("runs", "metrics", "fs.files")}
    db.runs.update_one({"_id": 1}, {"$set": {"omniboard": {"tags": ["keep"]}}})
    for _ in range(2):
        assert [
            done.run_id for done in sync(results, Target("phalanx", mongo.url), everything=True)
        ] == [1]
    again = assert_same_points(db, run.directory)
    assert again.pop("omniboard") == {"tags": ["keep"]}
    assert again == document
    assert counts == {name: db[name].count_documents({}) for name in counts}
    assert list(sync(results, Target("phalanx", mongo.url))) == []


def test_eight_runs_at_once_get_numbers_of_their_own(results, write):
    # Nobody has started the embedded server: the runs agree on one.
    writers = [write(results, 80, "--seed", str(seed)) for seed in range(8)]
    for writer in writers:
        finish(writer)
    recorded = runs(results)
    assert sorted(run.run_id for run in recorded) == list(range(1, 9))
    db = Target("phalanx", server_dir=results / "db").connect()
    assert db.runs.count_documents({}) == 8
    for run in recorded:
        document = assert_same_points(db, run.directory, uid=run.uid)
        assert document["_id"] == run.run_id
    # A question a person asks, answered by the server and in Python.
    answer = db.runs.aggregate(
        [
            {"$match": {"config.env_args.map_name": "3m", "status": "COMPLETED"}},
            {"$group": {"_id": "$config.env", "best": {"$max": "$result"}, "n": {"$sum": 1}}},
        ]
    )
    assert list(answer) == [{"_id": "sc2", "best": max(run.result for run in recorded), "n": 8}]
    found = [r["_id"] for r in db.runs.find({"result": {"$gt": 0}}).sort("config.seed", -1)]
    assert found == [r.run_id for r in sorted(recorded, key=lambda r: -r.config["seed"])]
    assert Counter(i["name"] for i in db.metrics.list_indexes())["run_id_1_name_1"] == 1


def test_a_resumed_run_keeps_its_number_and_has_no_point_twice(mongo, results, write):
    db = mongo.start().db()
    first = logged(finish(write(results, 50, url=mongo.url)))
    (run,) = runs(results)
    last = first[len(first) // 2]
    second = logged(finish(write(results, 50, "--resume", run.uid, str(last), url=mongo.url)))
    document = assert_same_points(db, run.directory, [*range(last + 1), *second])
    assert document["_id"] == 1
    assert document["status"] == "COMPLETED"
    assert db.runs.count_documents({}) == 1
    assert document["meta"]["resumed"][0]["step"] == last


def test_long_metrics_are_thinned_in_the_database_alone(mongo, results, monkeypatch):
    monkeypatch.setattr(record, "MAX_POINTS", 50)
    db = mongo.start().db()

    def body(handle):
        for step in range(330):
            handle.log_scalar("loss", step / 2, step)
            if step % 20 == 0:
                handle.log_scalar("rare", step, step)
            if step % 30 == 29:
                handle.flush()
                wait_until(lambda: any(done["steps"] for done in db.metrics.find({"name": "loss"})))
                shown = db.metrics.find_one({"name": "loss"})
                every = range(0, 330, shown.get("stride", 1))
                assert shown["steps"] == list(every)[: len(shown["steps"])]
                assert len(shown["steps"]) <= 50

    run_experiment(body, name="qmix", config={}, results_dir=results, mongo_url=mongo.url)
    (run,) = runs(results, Target("phalanx", mongo.url))
    assert run.metrics()["loss"].steps == list(range(330))
    live = {m["name"]: m for m in db.metrics.find({"run_id": 1})}
    assert live["loss"]["steps"] == list(range(0, 330, 8))
    assert live["loss"]["values"] == [step / 2 for step in range(0, 330, 8)]
    assert live["loss"]["stride"] == 8
    assert live["rare"]["steps"] == list(range(0, 330, 20))
    assert "stride" not in live["rare"]
    assert run.info["summary"]["last"]["loss"] == 329 / 2
    list(sync(results, Target("phalanx", mongo.url), everything=True))
    assert {m["name"]: m for m in db.metrics.find({"run_id": 1})} == live
    elsewhere = runs(results / "elsewhere", Target("phalanx", mongo.url))[0].metrics()
    assert elsewhere["loss"].steps == live["loss"]["steps"]


def test_a_repeat_of_somebody_elses_run_is_named(mongo, results, write, tmp_path):
    mongo.start()
    finish(write(tmp_path / "theirs", 10, url=mongo.url))
    output = finish(write(results, 10, url=mongo.url))
    assert "this run repeats run 1 (COMPLETED): the same config with the same seed" in output
    assert output.count("repeats") == 1
    assert "repeats" not in finish(write(results, 10, "--seed", "2", url=mongo.url))


def test_a_run_without_a_database_by_choice_is_delivered_only_when_asked(mongo, results, write):
    db = mongo.start().db()
    finish(write(results, 10, url="none"))
    finish(write(results, 80, "--seed", "2", url=mongo.url))
    assert [run["config"]["seed"] for run in db.runs.find()] == [2]
    assert [done.run_id for done in sync(results, Target("phalanx", mongo.url))] == [2]
    assert db.runs.find_one({"_id": 2})["config"]["seed"] == 1


def test_a_queued_run_is_recorded_but_not_started(mongo, results, write):
    db = mongo.start().db()
    output = finish(write(results, 50, "-q", url=mongo.url))
    assert "point" not in output
    assert "MongoDB" not in output
    assert db.runs.find_one()["status"] == runs(results)[0].status == "QUEUED"
