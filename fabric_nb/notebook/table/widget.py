"""The live table under a cell: sends what is new, and brings back what is clicked.

Clicks while a cell runs. Sorting, filtering and opening a row happen in the browser, at any time. A
button or choice is answered by the kernel: ipykernel hands what comes in on a comm to the
thread that last sent on it, and a table always sends from the main one, so the answer
waits until the running cell ends or awaits something. The table says that it waits.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any

import orjson

from fabric_nb.notebook.live.code import TOKENS, joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.table.model import TableModel
from fabric_nb.notebook.table.static import static_forms

log = logging.getLogger(__name__)

MAX_ANSWER = 8_000
"""Characters of the answer to an action."""

Answer = str | None
OnAction = Callable[[str, Any], "Answer | Awaitable[Answer]"]
"""Takes an action's name and value; what it returns, or the error it raises, is shown."""
OnOpen = Callable[[Hashable], None]

_HERE = Path(__file__).parent


class TableWidget(LiveWidget):
    """A `TableModel` on display.

    table = TableWidget(model)
    table.show()                       # under the running cell
    model.put("orders", [...])
    table.update()                     # at most ten times a second, however often it is called
    table.freeze()                     # the last rows stay, as plain HTML

    See `LiveWidget` for what it shares with charts.

    Args:
        model: what to show; to be used in the same thread.
        on_action: called with ``(name, value)`` when a button (value None), a choice (value the
            option) or a form (value the texts by field) is used; may be async. By default
            nothing happens.
        on_open: called with the key of a row that was opened, to bring its detail up to date.
    """

    script = joined_script(_HERE / "widget.js")
    style_sheet = TOKENS + (_HERE / "table.css").read_text("utf-8")

    def __init__(
        self,
        model: TableModel,
        on_action: OnAction | None = None,
        on_open: OnOpen | None = None,
    ) -> None:
        self.model = model
        self._on_action = on_action
        self._on_open = on_open
        self._tasks: dict[int, asyncio.Task[None]] = {}
        model.diff()
        super().__init__()

    def __repr__(self) -> str:
        return f"<TableWidget {plain(self.model.head.title)!r}: {len(self.model):,} rows>"

    @property
    def changes(self) -> int:
        """Those of the model."""
        return self.model.changes

    def forms(self) -> dict[str, str]:
        """The last rows as HTML and text."""
        return static_forms([self.model], time.time())

    def close(self) -> None:
        """End the table, and what its buttons have begun."""
        if self.live:
            for task in self._tasks.values():
                task.cancel()
        super().close()

    # -- sending

    def encoded(self) -> str:
        """All that was sent so far, as JSON."""
        return orjson.dumps({**self.model.whole(), "now": time.time()}).decode()

    def save(self) -> None:
        """Keep the rows in the widget's state, where they are not sent."""
        if not self._attached:
            self.model.diff()
        super().save()

    def send_news(self) -> None:
        """Send the rows that are new."""
        if self.attached and (delta := self.model.diff()) is not None:
            self._send_table(delta)

    def _send_table(self, content: dict[str, Any]) -> None:
        """Send a part of the table or all of it."""
        self.send_part("table", orjson.dumps({**content, "now": time.time()}))

    # -- what comes from the browser

    def take(self, content: dict[str, Any]) -> None:
        """Take a view's greeting, an action, or that a row was opened."""
        match content:
            case {"type": "hello", "revision": int(revision), "hides": bool(hides)}:
                self._on_hello(revision, hides=hides)
            case {"type": "action", "request": int(request), "name": str(name)}:
                self._act(request, name, content.get("value"))
            case {"type": "cancel", "request": int(request)}:
                self._cancel(request)
            case {"type": "open", "row": int(id_)}:
                self._open(id_)
            case _:
                log.warning("A table's view sent what is not understood: %.200r", content)

    def _on_hello(self, revision: int, *, hides: bool) -> None:
        """A view came up, or has lost its place."""
        self.attach(hides=hides)
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
            self.post({"type": "begun", "request": request})
            error, text = False, None
            try:
                answer = self._on_action(name, value) if self._on_action else None
                text = await answer if inspect.isawaitable(answer) else answer
            except Exception as failure:  # noqa: BLE001 - it is shown where the button is
                error, text = True, str(failure) or type(failure).__name__
            self._answer(request, text, error=error)

        task = self._loop.create_task(act(), name=f"table action {name}")
        self._tasks[request] = task
        task.add_done_callback(lambda _: self._tasks.pop(request, None))

    def _cancel(self, request: int) -> None:
        task = self._tasks.get(request)
        if task is not None and task.cancel():
            self._answer(request, "Cancelled. A service that was called may go on.", error=True)

    def _answer(self, request: int, text: str | None, *, error: bool) -> None:
        shown = plain(text, MAX_ANSWER) if text else ""
        self.post({"type": "answer", "request": request, "error": error, "text": shown})
        self.update()
