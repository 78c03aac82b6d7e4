"""Timeline under a cell: lanes above a table of their events, which follow the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.timeline.sources import versions
from fabric_nb.fabric.timeline.timeline import NOTHING, Timeline
from fabric_nb.notebook.live.showing import Showing
from fabric_nb.notebook.pages import Badge, Page, saved
from fabric_nb.notebook.table.static import static_forms
from fabric_nb.notebook.table.widget import TableWidget
from fabric_nb.notebook.timeline.widget import Range, TimelineWidget
from fabric_nb.notebook.views.base import ViewModel
from fabric_nb.notebook.views.live import Output
from fabric_nb.notebook.views.timeline import EventsView

PERIOD = 1.0
"""Minimum seconds between two updates."""
MAX_LOAD = 0.05
"""Maximum share of the event loop's time for updates; it limits their rate."""


class LiveTimeline(Output):
    """A timeline on display. While a range is selected, it stands still.

    Args:
        member: member whose records it shows.
        seconds: its length.
        clock: returns the time in epoch seconds.

    Attributes:
        lanes: the picture.
        table: the events below it.
    """

    def __init__(
        self, member: FabricMember, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._member = member
        self._seconds = seconds
        self._clock = clock
        self._next = 0.0
        self._shown: tuple[object, ...] = ()
        timeline = Timeline.of(member, seconds, clock())
        self.lanes = TimelineWidget(
            timeline, f"Timeline, last {length_text(seconds)}", self._select
        )
        self._events = EventsView(lambda: self.lanes.timeline, member.domain)
        self._model = ViewModel(self._events)
        self.table = TableWidget(self._model.model)
        super().__init__(Showing([self.lanes, self.table], self._forms))
        self._showing.show()

    def refresh(self) -> None:
        """Collect the events again, if there are others or time has passed."""
        now = self._clock()
        if self._events.selected is not None or now < self._next:
            return
        step = self._seconds / self.lanes.columns
        end = math.ceil(now / step) * step  # so that a mark keeps its columns until it moves by one
        version = (versions(self._member), end, self._state)
        self._next = now + PERIOD
        if version == self._shown:
            return
        begun = time.perf_counter()
        timeline = Timeline.of(self._member, self._seconds, end)
        changed = timeline.events or self.lanes.timeline.events or version[2] != self.lanes.state
        self._shown = version
        if not changed:
            return
        self.lanes.change(timeline, self._state)
        self._refresh_table()
        # As much again for the picture that is sent.
        self._next = now + max(PERIOD, 2 * (time.perf_counter() - begun) / MAX_LOAD)

    @property
    def _state(self) -> str:
        state = self._member.state
        return "" if state is State.CONNECTED else str(state)

    def _refresh_table(self) -> None:
        if self._model.refresh():
            self.table.update()

    def _select(self, selected: Range) -> None:
        self._events.selected = selected
        self._next = 0.0
        self._refresh_table()

    def _forms(self) -> dict[str, str]:
        timeline, now = self.lanes.timeline, time.time()
        badges = [Badge(self._state, "warn")] if self._state else []
        notes = [*([] if timeline.events else [NOTHING]), *timeline.notes]
        page = saved(Page(self.lanes.title, badges, notes=notes), now)
        table = static_forms([self._model.model], now)
        drawing = timeline.svg if timeline.events else ""
        return {
            "text/html": f"{page.html()}{drawing}{table['text/html']}",
            "text/plain": f"{timeline.text}\n\n{table['text/plain']}",
        }


def length_text(seconds: float) -> str:
    """Return a length of time as text.

    Example:
        >>> [length_text(seconds) for seconds in (30, 300, 5400, 86400, 2.5)]
        ['30 s', '5 min', '90 min', '24 h', '2.5 s']
    """
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:g} s"
