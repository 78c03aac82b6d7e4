"""Python programs in forks of one process, which has imported `tests.support.libraries`.

A fork needs a third of the time of a new interpreter that imports them. Programs whose start or
imports are tested are started as usual.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.internals import run_exit_functions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORKS = multiprocessing.get_context("forkserver")
"""Starts processes that are forked from the one with the libraries."""

FORKS.set_forkserver_preload(["tests.support.libraries", __name__])


class ForkedProgram:
    """`python -m MODULE ARGUMENTS`, forked, in a new session: a subset of `subprocess.Popen`.

    Args:
        module: Module that is run as the main module.
        arguments: Its arguments.
        env: Environment variables.
        cwd: Working folder.
        log: File to which its output is appended.

    Attributes:
        pid: Process id.
        returncode: Exit code; negative after a signal; None if `poll` has not seen an end.
    """

    stdin = stdout = stderr = None

    def __init__(
        self, module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: str, log: str
    ) -> None:
        self._process = FORKS.Process(target=_run, args=(module, arguments, dict(env), cwd, log))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None if the process is running."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, and return the exit code."""
        self._process.join(timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _run(module: str, arguments: Sequence[str], env: Mapping[str, str], cwd: str, log: str) -> None:
    """Run a module as a new interpreter would."""
    os.setsid()
    with Path(os.devnull).open("rb") as nothing, Path(log).open("ab") as output:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = [cwd, *filter(None, sys.path)]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        run_exit_functions()  # not by multiprocessing
