"""Output that stays alive under the cell that asked for it.

A view shows plain state. It is asked now and then whether there is anything new, and shows
that in place, so that it lands in its own cell whichever cell runs, and a saved or exported
notebook holds the last state without a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

from IPython.display import DisplayHandle, display

from fabric_nb.fabric.core.tasks import failures
from fabric_nb.notebook.capture import current_parent, in_terminal
from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table.static import last_page, static_forms
from fabric_nb.notebook.terminal import forms, terminal_text
from fabric_nb.notebook.views.base import PageView, TableView, View, ViewModel

log = logging.getLogger(__name__)

PERIOD = 0.1
"""Seconds between two looks; a view is drawn at most so often."""
MAX_LIVE = 30
"""Views that are kept alive; the oldest end when there are more."""


class Transient:
    """A page that is shown for a while and leaves nothing behind."""

    def __init__(self, page: Page) -> None:
        handle: DisplayHandle | None = display(forms(page), raw=True, display_id=True)
        self._handle = None if in_terminal() else handle

    def update(self, page: Page) -> None:
        """Show this page instead."""
        self._show(page.mimebundle())

    def remove(self) -> None:
        """Show nothing any more."""
        self._show({"text/plain": "", "text/html": ""})

    def _show(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            # Without the cell's context: a headless run records only what seems to come from the
            # cell that runs, and the display's id already says where it belongs.
            contextvars.Context().run(self._handle.update, bundle, raw=True)


class Place(NamedTuple):
    """Where output stands: a cell, and which of its runs; None where the front end tells none."""

    cell: str | None
    run: str | None

    @classmethod
    def here(cls) -> Place:
        """That of the cell that runs."""
        parent = current_parent()
        cell = parent.get("metadata", {}).get("cellId")
        run = parent.get("header", {}).get("msg_id")
        return cls(*(text if isinstance(text, str) else None for text in (cell, run)))

    def is_replaced_by(self, other: Place) -> bool:
        """Whether `other` is a later run of the same cell."""
        return self.cell is not None and self.cell == other.cell and self.run != other.run


class Live(Protocol):
    """Something on display that follows its state."""

    def refresh(self) -> None:
        """Draw again, if there is anything new."""

    def record(self) -> None:
        """Renew the last state now."""

    @property
    def headless(self) -> bool:
        """True if no browser has shown it, so that its last state is all that is seen."""

    def freeze(self) -> None:
        """Leave the last state, and follow no more."""

    def close(self) -> None:
        """Follow no more; the output is not there any more."""


class LivePage:
    """A page on display."""

    def __init__(self, view: PageView) -> None:
        # Half a second to import, which is not for when the extension is loaded.
        from fabric_nb.notebook.live.page import PageWidget

        self._view = view
        self._drawn: Hashable = view.version()
        self._widget = PageWidget(view.page())
        self._widget.show()

    def refresh(self) -> None:
        """Draw again, if there is anything new."""
        if (version := self._view.version()) != self._drawn:
            self._drawn = version
            self._widget.change(self._view.page())

    def record(self) -> None:
        """Renew the last state now."""
        self._widget.record()

    @property
    def headless(self) -> bool:
        """True if no browser has shown it."""
        return self._widget.showing.headless

    def freeze(self) -> None:
        """Put the last state in place of the live page."""
        self._widget.freeze()

    def close(self) -> None:
        """End the page."""
        self._widget.close()


class LiveTables:
    """Tables on display, one alone or several together."""

    def __init__(self, views: Sequence[TableView]) -> None:
        # Half a second to import, which is not for when the extension is loaded.
        from fabric_nb.notebook.live.showing import Showing

        self._tables = [_LiveTable(view) for view in views]
        narrow = [index for index, view in enumerate(views) if view.narrow]
        self._showing = Showing([table.widget for table in self._tables], self._forms, narrow)
        self._showing.show()

    def _forms(self) -> dict[str, str]:
        return static_forms([table.widget.model for table in self._tables], time.time())

    def refresh(self) -> None:
        """Draw again what has something new."""
        for table in self._tables:
            table.refresh()

    def record(self) -> None:
        """Renew the last state now."""
        self._showing.record()

    @property
    def headless(self) -> bool:
        """True if no browser has shown it."""
        return self._showing.headless

    def freeze(self) -> None:
        """Put the last rows in place of the live tables."""
        self._showing.freeze()

    def close(self) -> None:
        """End the tables."""
        self._showing.close()


class _LiveTable:
    def __init__(self, view: TableView) -> None:
        from fabric_nb.notebook.table.widget import TableWidget

        self._state = ViewModel(view)
        self.widget = TableWidget(self._state.model, view.act, view.opened)

    def refresh(self) -> None:
        if self._state.refresh():
            self.widget.update()


class Screen:
    """All live views of a notebook, and the one task that refreshes them."""

    def __init__(self) -> None:
        self._live: list[tuple[Place, Live]] = []
        self._task: asyncio.Task[None] | None = None

    def show(self, view: View, *others: TableView) -> None:
        """Display a view under the current cell and keep it alive; tables also several together.

        What an earlier run of the cell has shown ends. A terminal prints the text of now.
        """
        if in_terminal():
            text = terminal_text([_page(one) for one in (view, *others)])
            display({"text/plain": text}, raw=True)
            return
        place = Place.here()
        for earlier in [one for one in self._live if one[0].is_replaced_by(place)]:
            earlier[1].close()
            self._live.remove(earlier)
        self._live.append((place, _live(view, others)))
        while len(self._live) > MAX_LIVE:
            self._live.pop(0)[1].freeze()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fabric views")

    def refresh(self) -> None:
        """Bring all views up to date now, and what a notebook that is saved now will show."""
        self._draw()
        for _, live in self._live:
            live.record()

    def settle(self) -> None:
        """Bring up to date what a headless run stores, which ends with its last cell."""
        self._draw()
        for _, live in self._live:
            if live.headless:
                live.record()

    def _draw(self) -> None:
        for one in tuple(self._live):
            try:
                one[1].refresh()
            except Exception as error:
                log.exception("A view could not be drawn and ends")
                failures.add("a view", error)
                if one in self._live:
                    self._live.remove(one)
                with contextlib.suppress(Exception):  # it shows what it has shown last
                    one[1].freeze()

    def close(self) -> None:
        """Draw everything a last time, and end."""
        self._draw()
        for _, live in self._live:
            live.freeze()
        self._live.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._draw()


def _live(view: View, others: Sequence[TableView]) -> Live:
    match view:
        case PageView():
            return LivePage(view)
        case TableView():
            return LiveTables([view, *others])
    raise TypeError(f"{type(view).__name__} is neither a page nor a table.")


def _page(view: View) -> Page:
    match view:
        case PageView():
            return view.page()
        case TableView():
            view.fill(model := view.model())
            return last_page(model, time.time())
    raise TypeError(f"{type(view).__name__} is neither a page nor a table.")
