"""Where widgets stand under a cell: live, and as they were last.

Two outputs stand under the cell. The first is the live one. The second is the last state as
HTML and text, renewed every few seconds and hidden while the live one is there: it is what is seen
when the notebook is saved and opened again, exported, or run without a browser. (One output in
all three forms would not do: of a notebook that was saved while it was live, JupyterLab shows
"Error displaying widget: model not found" in place of the other forms.)
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
"""Seconds between two renewals of the last state, with a browser and without one."""
VIEW_MIME = "application/vnd.jupyter.widget-view+json"
NARROWEST = "760px"
"""Of widgets that stand beside each other."""


class Shown(Protocol):
    """What is shown: a `LiveWidget`."""

    showing: Showing

    @property
    def changes(self) -> int:
        """A number that grows with each change."""

    @property
    def live(self) -> bool:
        """Whether it is open."""

    @property
    def model_id(self) -> str | None:
        """How the browser knows it."""

    def save(self) -> None:
        """Keep what a headless run stores of it."""

    def close(self) -> None:
        """End it."""


class Showing:
    """Widgets on display together.

    Args:
        widgets: what is shown; one alone, or several below each other.
        forms: their last state as ``text/html`` and ``text/plain``.
        narrow: the indices of widgets that stand side by side where there is room.
    """

    def __init__(
        self,
        widgets: Sequence[Shown],
        forms: Callable[[], dict[str, str]],
        narrow: Collection[int] = (),
    ) -> None:
        self.forms = forms
        self._widgets = tuple(widgets)
        self._narrow = narrow
        self._boxes: list[GridBox] = []
        self._recorder = Pacer(self.record, HEADLESS_RECORD_PERIOD)
        self._recorded: tuple[int, ...] = ()
        self._live_id, self._last_id = uuid.uuid4().hex, uuid.uuid4().hex
        self._shown = False
        self._alone = False
        for widget in widgets:
            widget.showing = self

    @property
    def live(self) -> bool:
        """Whether it was neither closed nor frozen."""
        return any(widget.live for widget in self._widgets)

    @property
    def headless(self) -> bool:
        """True if no browser has shown it."""
        return self._recorder.period == HEADLESS_RECORD_PERIOD

    def show(self) -> None:
        """Display the widgets, with their last state, under the running cell."""
        self._shown = True
        self._recorded = self._changes
        display(self.view(), raw=True, display_id=self._live_id)
        display(self.forms(), raw=True, display_id=self._last_id)

    def changed(self) -> None:
        """Renew the last state soon; from any thread."""
        self._recorder.request()

    def record(self) -> None:
        """Renew the last state now: what a notebook that is saved at this moment will show."""
        if self._recorded == self._changes or not self.live:
            return
        self._recorded = self._changes
        if self._shown and not self._alone:
            forms = self.forms()
            budget.spend(len(forms["text/html"]))
            self._replace(self._last_id, forms)
        for widget in self._widgets:
            widget.save()

    def attached(self, *, hides: bool) -> None:
        """A browser shows it; not every front end hides the last state."""
        self._recorder.period = RECORD_PERIOD
        if self._shown and not hides and not self._alone:
            self._alone = True
            self._replace(self._last_id, {})

    def freeze(self) -> None:
        """Put the last state in place of the live one, as plain HTML and text, and close."""
        if not self.live:
            return
        if self._shown:
            self._replace(self._last_id, self.forms())
            self._replace(self._live_id, {})
        self.close()

    def close(self) -> None:
        """End the widgets: they vanish from the page, and nothing is sent any more."""
        self._recorder.close()
        for widget in self._widgets:
            widget.close()
        for box in self._boxes:
            box.layout.close()  # a widget of its own, which would stay
            box.close()

    def view(self) -> dict[str, Any]:
        """The live form."""
        if len(self._widgets) > 1 and not self._boxes:
            self._boxes = _arranged(self._widgets, self._narrow)
        shown = (*self._boxes, *self._widgets)[0]
        view = {"version_major": 2, "version_minor": 1, "model_id": shown.model_id}
        return {VIEW_MIME: view}

    @property
    def _changes(self) -> tuple[int, ...]:
        return tuple(widget.changes for widget in self._widgets)

    def _replace(self, display_id: str, data: dict[str, Any]) -> None:
        contextvars.Context().run(update_display, data, raw=True, display_id=display_id)


def _arranged(widgets: Sequence[Any], narrow: Collection[int]) -> list[GridBox]:
    """Boxes that hold the widgets, the outermost first."""
    boxes: list[GridBox] = []
    children: list[Any] = []
    for beside, group in groupby(range(len(widgets)), key=lambda index: index in narrow):
        members = tuple(widgets[index] for index in group)
        if beside:
            columns = f"repeat(auto-fit, minmax(min(100%, {NARROWEST}), 1fr))"
            boxes.append(_box(members, columns))
            members = (boxes[-1],)
        children += members
    return [_box(children, "minmax(0, 1fr)"), *boxes]


def _box(children: Sequence[Any], columns: str) -> GridBox:
    layout = Layout(grid_template_columns=columns, grid_gap="4px 20px")
    box = GridBox(children=tuple(children), layout=layout)
    box.add_class("fabric-tables")
    return box
