"""What a chart shows at one moment: lines and axes, measured in columns of pixels. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.plot.decimate import Extremes
from fabric_nb.notebook.plot.ticks import Tick, days_text, number_text, step_of, time_text

TOP = 65_534
"""The height of the drawing, in steps that 16 bits can count."""
NOTHING = 65_535
"""Where a column of pixels has no value."""

Kind = Literal["time", "number"]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    Attributes:
        low: where it begins; times in seconds since 1970.
        high: where it ends.
        ticks: its marks.
        kind: what it measures.
        label: its name.
    """

    low: float
    high: float
    ticks: Sequence[Tick] = ()
    kind: Kind = "number"
    label: str = ""

    def text(self, value: float) -> str:
        """A value as exactly as a few hundred columns of pixels can tell it."""
        step = step_of(self.high - self.low, 300) if self.high > self.low else 1.0
        return time_text(value, step) if self.kind == "time" else number_text(value, step)


@dataclass(frozen=True, slots=True)
class Line:
    """A line.

    Attributes:
        name: its column's.
        seen: what there is to draw.
        last: its newest value; NaN if there is none.
    """

    name: str
    seen: Extremes
    last: float

    @property
    def step(self) -> float:
        """Precision that distinguishes the line's own values, whatever its axis spans."""
        low, high = self.seen.low, self.seen.high
        if high > low and math.isfinite(span := high - low):
            return step_of(span, 300)
        size = max(abs(low), abs(high))
        return 10.0 ** (math.floor(math.log10(size)) - 2) if 0 < size < math.inf else 1.0

    def text(self, value: float) -> str:
        """One of its values, as exactly as tells it from the others."""
        return number_text(value, self.step)


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart at one moment.

    Attributes:
        title: what stands above it.
        columns: how many columns of pixels it has.
        rows: how many rows are in sight.
        lines: the lines; none if there is nothing to draw.
        x: the axis across.
        y: the axis upwards.
        notes: what is to be said of it.
        state: why no row comes; empty where they do.
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
        """Values as steps from the bottom of the drawing."""
        # Halves, as the difference of two floats may be more than a float holds.
        low, high = self.y.low / 2, self.y.high / 2
        return np.rint((values / 2 - low) / (high - low) * TOP).clip(0, TOP).astype("<u2")

    def summary(self) -> list[str]:
        """The picture in words: what the lines do, and over which rows."""
        if not self.lines:
            return []
        told = [
            f"{plain(line.name)} {line.text(line.seen.low)} to {line.text(line.seen.high)},"
            f" last {line.text(line.last)}"
            for line in self.lines
            if len(line.seen.columns)
        ]
        over = f"{self.x.text(self.x.low)} to {self.x.text(self.x.high)}"
        if self.x.kind == "time":
            over = f"{over}, {days_text(self.x.low, self.x.high)}"
        return [*told, f"{self.rows:,} rows, {plain(self.x.label) or 'x'} {over}"]

    def encoded(self) -> dict[str, Any]:
        """The picture for the browser, plain enough for JSON."""
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
        first = np.full(self.columns, NOTHING, dtype="<u2")
        second = first.copy()
        first[line.seen.columns] = self.heights(line.seen.first)
        second[line.seen.columns] = self.heights(line.seen.second)
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
        "ticks": [[tick.at, tick.text] for tick in axis.ticks],
    }
