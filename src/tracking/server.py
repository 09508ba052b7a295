"""The embedded database server: a program of its own, one per results folder, shared by runs.

The program is SecantusDB's ``secantusd-py`` (GPL-2.0, the optional extra ``server``). It is driven
over its command line and the network only, never imported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import TrackingError
from .files import FileLock, read_json, write_json

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 27117, 40
INSTALL_HINT = "install the embedded server: pip install 'phalanx[server]'"


@dataclass(frozen=True)
class Server:
    """A running server: its process id and port."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Address for MongoDB clients."""
        return f"mongodb://{HOST}:{self.port}"


def executable() -> str | None:
    """Path of the server program, this Python's own if it has one; None if not installed."""
    name = "secantusd-py.exe" if sys.platform == "win32" else "secantusd-py"
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def status(directory: Path) -> Server | None:
    """The server of this folder if it runs and answers."""
    state = read_json(directory / "server.json")
    if not isinstance(state, dict) or not {"pid", "port"} <= state.keys():
        return None
    known = Server(pid=int(state["pid"]), port=int(state["port"]))
    # Port and process id may both have been given to somebody else since.
    return known if _pid_behind(known.port) == known.pid else None


def start(directory: Path, *, timeout: float = 20.0) -> Server:
    """The server of this folder, started if it does not run. Safe to call from many runs at once.

    It keeps running when the caller ends, and listens on this machine only.

    Raises:
        TrackingError: it cannot be started; says why.
    """
    running = status(directory)
    if running is not None:
        return running
    program = executable()
    if program is None:
        raise TrackingError(f"the embedded database server is missing; {INSTALL_HINT}")
    with _locked(directory, timeout + 5):
        running = status(directory)
        if running is not None:
            return running
        for port in _free_ports():
            server = _launch(program, directory, port, timeout)
            if server is not None:
                write_json(directory / "server.json", asdict(server))
                return server
    raise TrackingError(f"no free port for the embedded database server on {HOST}")


def stop(directory: Path, *, timeout: float = 10.0) -> bool:
    """Stop the server of this folder; False if none was running.

    Raises:
        TrackingError: it does not end.
    """
    with _locked(directory, timeout + 30):
        running = status(directory) or _hung(directory)
        if running is not None:
            _end(running, timeout)
        (directory / "server.json").unlink(missing_ok=True)
        return running is not None


@contextlib.contextmanager
def _locked(directory: Path, timeout: float) -> Iterator[None]:
    lock = FileLock(directory / "start.lock")
    if not lock.acquire(timeout):
        raise TrackingError(
            f"another process has been busy with the server in {directory} for too long"
        )
    with lock:
        yield


def _launch(program: str, directory: Path, port: int, timeout: float) -> Server | None:
    """Start the program and wait until it answers; None if somebody else took the port first."""
    # Named, because otherwise the program picks up a secantusd.toml from the home folder or /etc.
    settings = directory / "secantusd.toml"
    settings.touch()
    log_path = directory / "server.log"
    earlier = log_path.stat().st_size if log_path.exists() else 0
    command = [program, "--config", str(settings.absolute()), "--host", HOST, "--port", str(port)]
    command += ["--storage-path", str((directory / "data").absolute())]
    # Without --sync-on-commit a kill loses acknowledged writes; without --standalone every push of
    # a metric is logged in full a second time. The default cache is 1 GB.
    command += ["--standalone", "--sync-on-commit", "--cache-size", "256M"]
    options: dict[str, Any] = {"start_new_session": True}  # Ctrl-C in a run is not for the server
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        options = {"creationflags": flags}
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, **options
        )
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        pid = _pid_behind(port)
        if pid is not None and process.poll() is None:
            return Server(pid=pid, port=port)
        time.sleep(0.05)
    said = log_path.read_bytes()[earlier:].decode(errors="replace")
    if process.poll() is None:
        process.kill()
        raise TrackingError(
            f"the embedded database server did not answer in {timeout:.0f} s: see {log_path}"
        )
    if "in use" in said:
        return None
    reason = said.strip().splitlines()[-1] if said.strip() else "no message"
    raise TrackingError(f"the embedded database server ended at once ({reason}): see {log_path}")


def _free_ports() -> Iterator[int]:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        if not _listening(port):
            yield port


def _hung(directory: Path) -> Server | None:
    """The server of this folder if it is there but no longer answers (seen on Linux only)."""
    state = read_json(directory / "server.json", {})
    try:
        command = Path(f"/proc/{int(state['pid'])}/cmdline").read_bytes()
    except (OSError, KeyError, ValueError):
        return None
    data = str((directory / "data").absolute()).encode()
    return Server(**state) if data in command.split(b"\0") else None


def _end(server: Server, timeout: float) -> None:
    # SIGTERM lets it write a checkpoint. SecantusDB 0.7.0b3 can hang in that; then a kill is safe, as
    # every acknowledged write is on disk.
    last = getattr(signal, "SIGKILL", signal.SIGTERM)
    for signal_number, patience in ((signal.SIGTERM, timeout), (last, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal_number)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not _exists(server):
                return
            time.sleep(0.05)
    raise TrackingError(f"the database server (process {server.pid}) does not end")


def _listening(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex((HOST, port)) == 0


def _pid_behind(port: int) -> int | None:
    """Process id of the SecantusDB server on the port; None if it is none, or does not answer."""
    if not _listening(port):
        return None
    import pymongo
    from pymongo.errors import PyMongoError

    wait = 2000
    client: Any = pymongo.MongoClient(
        HOST, port, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait
    )
    try:
        with client:
            answer = client.admin.command("serverStatus")
    except PyMongoError:
        return None
    return int(answer["pid"]) if answer.get("process") == "secantus" else None


def _exists(server: Server) -> bool:
    if sys.platform == "win32":
        return _listening(server.port)  # os.kill would end the process there, whatever the signal
    with contextlib.suppress(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)  # a server started by this very process stays a zombie
    try:
        os.kill(server.pid, 0)
    except ProcessLookupError:
        return False
    try:
        # In a container nobody may collect an ended process whose parent ended before it.
        state = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state != "Z"
