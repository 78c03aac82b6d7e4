"""Tables of the panel: the view models of the tables under cells, sent from the panel's thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any

from fabric_nb.errors import NotThere
from fabric_nb.notebook.views.base import TableView, ViewModel


class PanelTable:
    """A view model that one loop refreshes and the panel's thread sends.

    Args:
        view: belongs to `loop`, as do its actions.
        loop: the loop that calls `refresh`.
    """

    def __init__(self, view: TableView, loop: asyncio.AbstractEventLoop) -> None:
        self._state = ViewModel(view)
        self._loop = loop
        self._guard = threading.Lock()  # a model is for one thread at a time

    def refresh(self) -> None:
        """Fill the model with what is new; on the table's loop."""
        with self._guard:
            self._state.refresh()

    def news(self, *, whole: bool) -> dict[str, Any] | None:
        """Return what has changed since the last time, or everything; from any thread."""
        with self._guard:
            delta = self._state.model.diff()
            if whole:
                delta = self._state.model.whole()
        return None if delta is None else {**delta, "now": time.time()}

    async def act(self, name: str, row: int | None, value: Any) -> str:
        """Do an action of the view, for a row by the id that was sent, and return its answer.

        Raises:
            NotThere: the row is not there any more.
        """
        if row is not None:
            with self._guard:
                value = self._state.model.key_of(row)
            if value is None:
                raise NotThere("This row is not there any more.")

        async def act() -> str:
            answer = self._state.view.act(name, value)
            if inspect.isawaitable(answer):
                answer = await answer
            self.refresh()
            return answer or ""

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act(), self._loop))
