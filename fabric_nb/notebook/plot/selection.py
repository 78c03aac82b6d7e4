"""Choice of the rows and columns that a chart draws; numpy and pandas, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.values import similar
from fabric_nb.frames.measures import is_label, is_number
from fabric_nb.notebook.pages import counted, glimpse
from fabric_nb.notebook.plot.categories import Categories
from fabric_nb.notebook.plot.decimate import Array
from fabric_nb.notebook.plot.options import ChartOptions, Width
from fabric_nb.notebook.plot.picture import Kind

MAX_LINES = 6
_SAMPLE = 1000
"""Newest rows in which measures are looked for."""
_NAT = np.iinfo(np.int64).min

Range = tuple[float, float]


class Rows(Protocol):
    """Interface of `Stream` that is used here."""

    @property
    def df(self) -> pd.DataFrame:
        """All kept rows."""

    @property
    def rows(self) -> int:
        """Number of rows received."""

    def timed(self, on: str | None = None) -> pd.DataFrame:
        """Return all kept rows, indexed by their times."""


@dataclass(frozen=True, slots=True)
class Data:
    """Rows and their x values.

    Attributes:
        frame: the rows.
        x: numbers, or times in the index's unit; NaN, or the minimum of int64, if missing.
        first: number of the first row, which counts all rows received before it.
        kind: kind of the x values.
        name: name of the x values.
        scale: units per second; 1 for numbers.
        zoned: True for times in UTC, False for those of an unknown zone.
    """

    frame: pd.DataFrame
    x: Array
    first: int
    kind: Kind = "number"
    name: str = ""
    scale: float = 1.0
    zoned: bool = False

    @property
    def extent(self) -> Range | None:
        """Minimum and maximum of x, in its units; None if there are no values."""
        x = self.x
        if self.kind == "time":
            if len(x) and x.min() == _NAT:
                x = x[x != _NAT]
        elif len(x) and not np.isfinite(x.sum()):  # also if the sum of finite values overflows
            x = x[np.isfinite(x)]
        return (x.min().item(), x.max().item()) if len(x) else None

    @property
    def newest(self) -> float:
        """X of the newest row; 0 if it is missing."""
        missing = self.kind == "time" and self.x[-1] == _NAT
        return 0.0 if missing else self.x[-1].item()

    def present(self, group: Array | None) -> Selected:
        """Return the rows that have an x."""
        missing = self.x == _NAT if self.kind == "time" else ~np.isfinite(self.x)
        rows = Selected(self.x, group)
        return rows.at(~missing) if missing.any() else rows

    def units(self, size: float) -> float:
        """Return a size in units of x, which is whole and at least 1 for times."""
        return max(1, round(size * self.scale)) if self.kind == "time" else size


@dataclass(frozen=True, slots=True)
class Series:
    """Columns or groups to draw.

    Attributes:
        columns: names of the columns; none to count rows.
        group: group of each row; None if there are no groups.
        groups: names of the groups.
        notes: remarks on what is not drawn.
    """

    columns: Sequence[str]
    group: Array | None
    groups: Sequence[str]
    notes: Sequence[str]

    @property
    def names(self) -> Sequence[str]:
        """Names of the lines."""
        return self.groups if self.group is not None else self.columns or ["rows"]


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows that are drawn.

    Attributes:
        x: their x.
        group: their groups; None if there are none.
        indices: their indices; None for all rows.
    """

    x: Array
    group: Array | None
    indices: Array | None = None

    def at(self, inside: Array) -> Selected:
        """Return those of these rows for which an array is true."""
        chosen = np.flatnonzero(inside)
        group = None if self.group is None else self.group[chosen]
        indices = chosen if self.indices is None else self.indices[chosen]
        return Selected(self.x[chosen], group, indices)

    def of(self, values: Array) -> Array:
        """Return the values of these rows."""
        return values if self.indices is None else values[self.indices]


class Selection:
    """Chooses the rows and columns to draw.

    Args:
        stream: the stream.
        options: options of the chart.
    """

    def __init__(self, stream: Rows, options: ChartOptions) -> None:
        self._stream = stream
        self._options = options
        self._measures: set[str] = set()
        self._categories = Categories(MAX_LINES)

    def data(self) -> Data:
        """Return the rows and their x values.

        Raises:
            InvalidArgument: the column of x is missing, or has neither times nor numbers.
        """
        name, kind = self._options.x, self._options.kind
        if name is not None:
            frame = self._stream.df
            if name != frame.index.name and name not in frame:
                raise InvalidArgument(_no_column(name, frame))
            values = frame.index if name == frame.index.name else frame[name]
            if is_number(values):
                for option in ("window", "every"):
                    width: Width | None = getattr(self._options, option)
                    if width is not None and width.timed:
                        raise InvalidArgument(
                            f"{name} is a number, so the {option} must be one too."
                        )
                x = np.asarray(values, dtype=np.float64)
                return Data(frame, x, self._stream.rows - len(frame), name=name)
        elif kind == "hist" and self._options.window is None:
            frame = self._stream.df
            return Data(frame, np.empty(0), self._stream.rows - len(frame))
        frame = self._stream.timed(name)
        index = frame.index
        assert isinstance(index, pd.DatetimeIndex)  # noqa: S101 - `timed` returns nothing else
        scale = pd.Timedelta(1, "s") / pd.Timedelta(1, index.unit)
        first = self._stream.rows - len(frame)
        zoned = index.tz is not None
        return Data(frame, index.asi8, first, "time", str(index.name), scale, zoned)

    def series(self, data: Data) -> Series:
        """Return the columns or groups to draw.

        Raises:
            InvalidArgument: the column of the categories is missing.
        """
        frame, by = data.frame, self._options.by
        columns, notes = self._columns(frame)
        if by is None:
            return Series(columns, None, [], notes)
        if not len(frame):
            return Series(columns, None, [], notes)
        if by not in frame:
            raise InvalidArgument(_no_column(by, frame))
        group = self._categories.update(frame[by], data.first)
        if self._categories.others:
            notes = [*notes, _others_note(by, self._categories)]
        return Series(columns, group, list(self._categories.names), notes)

    def _columns(self, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
        """Return the columns to draw, and notes on columns that are not drawn."""
        options = self._options
        if options.y is not None:
            found = [name for name in options.y if name in frame]
            drawn = [name for name in found if frame[name].dtype.kind in "biuf"]
            notes = [_no_column(name, frame) for name in options.y if name not in found]
            notes += [_no_numbers(name, frame) for name in found if name not in drawn]
            return drawn, notes
        if options.how == "count" and options.kind != "hist":
            return [], []
        measures = self._default_columns(frame)
        if options.by is not None or options.kind in ("bar", "hist"):
            return measures[:1], []
        more = len(measures) - MAX_LINES
        note = f"{counted(more, 'more numeric column')}: choose with y=[...]."
        return measures[:MAX_LINES], [note] if more > 0 else []

    def _default_columns(self, frame: pd.DataFrame) -> list[str]:
        """Return the measures; once a column was one, it stays one."""
        excluded = (self._options.x, self._options.by)
        names = [str(name) for name in frame if name not in excluded and is_number(frame[name])]
        newest = frame.iloc[-_SAMPLE:]
        for name in names:
            if name not in self._measures and not is_label(name, newest[name]):
                self._measures.add(name)
        return [name for name in names if name in self._measures] or names


def _no_column(name: str, frame: pd.DataFrame) -> str:
    hint = similar(name, map(str, frame.columns)) or "."
    return f"There is no column {glimpse(name)} yet{hint}"


def _no_numbers(name: str, frame: pd.DataFrame) -> str:
    numeric = [str(other) for other in frame if is_number(frame[other])]
    hint = f": choose from {', '.join(map(glimpse, numeric[:MAX_LINES]))}." if numeric else "."
    return f"The column {glimpse(name)} holds no numbers ({frame[name].dtype}){hint}"


def _others_note(by: str, categories: Categories) -> str:
    drawn = len(categories.names) - 1
    return (
        f"The {drawn} most frequent values of {by} are drawn by themselves, and"
        f" {counted(categories.others, 'further value')} as {categories.names[-1]!r}."
    )
