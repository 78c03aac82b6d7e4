"""Capture of the output of served functions, for the view under their cell.

A front end would show it there anyway, but without limit. A headless run would lose it, because
that records only output attributed to the running cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.core.getipython import get_ipython

Sink = Callable[[str], object]


def current_parent() -> dict[str, Any]:
    """Return the execution request of the running cell; empty outside a kernel."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent() if kernel is not None else None
    return parent if isinstance(parent, dict) else {}


def in_terminal() -> bool:
    """Return whether cells run in a terminal, where printed output cannot be updated."""
    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is None


class OutputCapture:
    """Diverts output that is attributed to certain cells, from any task and thread.

    ipykernel attributes all output to a cell, also of tasks and threads. Outside a kernel nothing
    is diverted.
    """

    def __init__(self) -> None:
        self._sinks: dict[str, Sink] = {}
        self._streams: list[Any] = [
            stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "register_hook")
        ]
        self._schedule("register_hook")

    def divert(self, parent: dict[str, Any], sink: Sink) -> None:
        """Pass further output of a cell to `sink`, which is called in another thread."""
        cell = parent.get("header", {}).get("msg_id")
        if isinstance(cell, str):
            for stream in self._streams:
                stream.flush()  # earlier output is not diverted
            self._sinks[cell] = sink

    def flush(self) -> None:
        """Wait until the sinks have received all output written so far."""
        for stream in self._streams if self._sinks else ():
            stream.flush()

    def close(self) -> None:
        """Stop diverting."""
        self._sinks.clear()
        self._schedule("unregister_hook")

    def _schedule(self, action: str) -> None:
        # Hooks are registered per thread, and the output thread sends.
        for stream in self._streams:
            stream.pub_thread.schedule(partial(getattr(stream, action), self._on_output))

    def _on_output(self, message: dict[str, Any]) -> dict[str, Any]:
        sink = self._sinks.get(message.get("parent_header", {}).get("msg_id", ""))
        if sink is None:
            return message
        sink(str(message.get("content", {}).get("text", "")))
        return _invisible(message)


def _invisible(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message that no front end shows, an update of a display that does not exist.

    A hook may also return None, but then ipykernel drops concurrent output of other cells
    (`OutStream._flush` in 7.4).
    """
    kind = "update_display_data"
    content = {"data": {}, "metadata": {}, "transient": {"display_id": "fabric_nb nothing"}}
    header = {**message["header"], "msg_type": kind}
    return {**message, "header": header, "msg_type": kind, "content": content}
