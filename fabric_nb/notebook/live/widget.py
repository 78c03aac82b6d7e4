"""Base class of live widgets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets
from ipywidgets import widget_serialization  # type: ignore[import-untyped]

from fabric_nb.notebook.live.code import ViewCode
from fabric_nb.notebook.live.pace import Pacer, budget
from fabric_nb.notebook.live.showing import Showing

PERIOD = 0.1
"""Minimum seconds between two updates."""


class LiveWidget(anywidget.AnyWidget):
    """Base class of tables, charts and pages: rate-limited updates, messages, static copies.

    A subclass implements the complete state (`encoded`), a change counter (`changes`), the static
    copy (`forms`), incremental updates (`send_changes`) and messages from the browser
    (`on_message`). Not thread-safe, except for `update`: create and use it in the thread of the
    notebook's event loop. It must be closed with `close` when its cell runs again.

    Attributes:
        script: JavaScript of this kind of widget; see `ViewCode`.
        style_sheet: CSS of this kind of widget.
        showing: outputs of the widget, shared by widgets that are displayed together.
    """

    script: ClassVar[str]
    style_sheet: ClassVar[str]

    _esm = Path(__file__).with_name("view.js").read_text("utf-8")
    _code = traitlets.Instance(ViewCode).tag(sync=True, **widget_serialization)
    # Sent when the widget is opened, and when a reloaded page requests the state.
    _whole = traitlets.Unicode().tag(sync=True, to_json=lambda _, widget: widget.encoded())

    def __init__(self) -> None:
        self._pacer = Pacer(self.send_changes, PERIOD)
        self._attached = False
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        # Opened first: messages arrive in order, so that views find it even while a cell runs.
        super().__init__(_code=ViewCode.shared(self.script, self.style_sheet))
        self.showing = Showing((self,), self.forms)
        self.on_msg(self._on_message)

    @property
    def live(self) -> bool:
        """True if it is open, that is, neither closed nor frozen."""
        return getattr(self, "comm", None) is not None

    # -- for subclasses

    @property
    @abstractmethod
    def changes(self) -> int:
        """Number of changes."""

    @abstractmethod
    def encoded(self) -> str:
        """Return the complete state for the browser, as JSON."""

    @abstractmethod
    def forms(self) -> dict[str, str]:
        """Return the static copy as ``text/html`` and ``text/plain``."""

    @abstractmethod
    def send_changes(self) -> None:
        """Send the changes, if a browser displays the widget (`attached`)."""

    @abstractmethod
    def on_message(self, content: dict[str, Any]) -> None:
        """Handle a message from the browser."""

    # -- displaying

    def show(self) -> None:
        """Display the widget and its static copy under the running cell."""
        self.showing.show()

    def update(self) -> None:
        """Schedule an update within the rate limits; thread-safe."""
        self._pacer.request()
        self.showing.changed()

    def record(self) -> None:
        """Update the static copy, which a saved notebook shows."""
        self.showing.record()

    @property
    def headless(self) -> bool:
        """True if no browser has displayed it."""
        return self.showing.headless

    def freeze(self) -> None:
        """Replace the live widget by its static copy and close it."""
        self.showing.freeze()

    def close(self) -> None:
        """Close the widget, which removes it from the page."""
        if not self.live:
            return
        self._pacer.close()
        self.layout.close()  # a separate widget, not closed with its owner
        super().close()
        self.__dict__.pop("_repr_mimebundle_", None)  # the static forms can still be shown

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.showing.view() if self.live else {}
        return {**live, **self.showing.forms()}, {}

    # -- sending

    @property
    def attached(self) -> bool:
        """True if it is open and a browser displays it."""
        return self._attached and self.live

    def attach(self, *, hides: bool) -> None:
        """Handle the display in a browser; see `Showing.attached`."""
        self._attached = True
        self.showing.attached(hides=hides)

    def save(self) -> None:
        """Store the complete state in the widget, for a headless run, which records no messages.

        Does nothing if a browser displays the widget, because the state would be sent twice.
        """
        if self.live and not self._attached:
            contextvars.Context().run(self.send_state, "_whole")

    def send_buffer(self, kind: str, encoded: bytes, *, period: float = PERIOD) -> None:
        """Send encoded data; the next update follows after `period` seconds or later."""
        # As a buffer, because ipykernel's encoder would on_message most of the time of an update.
        self.post({"type": kind}, [encoded])
        self._pacer.period = max(period, budget.spend(len(encoded)))

    def post(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the browser, outside the running cell's context."""
        contextvars.Context().run(self.send, content, buffers)

    # -- receiving

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        handler = self._send_code if content == {"type": "code"} else self.on_message
        if threading.get_ident() == self._thread:
            handler(content)
        else:  # a front end may send through a subshell, which is another thread
            self._loop.call_soon_threadsafe(handler, content)

    def _send_code(self, _: dict[str, Any]) -> None:
        """Send the code to a page that was loaded after its model was opened."""
        self.post({"type": "code", "esm": self.script, "css": self.style_sheet})
