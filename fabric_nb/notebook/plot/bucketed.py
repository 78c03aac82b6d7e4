"""Pictures in which the rows of a bucket are one value: over x, or over their own values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fabric_nb.notebook.plot.aggregate import ADDITIVE, Aggregation, Buckets
from fabric_nb.notebook.plot.decimate import Array, Bins
from fabric_nb.notebook.plot.lines import line_of, points_of_buckets, y_axis
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.scene import NO_NUMBERS, TOO_FAR, Scene, is_too_wide, without_lines
from fabric_nb.notebook.plot.selection import Data, Range, Selected
from fabric_nb.notebook.plot.ticks import duration_text, step_of, time_step

MAX_BUCKETS = 20_000
TOO_NARROW = "A bucket of {} is too narrow for values of {} as large as these."
_PRECISION = 2.0**52
"""Largest number of a bucket: as a float, each number below has a successor."""
BAR_WIDTH = 14
"""Columns of pixels of a bucket whose width is chosen here."""


@dataclass(frozen=True, slots=True)
class _Division:
    """Division of x in buckets.

    Attributes:
        origin: x at which bucket 0 begins.
        width: width of a bucket, in units of x.
    """

    origin: float
    width: float

    def ends(self, buckets: Buckets) -> Range:
        """Return the x at which the first bucket begins and the last one ends."""
        last = buckets.first + len(buckets.values)
        return self.origin + buckets.first * self.width, self.origin + last * self.width

    def middle(self, buckets: Buckets) -> Array:
        """Return the x in the middle of each bucket."""
        places = buckets.first + np.arange(len(buckets.values))
        if isinstance(self.width, int):  # times, which would be rounded as floats
            return np.asarray(self.origin + places * self.width + self.width // 2)
        return np.asarray(self.origin + (places + 0.5) * self.width)


class BucketChart:
    """Pictures of buckets of x, which are updated with new rows."""

    def __init__(self) -> None:
        self._aggregations: dict[str, Aggregation] = {}
        self._state: object = None

    def picture(self, scene: Scene, extent: Range) -> Picture:
        """Return the current picture."""
        options, data, series = scene.options, scene.data, scene.series
        shown = scene.shown(extent)
        width, notes = _width(scene, shown), list(series.notes)
        rows = data.present(series.group)
        if (extent[1] - extent[0]) / width > MAX_BUCKETS:
            margin = width
            width, note = _bounded(width, shown, lambda size: _text(data, size))
            notes += note
            rows = rows.at((rows.x >= shown[0] - margin) & (rows.x <= shown[1] + margin))
        if _is_too_narrow(width, shown):
            return scene.empty(TOO_NARROW.format(_text(data, width), data.name))
        division = _Division(_origin(scene, width), width)
        how = _how(scene)
        buckets = self._buckets(scene, rows, how, division) if len(rows.x) else None
        count = len(rows.x)
        if buckets is not None and scene.view is None and options.window is None:
            shown = division.ends(buckets)
        else:
            count = int(((rows.x >= shown[0]) & (rows.x <= shown[1])).sum())
        picture = scene.with_axis(shown, extent, count)
        what = f"{_value(scene, how)}{scene.by}, every {_text(data, width)}"
        picture = replace(picture, notes=notes, what=what)
        if buckets is None:
            return without_lines(picture)
        return _drawn(scene, picture, buckets, division, shown, how)

    def _buckets(self, scene: Scene, rows: Selected, how: str, division: _Division) -> Buckets:
        """Return the values of the buckets, with a group for each line."""
        data, series = scene.data, scene.series
        # An aggregation continues with new rows only if all else stays the same.
        state = how, division, tuple(series.names), data.name, rows.x.dtype, rows.indices is None
        if state != self._state or rows.indices is not None:
            self._aggregations.clear()
        self._state = state
        groups = 1 if rows.group is None else len(series.groups)
        found = []
        for name in series.columns or [""]:
            y = rows.of(data.frame[name].to_numpy()) if series.columns else None
            key = f"{name} {None if y is None else y.dtype}"
            if key not in self._aggregations:
                self._aggregations[key] = Aggregation(how, division.origin, division.width, groups)
            found.append(self._aggregations[key].update(rows.x, rows.group, y, data.first))
        if len(found) == 1:
            return found[0]
        return Buckets(found[0].first, np.concatenate([one.values for one in found], axis=1))


def histogram(scene: Scene, extent: Range | None) -> Picture:
    """Return a picture of the distribution of values.

    Args:
        scene: the rows; `view` is a range of values.
        extent: minimum and maximum of x, for the window; None if there is no x.
    """
    series, every = scene.series, scene.options.every
    values = _values(scene, extent)
    label = series.columns[0] if len(series.columns) == 1 else "value"
    data = Data(scene.data.frame, values.x, 0, name=label)
    range_of_values = data.extent
    if range_of_values is None:
        return scene.empty(*(series.notes or [NO_NUMBERS]))
    if is_too_wide(range_of_values):
        return scene.empty(TOO_FAR.format(label))
    scene = replace(scene, data=data, options=replace(scene.options, window=None))
    shown = scene.shown(range_of_values)
    width = every.size if every else _chosen_step(shown, scene.columns)
    width, note = _bounded(width, shown, lambda size: f"{size:g}")
    if _is_too_narrow(width, shown):
        return scene.empty(TOO_NARROW.format(f"{width:g}", label))
    values = values.at((values.x >= shown[0] - width) & (values.x <= shown[1] + width))
    what = f"rows{scene.by}, every {width:g}"
    if not len(values.x):
        picture = scene.with_axis(shown, range_of_values, 0)
        return without_lines(replace(picture, what=what))
    division = _Division(0.0, width)
    counting = Aggregation("count", division.origin, width, len(series.names))
    buckets = counting.update(values.x, values.group, None, 0)
    if scene.view is None:
        shown = division.ends(buckets)
    picture = scene.with_axis(shown, range_of_values, len(values.x))
    picture = replace(picture, notes=[*series.notes, *note], what=what)
    return _drawn(scene, picture, buckets, division, shown, "count")


def _values(scene: Scene, extent: Range | None) -> Selected:
    """Return the values of the rows in the window, as x, with a group for each line."""
    series, data = scene.series, scene.data
    rows: Selected | None = None
    if scene.options.window is not None and extent is not None:
        low, high = replace(scene, view=None).shown(extent)
        rows = data.present(series.group)
        rows = rows.at((rows.x >= low) & (rows.x <= high))
    group = series.group if rows is None else rows.group
    columns = [data.frame[name].to_numpy() for name in series.columns]
    columns = [column if rows is None else rows.of(column) for column in columns]
    if group is None:
        lengths = [len(column) for column in columns]
        group = np.repeat(np.arange(len(columns), dtype=np.int8), lengths)
    x = np.concatenate(columns).astype(np.float64)
    return Selected(x, group).at(np.isfinite(x))


def _drawn(
    scene: Scene, picture: Picture, buckets: Buckets, division: _Division, shown: Range, how: str
) -> Picture:
    """Return a picture with the lines of buckets."""
    kind = "bar" if scene.options.kind == "hist" else scene.options.kind
    values = buckets.values
    filled = np.nan_to_num(values)
    is_part = how in ADDITIVE and kind in ("bar", "area") and values.shape[1] > 1
    stacked = is_part and bool((filled >= 0).all())
    low, high = shown
    bins = Bins(division.middle(buckets), low, high, columns=scene.columns)
    shares = np.array([name not in scene.hidden for name in scene.series.names])
    heights = np.cumsum(filled * shares, axis=1) if stacked else values
    lines = []
    for place, name in enumerate(scene.series.names):
        line = line_of(name, heights[:, place], bins, hidden=name in scene.hidden)
        own = values[:, place]
        finite = own[np.isfinite(own)]
        inside = own[bins.order]
        inside = inside[np.isfinite(inside)]
        if len(line.extremes.columns) == len(inside):  # one bucket in each column of pixels
            line = replace(line, values=inside)
        if len(line.extremes.columns):
            lines.append(replace(line, last=float(finite[-1])))
    if not lines:
        return without_lines(picture)
    vertical = y_axis(lines, from_zero=kind in ("bar", "area"))
    if kind == "scatter":
        lines = [points_of_buckets(line, vertical, scene.columns) for line in lines]
    bar = division.width / (high - low) * scene.columns
    scale = scene.data.scale
    return replace(
        picture,
        lines=lines,
        y=vertical,
        kind=kind,
        stacked=stacked,
        bar=bar,
        buckets=(division.ends(buckets)[0] / scale, division.width / scale),
    )


def _how(scene: Scene) -> str:
    if not scene.series.columns:
        return "count"
    return scene.options.how or ("sum" if scene.options.kind == "bar" else "mean")


def _value(scene: Scene, how: str) -> str:
    """Return a description of the value of a bucket."""
    columns = scene.series.columns
    if not columns:
        return "rows"
    return f"{how} of {columns[0]}" if len(columns) == 1 else how


def _width(scene: Scene, shown: Range) -> float:
    """Return the width of a bucket, in units of x."""
    data, every = scene.data, scene.options.every
    if every is not None:
        return data.units(every.size)
    if data.kind == "number":
        return _chosen_step(shown, scene.columns)
    return data.units(time_step((shown[1] - shown[0]) / data.scale, _count(scene.columns)))


def _chosen_step(shown: Range, columns: int) -> float:
    return step_of(shown[1] - shown[0], _count(columns))


def _count(columns: int) -> int:
    return max(2, columns // BAR_WIDTH)


def _bounded(width: float, shown: Range, text: Callable[[float], str]) -> tuple[float, list[str]]:
    """Return a width that does not make too many buckets, and a note if it is another one."""
    count = (shown[1] - shown[0]) / width
    if count <= MAX_BUCKETS:
        return width, []
    wider = width * math.ceil(count / MAX_BUCKETS)
    note = f"Drawn every {text(wider)}, because {text(width)} would make {count:,.0f} buckets."
    return wider, [note]


def _is_too_narrow(width: float, shown: Range) -> bool:
    """Return whether buckets are narrower than the precision of the numbers that they divide."""
    return max(map(abs, shown)) / width > _PRECISION and not isinstance(width, int)


def _origin(scene: Scene, width: float) -> float:
    """Return the x at which bucket 0 begins: a local midnight, on a Monday for weeks."""
    data = scene.data
    if data.kind == "number":
        return 0.0
    offset = scene.clock.offset(data.newest / data.scale)
    monday = 4 * 86400 if width % (7 * 86400 * data.scale) == 0 else 0
    return int((monday - offset) * data.scale)


def _text(data: Data, width: float) -> str:
    return f"{width:g}" if data.kind == "number" else duration_text(width / data.scale)
