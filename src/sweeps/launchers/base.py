"""What every launcher is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ...registry import PartConfig


class Launcher:
    """Starts workers. They find the rows themselves, so that is all there is to it.

    Args:
        config: its keys.
    """

    def __init__(self, config: PartConfig) -> None:
        """See the class."""

    def launch(self, directory: Path, say: Callable[[str], None]) -> int:
        """Start workers on the sweep in ``directory``; returns the exit status.

        Args:
            directory: of the sweep; must be seen under this name wherever workers run.
            say: takes a line on what happens.
        """
        raise NotImplementedError


def worker_command(directory: Path, *words: str) -> list[str]:
    """The command line of one worker, started with this very Python and these sources."""
    main = Path(__file__).resolve().parents[2] / "main.py"
    return [sys.executable, str(main), "work", str(directory), *words]


def cores() -> int:
    """Cores that this process may use, which a scheduler may have made fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
