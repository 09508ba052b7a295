"""Moving all runs from one database to another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from pymongo import ReplaceOne

from ..errors import TrackingError
from .sync import ensure_indexes
from .target import Target

# GridFS chunks are 255 kB: that many stay well below the 48 MB a message may have.
_BATCH = 50


def copy_database(
    source: Target, destination: Target, said: Callable[[str, int], None]
) -> dict[str, int]:
    """Copy every document, ids and indexes kept. Safe to repeat: it replaces what was copied before.

    Args:
        source: where to read.
        destination: where to write. Runs recorded there under the same numbers are a reason to stop.
        said: called with the name of each collection and the number of its documents.

    Returns:
        Documents copied by collection.

    Raises:
        TrackingError: a server does not answer, both are the same, or runs would be overwritten.
    """
    if source == destination:
        raise TrackingError(f"source and destination are the same: {source.label}")
    with source.connected() as here, destination.connected() as there:
        _refuse_conflict(here, there)
        copied = {}
        for name in sorted(here.list_collection_names()):
            copied[name] = _copy_collection(here[name], there[name])
            said(name, copied[name])
        ensure_indexes(there)
    return copied


def _refuse_conflict(here: Any, there: Any) -> None:
    uids = {run["_id"]: run.get("meta") for run in here.runs.find({}, {"meta.uid": 1})}
    for run in there.runs.find({}, {"meta.uid": 1}):
        if run["_id"] in uids and uids[run["_id"]] != run.get("meta"):
            raise TrackingError(
                f"run {run['_id']} of the destination is another run than run {run['_id']} of the "
                "source; copy into an empty database, or deliver runs with `phalanx sync`"
            )


def _copy_collection(source: Any, destination: Any) -> int:
    copied = 0
    documents = source.find()
    while batch := list(islice(documents, _BATCH)):
        destination.bulk_write(
            [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in batch]
        )
        copied += len(batch)
    for index in source.index_information().values():
        if index["key"] != [("_id", 1)]:
            options = {key: index[key] for key in ("unique", "sparse") if index.get(key)}
            destination.create_index(index["key"], **options)
    return copied
