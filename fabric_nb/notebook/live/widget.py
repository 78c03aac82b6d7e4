"""A widget that follows what changes, and leaves its last state behind."""

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
"""Seconds between two updates, at least."""


class LiveWidget(anywidget.AnyWidget):
    """What tables and charts have in common: when they send, what comes back, and how they end.

    A subclass says what there is (`encoded`), how often that has changed (`changes`), what it looks
    like without a browser (`forms`), sends what is new (`send_news`) and takes what the browser
    says (`take`). To be made and used in the thread of the notebook's event loop; only `update` may
    be called from any thread. `close` it when its cell runs again: nothing else ends it.

    Attributes:
        script: the JavaScript of this kind of view; see `ViewCode`.
        style_sheet: its style.
        showing: the outputs it stands in; widgets that are shown together share them.
    """

    script: ClassVar[str]
    style_sheet: ClassVar[str]

    _esm = Path(__file__).with_name("view.js").read_text("utf-8")
    _code = traitlets.Instance(ViewCode).tag(sync=True, **widget_serialization)
    # Goes along when the widget is opened, or when a page that was loaded anew asks for all state.
    _whole = traitlets.Unicode().tag(sync=True, to_json=lambda _, widget: widget.encoded())

    def __init__(self) -> None:
        self._pacer = Pacer(self.send_news, PERIOD)
        self._attached = False
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        # Opened first: messages arrive in order, so that a view finds it, also in a busy cell.
        super().__init__(_code=ViewCode.shared(self.script, self.style_sheet))
        self.showing = Showing((self,), self.forms)
        self.on_msg(self._on_message)

    @property
    def live(self) -> bool:
        """Whether it is open; False once it was closed or frozen."""
        return getattr(self, "comm", None) is not None

    # -- what a subclass says

    @property
    @abstractmethod
    def changes(self) -> int:
        """A number that grows with each change."""

    @abstractmethod
    def encoded(self) -> str:
        """All that the browser is to know, as JSON."""

    @abstractmethod
    def forms(self) -> dict[str, str]:
        """The last state as ``text/html`` and ``text/plain``."""

    @abstractmethod
    def send_news(self) -> None:
        """Send what is new, if a browser shows it (`attached`)."""

    @abstractmethod
    def take(self, content: dict[str, Any]) -> None:
        """Take what the browser has sent."""

    # -- showing

    def show(self) -> None:
        """Display it, with its last state, under the running cell."""
        self.showing.show()

    def update(self) -> None:
        """Show what is new, when the pace allows; from any thread."""
        self._pacer.request()
        self.showing.changed()

    def record(self) -> None:
        """Renew the last state now: what a notebook that is saved at this moment will show."""
        self.showing.record()

    def freeze(self) -> None:
        """Put the last state in its place, as plain HTML and text, and close it."""
        self.showing.freeze()

    def close(self) -> None:
        """End it: it vanishes from the page, and nothing is sent any more."""
        if not self.live:
            return
        self._pacer.close()
        self.layout.close()  # a widget of its own, which would stay
        super().close()
        self.__dict__.pop("_repr_mimebundle_", None)  # the static forms can still be shown

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.showing.view() if self.live else {}
        return {**live, **self.showing.forms()}, {}

    # -- sending

    @property
    def attached(self) -> bool:
        """Whether it is open and a browser shows it."""
        return self._attached and self.live

    def attach(self, *, hides: bool) -> None:
        """A browser shows it; `hides` tells whether it hides the last state meanwhile."""
        self._attached = True
        self.showing.attached(hides=hides)

    def save(self) -> None:
        """Keep the state in the widget: a headless run stores that, and no messages.

        With a browser there is no need, and it would be sent twice.
        """
        if self.live and not self._attached:
            contextvars.Context().run(self.send_state, "_whole")

    def send_part(self, kind: str, encoded: bytes, *, period: float = PERIOD) -> None:
        """Send a part of what there is, and let the next wait for `period` seconds or longer."""
        # As a buffer: ipykernel's own encoder would take most of the time of an update.
        self.post({"type": kind}, [encoded])
        self._pacer.period = max(period, budget.spend(len(encoded)))

    def post(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the browser, outside of the running cell's context."""
        contextvars.Context().run(self.send, content, buffers)

    # -- what comes from the browser

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        take = self._send_code if content == {"type": "code"} else self.take
        if threading.get_ident() == self._thread:
            take(content)
        else:  # a front end may send through a subshell, which is another thread
            self._loop.call_soon_threadsafe(take, content)

    def _send_code(self, _: dict[str, Any]) -> None:
        """Send the code to a page that has no model of it: it came up after that was opened."""
        self.post({"type": "code", "esm": self.script, "css": self.style_sheet})
