"""Charts: pictures of a stream's rows, and their static copies."""

from __future__ import annotations

import base64
import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from fabric_nb.errors import NotInNotebook
from fabric_nb.fabric.data import plotting
from fabric_nb.notebook.plot.decimate import Bins
from fabric_nb.notebook.plot.picture import NO_VALUE, Picture
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.static import static_forms
from fabric_nb.notebook.plot.ticks import number_ticks, step_of, time_ticks
from tests.support.streams import UnconnectedStream

MARKUP = "<img src=x onerror=alert(1)>"


def stream_rows(columns: dict[str, Any], **options: Any) -> UnconnectedStream:
    """Return a stream that has received these columns."""
    stream = UnconnectedStream(**options)
    stream.add_columns(columns)
    return stream


def picture(columns: dict[str, Any], *, width: int = 100, **options: Any) -> Picture:
    return Source(stream_rows(columns), **options).picture(width)


# Decimation


@settings(max_examples=60, deadline=None)
@given(
    x=hn.arrays(np.int64, st.integers(1, 80), elements=st.integers(-3, 70)),
    in_order=st.booleans(),
    columns=st.sampled_from([1, 2, 8, 32, 64]),
    data=st.data(),
)
def test_each_column_of_pixels_has_its_extremes(
    x: Any, in_order: bool, columns: int, data: st.DataObject
) -> None:
    """The extremes of a column of pixels are the minimum and maximum of its finite values."""
    x = np.sort(x) if in_order else x
    y = data.draw(hn.arrays(np.float64, len(x), elements=st.floats(width=32)))
    # The number of columns divides the width, because otherwise edges depend on rounding.
    low, high = 0, 64
    found = Bins(x, low, high, columns=columns).extremes(y)
    expected: dict[int, list[float]] = {}
    for position, value in zip(x.tolist(), y, strict=True):
        if np.isfinite(value) and low <= position <= high:
            column = min(columns - 1, math.floor(position * columns / (high - low)))
            expected.setdefault(column, []).append(value)
    assert found.columns.tolist() == sorted(expected)
    for column, first, second in zip(found.columns, found.first, found.second, strict=True):
        values = expected[column]
        assert {first, second} == {min(values), max(values)}
        if len(values) == 2 and np.isfinite(y).all():
            assert [first, second] == values, "in the order of the line"


# Ticks


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-2, 1e9), most=st.integers(2, 12))
def test_number_ticks_are_round_and_inside(low: float, span: float, most: int) -> None:
    """Ticks of numbers are inside the axis, evenly spaced, and have different labels."""
    ticks = number_ticks(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(-1e-4 <= tick.position <= 1 + 1e-4 for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)
    gaps = np.diff([tick.position for tick in ticks])
    assert np.allclose(gaps, step_of(span, most) / span, rtol=1e-3)


@given(low=st.floats(0, 4e9), span=st.floats(0.1, 3e9), most=st.integers(2, 12))
def test_time_ticks_are_inside(low: float, span: float, most: int) -> None:
    """Ticks of times are inside the axis, ascending, and at most as many as requested."""
    ticks = time_ticks(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(-1e-4 <= tick.position <= 1 + 1e-4 for tick in ticks)
    assert [tick.position for tick in ticks] == sorted(tick.position for tick in ticks)


@pytest.mark.parametrize(
    ("span", "texts"),
    [
        (0.01, ["00:00:00.000", "00:00:00.005", "00:00:00.010"]),
        (10, ["00:00:00", "00:00:05", "00:00:10"]),
        (3600, ["00:00", "00:30", "01:00"]),
        (3 * 86400, ["Jan 1", "Jan 2", "Jan 3"]),
        (30 * 86400, ["Jan 5", "Jan 19"]),
        (200 * 86400, ["1970-01", "1970-04", "1970-07"]),
        (30 * 365 * 86400, ["1970", "1980", "1990"]),
    ],
)
def test_labels_of_times_depend_on_the_range(span: float, texts: list[str]) -> None:
    """Labels of times have the precision that the range of the axis needs."""
    assert [tick.text for tick in time_ticks(0, span, 3)][:3] == texts


# Pictures


def test_columns_of_numbers_over_time() -> None:
    """By default all numeric columns are drawn over the column of times."""
    at = pd.date_range("2026-11-25T12:00:00Z", periods=300, freq="1s")
    a = np.arange(300.0)
    shown = picture({"at": at, "a": a, "b": a / 2, "s": ["x"] * 300})
    assert [line.name for line in shown.lines] == ["a", "b"]
    assert [line.last for line in shown.lines] == [299, 149.5]
    assert shown.x.kind == "time"
    assert shown.x.label == "at (UTC)"
    assert shown.x.high - shown.x.low == 299
    assert shown.summary()[0] == "a 0 to 299, last 299"
    assert "12:00:00 to 12:04:59" in shown.summary()[-1]


def test_a_window_ends_with_the_newest() -> None:
    """A window ends with the maximum time, also if times are not sorted."""
    at = pd.date_range("2026-11-25T12:00:00", periods=600, freq="1s")
    order = np.random.default_rng(1).permutation(600)
    rows = {"at": at[order], "a": np.arange(600)[order]}
    shown = picture(rows, window="1min")
    assert shown.rows == 61
    assert shown.lines[0].extremes.low == 539
    assert picture(rows, window=pd.Timedelta("2min")).rows == 121
    assert picture(rows, window=30).rows == 31


def test_over_arrival_and_over_a_number() -> None:
    """Rows without times are drawn over their arrival; any numeric column can be the x axis."""
    shown = picture({"a": [1.0, 2.0]})
    assert (shown.x.kind, shown.x.label) == ("time", "arrival (UTC)")
    shown = picture({"k": [1.0, 2.0, np.nan, 9.0], "a": [4, 5, 6, 7]}, x="k", window=7)
    assert (shown.x.kind, shown.x.low, shown.x.high, shown.rows) == ("number", 2.0, 9.0, 2)
    assert [line.name for line in shown.lines] == ["a"]


def test_nanoseconds_are_not_rounded() -> None:
    """Times are placed exactly, also with nanoseconds."""
    at = pd.to_datetime(1_795_600_000_000_000_000 + np.arange(10) * 100, unit="ns", utc=True)
    shown = picture({"at": at, "a": np.arange(10)}, width=10)
    assert shown.lines[0].extremes.columns.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("columns", "options", "note"),
    [
        ({}, {}, "No row received yet"),
        ({"a": [1]}, {"y": "b"}, "There is no column 'b' yet"),
        ({"a": [1]}, {"x": "b"}, "There is no column 'b' yet"),
        ({"a": ["x"]}, {"y": ["a"]}, "The column 'a' holds no numbers"),
        ({"a": ["x"]}, {}, "There are no numbers to draw"),
        ({"a": [1], "b": ["x"]}, {"x": "b"}, "holds"),
        ({"a": [1], "b": [2]}, {"x": "b", "window": "1s"}, "the window must be one too"),
        (
            {"a": [1], "s": ["2026-11-25"], "t": ["2026-11-25"]},
            {},
            "several columns of times: choose one of s, t",
        ),
    ],
)
def test_notes_of_an_empty_chart(
    columns: dict[str, Any], options: dict[str, Any], note: str
) -> None:
    """A chart without lines gives the reason in a note."""
    shown = picture(columns, **options)
    assert shown.lines == ()
    assert note in " ".join(shown.notes)
    assert note in static_forms(shown)["text/plain"]
    assert shown.encoded()["lines"] == []


@pytest.mark.parametrize("window", ["soon", "-5min", 0, -1, "0s", float("nan"), []])
def test_invalid_window(window: Any) -> None:
    """A window that is no duration raises an error at once."""
    with pytest.raises(ValueError, match="window must be a span of time, as in '5min'"):
        Source(stream_rows({}), window=window)


def test_number_of_lines_is_bounded() -> None:
    """By default at most six lines are drawn, and a note has the number of other columns."""
    shown = picture({f"c{n}": [n] for n in range(9)})
    assert len(shown.lines) == 6
    assert "3 more numeric columns" in shown.notes[0]


@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308],
        [np.inf, 1.0, -np.inf],
        [np.nan, np.nan],
        [5.0, 5.0],
        [0.0, 0.0],
        [1e-320, 0.0],
        [2**60, 2**60 + 1],
        [1e300, 1e300],
    ],
)
def test_odd_values(values: list[Any]) -> None:
    """Values of any size, and no values, give a picture."""
    shown = picture({"a": values})
    encoded = shown.encoded()
    for line in encoded["lines"]:
        first = np.frombuffer(base64.b64decode(line["first"]), "<u2")
        assert (first != NO_VALUE).any()
    assert static_forms(shown)


def test_static_copy() -> None:
    """The static copy of a chart has an SVG drawing and a description, with text escaped."""
    at = pd.date_range("2026-11-25T12:00:00Z", periods=50, freq="1s")
    columns = {"at": at, MARKUP: np.arange(50.0), "b\x1b[31m": np.arange(50) % 7}
    forms = static_forms(picture(columns, title=f"kind={MARKUP}"))
    html = forms["text/html"]
    assert "<img" not in html
    assert "\x1b" not in html + forms["text/plain"]
    (svg,) = re.findall(r"<svg.*</svg>", html, re.DOTALL)
    drawing = ET.fromstring(svg)
    assert len(drawing.findall("polyline")) == 2
    assert "0.0 to 49.0, last 49.0" in drawing.attrib["aria-label"]
    assert "12:00" in html
    assert "▁" in forms["text/plain"]
    assert "█" in forms["text/plain"]


# The backend


def test_outside_of_a_notebook() -> None:
    """Without the extension `plot` raises an error that names it."""
    with pytest.raises(NotInNotebook, match=r"run `%load_ext fabric_nb` there first"):
        stream_rows({}).plot("a")


def test_a_backend_draws() -> None:
    """The backend that was set receives the stream and the options."""
    plotted = []

    class Backend:
        def plot(self, stream: Any, **options: Any) -> str:
            plotted.append((stream, options))
            return "drawn"

    rows = stream_rows({})
    plotting.set_backend(Backend())
    try:
        assert rows.plot(["a"], "b", window="5min") == "drawn"
    finally:
        plotting.set_backend(None)
    ((plotted_rows, options),) = plotted
    assert plotted_rows is rows
    given = {name: value for name, value in options.items() if value not in (None, False)}
    assert given == {"y": ["a"], "x": "b", "window": "5min"}


@pytest.mark.parametrize(
    ("small", "text"),
    [
        ([0.40, 0.42, 0.44], "small 0.4000 to 0.4400, last 0.4400"),
        ([0.42, 0.42, 0.42], "small 0.420 to 0.420, last 0.420"),
        ([-3e-7, 0.0, 3e-7], "small -0.000000300 to 0.000000300, last 0.000000300"),
        ([0.0, 0.0, 0.0], "small 0 to 0, last 0"),
    ],
)
def test_precision_of_small_values_beside_large_ones(small: list[float], text: str) -> None:
    """Values are formatted with the precision of the line's own range, not the axis's."""
    shown = picture({"small": small, "large": [-5e6, 0.0, 5e6]}, y=["small", "large"])
    assert text in shown.summary()
    line = shown.encoded()["lines"][0]
    assert f"last {line['last']}" in text
    assert line["step"] <= max(map(abs, small), default=1.0) or not any(small)
