"""Output that stays alive under the cell that asked for it.

A view shows plain state. It is asked now and then whether there is anything new, and shows
that by updating its display in place, so that it lands in its own cell whichever cell runs,
and a saved or exported notebook holds the last state without a kernel.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Hashable
from typing import Protocol

from IPython.display import DisplayHandle, display

from fabric_nb.notebook.capture import current_parent
from fabric_nb.notebook.pages import Page

log = logging.getLogger(__name__)

PERIOD = 0.25
"""Seconds between two looks; a view is drawn at most so often."""
MAX_LIVE = 30
"""Views that are kept alive; the oldest end when there are more."""


class View(Protocol):
    """State that can be seen."""

    def version(self) -> Hashable:
        """Something that differs whenever the page does; cheap."""

    def page(self) -> Page:
        """What is to be seen now."""


class Transient:
    """A page that is shown for a while and leaves nothing behind."""

    def __init__(self, page: Page) -> None:
        self._handle: DisplayHandle | None = display(page.mimebundle(), raw=True, display_id=True)

    def update(self, page: Page) -> None:
        """Show this page instead."""
        self._show(page.mimebundle())

    def remove(self) -> None:
        """Show nothing any more."""
        self._show({"text/plain": "", "text/html": ""})

    def _show(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            contextvars.Context().run(self._handle.update, bundle, raw=True)


class LiveView:
    """A view on display.

    Args:
        view: what to show.
        cell: the cell it stands under, when known; running that cell again ends it.
    """

    def __init__(self, view: View, cell: str | None) -> None:
        self.view = view
        self.cell = cell
        self._shown: Hashable = view.version()
        self._handle: DisplayHandle | None = display(
            view.page().mimebundle(), raw=True, display_id=True
        )

    def refresh(self) -> None:
        """Draw again, if there is anything new."""
        version = self.view.version()
        if version == self._shown or self._handle is None:
            return
        self._shown = version
        bundle = self.view.page().mimebundle()
        # Without the cell's context: a headless run records only what seems to come from the
        # cell that runs, and the display's id already says where it belongs.
        contextvars.Context().run(self._handle.update, bundle, raw=True)


class Screen:
    """All live views of a notebook, and the one task that refreshes them."""

    def __init__(self) -> None:
        self._live: list[LiveView] = []
        self._task: asyncio.Task[None] | None = None

    def show(self, view: View) -> LiveView:
        """Display a view under the current cell and keep it alive."""
        cell = current_cell()
        if cell is not None:
            self._end(lambda live: live.cell == cell and type(live.view) is type(view))
        live = LiveView(view, cell)
        self._live.append(live)
        while len(self._live) > MAX_LIVE:
            self._live.pop(0)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fabric views")
        return live

    def refresh(self) -> None:
        """Bring all views up to date now."""
        for live in tuple(self._live):
            try:
                live.refresh()
            except Exception:
                log.exception("A view could not be drawn and ends")
                self._live.remove(live)

    def close(self) -> None:
        """Draw everything a last time, and end."""
        self.refresh()
        self._live.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _end(self, which: Callable[[LiveView], bool]) -> None:
        self._live = [live for live in self._live if not which(live)]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self.refresh()


def current_cell() -> str | None:
    """The id of the cell that runs, where the front end tells it."""
    cell = current_parent().get("metadata", {}).get("cellId")
    return cell if isinstance(cell, str) else None
