"""Rows that are drawn at one moment, and the horizontal axis on which they are; pure."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from fabric_nb.notebook.plot.options import ChartOptions
from fabric_nb.notebook.plot.picture import Axis, Picture
from fabric_nb.notebook.plot.selection import Data, Range, Series
from fabric_nb.notebook.plot.ticks import number_ticks, time_ticks
from fabric_nb.notebook.plot.wall_clock import NO_ZONE, UTC_CLOCK, WallClock

TICK_WIDTH = 90
NO_NUMBERS = "There are no numbers to draw."
TOO_FAR = "The values of {} are too far apart to be drawn."


@dataclass(frozen=True, slots=True)
class Scene:
    """Rows that are drawn at one moment.

    Attributes:
        options: options of the chart.
        columns: width in columns of pixels.
        data: the rows.
        series: columns or groups to draw.
        view: range of x that was chosen in the browser, in seconds for times; None if none was.
        local: clock of local times.
        hidden: names of the lines that are not drawn.
    """

    options: ChartOptions
    columns: int
    data: Data
    series: Series
    view: Range | None
    local: WallClock
    hidden: Collection[str] = ()

    @property
    def clock(self) -> WallClock:
        """Clock in which times are shown."""
        if not self.data.zoned:
            return NO_ZONE
        return UTC_CLOCK if self.options.utc else self.local

    @property
    def by(self) -> str:
        """Words on the categories, for a description."""
        return f" by {self.options.by}" if self.options.by else ""

    def empty(self, *notes: str) -> Picture:
        """Return a picture without lines and axes."""
        zoomed = self.view is not None
        return Picture(self.options.title, self.columns, notes=notes, zoomed=zoomed)

    def shown(self, extent: Range) -> Range:
        """Return the range of x to show, in its units; its ends always differ.

        Args:
            extent: minimum and maximum of x.
        """
        first, last = extent
        in_time = self.data.kind == "time"
        if self.view is not None:
            first, last = (end * self.data.scale for end in self.view)
            if in_time:
                first, last = int(first), int(last)
        elif self.options.window is not None:
            # In integers, because as floats current times in nanoseconds are rounded to hundreds.
            first = last - self.data.units(self.options.window.size)
        if first >= last:
            margin = int(self.data.scale) if in_time else max(1.0, abs(last) / 100)
            return last - margin, last + margin
        return first, last

    def with_axis(self, shown: Range, extent: Range, rows: int) -> Picture:
        """Return a picture with its horizontal axis, and without lines."""
        left, right = (end / self.data.scale for end in shown)
        count = max(2, self.columns // TICK_WIDTH)
        if self.data.kind == "time":
            clock = self.clock
            zone = clock.name(left, right)
            label = f"{self.data.name} ({zone})" if zone else self.data.name
            x = Axis(left, right, time_ticks(left, right, count, clock), "time", label, clock)
        else:
            x = Axis(left, right, number_ticks(left, right, count), "number", self.data.name)
        first, last = (end / self.data.scale for end in extent)
        picture = self.empty(*self.series.notes)
        windowed = self.options.window is not None
        return replace(picture, x=x, rows=rows, extent=(first, last), windowed=windowed)


def is_too_wide(extent: Range) -> bool:
    """Return whether a range is too wide to distinguish the numbers in it."""
    return not math.isfinite(2 * (extent[1] - extent[0]))


def without_lines(picture: Picture) -> Picture:
    """Return a picture of a range without values; its axis stays if the range was chosen."""
    if picture.zoomed:
        return replace(picture, notes=[*picture.notes, "There are no values in this range."])
    return Picture(picture.title, picture.columns, notes=picture.notes or [NO_NUMBERS])
