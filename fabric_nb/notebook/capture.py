"""What served functions print, caught for the view under their cell.

A front end would show it there anyway, but without end, and a headless run would lose it: it
records only what comes from the cell that runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.core.getipython import get_ipython

Sink = Callable[[str], object]


def current_parent() -> dict[str, Any]:
    """The message that the front end sent for the running cell; empty outside a kernel."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent() if kernel is not None else None
    return parent if isinstance(parent, dict) else {}


def in_terminal() -> bool:
    """Whether cells run in a terminal's IPython, where what was printed cannot be changed."""
    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is None


class OutputCapture:
    """Diverts the output that belongs to certain cells, whenever and wherever it is written.

    ipykernel labels all it sends with the cell it belongs to, also from tasks and threads.
    Outside a kernel nothing is diverted.
    """

    def __init__(self) -> None:
        self._sinks: dict[str, Sink] = {}
        self._streams: list[Any] = [
            stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "register_hook")
        ]
        self._schedule("register_hook")

    def divert(self, parent: dict[str, Any], sink: Sink) -> None:
        """Give what belongs to that cell to `sink` from now on; `sink` is called in a thread."""
        cell = parent.get("header", {}).get("msg_id")
        if isinstance(cell, str):
            for stream in self._streams:
                stream.flush()  # what was printed before is the cell's own
            self._sinks[cell] = sink

    def flush(self) -> None:
        """Wait until what was written so far has come to the sinks."""
        for stream in self._streams if self._sinks else ():
            stream.flush()

    def close(self) -> None:
        """Divert nothing any more."""
        self._sinks.clear()
        self._schedule("unregister_hook")

    def _schedule(self, action: str) -> None:
        # Hooks are kept per thread, and it is the output thread that sends.
        for stream in self._streams:
            stream.pub_thread.schedule(partial(getattr(stream, action), self._on_output))

    def _on_output(self, message: dict[str, Any]) -> dict[str, Any]:
        sink = self._sinks.get(message.get("parent_header", {}).get("msg_id", ""))
        if sink is None:
            return message
        sink(str(message.get("content", {}).get("text", "")))
        return _turned_into_nothing(message)


def _turned_into_nothing(message: dict[str, Any]) -> dict[str, Any]:
    """The message as one that no front end shows.

    A hook may also return None, but ipykernel then drops what other cells have printed at the
    same time (`OutStream._flush` in 7.4).
    """
    kind = "update_display_data"  # of a display that there is not
    content = {"data": {}, "metadata": {}, "transient": {"display_id": "fabric_nb nothing"}}
    header = {**message["header"], "msg_type": kind}
    return {**message, "header": header, "msg_type": kind, "content": content}
