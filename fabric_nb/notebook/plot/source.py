"""Computation of a picture from a stream's rows; numpy and pandas, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.notebook.pages import counted, glimpse
from fabric_nb.notebook.plot.decimate import Array, Bins
from fabric_nb.notebook.plot.picture import Axis, Kind, Line, Picture
from fabric_nb.notebook.plot.ticks import number_ticks, time_ticks

MAX_LINES = 6
TICK_WIDTH, Y_TICKS = 90, 5
_MARGIN = 0.06
"""Fraction of the height above and below the lines."""

_NAT = np.iinfo(np.int64).min

Window = str | float | pd.Timedelta | None


class Rows(Protocol):
    """Interface of `Stream` that is used here."""

    @property
    def df(self) -> pd.DataFrame:
        """All rows."""

    def timed(self, on: str | None = None) -> pd.DataFrame:
        """Return all rows, indexed by their times."""


@dataclass(frozen=True, slots=True)
class _XValues:
    """X values of the rows.

    Attributes:
        x: numbers, or times in the index's unit; NaN or `_NAT` if missing.
        kind: kind of the values.
        label: title of the axis.
        scale: units per second; 1 for numbers.
    """

    x: Array
    kind: Kind = "number"
    label: str = ""
    scale: float = 1.0


class Source:
    """Computes pictures of a stream's rows.

    Args:
        rows: the stream.
        y: columns to draw; None for all numeric ones.
        x: column of the x axis; None for the times.
        window: range of `x` to show, up to its maximum; a number is in seconds if `x` is a time.
        title: title of the chart.

    Raises:
        InvalidArgument: `window` is neither a duration nor a number.
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
        """Return the current picture, with a width in columns of pixels."""
        try:
            frame, values = self._x_values()
        except ValueError as error:
            return Picture(self.title, columns, notes=[str(error)])
        x_range = _x_range(values, self._window)
        if x_range is None:
            return Picture(self.title, columns, notes=["No row received yet."])
        low, high = x_range
        names, notes = self._y_columns(frame)
        bins = Bins(values.x, low, high, columns=columns)
        lines = [_line(name, frame[name].to_numpy(), bins) for name in names]
        lines = [line for line in lines if len(line.extremes.columns)]
        if not lines:
            return Picture(self.title, columns, notes=notes or ["There are no numbers to draw."])
        left, right = low / values.scale, high / values.scale
        make_ticks = time_ticks if values.kind == "time" else number_ticks
        ticks = make_ticks(left, right, max(2, columns // TICK_WIDTH))
        x_axis = Axis(left, right, ticks, values.kind, values.label)
        return Picture(self.title, columns, bins.rows, lines, x_axis, _y_axis(lines), notes)

    def _x_values(self) -> tuple[pd.DataFrame, _XValues]:
        """Return the rows and their x values.

        Raises:
            InvalidArgument: the column of x is missing, or has neither times nor numbers.
        """
        if self._x is not None:
            frame = self._rows.df
            if self._x != frame.index.name and self._x not in frame:
                raise InvalidArgument(f"There is no column {glimpse(self._x)} yet.")
            values = frame.index if self._x == frame.index.name else frame[self._x]
            if _is_number(values):
                if self._in_time:
                    raise InvalidArgument(f"{self._x} is a number, so the window must be one too.")
                return frame, _XValues(np.asarray(values, dtype=np.float64), label=self._x)
        frame = self._rows.timed(self._x)
        index = frame.index
        assert isinstance(index, pd.DatetimeIndex)  # noqa: S101 - `timed` returns nothing else
        label = f"{index.name}{' (UTC)' if index.tz is not None else ''}"
        scale = pd.Timedelta(1, "s") / pd.Timedelta(1, index.unit)
        return frame, _XValues(index.asi8, "time", label, scale)

    def _y_columns(self, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
        """Return the columns to draw, and notes on columns that are not drawn."""
        if self._y is None:
            numeric = [str(name) for name in frame if name != self._x and _is_number(frame[name])]
            more = len(numeric) - MAX_LINES
            note = f"{counted(more, 'more numeric column')}: choose with y=[...]."
            return numeric[:MAX_LINES], [note] if more > 0 else []
        names = list(dict.fromkeys(self._y))
        notes = [f"There is no column {glimpse(name)} yet." for name in names if name not in frame]
        notes += [
            f"The column {glimpse(name)} holds no numbers ({frame[name].dtype})."
            for name in names
            if name in frame and not _is_number(frame[name])
        ]
        return [name for name in names if name in frame and _is_number(frame[name])], notes


def _span(window: Window) -> float | None:
    """Return a window as a number, in seconds if it is a duration.

    Raises:
        InvalidArgument: it is neither a duration nor a number, or not positive.
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


def _x_range(values: _XValues, window: float | None) -> tuple[float, float] | None:
    """Return the ends of the x axis, which always differ; None if there are no values."""
    x = values.x
    if values.kind == "time":
        if len(x) and x.min() == _NAT:
            x = x[x != _NAT]
    elif len(x) and not np.isfinite(x.sum()):  # also if the sum of finite values overflows
        x = x[np.isfinite(x)]
    if not len(x):
        return None
    first, last = x.min().item(), x.max().item()
    if window is not None:
        # In integers, because as floats current times in nanoseconds are rounded to hundreds.
        width = window * values.scale
        first = last - (int(width) if values.kind == "time" else width)
    if first >= last:
        margin = int(values.scale) if values.kind == "time" else max(1.0, abs(last) / 100)
        return last - margin, last + margin
    return first, last


def _y_axis(lines: Sequence[Line]) -> Axis:
    low = min(line.extremes.low for line in lines)
    high = max(line.extremes.high for line in lines)
    margin = (high - low) * _MARGIN or max(abs(high) * _MARGIN, 1e-300) or 1.0
    if not np.isfinite(high - low + 2 * margin):  # the difference overflows
        return Axis(-1.79e308 / 2, 1.79e308 / 2)
    low, high = low - margin, high + margin
    return Axis(low, high, number_ticks(low, high, Y_TICKS))


def _line(name: str, values: Array, bins: Bins) -> Line:
    newest = values[-1000:].astype(np.float64)
    present = newest[np.isfinite(newest)]
    return Line(name, bins.extremes(values), float(present[-1]) if len(present) else np.nan)


def _is_number(values: pd.Series[Any] | pd.Index[Any]) -> bool:
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf"
