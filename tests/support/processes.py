"""Pausing of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def pause(pid: int) -> None:
    """Pause a process (SIGSTOP), and wait until none of its threads runs.

    On a busy machine the threads continue until one of them has run and has received the signal.
    """
    os.kill(pid, signal.SIGSTOP)
    while any(state not in "tTZ" for state in _states(pid)):
        time.sleep(0.005)  # there is no event for it, except for the parent


def _states(pid: int) -> list[str]:
    """Return the states of the threads of a process, as in proc(5)."""
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states
