"""State of a chart at one moment: lines and axes, in columns of pixels. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fabric_nb.notebook.pages import counted, plain
from fabric_nb.notebook.plot.decimate import Array, Extremes
from fabric_nb.notebook.plot.ticks import Tick, days_text, number_text, step_of, time_text
from fabric_nb.notebook.plot.wall_clock import NO_ZONE, WallClock

TOP = 65_534
"""Height of the plot area, as a 16-bit integer."""
NO_VALUE = 65_535
"""Height of a column of pixels without a value."""

Kind = Literal["time", "number"]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    Attributes:
        low: lower end; times are Unix times in seconds.
        high: upper end.
        ticks: marks.
        kind: kind of its values.
        label: title.
        clock: clock of its times.
    """

    low: float
    high: float
    ticks: Sequence[Tick] = ()
    kind: Kind = "number"
    label: str = ""
    clock: WallClock = NO_ZONE

    @property
    def caption(self) -> str:
        """Title, with the date or the year, if the ticks have none."""
        if self.kind != "time" or not self.ticks or "-" in (text := self.ticks[0].text):
            return self.label
        days = days_text(self.low, self.high, self.clock)
        if ":" not in text:  # a day or a year
            if text.isdigit():
                return self.label
            days = " to ".join(dict.fromkeys(day[:4] for day in days.split(" to ")))
        return f"{self.label}, {days}"

    def text(self, value: float) -> str:
        """Format a value with the resolution of the axis."""
        step = step_of(self.high - self.low, 300) if self.high > self.low else 1.0
        if self.kind == "time":
            return time_text(value, step, self.clock)
        return number_text(value, step)


@dataclass(frozen=True, slots=True)
class Line:
    """A line.

    Attributes:
        name: name of its column or category.
        extremes: heights to draw.
        last: newest value; NaN if there is none.
        values: value of each of these columns of pixels, if it has but one; in a stack, the
            heights are those of the sum.
        points: positions of single points in units of 1 / `TOP`, in rows of x and y; None for a
            line.
        hidden: True if it is not drawn.
    """

    name: str
    extremes: Extremes
    last: float
    values: Array | None = None
    points: Array | None = None
    hidden: bool = False

    @property
    def low(self) -> float:
        """Minimum value; NaN if there are no values."""
        return self.extremes.low if self.values is None else _limit(np.fmin, self.values)

    @property
    def high(self) -> float:
        """Maximum value; NaN if there are no values."""
        return self.extremes.high if self.values is None else _limit(np.fmax, self.values)

    @property
    def step(self) -> float:
        """Resolution of the line's own values, independent of the range of the axis."""
        low, high = self.low, self.high
        least = 1.0 if self.values is not None and _are_whole(self.values) else 0.0
        if high > low and math.isfinite(span := high - low):
            return max(least, step_of(span, 300))
        size = max(abs(low), abs(high))
        fitting = 10.0 ** (math.floor(math.log10(size)) - 2) if 0 < size < math.inf else 1.0
        return max(least, fitting)

    def text(self, value: float) -> str:
        """Format one of its values with its resolution."""
        return number_text(value, self.step)


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart at one moment.

    Attributes:
        title: title.
        columns: width in columns of pixels.
        rows: number of rows in the range of the x axis.
        lines: lines; empty if there is nothing to draw.
        x: horizontal axis.
        y: vertical axis.
        notes: remarks, for instance on columns that are not drawn.
        state: reason why no rows arrive; empty if they do.
        kind: ``line``, ``area``, ``bar`` or ``scatter``.
        what: description of what is computed of the rows; empty if they are drawn as they are.
        bar: width of a bucket, in columns of pixels; 0 for single rows.
        buckets: x at which a bucket begins, and the width of all; None for single rows.
        stacked: True if each line is drawn on top of the one before.
        extent: range of x of all rows, which can be shown.
        zoomed: True if the range of x was chosen in the browser.
        windowed: True if otherwise only a window of all rows is shown.
    """

    title: str
    columns: int
    rows: int = 0
    lines: Sequence[Line] = ()
    x: Axis = Axis(0, 1)
    y: Axis = Axis(0, 1)
    notes: Sequence[str] = ()
    state: str = ""
    kind: str = "line"
    what: str = ""
    bar: float = 0.0
    buckets: tuple[float, float] | None = None
    stacked: bool = False
    extent: tuple[float, float] = (0.0, 1.0)
    zoomed: bool = False
    windowed: bool = False

    def heights(self, values: Any) -> Any:
        """Return heights of values above the bottom, from 0 to `TOP`."""
        # Halved, because the difference of two floats may overflow.
        low, high = self.y.low / 2, self.y.high / 2
        return np.rint((values / 2 - low) / (high - low) * TOP).clip(0, TOP).astype("<u2")

    def summary(self) -> list[str]:
        """Return a description: the range of each line, and the range of x."""
        if not self.lines:
            return []
        ranges = [
            f"{plain(line.name)} {line.text(line.low)} to {line.text(line.high)},"
            f" last {line.text(line.last)}"
            for line in self.lines
            if len(line.extremes.columns) and not line.hidden
        ]
        x = f"{self.x.text(self.x.low)} to {self.x.text(self.x.high)}"
        if self.x.kind == "time":
            x = f"{x}, {days_text(self.x.low, self.x.high, self.x.clock)}"
        what = [plain(self.what)] if self.what else []
        return [*what, *ranges, f"{counted(self.rows, 'row')}, {plain(self.x.label) or 'x'} {x}"]

    def encoded(self) -> dict[str, Any]:
        """Return the picture for the browser, as JSON-compatible data."""
        return {
            "title": plain(self.title),
            "what": plain(self.what),
            "kind": self.kind,
            "bar": self.bar,
            "buckets": self.buckets,
            "stacked": self.stacked,
            "extent": self.extent,
            "zoomed": self.zoomed,
            "windowed": self.windowed,
            "columns": self.columns,
            "lines": [self._line(line) for line in self.lines],
            "x": _axis(self.x),
            "y": _axis(self.y),
            "notes": [plain(note) for note in self.notes],
            "state": plain(self.state),
            "summary": "; ".join(self.summary()),
        }

    def _line(self, line: Line) -> dict[str, Any]:
        if line.hidden:
            return {"name": plain(line.name), "hidden": True}
        extremes = line.extremes
        first = np.full(self.columns, NO_VALUE, dtype="<u2")
        second = first.copy()
        first[extremes.columns] = self.heights(extremes.first)
        second[extremes.columns] = self.heights(extremes.second)
        encoded = {
            "name": plain(line.name),
            "last": line.text(line.last) if np.isfinite(line.last) else "",
            "step": line.step,
            "first": _base64(first),
            "second": _base64(second),
        }
        if line.values is not None:
            encoded["values"] = _base64(line.values.astype("<f8"))
        if line.points is not None:
            encoded["points"] = _base64(line.points.astype("<u2"))
        return encoded


def _base64(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _are_whole(values: Array) -> bool:
    return bool((values == np.floor(values)).all())


def _limit(reduction: np.ufunc, values: Array) -> float:
    return float(reduction.reduce(values)) if len(values) else np.nan


def _axis(axis: Axis) -> dict[str, Any]:
    step = step_of(axis.high - axis.low, 300) if axis.high > axis.low else 1.0
    return {
        "low": axis.low,
        "high": axis.high,
        "kind": axis.kind,
        "label": plain(axis.caption),
        "zone": axis.clock.key,
        "step": step,
        "ticks": [[tick.position, tick.text] for tick in axis.ticks],
    }
