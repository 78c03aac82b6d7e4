"""A stream's rows as a picture of so many pixels; numpy and pandas, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.notebook.pages import glimpse
from fabric_nb.notebook.plot.decimate import Array, Bins
from fabric_nb.notebook.plot.picture import Axis, Kind, Line, Picture
from fabric_nb.notebook.plot.ticks import number_ticks, time_ticks

MAX_LINES = 6
TICK_WIDTH, TICKS_UP = 90, 5
_MARGIN = 0.06
"""Of the height, above and below the lines."""

_NAT = np.iinfo(np.int64).min

Window = str | float | pd.Timedelta | None


class Rows(Protocol):
    """What is drawn: a `Stream`."""

    @property
    def df(self) -> pd.DataFrame:
        """All rows."""

    def timed(self, on: str | None = None) -> pd.DataFrame:
        """All rows, with their times as the index."""


@dataclass(frozen=True, slots=True)
class _Across:
    """Where the rows stand.

    Attributes:
        x: numbers, or times in the index's own unit; NaN or `_NAT` is nowhere.
        kind: what it is.
        label: its name.
        scale: so many make a second; 1 for numbers.
    """

    x: Array
    kind: Kind = "number"
    label: str = ""
    scale: float = 1.0


class Source:
    """Looks at the rows and draws them.

    Args:
        rows: the stream.
        y: the columns to draw; None: those of numbers.
        x: the column across; None: the times.
        window: how much of `x` to show, up to its newest; a number is of seconds where `x` is
            a time.
        title: what stands above the chart.

    Raises:
        InvalidArgument: `window` is no span of time and no number.
    """

    def __init__(
        self,
        rows: Rows,
        y: str | Sequence[str] | None = None,
        x: str | None = None,
        window: Window = None,
        title: str = "",
    ) -> None:
        self.title = title
        self._rows = rows
        self._y = [y] if isinstance(y, str) else None if y is None else list(y)
        self._x = x
        self._window = _span(window)
        self._in_time = isinstance(window, (str, pd.Timedelta))

    def picture(self, columns: int) -> Picture:
        """The chart of now, so many columns of pixels wide."""
        try:
            frame, across = self._across()
        except ValueError as problem:
            return Picture(self.title, columns, notes=[str(problem)])
        edges = _edges(across, self._window)
        if edges is None:
            return Picture(self.title, columns, notes=["No row received yet."])
        low, high = edges
        names, notes = self._up(frame)
        bins = Bins(across.x, low, high, columns=columns)
        lines = [_line(name, frame[name].to_numpy(), bins) for name in names]
        lines = [line for line in lines if len(line.seen.columns)]
        if not lines:
            return Picture(self.title, columns, notes=notes or ["There are no numbers to draw."])
        left, right = low / across.scale, high / across.scale
        ticks = time_ticks if across.kind == "time" else number_ticks
        marks = ticks(left, right, max(2, columns // TICK_WIDTH))
        axis = Axis(left, right, marks, across.kind, across.label)
        return Picture(self.title, columns, bins.rows, lines, axis, _upwards(lines), notes)

    def _across(self) -> tuple[pd.DataFrame, _Across]:
        """The rows, and where they stand.

        Raises:
            InvalidArgument: the column across is not there, or holds neither times nor numbers.
        """
        if self._x is not None:
            frame = self._rows.df
            if self._x != frame.index.name and self._x not in frame:
                raise InvalidArgument(f"There is no column {glimpse(self._x)} yet.")
            values = frame.index if self._x == frame.index.name else frame[self._x]
            if _is_number(values):
                if self._in_time:
                    raise InvalidArgument(f"{self._x} is a number, so the window must be one too.")
                return frame, _Across(np.asarray(values, dtype=np.float64), label=self._x)
        frame = self._rows.timed(self._x)
        index = frame.index
        assert isinstance(index, pd.DatetimeIndex)  # noqa: S101 - `timed` returns nothing else
        label = f"{index.name}{' (UTC)' if index.tz is not None else ''}"
        scale = pd.Timedelta(1, "s") / pd.Timedelta(1, index.unit)
        return frame, _Across(index.asi8, "time", label, scale)

    def _up(self, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
        """The columns to draw, and what is to be said of others."""
        if self._y is None:
            found = [str(name) for name in frame if name != self._x and _is_number(frame[name])]
            left = len(found) - MAX_LINES
            more = [f"{left:,} more columns hold numbers: choose with y=[...]."] if left > 0 else []
            return found[:MAX_LINES], more
        names = list(dict.fromkeys(self._y))
        notes = [f"There is no column {glimpse(name)} yet." for name in names if name not in frame]
        notes += [
            f"The column {glimpse(name)} holds no numbers ({frame[name].dtype})."
            for name in names
            if name in frame and not _is_number(frame[name])
        ]
        return [name for name in names if name in frame and _is_number(frame[name])], notes


def _span(window: Window) -> float | None:
    """A window as a number: of seconds, if it is a span of time.

    Raises:
        InvalidArgument: it is none, or not positive.
    """
    if window is None:
        return None
    try:
        span = (
            pd.Timedelta(window).total_seconds()
            if isinstance(window, (str, pd.Timedelta))
            else float(window)
        )
    except (ValueError, TypeError):
        span = np.nan
    if not span > 0:
        raise InvalidArgument(
            f"window must be a span of time, as in '5min', or a number: {window!r}."
        )
    return span


def _edges(across: _Across, window: float | None) -> tuple[float, float] | None:
    """The ends of the axis, a bit apart also if all stands at one place; None if nothing does."""
    x = across.x
    if across.kind == "time":
        if len(x) and x.min() == _NAT:
            x = x[x != _NAT]
    elif len(x) and not np.isfinite(x.sum()):  # not so either where the sum is too large
        x = x[np.isfinite(x)]
    if not len(x):
        return None
    first, last = x.min().item(), x.max().item()
    if window is not None:
        # In whole units of time: as floats, nanoseconds of today are rounded to hundreds.
        wide = window * across.scale
        first = last - (int(wide) if across.kind == "time" else wide)
    if first >= last:
        around = int(across.scale) if across.kind == "time" else max(1.0, abs(last) / 100)
        return last - around, last + around
    return first, last


def _upwards(lines: Sequence[Line]) -> Axis:
    low, high = min(line.seen.low for line in lines), max(line.seen.high for line in lines)
    room = (high - low) * _MARGIN or max(abs(high) * _MARGIN, 1e-300) or 1.0
    if not np.isfinite(high - low + 2 * room):  # the difference is more than a float holds
        return Axis(-1.79e308 / 2, 1.79e308 / 2)
    return Axis(low - room, high + room, number_ticks(low - room, high + room, TICKS_UP))


def _line(name: str, values: Array, bins: Bins) -> Line:
    newest = values[-1000:].astype(np.float64)
    present = newest[np.isfinite(newest)]
    return Line(name, bins.extremes(values), float(present[-1]) if len(present) else np.nan)


def _is_number(values: pd.Series[Any] | pd.Index[Any]) -> bool:
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf"
