"""Omniboard, the web page for Sacred's runs: installed once, bound to this machine, set up for MARL."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import TrackingError
from ..locks import FileLock
from .files import write_json
from .server import HOST
from .target import Target

VERSION = "2.16.1"
FIRST_PORT = 9000
_DATA = Path(__file__).with_name("dashboard")
_OLDEST_NODE = 14
# Bundled with Omniboard's package for its own development; half a gigabyte of it.
_NOT_NEEDED = "node_modules/omniboard/web/node_modules"
_PATIENCE = 30.0

# Custom columns: title and path in the run document. They are a plain projection, where Omniboard's metric
# columns read every point of every run; so the last and best values are kept in the document.
COLUMNS = {
    "map": "info.task",
    "algorithm": "config.name",
    "mixer": "config.mixer",
    "engine": "info.engine",
    "seed": "config.seed",
    "win rate, last": "info.summary.last.test_battle_won_mean",
    "win rate, max": "info.summary.max.test_battle_won_mean",
    "return, last": "info.summary.last.test_return_mean",
    "return, max": "info.summary.max.test_return_mean",
    "steps": "info.summary.steps",
}
_BEFORE = ("_id", "status")
_AFTER = ("duration", "start_time", "tags", "notes")
# Omniboard's own columns that are there to be chosen.
_HIDDEN = ("experiment_name", "result", "heartbeat", "stop_time", "hostname", "command")
_WIDTHS = {"_id": 60, "map": 100, "mixer": 90, "seed": 70, "steps": 95, "tags": 220, "notes": 220}
_WIDTH = 115
_NUMBER_WIDTH = 140


def install(cache: Path | None = None) -> Path:
    """Folder of an installed Omniboard, which is installed if it is missing.

    Raises:
        TrackingError: Node.js or npm is missing, or npm failed; says what to do.
    """
    _node()
    folder = (cache or _cache_folder()) / f"omniboard-{VERSION}"
    if _start_file(folder).exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise TrackingError(f"npm is missing, which installs Omniboard; {_HINT}")
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    with _progress(f"installing Omniboard {VERSION} into {folder} (once, about a minute)"):
        if not lock.acquire(timeout=600):
            raise TrackingError(f"another process has been installing {folder} for too long")
        with lock:
            if not _start_file(folder).exists():
                _install(npm, folder)
    return folder


def set_up_columns(db: Any) -> None:
    """Make the columns a MARL user wants, once per database: those a user removes stay away."""
    if db["phalanx.board"].find_one({"_id": "columns"}) is not None:
        return
    for name, path in COLUMNS.items():
        db["omniboard.custom.columns"].update_one(
            {"name": name}, {"$setOnInsert": {"config_path": path, "__v": 0}}, upsert=True
        )
    db["phalanx.board"].insert_one({"_id": "columns"})


def default_table(db: Any) -> dict[str, Any]:
    """State of Omniboard's table as its page keeps it: columns shown, and those there to be chosen."""
    known = {column["name"]: column["config_path"] for column in _custom_columns(db)}
    shown = [*_BEFORE, *(name for name in COLUMNS if name in known), *_AFTER]
    recent = db.runs.find({}, {"config": 1}).sort("_id", -1).limit(20)
    config = sorted({key for run in recent for key in run.get("config", {})})
    hidden = [*_HIDDEN, *(f"c_{key}" for key in config)]
    return {
        "columnOrder": shown,
        "columnWidths": {name: _width(name) for name in [*shown, *hidden]},
        "dropdownOptions": [
            {"label": name.lstrip("_"), "value": name, "selected": name in shown}
            for name in [*shown, *hidden]
        ],
        "metricAndCustomColumns": [{"name": name, "value": known[name]} for name in known],
        "columnNameMap": {
            **known,
            "experiment_name": "experiment.name",
            "hostname": "host.hostname",
            "tags": "omniboard.tags",
            "notes": "omniboard.notes",
            **{f"c_{key}": f"config.{key}" for key in config},
        },
        "sort": {},
    }


def _width(column: str) -> int:
    """Pixels a column gets."""
    return _WIDTHS.get(column, _NUMBER_WIDTH if "," in column else _WIDTH)


class Board:
    """A running Omniboard.

    Args:
        target: the database it shows; must answer.
        folder: for its log and settings.
        port: the port to listen on, or the next free one.
        cache: where Omniboard is installed; None for the user's cache folder.

    Raises:
        TrackingError: it cannot be installed or started, or the database does not answer.
    """

    def __init__(
        self, target: Target, folder: Path, port: int = FIRST_PORT, cache: Path | None = None
    ) -> None:
        installed = install(cache)
        folder.mkdir(parents=True, exist_ok=True)
        uri, table = _prepare(target)
        write_json(folder / "board.json", table)
        self.log = folder / "board.log"
        self.port = _free_port(port)
        environment = {
            **os.environ,
            "PORT": str(self.port),
            "MONGO_URI": uri,  # in the environment: others on this machine can read command lines
            # It ends when the pipe to its input does, which no kill of this process leaves open.
            "PHALANX_BOARD_TABLE": str((folder / "board.json").absolute()),
        }
        environment.pop("OMNIBOARD_CONFIG", None)
        command = [_node(), "-r", str(_DATA / "preload.js"), str(_start_file(installed))]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.port}/sacred"

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            # Where another program was faster, Omniboard takes the port behind.
            said = self.log.read_text(errors="replace")
            listening = re.search(r"listening on port (\d+)", said)
            if listening and "established successfully" in said:
                self.port = int(listening[1])
                return
            time.sleep(0.05)
        raise TrackingError(f"Omniboard did not start: see {self.log}")


_HINT = (
    "install Node.js 14 or newer with npm (Debian: apt install nodejs npm, macOS: brew install node, "
    "else https://nodejs.org). `phalanx runs`, `compare`, `plot` and `export` work without it"
)


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise TrackingError(f"Node.js is missing, which Omniboard runs on; {_HINT}")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < _OLDEST_NODE:
        raise TrackingError(f"Node.js {said.strip() or 'at ' + node} is too old; {_HINT}")
    return node


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "phalanx"


def _start_file(folder: Path) -> Path:
    return folder / "node_modules" / "omniboard" / "dist" / "start.js"


def _install(npm: str, folder: Path) -> None:
    beside = folder.with_name(folder.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_DATA / name, beside / name)
    # Scripts of packages are not needed, and are somebody else's programs.
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    done = subprocess.run(
        command, cwd=beside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not _start_file(beside).exists():
        reasons = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        shutil.rmtree(beside, ignore_errors=True)
        raise TrackingError(
            "npm could not install Omniboard; it needs the npm registry once.\n"
            + "\n".join(reasons[:5])
        )
    shutil.rmtree(beside / _NOT_NEEDED, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        print(text, file=sys.stderr, flush=True)
        yield


def _custom_columns(db: Any) -> list[dict[str, str]]:
    return list(db["omniboard.custom.columns"].find({}, {"_id": 0, "name": 1, "config_path": 1}))


def _prepare(target: Target) -> tuple[str, dict[str, Any]]:
    """The database's address in the form Omniboard takes, and the table to begin with."""
    with target.connected() as db:
        set_up_columns(db)
        return target.uri(), default_table(db)


def checked_port(port: int) -> int:
    """A port that there can be.

    Raises:
        TrackingError: it is none.
    """
    if not 0 < port < 65536:
        raise TrackingError(f"--port {port}: expected a number from 1 to 65535")
    return port


def _free_port(first: int) -> int:
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as s:
            if s.connect_ex((HOST, port)) != 0:
                return port
    raise TrackingError(f"no free port from {first} on")
