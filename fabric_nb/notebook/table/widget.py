"""The live table under a cell: sends what is new, and brings back what is clicked.

Clicks while a cell runs. Sorting, filtering and opening a row happen in the browser, at any time. A
button or choice is answered by the kernel: ipykernel hands what comes in on a comm to the
thread that last sent on it, and a table always sends from the main one, so the answer
waits until the running cell ends or awaits something. The table says that it waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any

import anywidget
import orjson
import traitlets

from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.table.model import TableModel
from fabric_nb.notebook.table.pace import Pacer
from fabric_nb.notebook.table.showing import Showing, budget

log = logging.getLogger(__name__)

PERIOD = 0.1
"""Seconds between two updates, at least."""
MAX_ANSWER = 8_000
"""Characters of the answer to an action."""

Answer = str | None
OnAction = Callable[[str, Any], "Answer | Awaitable[Answer]"]
"""Takes an action's name and value; what it returns, or the error it raises, is shown."""
OnOpen = Callable[[Hashable], None]

_HERE = Path(__file__).parent
_SCRIPTS = (
    "cells.js",
    "rows.js",
    "actions.js",
    "detail.js",
    "head.js",
    "heading.js",
    "keys.js",
    "table.js",
)
"""One module in the browser, as it can only be given one: each uses those before it."""


class TableWidget(anywidget.AnyWidget):
    """A `TableModel` on display.

    table = TableWidget(model)
    table.show()                       # under the running cell
    model.put("orders", [...])
    table.update()                     # at most ten times a second, however often it is called
    table.freeze()                     # the last rows stay, as plain HTML

    To be made and used in the thread of the notebook's event loop, as its model; only `update` may
    be called from any thread. `close` it when its cell runs again: nothing else ends it.

    Args:
        model: what to show.
        on_action: called with ``(name, value)`` when a button (value None), a choice (value the
            option) or a form (value the texts by field) is used; may be async. By default
            nothing happens.
        on_open: called with the key of a row that was opened, to bring its detail up to date.

    Attributes:
        showing: the outputs it stands in; tables that are shown together share them.
    """

    _esm = "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS)
    _css = (_HERE / "table.css").read_text("utf-8")
    # Goes along when the widget is opened, or when a page that was loaded anew asks for all state.
    _whole = traitlets.Unicode().tag(sync=True, to_json=lambda _, table: table.encoded())

    def __init__(
        self,
        model: TableModel,
        on_action: OnAction | None = None,
        on_open: OnOpen | None = None,
    ) -> None:
        self.model = model
        self._on_action = on_action
        self._on_open = on_open
        self._pacer = Pacer(self._send_changes, PERIOD)
        self._attached = False
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._tasks: set[asyncio.Task[None]] = set()
        model.diff()
        super().__init__()
        self.showing = Showing((self,))
        self.on_msg(self._on_message)

    def __repr__(self) -> str:
        return f"<TableWidget {plain(self.model.head.title)!r}: {len(self.model):,} rows>"

    @property
    def live(self) -> bool:
        """Whether the table is open; False once it was closed or frozen."""
        return self.comm is not None

    # -- showing

    def show(self) -> None:
        """Display the table, with its last state, under the running cell."""
        self.showing.show()

    def update(self) -> None:
        """Show what the model has become, when the pace allows; from any thread."""
        self._pacer.request()
        self.showing.changed()

    def record(self) -> None:
        """Renew the last state now: what a notebook that is saved at this moment will show."""
        self.showing.record()

    def freeze(self) -> None:
        """Put the last rows in place of the live table, as plain HTML and text, and close it."""
        self.showing.freeze()

    def close(self) -> None:
        """End the table: it vanishes from the page, and nothing is sent any more."""
        if getattr(self, "comm", None) is None:
            return
        self._pacer.close()
        for task in self._tasks:
            task.cancel()
        self.layout.close()  # a widget of its own, which would stay
        super().close()
        self.__dict__.pop("_repr_mimebundle_", None)  # the static forms can still be shown

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.showing.view() if self.live else {}
        return {**live, **self.showing.forms()}, {}

    # -- sending

    def encoded(self) -> str:
        """All that was sent so far, as JSON."""
        return orjson.dumps({**self.model.whole(), "now": time.time()}).decode()

    def save(self) -> None:
        """Keep the rows in the widget's state: a headless run stores that, and no messages.

        With a browser there is no need, and they would be sent twice.
        """
        if self.live and not self._attached:
            self.model.diff()
            contextvars.Context().run(self.send_state, "_whole")

    def _send_changes(self) -> None:
        """Send what is new, unless no browser shows it."""
        if self._attached and (delta := self.model.diff()) is not None:
            self._send_table(delta)

    def _send_table(self, content: dict[str, Any]) -> None:
        """Send a part of the table or all of it."""
        # As a buffer: ipykernel's own encoder would take most of the time of an update.
        encoded = orjson.dumps({**content, "now": time.time()})
        self._post({"type": "table"}, [encoded])
        self._pacer.period = max(PERIOD, budget.spend(len(encoded)))

    def _post(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        contextvars.Context().run(self.send, content, buffers)

    # -- what comes from the browser

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if threading.get_ident() == self._thread:
            self._take(content)
        else:  # a front end may send through a subshell, which is another thread
            self._loop.call_soon_threadsafe(self._take, content)

    def _take(self, content: dict[str, Any]) -> None:
        match content:
            case {"type": "hello", "revision": int(revision), "hides": bool(hides)}:
                self._on_hello(revision, hides=hides)
            case {"type": "action", "request": int(request), "name": str(name)}:
                self._act(request, name, content.get("value"))
            case {"type": "open", "row": int(id_)}:
                self._open(id_)
            case _:
                log.warning("A table's view sent what is not understood: %.200r", content)

    def _on_hello(self, revision: int, *, hides: bool) -> None:
        """A view came up, or has lost its place."""
        self._attached = True
        self.showing.attached(hides=hides)
        if revision != self.model.revision:
            self._send_table(self.model.whole())
        self._pacer.request()

    def _open(self, id_: int) -> None:
        key = self.model.key_of(id_)
        if key is not None and self._on_open is not None:
            self._on_open(key)
            self.update()

    def _act(self, request: int, name: str, value: Any) -> None:
        async def act() -> None:
            error, text = False, None
            try:
                answer = self._on_action(name, value) if self._on_action else None
                text = await answer if inspect.isawaitable(answer) else answer
            except Exception as failure:  # noqa: BLE001 - it is shown where the button is
                error, text = True, str(failure) or type(failure).__name__
            shown = plain(text, MAX_ANSWER) if text else ""
            self._post({"type": "answer", "request": request, "error": error, "text": shown})
            self.update()

        task = self._loop.create_task(act(), name=f"table action {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
