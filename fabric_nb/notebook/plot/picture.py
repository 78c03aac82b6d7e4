"""State of a chart at one moment: lines and axes, in columns of pixels. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fabric_nb.notebook.pages import counted, plain
from fabric_nb.notebook.plot.decimate import Extremes
from fabric_nb.notebook.plot.ticks import Tick, days_text, number_text, step_of, time_text

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
    """

    low: float
    high: float
    ticks: Sequence[Tick] = ()
    kind: Kind = "number"
    label: str = ""

    def text(self, value: float) -> str:
        """Format a value with the resolution of the axis."""
        step = step_of(self.high - self.low, 300) if self.high > self.low else 1.0
        return time_text(value, step) if self.kind == "time" else number_text(value, step)


@dataclass(frozen=True, slots=True)
class Line:
    """A line.

    Attributes:
        name: name of its column.
        extremes: values to draw.
        last: newest value; NaN if there is none.
    """

    name: str
    extremes: Extremes
    last: float

    @property
    def step(self) -> float:
        """Resolution of the line's own values, independent of the range of the axis."""
        low, high = self.extremes.low, self.extremes.high
        if high > low and math.isfinite(span := high - low):
            return step_of(span, 300)
        size = max(abs(low), abs(high))
        return 10.0 ** (math.floor(math.log10(size)) - 2) if 0 < size < math.inf else 1.0

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
    """

    title: str
    columns: int
    rows: int = 0
    lines: Sequence[Line] = ()
    x: Axis = Axis(0, 1)
    y: Axis = Axis(0, 1)
    notes: Sequence[str] = ()
    state: str = ""

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
            f"{plain(line.name)} {line.text(line.extremes.low)} to {line.text(line.extremes.high)},"
            f" last {line.text(line.last)}"
            for line in self.lines
            if len(line.extremes.columns)
        ]
        x = f"{self.x.text(self.x.low)} to {self.x.text(self.x.high)}"
        if self.x.kind == "time":
            x = f"{x}, {days_text(self.x.low, self.x.high)}"
        return [*ranges, f"{counted(self.rows, 'row')}, {plain(self.x.label) or 'x'} {x}"]

    def encoded(self) -> dict[str, Any]:
        """Return the picture for the browser, as JSON-compatible data."""
        return {
            "title": plain(self.title),
            "columns": self.columns,
            "lines": [self._line(line) for line in self.lines],
            "x": _axis(self.x),
            "y": _axis(self.y),
            "notes": [plain(note) for note in self.notes],
            "state": plain(self.state),
            "summary": "; ".join(self.summary()),
        }

    def _line(self, line: Line) -> dict[str, Any]:
        extremes = line.extremes
        first = np.full(self.columns, NO_VALUE, dtype="<u2")
        second = first.copy()
        first[extremes.columns] = self.heights(extremes.first)
        second[extremes.columns] = self.heights(extremes.second)
        return {
            "name": plain(line.name),
            "last": line.text(line.last) if np.isfinite(line.last) else "",
            "step": line.step,
            "first": base64.b64encode(first.tobytes()).decode(),
            "second": base64.b64encode(second.tobytes()).decode(),
        }


def _axis(axis: Axis) -> dict[str, Any]:
    step = step_of(axis.high - axis.low, 300) if axis.high > axis.low else 1.0
    return {
        "low": axis.low,
        "high": axis.high,
        "kind": axis.kind,
        "label": plain(axis.label),
        "step": step,
        "ticks": [[tick.position, tick.text] for tick in axis.ticks],
    }
