"""Tables of the panel: the view models of cells, sent from the companion thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from fabric_nb.errors import NotThere
from fabric_nb.notebook.views.base import TableView, ViewModel


class PanelTable:
    """A view model that is refreshed on one event loop and sent from the companion thread.

    Args:
        view: table view; used on `loop` only.
        loop: event loop on which `refresh` is called.
    """

    def __init__(self, view: TableView, loop: asyncio.AbstractEventLoop) -> None:
        self._state = ViewModel(view)
        self._loop = loop
        self._lock = threading.Lock()  # models are not thread-safe

    def refresh(self) -> None:
        """Update the model; must be called on the table's loop."""
        with self._lock:
            self._state.refresh()

    def changes(self, *, whole: bool) -> dict[str, Any] | None:
        """Return the changes since the last call, or the complete table; thread-safe."""
        with self._lock:
            delta = self._state.model.diff()
            if whole:
                delta = self._state.model.whole()
        return None if delta is None else {**delta, "now": time.time()}

    def open_row(self, row: int, then: Callable[[], object]) -> None:
        """Have the view show the details of a row; thread-safe.

        Args:
            row: id of the row.
            then: called on the table's loop when the details are in the model.
        """

        def open_row() -> None:
            with self._lock:
                key = self._state.model.key_of(row)
            if key is not None:
                self._state.view.opened(key)
                self.refresh()
                then()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(open_row)

    async def act(self, name: str, row: int | None, value: Any) -> str:
        """Perform an action of the view and return its answer.

        Args:
            name: name of the action.
            row: id of the row, whose key replaces `value`; None for an action of the table.
            value: value of the action.

        Raises:
            NotThere: the row no longer exists.
        """
        if row is not None:
            with self._lock:
                value = self._state.model.key_of(row)
            if value is None:
                raise NotThere("This row no longer exists.")

        async def act() -> str:
            answer = self._state.view.act(name, value)
            if inspect.isawaitable(answer):
                answer = await answer
            self.refresh()
            return answer or ""

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act(), self._loop))
