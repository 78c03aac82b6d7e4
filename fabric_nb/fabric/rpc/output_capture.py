"""Output of running calls: what their functions print and log, in any task or thread of theirs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from fabric_nb.fabric.rpc.call_reporter import CallReporter
from fabric_nb.fabric.rpc.current_call import current_call


class OutputCapture(logging.Handler):
    """Copies what calls print and log to their reporters; `output_capture` is the only instance.

    The output goes where it went before, too: the methods ``write`` of the standard streams are
    replaced, and not the streams, as front ends have streams of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._users: set[object] = set()
        self._streams: dict[str, Any] = {}

    def start(self, user: object) -> None:
        """Capture the output of calls, until `stop` is called with the same user."""
        if not self._users:
            logging.getLogger().addHandler(self)
        self._users.add(user)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if self._streams.get(name) is not stream:  # a program may replace them
                self._restore(name)
                if "write" not in getattr(stream, "__dict__", {"write": None}):
                    stream.write = _copying(stream.write, name)
                    self._streams[name] = stream

    def stop(self, user: object) -> None:
        """Stop capturing, once no other user is left."""
        if user in self._users:
            self._users.remove(user)
            if not self._users:
                logging.getLogger().removeHandler(self)
                for name in tuple(self._streams):
                    self._restore(name)

    def _restore(self, name: str) -> None:
        if (stream := self._streams.pop(name, None)) is not None:
            vars(stream).pop("write", None)

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


def _copying(write: Callable[[str], int], name: str) -> Callable[[str], int]:
    def copying(text: str) -> int:
        if (reporter := _reporter()) is not None:
            reporter.write(name, text)
        return write(text)

    return copying


def _reporter() -> CallReporter | None:
    call = current_call.get()
    return None if call is None else call.reporter


output_capture = OutputCapture()
