"""Output of running calls: what their functions print and log, in any task or thread of theirs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from fabric_nb.fabric.rpc.call_reporter import CallReporter
from fabric_nb.fabric.rpc.current_call import current_call

_NOTHING = nullcontext()


class _Capture(logging.Handler):
    """Copies the output of calls that want it to their reporters, while there are any.

    The output goes where it went before, too: the methods ``write`` of the standard streams are
    replaced, and not the streams, as front ends have streams of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._users = 0
        self._streams: list[Any] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Capture for as long as this context lasts."""
        self._users += 1
        if self._users == 1:
            self._install()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._remove()

    def emit(self, record: logging.LogRecord) -> None:
        """Copy a log record."""
        if (reporter := _reporter()) is None:
            return
        try:
            text = f"{record.levelname} {record.name}: {record.getMessage()}\n"
        except Exception:  # noqa: BLE001 - as other handlers: a bad format must not end the function
            self.handleError(record)
        else:
            reporter.write("log", text)

    def _install(self) -> None:
        logging.getLogger().addHandler(self)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if "write" not in getattr(stream, "__dict__", {"write": None}):
                stream.write = _copying(stream.write, name)
                self._streams.append(stream)

    def _remove(self) -> None:
        logging.getLogger().removeHandler(self)
        while self._streams:
            vars(self._streams.pop()).pop("write", None)


def _copying(write: Callable[[str], int], name: str) -> Callable[[str], int]:
    def copying(text: str) -> int:
        if (reporter := _reporter()) is not None:
            reporter.write(name, text)
        return write(text)

    return copying


def _reporter() -> CallReporter | None:
    call = current_call.get()
    return None if call is None else call.reporter


_capture = _Capture()


def capturing(reporter: CallReporter | None) -> AbstractContextManager[None]:
    """Return a context in which the output of a call is copied to its reporter, if it wants it."""
    if reporter is None or not reporter.wants_output:
        return _NOTHING
    return _capture.running()
