"""Options of a chart, checked; pandas for spans of time, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.values import similar
from fabric_nb.fabric.data.plotting import HOWS, KINDS
from fabric_nb.notebook.pages import glimpse

Span = str | float | pd.Timedelta | None


@dataclass(frozen=True, slots=True)
class Width:
    """A width on the horizontal axis.

    Attributes:
        size: number, in seconds if `timed`.
        timed: True if it was given as a span of time.
    """

    size: float
    timed: bool


@dataclass(frozen=True, slots=True)
class ChartOptions:
    """Options of a chart; see `Stream.plot`.

    Attributes:
        y: columns to draw; None for the measures.
        x: column of the horizontal axis; None for the times.
        window: range of `x` to show, up to its maximum; None for all.
        every: width of a bucket; None for a suitable one.
        how: value of a bucket; None for the default.
        by: column with categories.
        kind: kind of chart.
        utc: True to show times in UTC.
        title: title.
    """

    y: tuple[str, ...] | None = None
    x: str | None = None
    window: Width | None = None
    every: Width | None = None
    how: str | None = None
    by: str | None = None
    kind: str = "line"
    utc: bool = False
    title: str = ""

    @property
    def bucketed(self) -> bool:
        """True if the rows of a bucket are drawn as one value."""
        return self.kind in ("bar", "hist") or self.every is not None or self.how is not None


def chart_options(
    y: str | Sequence[str] | None = None,
    x: str | None = None,
    *,
    window: Span = None,
    every: Span = None,
    how: str | None = None,
    by: str | None = None,
    kind: str | None = None,
    utc: bool = False,
    title: str = "",
) -> ChartOptions:
    """Return checked options; see `Stream.plot`.

    Raises:
        InvalidArgument: an option is unknown, or options do not go together.
    """
    kind = "line" if kind is None else _one_of("kind", kind, KINDS)
    if how is not None:
        how = _one_of("how", how, HOWS)
    names = _names(y)
    if by is not None and names is not None and len(names) > 1:
        raise InvalidArgument(
            f"With by={by!r} each category of one column is drawn: y must be one column, not"
            f" {len(names)}."
        )
    if kind == "hist" and how not in (None, "count"):
        raise InvalidArgument(f"A histogram counts rows: leave out how={how!r}, or choose a bar.")
    if kind == "hist" and x is not None:
        raise InvalidArgument(
            f"The horizontal axis of a histogram has the values of y: leave out x={x!r}."
        )
    width = _width("every", every)
    if kind == "hist" and width is not None and width.timed:
        raise InvalidArgument(
            f"The bars of a histogram are ranges of values: every must be a number, not {every!r}."
        )
    return ChartOptions(names, x, _width("window", window), width, how, by, kind, utc, title)


def _one_of(option: str, value: object, choices: Sequence[str]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    hint = similar(value, choices) or "."
    raise InvalidArgument(f"{option} must be {listed}, not {glimpse(value)}{hint}")


def _names(y: object) -> tuple[str, ...] | None:
    if y is None:
        return None
    if isinstance(y, str):
        return (y,)
    if isinstance(y, Sequence) and all(isinstance(name, str) for name in y):
        return tuple(dict.fromkeys(y)) or None
    raise InvalidArgument(f"y must be a column or a list of columns, not {glimpse(y)}.")


def _width(option: str, value: Span) -> Width | None:
    """Return a width; None if none was given.

    Raises:
        InvalidArgument: it is neither a duration nor a number, or not positive.
    """
    if value is None:
        return None
    timed = isinstance(value, (str, pd.Timedelta))
    try:
        if isinstance(value, (str, pd.Timedelta)):
            size = pd.Timedelta(value).total_seconds()
        else:
            size = float(value)
    except (ValueError, TypeError):
        size = -1.0
    if not 0 < size < float("inf"):
        raise InvalidArgument(
            f"{option} must be a span of time, as in '5min', or a number: {glimpse(value)}."
        )
    return Width(size, timed)
