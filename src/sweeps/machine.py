"""Which machine this is, told apart from others that call themselves the same."""

from __future__ import annotations

import functools
import socket
from pathlib import Path


@functools.cache
def this_machine() -> str:
    """Host name and, where the system has one, the identity of its running kernel.

    Two processes that share it see each other's locks on files.
    """
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        kernel = ""
    return f"{socket.gethostname()} {kernel}".strip()


def host_of(machine: str) -> str:
    """Its host name alone, which outlives a restart."""
    return machine.partition(" ")[0]
