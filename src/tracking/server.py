"""The embedded database server: a program of its own, one per results folder, shared by runs.

The program is SecantusDB's ``secantusd-py`` (GPL-2.0, the optional extra ``server``). It is driven
over its command line and the network only, never imported.
"""

from __future__ import annotations

import contextlib
import logging
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
from ..locks import FileLock
from .files import read_json, write_json

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 27117, 40
PROGRAM = "secantusd-py"
STATE_FILE, DATA_FOLDER = "server.json", "data"
INSTALL_HINT = "install the embedded server: pip install -e '.[server]'"


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
    name = f"{PROGRAM}.exe" if sys.platform == "win32" else PROGRAM
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def status(directory: Path) -> Server | None:
    """The server of this folder if it runs and answers."""
    own = _own(directory)
    return own if own is not None and _pid_behind(own.port) == own.pid else None


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
        # Of one that was launched by somebody who died before it answered, the folder is taken.
        running = status(directory) or _wait_for_own(directory, timeout)
        if running is not None:
            return running
        for port in _free_ports():
            server = _launch(program, directory, port, timeout)
            if server is not None:
                log.info(
                    "the database server of %s was started (process %d, port %d) and stays up for later "
                    "runs; `phalanx db stop` ends it",
                    directory,
                    server.pid,
                    server.port,
                )
                return server
    raise TrackingError(f"no free port for the embedded database server on {HOST}")


def stop(directory: Path, *, timeout: float = 10.0) -> bool:
    """Stop the server of this folder; False if none was running.

    Raises:
        TrackingError: it does not end.
    """
    if not directory.exists():
        return False
    with _locked(directory, timeout + 30):
        running = _own(directory)
        if running is not None:
            _end(running, timeout)
        (directory / STATE_FILE).unlink(missing_ok=True)
        return running is not None


def _own(directory: Path) -> Server | None:
    """The process that serves this folder, whether it answers or not.

    What the state file says counts only if that process was started on this very folder: the number may
    have been given to somebody else since, and a copied folder names its original's server.
    """
    state = read_json(directory / STATE_FILE)
    try:
        known = Server(pid=int(state["pid"]), port=int(state["port"]))
    except (TypeError, KeyError, ValueError):
        return None
    return known if _serves(known.pid, directory) else None


def _serves(pid: int, directory: Path) -> bool:
    """Whether a process is a server of this folder: it has its data folder, or works in the folder."""
    data = str((directory / DATA_FOLDER).absolute())
    try:
        if data in Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0"):
            return True
        # A server whose folder was moved has it still, under the old name.
        return PROGRAM in Path(f"/proc/{pid}/cmdline").read_text(
            errors="replace"
        ) and os.path.samefile(f"/proc/{pid}/cwd", directory)
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return False
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return data in listed.stdout


def _wait_for_own(directory: Path, timeout: float) -> Server | None:
    end = time.monotonic() + timeout
    while (own := _own(directory)) is not None:
        if _pid_behind(own.port) == own.pid:
            return own
        if time.monotonic() >= end:
            raise TrackingError(
                f"the database server of {directory} (process {own.pid}) does not answer; "
                "`phalanx db stop` ends it"
            )
        time.sleep(0.05)
    return None


@contextlib.contextmanager
def _locked(directory: Path, timeout: float) -> Iterator[None]:
    lock = FileLock(directory / "start.lock")
    try:
        if not lock.acquire(timeout):
            raise TrackingError(
                f"another process has been busy with the server in {directory} for too long"
            )
        with lock:
            yield
    except OSError as error:
        raise TrackingError(
            f"the embedded database server needs {directory}, which cannot be written ({error})"
        ) from error


def _launch(program: str, directory: Path, port: int, timeout: float) -> Server | None:
    """Start the program and wait until it answers; None if somebody else took the port first."""
    # Named, because otherwise the program picks up a secantusd.toml from the home folder or /etc.
    settings = directory / "secantusd.toml"
    settings.touch()
    log_path = directory / "server.log"
    earlier = log_path.stat().st_size if log_path.exists() else 0
    command = [program, "--config", str(settings.absolute()), "--host", HOST, "--port", str(port)]
    command += ["--storage-path", str((directory / DATA_FOLDER).absolute())]
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
    server = Server(pid=process.pid, port=port)
    # Before it answers: whoever finds the folder after a kill of this process must find the server too.
    write_json(directory / STATE_FILE, asdict(server))
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        # Another folder's server may have been faster on this port; then the own one ends in a moment.
        if _pid_behind(port) == server.pid:
            return server
        time.sleep(0.05)
    said = log_path.read_bytes()[earlier:].decode(errors="replace")
    if process.poll() is None:
        process.kill()
        process.wait()
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
