"""What ends up in the database when all goes well."""

from collections import Counter

import gridfs

from phalanx.tracking.queries import runs
from phalanx.tracking.sync import sync
from phalanx.tracking.target import Target

from .conftest import assert_same_points, finish, logged


def test_a_run_is_recorded_and_a_replay_changes_nothing(mongo, results, write):
    db = mongo.start().db()
    output = finish(write(results, 1.5, "-c", "first", url=mongo.url))
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


def test_four_runs_at_once_get_numbers_of_their_own(results, write):
    # Nobody has started the embedded server: the four runs agree on one.
    writers = [write(results, 1.5, "--seed", str(seed)) for seed in range(4)]
    for writer in writers:
        finish(writer)
    recorded = runs(results)
    assert sorted(run.run_id for run in recorded) == [1, 2, 3, 4]
    db = Target("phalanx", server_dir=results / "db").connect()
    assert db.runs.count_documents({}) == 4
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
    assert list(answer) == [{"_id": "sc2", "best": max(run.result for run in recorded), "n": 4}]
    found = [r["_id"] for r in db.runs.find({"result": {"$gt": 0}}).sort("config.seed", -1)]
    assert found == [r.run_id for r in sorted(recorded, key=lambda r: -r.config["seed"])]
    assert Counter(i["name"] for i in db.metrics.list_indexes())["run_id_1_name_1"] == 1


def test_a_resumed_run_keeps_its_number_and_has_no_point_twice(mongo, results, write):
    db = mongo.start().db()
    first = logged(finish(write(results, 1.0, url=mongo.url)))
    (run,) = runs(results)
    last = first[len(first) // 2]
    second = logged(finish(write(results, 1.0, "--resume", run.uid, str(last), url=mongo.url)))
    document = assert_same_points(db, run.directory, [*range(last + 1), *second])
    assert document["_id"] == 1
    assert document["status"] == "COMPLETED"
    assert db.runs.count_documents({}) == 1
    assert document["meta"]["resumed"][0]["step"] == last


def test_a_queued_run_is_recorded_but_not_started(mongo, results, write):
    db = mongo.start().db()
    output = finish(write(results, 60.0, "-q", url=mongo.url))
    assert "point" not in output
    assert "MongoDB" not in output
    assert db.runs.find_one()["status"] == runs(results)[0].status == "QUEUED"
