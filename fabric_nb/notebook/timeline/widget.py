"""Widget for a live timeline: sends lanes of the width that the browser requests."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from fabric_nb.fabric.timeline.drawing import COLUMNS
from fabric_nb.fabric.timeline.timeline import NOTHING, Timeline
from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import TOKENS, plain

log = logging.getLogger(__name__)

MIN_COLUMNS, MAX_COLUMNS = 10, 4000

_HERE = Path(__file__).parent

Range: TypeAlias = tuple[float, float] | None


class TimelineWidget(LiveWidget):
    """Lanes of a timeline on display; see `LiveWidget`.

    Args:
        timeline: timeline to show first.
        title: title.
        on_select: called with begin and end of a range that is selected, in epoch seconds, or with
            None.

    Attributes:
        timeline: timeline that is shown.
        columns: width in the browser, in columns of pixels.
        selected: range that is selected; None: none is.
        state: reason why nothing arrives; empty if something does.
    """

    script = joined_script(_HERE / "timeline.js")
    style_sheet = "".join(
        [
            TOKENS,
            (_HERE.parent / "plot" / "plot.css").read_text("utf-8"),
            (_HERE / "timeline.css").read_text("utf-8"),
        ]
    )

    def __init__(
        self, timeline: Timeline, title: str, on_select: Callable[[Range], object]
    ) -> None:
        self.timeline = timeline
        self.title = title
        self.columns = COLUMNS
        self.selected: Range = None
        self.state = ""
        self._on_select = on_select
        self._changes = 0
        super().__init__()

    @property
    def changes(self) -> int:
        """Number of calls of `change`."""
        return self._changes

    def change(self, timeline: Timeline, state: str = "") -> None:
        """Show another timeline."""
        self.timeline, self.state = timeline, state
        self._changes += 1
        self.update()

    def forms(self) -> dict[str, str]:
        """Return the static copy as HTML and text."""
        return {"text/html": self.timeline.svg, "text/plain": self.timeline.text}

    # -- sending

    def encoded(self) -> str:
        """Return the lanes, as JSON."""
        picture = self.timeline.picture(self.columns)
        content = {
            "title": self.title,
            "facts": self.timeline.counts,
            "notes": self.timeline.notes,
            "empty": NOTHING,
            "state": self.state,
            "selection": self.selected,
            "start": picture.start,
            "end": picture.end,
            "columns": picture.columns,
            "lanes": [
                {
                    "name": plain(lane.name),
                    "group": lane.group,
                    "count": lane.count,
                    "marks": lane.marks,
                }
                for lane in picture.lanes
            ],
        }
        return orjson.dumps(content, default=list).decode()

    def send_changes(self) -> None:
        """Send the lanes, if a browser displays the widget."""
        if self.attached:
            self.send_buffer("picture", self.encoded().encode())

    # -- receiving

    def on_message(self, content: dict[str, Any]) -> None:
        """Handle a ``hello``, a new width, or a range that is selected."""
        match content:
            case {"type": "hello", "columns": int(columns), "hides": bool(hides)}:
                self.attach(hides=hides)
                self._resize(columns)
            case {"type": "resize", "columns": int(columns)}:
                self._resize(columns)
            case {"type": "select", "range": None}:
                self._select(None)
            case {
                "type": "select",
                "range": [int() | float() as start, int() | float() as end],
            } if math.isfinite(start) and math.isfinite(end):
                self._select((float(min(start, end)), float(max(start, end))))
            case _:
                log.warning("A timeline's view sent an unknown message: %.200r", content)

    def _resize(self, columns: int) -> None:
        self.columns = min(MAX_COLUMNS, max(MIN_COLUMNS, columns))
        self._pacer.request()

    def _select(self, selected: Range) -> None:
        self.selected = selected
        self._on_select(selected)
        self._changes += 1
        self.update()
