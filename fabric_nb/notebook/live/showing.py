"""Placement of widgets under a cell, with a static copy.

A cell has two outputs: the live widgets, and a static copy as HTML and text. The copy is updated
every few seconds and hidden while the widgets are displayed. It is seen when the notebook is
reopened, exported, or run without a browser. (A single output with all three MIME types is not
enough: for a notebook that was saved while live, JupyterLab shows "Error displaying widget: model
not found" and ignores the other types.)
"""

from __future__ import annotations

import contextvars
import uuid
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Any, Protocol

from IPython.display import display, update_display
from ipywidgets import GridBox, Layout  # type: ignore[import-untyped]

from fabric_nb.notebook.live.pace import Pacer, budget

RECORD_PERIOD, HEADLESS_RECORD_PERIOD = 2.0, 0.25
"""Seconds between two updates of the static copy, with a browser and without one."""
VIEW_MIME = "application/vnd.jupyter.widget-view+json"
MIN_WIDTH = "760px"
"""Minimum width of widgets that are placed side by side."""


class Displayable(Protocol):
    """Interface of `LiveWidget` that is used here."""

    showing: Showing

    @property
    def changes(self) -> int:
        """Number of changes."""

    @property
    def live(self) -> bool:
        """True if it is open."""

    @property
    def model_id(self) -> str | None:
        """Id of its model in the browser."""

    def save(self) -> None:
        """Store the state in the widget, for a headless run."""

    def close(self) -> None:
        """Close it."""


class Showing:
    """Widgets that are displayed together.

    Args:
        widgets: one widget, or several below each other.
        forms: returns their static copy as ``text/html`` and ``text/plain``.
        narrow: indices of widgets that are placed side by side if the width allows it.
        min_width: minimum width of these, as in CSS; `MIN_WIDTH` if None.
    """

    def __init__(
        self,
        widgets: Sequence[Displayable],
        forms: Callable[[], dict[str, str]],
        narrow: Collection[int] = (),
        min_width: str | None = None,
    ) -> None:
        self.forms = forms
        self.widgets = tuple(widgets)
        self._narrow = narrow
        self._min_width = min_width or MIN_WIDTH
        self._boxes: list[GridBox] = []
        self._recorder = Pacer(self.record, HEADLESS_RECORD_PERIOD)
        self._recorded: tuple[int, ...] = ()
        self._live_display_id, self._static_display_id = uuid.uuid4().hex, uuid.uuid4().hex
        self._shown = False
        self._static_removed = False
        for widget in widgets:
            widget.showing = self

    @property
    def live(self) -> bool:
        """True if it was neither closed nor frozen."""
        return any(widget.live for widget in self.widgets)

    @property
    def headless(self) -> bool:
        """True if no browser has displayed it."""
        return self._recorder.period == HEADLESS_RECORD_PERIOD

    def show(self) -> None:
        """Display the widgets and their static copy under the running cell."""
        self._shown = True
        self._recorded = self._changes
        display(self.view(), raw=True, display_id=self._live_display_id)
        display(self.forms(), raw=True, display_id=self._static_display_id)

    def changed(self) -> None:
        """Schedule an update of the static copy; thread-safe."""
        self._recorder.request()

    def record(self) -> None:
        """Update the static copy, which a saved notebook shows, if anything has changed."""
        if self._recorded == self._changes or not self.live:
            return
        self._recorded = self._changes
        if self._shown and not self._static_removed:
            forms = self.forms()
            budget.spend(len(forms["text/html"]))
            self._replace(self._static_display_id, forms)
        for widget in self.widgets:
            widget.save()

    def attached(self, *, hides: bool) -> None:
        """Handle the display in a browser.

        Args:
            hides: False for a front end that cannot hide the static copy, which is removed then.
        """
        self._recorder.period = RECORD_PERIOD
        if self._shown and not hides and not self._static_removed:
            self._static_removed = True
            self._replace(self._static_display_id, {})

    def freeze(self) -> None:
        """Replace the live widgets by their static copy and close them."""
        if not self.live:
            return
        if self._shown:
            self._replace(self._static_display_id, self.forms())
            self._replace(self._live_display_id, {})
        self.close()

    def close(self) -> None:
        """Close the widgets, which removes them from the page."""
        self._recorder.close()
        for widget in self.widgets:
            widget.close()
        for box in self._boxes:
            box.layout.close()  # a separate widget, not closed with its owner
            box.close()

    def view(self) -> dict[str, Any]:
        """Return the MIME bundle of the live widgets."""
        if len(self.widgets) > 1 and not self._boxes:
            self._boxes = _boxes(self.widgets, self._narrow, self._min_width)
        shown = (*self._boxes, *self.widgets)[0]
        view = {"version_major": 2, "version_minor": 1, "model_id": shown.model_id}
        return {VIEW_MIME: view}

    @property
    def _changes(self) -> tuple[int, ...]:
        return tuple(widget.changes for widget in self.widgets)

    def _replace(self, display_id: str, data: dict[str, Any]) -> None:
        contextvars.Context().run(update_display, data, raw=True, display_id=display_id)


def _boxes(widgets: Sequence[Any], narrow: Collection[int], min_width: str) -> list[GridBox]:
    """Return boxes that contain the widgets, the outermost first."""
    boxes: list[GridBox] = []
    children: list[Any] = []
    for is_narrow, indices in groupby(range(len(widgets)), key=lambda index: index in narrow):
        group = tuple(widgets[index] for index in indices)
        if is_narrow:
            columns = f"repeat(auto-fit, minmax(min(100%, {min_width}), 1fr))"
            boxes.append(_box(group, columns))
            group = (boxes[-1],)
        children += group
    return [_box(children, "minmax(0, 1fr)"), *boxes]


def _box(children: Sequence[Any], columns: str) -> GridBox:
    layout = Layout(grid_template_columns=columns, grid_gap="4px 20px")
    box = GridBox(children=tuple(children), layout=layout)
    box.add_class("fabric-tables")
    return box
