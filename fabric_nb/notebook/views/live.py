"""Live output under cells.

A view renders plain state. It is polled for changes and updated in place, so that the output
appears under its own cell whichever cell runs, and a saved or exported notebook holds the last
state without a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle, display

from fabric_nb.fabric.core.tasks import failures
from fabric_nb.notebook.capture import current_parent, in_terminal
from fabric_nb.notebook.pages import Page
from fabric_nb.notebook.table.static import static_forms, static_page
from fabric_nb.notebook.terminal import forms, terminal_text
from fabric_nb.notebook.views.base import PageView, TableView, View, ViewModel

if TYPE_CHECKING:
    from fabric_nb.fabric.member import FabricMember
    from fabric_nb.notebook.live.showing import Showing
    from fabric_nb.notebook.live.widget import LiveWidget

log = logging.getLogger(__name__)

PERIOD = 0.1
"""Seconds between two polls, and so between two updates of a view at least."""
MAX_LIVE = 30
"""Default maximum number of live views."""


class Transient:
    """A page that is shown temporarily, such as a progress line."""

    def __init__(self, page: Page) -> None:
        handle: DisplayHandle | None = display(forms(page), raw=True, display_id=True)
        self._handle = None if in_terminal() else handle

    def update(self, page: Page) -> None:
        """Replace the page."""
        self._show(page.mimebundle())

    def remove(self) -> None:
        """Remove the page."""
        self._show({"text/plain": "", "text/html": ""})

    def _show(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            # Outside the cell's context: a headless run records only output attributed to the
            # running cell, and the display's id already identifies where the page belongs.
            contextvars.Context().run(self._handle.update, bundle, raw=True)


class CellRun(NamedTuple):
    """The cell and the execution that output belongs to; None if the front end sends no id."""

    cell: str | None
    execution: str | None

    @classmethod
    def current(cls) -> CellRun:
        """Return the cell that is running."""
        parent = current_parent()
        cell = parent.get("metadata", {}).get("cellId")
        execution = parent.get("header", {}).get("msg_id")
        return cls(*(text if isinstance(text, str) else None for text in (cell, execution)))

    @classmethod
    def identified(cls, shell: InteractiveShell) -> CellRun:
        """Return the cell that is running, identified by its text if it has no id."""
        run = cls.current()
        if run.cell is not None:
            return run
        history = shell.history_manager
        text = history.input_hist_raw[-1] if history is not None else None
        return cls(text, run.execution or str(shell.execution_count))

    def is_replaced_by(self, other: CellRun) -> bool:
        """Return whether `other` is a later execution of the same cell."""
        return (
            self.cell is not None and self.cell == other.cell and self.execution != other.execution
        )


class Live(Protocol):
    """Displayed output that is updated with its view."""

    def refresh(self) -> None:
        """Update the output if the view has changed."""

    def record(self) -> None:
        """Update the static copy, which a saved notebook shows."""

    @property
    def live(self) -> bool:
        """True if it was neither closed nor frozen."""

    @property
    def headless(self) -> bool:
        """True if no browser has displayed it, so that only the static copy is seen."""

    def freeze(self) -> None:
        """Replace the live output by its static copy and stop updating."""

    def close(self) -> None:
        """Stop updating, because the output no longer exists."""


L = TypeVar("L", bound=Live)


class Output:
    """Widgets on display."""

    def __init__(self, showing: Showing) -> None:
        self._showing = showing

    @property
    def widgets(self) -> Sequence[LiveWidget]:
        """The widgets, in order."""
        return cast("Sequence[LiveWidget]", self._showing.widgets)

    def record(self) -> None:
        """Update the static copy."""
        self._showing.record()

    @property
    def live(self) -> bool:
        """True if it was neither closed nor frozen."""
        return self._showing.live

    @property
    def headless(self) -> bool:
        """True if no browser has displayed it."""
        return self._showing.headless

    def freeze(self) -> None:
        """Replace the live widgets by their static copy."""
        self._showing.freeze()

    def close(self) -> None:
        """Close the widgets."""
        self._showing.close()


class LivePage(Output):
    """A page view on display."""

    def __init__(self, view: PageView) -> None:
        # Not at the top: the import takes half a second, which would delay loading the extension.
        from fabric_nb.notebook.live.page import PageWidget

        self._view = view
        self._version: Hashable = view.version()
        self._widget = PageWidget(view.page())
        super().__init__(self._widget.showing)
        self._showing.show()

    def refresh(self) -> None:
        """Update the page if the view has changed."""
        if (version := self._view.version()) != self._version:
            self._version = version
            self._widget.change(self._view.page())


class Part(Protocol):
    """A table or chart that can be displayed together with others."""

    @property
    def widget(self) -> LiveWidget:
        """Its widget."""

    def refresh(self) -> None:
        """Update the widget if its view has changed."""


class LiveTable:
    """A table view and its widget, which is not displayed yet."""

    def __init__(self, view: TableView) -> None:
        from fabric_nb.notebook.table.widget import TableWidget  # likewise

        self._state = ViewModel(view)
        self.widget = TableWidget(self._state.model, view.act, view.opened, view.pages)

    def refresh(self) -> None:
        """Update the table if its view has changed."""
        if self._state.refresh():
            self.widget.update()


class LiveParts(Output):
    """Tables and charts on display together.

    Args:
        parts: the tables and charts, in order.
        narrow: indices of those that are placed side by side if the width allows it.
        min_width: minimum width of these, as in CSS; that of `Showing` if None.
    """

    def __init__(
        self, parts: Sequence[Part], narrow: Collection[int], min_width: str | None = None
    ) -> None:
        from fabric_nb.notebook.live.showing import Showing

        self._parts = parts
        widgets = [part.widget for part in parts]
        super().__init__(Showing(widgets, self._forms, narrow, min_width))
        self._showing.show()

    def _forms(self) -> dict[str, str]:
        forms: list[dict[str, str]] = []
        for is_table, parts in groupby(self._parts, lambda part: isinstance(part, LiveTable)):
            if is_table:
                models = [part.widget.model for part in parts if isinstance(part, LiveTable)]
                forms.append(static_forms(models, time.time()))
            else:
                forms += [part.widget.forms() for part in parts]
        return {
            "text/html": "".join(form["text/html"] for form in forms),
            "text/plain": "\n\n".join(form["text/plain"] for form in forms),
        }

    def refresh(self) -> None:
        """Update the tables and charts whose views have changed."""
        for part in self._parts:
            part.refresh()


class _Shown(NamedTuple):
    """A live output, the cell that has it, and the member whose state it shows."""

    run: CellRun
    live: Live
    member: FabricMember | None


class Screen:
    """Live outputs of a notebook, and the task that refreshes them.

    Args:
        max_live: maximum number of live outputs; the oldest is frozen when there are more.
    """

    def __init__(self, max_live: int = MAX_LIVE) -> None:
        self._max_live = max_live
        self._live: list[_Shown] = []
        self._task: asyncio.Task[None] | None = None

    def show(self, view: View, *others: TableView, of: FabricMember | None = None) -> Live | None:
        """Display a view, or several tables together; see `add`. A terminal prints the text."""
        if in_terminal():
            text = terminal_text([page_of(each) for each in (view, *others)])
            display({"text/plain": text}, raw=True)
            return None
        return self.add(lambda: _live(view, others), of)

    def show_parts(self, parts: Sequence[Part], min_width: str, of: FabricMember) -> Live:
        """Display tables and charts, side by side where the width allows it; see `add`."""
        return self.add(lambda: LiveParts(parts, range(len(parts)), min_width), of=of)

    def add(self, display: Callable[[], L], of: FabricMember | None = None) -> L:
        """Display an output under the running cell and keep it live.

        Outputs of earlier executions of the cell are closed.

        Args:
            display: displays the output and returns it.
            of: member whose state it shows, for `freeze`.
        """
        run = CellRun.current()
        for entry in tuple(self._live):
            if entry.run.is_replaced_by(run):
                entry.live.close()
                self._live.remove(entry)
        live = display()
        self._live.append(_Shown(run, live, of))
        while len(self._live) > self._max_live:
            self._live.pop(0).live.freeze()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fabric views")
        return live

    def outputs(self) -> list[Live]:
        """Return the live outputs, in the order of their display."""
        return [entry.live for entry in self._live if entry.live.live]

    def widgets(self) -> list[LiveWidget]:
        """Return the widgets of the live outputs, in the order of their display."""
        outputs = (live for live in self.outputs() if isinstance(live, Output))
        return [widget for output in outputs for widget in output.widgets]

    def refresh(self) -> None:
        """Update all views and all static copies now."""
        self._refresh_views()
        for entry in self._live:
            entry.live.record()

    def settle(self) -> None:
        """Update the views that a headless run stores, because it may end with this cell."""
        self._refresh_views()
        for entry in self._live:
            if entry.live.headless:
                entry.live.record()

    def _refresh_views(self) -> None:
        self._live = [entry for entry in self._live if entry.live.live]
        for entry in tuple(self._live):
            try:
                entry.live.refresh()
            except Exception as error:
                log.exception("A view failed to refresh and is closed")
                failures.add("a view", error)
                if entry in self._live:
                    self._live.remove(entry)
                with contextlib.suppress(Exception):  # keep the last state that was rendered
                    entry.live.freeze()

    def freeze(self, member: FabricMember) -> None:
        """Refresh all views and freeze those of a member, whose connection has ended."""
        self._refresh_views()
        for entry in [entry for entry in self._live if entry.member is member]:
            entry.live.freeze()
            self._live.remove(entry)

    def close(self) -> None:
        """Refresh all views a last time, freeze them and stop."""
        self._refresh_views()
        for entry in self._live:
            entry.live.freeze()
        self._live.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._refresh_views()


def _live(view: View, others: Sequence[TableView]) -> Live:
    match view:
        case PageView():
            return LivePage(view)
        case TableView():
            views = [view, *others]
            narrow = [index for index, each in enumerate(views) if each.narrow]
            return LiveParts([LiveTable(each) for each in views], narrow)
    raise TypeError(f"{type(view).__name__} is neither a page nor a table.")


def page_of(view: View) -> Page:
    """Return the current state of a view as a page."""
    match view:
        case PageView():
            return view.page()
        case TableView():
            view.fill(model := view.model())
            return static_page(model, time.time())
    raise TypeError(f"{type(view).__name__} is neither a page nor a table.")
