import json
import os

import pytest

from phalanx.tracking.files import AppendFile, read_json, read_rows, write_json


def test_a_json_file_is_replaced_whole(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert read_json(tmp_path / "missing.json", {}) == {}


def test_a_torn_last_line_is_skipped_and_later_overwritten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    rows, offset = read_rows(path)
    assert (rows, offset) == ([{"a": 1}], 9)
    AppendFile(path, lines=True).append_rows([{"a": 3}])
    assert read_rows(path)[0] == [{"a": 1}, {"a": 3}]
    assert read_rows(path, offset)[0] == [{"a": 3}]


def test_a_failed_append_leaves_nothing_behind(tmp_path, monkeypatch):
    file = AppendFile(tmp_path / "metrics.jsonl", lines=True)
    file.append_rows([{"a": 1}])
    sync, calls = os.fsync, []

    def full_once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full_once)
    with pytest.raises(OSError, match="No space"):
        file.append_rows([{"a": 2}])
    file.append_rows([{"a": 2}])
    lines = file.path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": 2}]
