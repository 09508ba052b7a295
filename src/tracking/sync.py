"""Delivery of recorded runs to MongoDB: repeatable, keyed by the run's uid."""

from __future__ import annotations

import datetime as dt
import logging
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gridfs
from pymongo.errors import DuplicateKeyError, PyMongoError

from ..locks import FileLock
from .claim import DELIVERING
from .files import read_rows, write_json
from .plain import mongo_keys
from .record import (
    ARTIFACTS_FILE,
    LOCK_FILE,
    MIRROR_FILE,
    RUNS_FOLDER,
    Metric,
    SpooledRun,
    is_live,
    read_mark,
    read_metrics,
    stride_for,
)
from .sources import digest
from .target import Target, redact

log = logging.getLogger(__name__)

DOCUMENT_FORMAT = "MongoObserver-0.7.0"
_DATES = ("start_time", "stop_time", "heartbeat")


@dataclass(frozen=True)
class SyncResult:
    """What became of one run: its id in the database, or why it was left alone."""

    uid: str
    run_id: int | None
    note: str


def sync(results_dir: Path, target: Target, *, everything: bool = False) -> Iterator[SyncResult]:
    """Bring the database up to the folders of all runs that have ended.

    Runs that were delivered to this target before are skipped, unless ``everything`` is set.

    Raises:
        TrackingError: the database cannot be reached.
    """
    with target.connected() as db:
        ensure_indexes(db)
        for directory in run_directories(results_dir):
            mark = read_mark(directory)
            if not everything and mark.get("complete") and mark.get("target") == target.label:
                continue
            yield deliver(db, directory, target.label)


def run_directories(results_dir: Path) -> list[Path]:
    """Folders of all runs, oldest first."""
    return sorted(path.parent for path in (results_dir / RUNS_FOLDER).glob("*/run.json"))


def deliver(db: Any, directory: Path, label: str) -> SyncResult:
    """Deliver the run in a folder unless its process still does that itself."""
    run = SpooledRun.read(directory, with_output=True)
    if run is None:
        return SyncResult(directory.name, None, "unreadable run.json, left alone")
    if is_live(run):
        return SyncResult(run.uid, None, "still running, left alone")
    lock = FileLock(directory / LOCK_FILE)  # of two deliveries at once, files would be stored twice
    try:
        if not lock.acquire(task=DELIVERING):
            return SyncResult(run.uid, None, "another process has it, left alone")
        with lock:
            # What was read before the lock was ours may be of an earlier part of the run.
            run = SpooledRun.read(directory, with_output=True)
            if run is None:
                return SyncResult(directory.name, None, "unreadable run.json, left alone")
            if _outdone(db, run):
                return SyncResult(
                    run.uid, None, "the database has more of it than the folder, left alone"
                )
            entry = replay(db, run, read_metrics(directory))
            write_mark(directory, entry["_id"], label, complete=True)
    except (PyMongoError, OSError) as error:
        return SyncResult(directory.name, None, f"failed: {redact(str(error))[:200]}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return SyncResult(directory.name, None, f"failed: its record is damaged ({error!r})")
    return SyncResult(run.uid, entry["_id"], "delivered")


def _outdone(db: Any, run: SpooledRun) -> bool:
    """Whether the folder's disk was full while the database went on being told."""
    signs = ("heartbeat", "stop_time")
    known = db.runs.find_one({"meta.uid": run.uid}, dict.fromkeys(signs, 1)) or {}
    told = [known[sign] for sign in signs if known.get(sign)]
    here = [dt.datetime.fromisoformat(run.run[sign]) for sign in signs if run.run.get(sign)]
    return bool(told) and max(told) > max(here)


def say_repeat(name: str, status: str) -> None:
    """Warn that another run had the same config and seed."""
    log.warning("this run repeats run %s (%s): the same config with the same seed", name, status)


def write_mark(directory: Path, run_id: int, label: str, *, complete: bool) -> None:
    """Note in the run's folder where it was delivered, and whether all of it was."""
    mark = {"run_id": run_id, "target": label, "complete": complete}
    write_json(directory / MIRROR_FILE, mark)


def ensure_indexes(db: Any) -> None:
    """Make the indexes Sacred does not: without the first, a push reads all runs' metrics."""
    db.metrics.create_index([("run_id", 1), ("name", 1)])
    db.runs.create_index("meta.uid", unique=True, sparse=True)
    db.runs.create_index("meta.config_digest", sparse=True)


def replay(db: Any, run: SpooledRun, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Make the database's record of a run equal to the given one; returns the new run document.

    Whatever was there before, half a push included, is replaced; Omniboard's tags and notes stay.
    """
    ensure_indexes(db)
    files = gridfs.GridFS(db)
    run_id, artifacts = _claim(db, run.uid)
    entry: dict[str, Any] = {"_id": run_id, "artifacts": artifacts}
    sync_files(files, entry, run)
    info = mongo_keys({**run.info, "metrics": replace_metrics(db, run_id, metrics)})
    known = {key: run.run[key] for key in ("result", "fail_trace") if key in run.run}
    entry.update(
        format=DOCUMENT_FORMAT,
        command=run.run["command"],
        host=mongo_keys(run.run["host"]),
        experiment={**run.run["experiment"], "sources": put_sources(files, run)},
        config=mongo_keys(run.config),
        meta=mongo_keys(run.run["meta"]),
        status=run.run["status"],
        info=info,
        captured_out=run.output,
        **mongo_keys(known),
        **{k: dt.datetime.fromisoformat(run.run[k]) for k in _DATES if run.run.get(k)},
    )
    outdated = {key: "" for key in ("stop_time", "result", "fail_trace") if key not in entry}
    db.runs.update_one(
        {"_id": run_id}, {"$set": entry, **({"$unset": outdated} if outdated else {})}
    )
    return entry


def _claim(db: Any, uid: str) -> tuple[int, list[Any]]:
    """Id and artifacts of the run's document, which is made if it is missing."""
    wanted = {"_id": 1, "artifacts": 1}
    while True:
        found = db.runs.find_one({"meta.uid": uid}, wanted)
        if found is not None:
            return found["_id"], list(found.get("artifacts", []))
        last = next(iter(db.runs.find({}, {"_id": 1}).sort("_id", -1).limit(1)), {"_id": 0})
        try:
            db.runs.insert_one({"_id": last["_id"] + 1, "status": "RUNNING", "meta": {"uid": uid}})
        except DuplicateKeyError:
            continue  # another run took the number, or another process made the document


def replace_metrics(db: Any, run_id: int, metrics: Mapping[str, Metric]) -> list[dict[str, str]]:
    """Make the database's metrics of a run the given ones, thinned; returns references to them."""
    references = []
    for name, metric in metrics.items():
        key = {"run_id": run_id, "name": name}
        stride = stride_for(len(metric.steps))
        points = asdict(metric.thinned(stride)) | ({"stride": stride} if stride > 1 else {})
        # Not find_one_and_update: under concurrent upserts SecantusDB 0.7.0b3 can answer None.
        db.metrics.update_one(key, {"$set": points}, upsert=True)
        references.append({"name": name, "id": str(db.metrics.find_one(key, {"_id": 1})["_id"])})
    # A resumed run may have lost all points of a metric.
    db.metrics.delete_many({"run_id": run_id, "name": {"$nin": list(metrics)}})
    return references


def put_sources(files: gridfs.GridFS, run: SpooledRun) -> list[list[Any]]:
    """Store the run's sources; returns pairs of name and file id, as Sacred keeps them."""
    experiment = run.run["experiment"]
    stored = []
    store = run.directory.parent / "_sources"
    for name, copy in experiment["sources"]:
        path = run.directory.parent / copy
        if _inside(store, path):
            stored.append([name, put_file(files, path, str(Path(experiment["base_dir"], name)))])
    return stored


def _inside(folder: Path, path: Path) -> bool:
    """Whether a file that a record names is there and where such files are, links followed."""
    if folder.resolve() not in path.resolve().parents:
        log.warning("%s is not delivered: it is outside %s", path, folder)
        return False
    return path.is_file()


def put_file(files: gridfs.GridFS, path: Path, filename: str, **details: Any) -> Any:
    """Id of the stored file of this name and content, which is stored if it is missing."""
    md5 = digest(path)  # kept in a field of our own: PyMongo 4 no longer computes it
    known = files.find_one({"filename": filename, "md5": md5})
    if known is not None:
        return known._id
    with open(path, "rb") as f:
        return files.put(f, filename=filename, md5=md5, **details)


def sync_files(files: gridfs.GridFS, entry: dict[str, Any], run: SpooledRun) -> None:
    """Bring the document's artifacts and resources up to the folder: per name the newest file."""
    rows, _ = read_rows(run.directory / ARTIFACTS_FILE)
    details = {row["name"]: row for row in rows}
    earlier = {artifact["name"]: artifact["file_id"] for artifact in entry["artifacts"]}
    current = []
    for name in run.run["artifacts"]:
        path = run.directory / "artifacts" / name
        if not _inside(run.directory / "artifacts", path):
            continue
        detail = details.get(name, {})
        kind = detail.get("content_type") or mimetypes.guess_type(name)[0]
        extra = {"content_type": kind} if kind else {}
        if detail.get("metadata") is not None:
            extra["metadata"] = mongo_keys(detail["metadata"])
        file_id = put_file(files, path, f"artifact://runs/{entry['_id']}/{name}", **extra)
        if earlier.get(name, file_id) != file_id:
            files.delete(earlier[name])
        current.append({"name": name, "file_id": file_id})
    entry["artifacts"] = current
    entry["resources"] = [list(resource) for resource in run.run["resources"]]
