"""Widget for a live table.

Actions while a cell runs: sorting, filtering and opening a row happen in the browser, at any time.
Buttons and choices are handled by the kernel. ipykernel dispatches a message on a comm to the
thread that last sent on it, and a table always sends from the main thread, so the action is delayed
until the running cell ends or awaits. The table indicates that. The same applies to a paged table,
whose rows are sorted and filtered by the kernel.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import orjson

from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import TOKENS, counted, plain
from fabric_nb.notebook.table.model import TableModel
from fabric_nb.notebook.table.paging import PagedRows, PageRequest
from fabric_nb.notebook.table.parts import CANCELLED, Detail, Payload
from fabric_nb.notebook.table.static import static_forms

log = logging.getLogger(__name__)

MAX_ANSWER = 8_000
"""Maximum characters of the answer to an action."""

PROGRESS_PERIOD = 0.5
"""Seconds between two updates of the progress of an action."""

Answer = str | None


@runtime_checkable
class Progressing(Protocol):
    """Awaitable answer of an action that has a progress."""

    @property
    def progress(self) -> str:
        """Progress as text; empty if there is none."""


OnAction = Callable[[str, Any], "Answer | Awaitable[Answer]"]
"""Callback for an action, with its name and value; its result or error is shown."""
OnOpen = Callable[[Hashable], None]

_HERE = Path(__file__).parent


class TableWidget(LiveWidget):
    """A `TableModel` on display.

    table = TableWidget(model)
    table.show()                       # under the running cell
    model.put("orders", [...])
    table.update()                     # sends at most ten times a second
    table.freeze()                     # replaced by a static copy

    See `LiveWidget`.

    Args:
        model: rows to show; must be used in the same thread.
        on_action: called with ``(name, value)`` when a button (value None), a choice (value the
            option) or a form (value the texts by field) is used; may be async. By default
            actions are ignored.
        on_open: called with the key of a row that is opened, to update its detail.
        pages: source of all rows of a paged table.
    """

    script = joined_script(_HERE / "widget.js")
    style_sheet = TOKENS + (_HERE / "table.css").read_text("utf-8")

    def __init__(
        self,
        model: TableModel,
        on_action: OnAction | None = None,
        on_open: OnOpen | None = None,
        pages: PagedRows | None = None,
    ) -> None:
        self.model = model
        self._on_action = on_action
        self._on_open = on_open
        self._pages = pages
        self._tasks: dict[int, asyncio.Task[Answer]] = {}
        self._page_tasks: dict[str, asyncio.Task[None]] = {}
        model.diff()
        super().__init__()

    def __repr__(self) -> str:
        return f"<TableWidget {plain(self.model.head.title)!r}: {counted(len(self.model), 'row')}>"

    @property
    def changes(self) -> int:
        """Number of changes of the model."""
        return self.model.changes

    def forms(self) -> dict[str, str]:
        """Return the static copy as HTML and text."""
        return static_forms([self.model], time.time())

    def close(self) -> None:
        """Close the table and cancel its running actions."""
        if self.live:
            for task in (*self._tasks.values(), *self._page_tasks.values()):
                task.cancel()
        super().close()

    # -- sending

    def encoded(self) -> str:
        """Return some of the rows that were sent, as JSON; a view requests the others."""
        return orjson.dumps({**self.model.saved(), "now": time.time()}).decode()

    def save(self) -> None:
        """Store all rows in the widget; see `LiveWidget.save`."""
        if not self._attached:
            self.model.diff()
        super().save()

    def send_changes(self) -> None:
        """Send the changes of the rows."""
        if self.attached and (delta := self.model.diff()) is not None:
            self._send_table(delta)

    def _send_table(self, content: dict[str, Any]) -> None:
        """Send changes, or the complete table."""
        self.send_buffer("table", orjson.dumps({**content, "now": time.time()}))

    # -- receiving

    def on_message(self, content: dict[str, Any]) -> None:
        """Handle a ``hello``, an action, its cancellation, the opening of a row, or a request."""
        match content:
            case {"type": "hello", "revision": int(revision), "hides": bool(hides)}:
                self._on_hello(revision, hides=hides)
            case {"type": "action", "request": int(request), "name": str(name)}:
                self._act(request, name, content.get("value"))
            case {"type": "cancel", "request": int(request)}:
                self._cancel(request)
            case {"type": "open", "row": int(id_)}:
                self._open(id_)
            case {"type": "page", "view": str(view), "request": int(request)} if (
                self._pages is not None and (requested := PageRequest.decoded(content)) is not None
            ):
                self._start(f"view {view}", self._send_page(self._pages, view, request, requested))
            case _:
                log.warning("A table's view sent an unknown message: %.200r", content)

    def _on_hello(self, revision: int, *, hides: bool) -> None:
        """Handle a new view, or one that has missed an update."""
        self.attach(hides=hides)
        if revision != self.model.revision:
            self._send_table(self.model.whole())
        self._pacer.request()

    def _start(self, key: str, answer: Coroutine[Any, Any, None]) -> None:
        """Answer a request, in place of the earlier one with the same key."""
        if (earlier := self._page_tasks.pop(key, None)) is not None:
            earlier.cancel()
        task = self._loop.create_task(answer, name=f"table {key}")
        self._page_tasks[key] = task
        task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._page_tasks.get(key) is task:
            del self._page_tasks[key]

    async def _send_page(
        self, pages: PagedRows, view: str, request: int, requested: PageRequest
    ) -> None:
        answer: dict[str, Any] = {"view": view, "request": request}
        self.post({"type": "paging", **answer})
        began = time.perf_counter()
        try:
            layout, page = self.model.layout, await pages.page(requested)
        except Exception as failure:  # noqa: BLE001 - shown to the user
            text = plain(str(failure) or type(failure).__name__, MAX_ANSWER)
            self.send_buffer("page", orjson.dumps({**answer, "error": text}))
            return
        answer |= {
            "layout": layout,
            "took": time.perf_counter() - began,
            "total": page.total,
            "listed": page.listed,
            "held": page.held,
            "first": page.first,
            "selection": page.selection,
            "problems": [[index, plain(text)] for index, text in page.problems.items()],
            "rows": [
                [number, None if cells is None else self.model.encoded_cells(cells)]
                for number, cells in zip(page.numbers, page.cells, strict=True)
            ],
        }
        if self.live:
            self.send_buffer("page", orjson.dumps(answer))

    async def _send_values(self, pages: PagedRows, number: int) -> None:
        values = await pages.values(number)
        detail = Detail("This row was dropped.") if values is None else Detail(values=values)
        if self.live:
            self.send_buffer("detail", orjson.dumps([number, detail.encoded()]))

    def _open(self, id_: int) -> None:
        if self._pages is not None:
            self._start(f"row {id_}", self._send_values(self._pages, id_))
            return
        key = self.model.key_of(id_)
        if key is not None and self._on_open is not None:
            self._on_open(key)
            self.update()

    def _act(self, request: int, name: str, value: Any) -> None:
        async def act() -> Answer:
            self.post({"type": "begun", "request": request})
            answer = self._on_action(name, value) if self._on_action else None
            if not inspect.isawaitable(answer):
                return answer
            if not isinstance(answer, Progressing):
                return await answer
            posting = asyncio.create_task(self._post_progress(request, answer))
            try:
                return await answer
            finally:
                posting.cancel()

        task = self._loop.create_task(act(), name=f"table action {name}")
        self._tasks[request] = task
        task.add_done_callback(partial(self._on_end, request))

    async def _post_progress(self, request: int, answer: Progressing) -> None:
        posted = ""
        while True:
            await asyncio.sleep(PROGRESS_PERIOD)
            if (text := plain(answer.progress, MAX_ANSWER)) != posted:
                posted = text
                self.post({"type": "progress", "request": request, "text": text})

    def _on_end(self, request: int, task: asyncio.Task[Answer]) -> None:
        del self._tasks[request]
        try:
            text, error, field = task.result(), False, ""
        except asyncio.CancelledError as cancelled:
            text, error, field = str(cancelled) or CANCELLED, True, ""
        except Exception as failure:  # noqa: BLE001 - shown to the user
            text, error = str(failure) or type(failure).__name__, True
            field = str(getattr(failure, "field", ""))
        if self.live:
            self._answer(request, text, error=error, field=field)

    def _cancel(self, request: int) -> None:
        if task := self._tasks.get(request):
            task.cancel()

    def _answer(self, request: int, text: str | None, *, error: bool, field: str) -> None:
        shown = text if isinstance(text, Payload) else plain(text or "", MAX_ANSWER)
        content = {"type": "answer", "request": request, "error": error, "text": shown}
        self.post({**content, "field": field} if field else content)
        self.update()
