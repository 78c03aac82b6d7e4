"""Charts of buckets, categories and distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.data.plotting import HOWS
from fabric_nb.notebook.plot.aggregate import Aggregation
from fabric_nb.notebook.plot.categories import MISSING, Categories
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.static import static_forms
from tests.support.streams import UnconnectedStream

START = pd.Timestamp("2026-11-25T12:00:00Z")
ORDERS = {
    "at": START + pd.to_timedelta([0, 10, 20, 61, 70, 200], unit="s"),
    "order_id": [7, 3, 9, 8, 2, 5],
    "total": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    "sku": ["tea", "oil", "tea", "tea", "oil", "rye"],
    "failed": [True, False, False, True, False, True],
}


def source(columns: dict[str, Any], *args: Any, **options: Any) -> Source:
    stream = UnconnectedStream()
    stream.add_columns(columns)
    return Source(stream, *args, **options)


def picture(columns: dict[str, Any], *args: Any, **options: Any) -> Picture:
    return source(columns, *args, **options).picture(400)


def values(shown: Picture) -> dict[str, list[float]]:
    """Return the value of each bucket by line."""
    assert all(line.values is not None for line in shown.lines)
    return {line.name: np.asarray(line.values).tolist() for line in shown.lines}


@settings(max_examples=150, deadline=None)
@given(
    how=st.sampled_from(HOWS),
    in_order=st.booleans(),
    parts=st.lists(
        st.tuples(
            st.lists(
                st.tuples(
                    st.integers(-20, 90), st.integers(0, 2), st.sampled_from([0.5, 2, 7, np.nan])
                ),
                min_size=1,
                max_size=12,
            ),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_buckets_are_those_of_all_kept_rows(how: str, in_order: bool, parts: Any) -> None:
    """Buckets updated with new and dropped rows are those of a DataFrame of the kept rows."""
    aggregation = Aggregation(how, -5, 10, groups=3)
    kept: list[tuple[int, int, float]] = []
    first = 0
    for new, dropped in parts:
        dropped = min(dropped, len(kept))
        kept, first = kept[dropped:] + new, first + dropped
        if in_order:
            kept.sort(key=lambda row: row[0])
        frame = pd.DataFrame(kept, columns=["x", "group", "y"])
        x, group, y = (frame[name].to_numpy() for name in ("x", "group", "y"))
        # Rows that are sorted again are not the rows that were known.
        current = Aggregation(how, -5, 10, groups=3) if in_order else aggregation
        found = current.update(x, group, y, first)
        expected = frame.groupby([(frame.x + 5) // 10, "group"]).y.agg(how).unstack("group")
        places = range(int(expected.index.min()), int(expected.index.max()) + 1)
        fill = 0.0 if how in ("count", "sum") else np.nan
        expected = expected.reindex(index=places, columns=range(3), fill_value=fill)
        expected = expected.fillna(fill) if how in ("count", "sum") else expected
        assert found.first == places[0]
        np.testing.assert_allclose(found.values, expected.to_numpy(float), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=8))
def test_buckets_of_rows_in_order(sizes: list[tuple[int, int]]) -> None:
    """Buckets of rows in order are the same as if they were computed at once."""
    aggregation = Aggregation("median", 0, 10)
    x, first = np.arange(0), 0
    for new, dropped in sizes:
        dropped = min(dropped, max(0, len(x) - 1))
        end = x[-1] if len(x) else 0
        x, first = np.append(x[dropped:], end + 3 * np.arange(1, new + 1)), first + dropped
        found = aggregation.update(x, None, x * 1.5, first)
        fresh = Aggregation("median", 0, 10).update(x, None, x * 1.5, 0)
        assert found.first == fresh.first
        np.testing.assert_array_equal(found.values, fresh.values)


def test_sums_by_minute_and_category() -> None:
    """`every`, `how` and `by` draw a sum for each minute and category, in a stack of bars."""
    shown = picture(ORDERS, "total", every="1min", how="sum", by="sku", kind="bar", utc=True)
    assert values(shown) == {
        "tea": [5, 8, 0, 0],
        "oil": [2, 16, 0, 0],
        "rye": [0, 0, 0, 32],
    }
    assert shown.stacked
    assert shown.what == "sum of total by sku, every 1 min"
    assert (shown.x.low, shown.x.high) == (START.timestamp(), START.timestamp() + 240)
    assert shown.y.low == 0
    assert shown.lines[-1].extremes.high == 32, "the height of the stack"
    assert "tea 0 to 8, last 0" in "; ".join(shown.summary())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"y": "total", "every": 60}, {"total": [7 / 3, 12, 32]}),
        ({"y": "total", "every": "2min", "how": "max"}, {"total": [16, 32]}),
        ({"every": "2min", "how": "count"}, {"rows": [5, 1]}),
        (
            {"every": "2min", "how": "count", "by": "sku"},
            {"tea": [3, 0], "oil": [2, 0], "rye": [0, 1]},
        ),
        ({"x": "total", "y": "order_id", "every": 16, "how": "last"}, {"order_id": [8, 2, 5]}),
        ({"kind": "bar", "every": "2min"}, {"total": [31, 32]}),
        ({"y": "failed", "every": "2min"}, {"failed": [0.4, 1]}),
        ({"kind": "hist", "every": 8}, {"total": [3, 1, 1, 0, 1]}),
        (
            {"kind": "hist", "every": 16, "by": "sku"},
            {"tea": [3, 0, 0], "oil": [1, 1, 0], "rye": [0, 0, 1]},
        ),
        ({"kind": "hist", "every": 8, "window": "3min"}, {"total": [1, 1, 1, 0, 1]}),
    ],
)
def test_values_of_buckets(options: dict[str, Any], expected: dict[str, list[float]]) -> None:
    """Buckets are of times or of numbers, and have the mean by default, or the sum for bars."""
    assert values(picture(ORDERS, utc=True, **options)) == expected


@pytest.mark.parametrize("kind", ["line", "area", "bar", "scatter", "hist"])
@pytest.mark.parametrize("by", [None, "sku"])
@pytest.mark.parametrize("every", [None, 30])
def test_each_kind_has_a_static_copy(kind: str, by: str | None, every: float | None) -> None:
    """A chart of each kind is drawn in the static copy and in text."""
    shown = picture(ORDERS, "total", kind=kind, by=by, every=every)
    assert len(shown.lines) == (3 if by else 1)
    forms = static_forms(shown)
    assert forms["text/html"].count("<path fill=" if shown.kind == "bar" else "<polyline") or (
        'class="points"' in forms["text/html"]
    )
    assert "█" in forms["text/plain"]
    assert shown.encoded()["kind"] == ("bar" if kind == "hist" else kind)


def test_negative_sums_stand_side_by_side() -> None:
    """Sums are stacked only if none is negative."""
    rows = {**ORDERS, "total": [-1.0, 2, 3, 4, 5, 6]}
    assert not picture(rows, "total", every="10s", by="sku", kind="bar").stacked


def test_most_frequent_categories_are_drawn() -> None:
    """Six groups are drawn at most: five categories, and all further ones as *other*."""
    names = [name for n, name in enumerate("abcdefgh") for _ in range(20 - n)]
    at = START + pd.to_timedelta(np.arange(len(names)), unit="s")
    shown = picture(
        {"at": at, "v": np.ones(len(names)), "name": names}, every="1h", how="sum", by="name"
    )
    assert {name: sum(line) for name, line in values(shown).items()} == {
        "a": 20,
        "b": 19,
        "c": 18,
        "d": 17,
        "e": 16,
        "other": 15 + 14 + 13,
    }
    (note,) = shown.notes
    assert "The 5 most frequent values of name" in note
    assert "3 further values as 'other'" in note


def test_shown_categories_change_rarely() -> None:
    """A category replaces one that is drawn only when it is twice as frequent."""
    categories = Categories(2)
    column = pd.Series(list("aab"))
    categories.update(column, 0)
    assert categories.names == ["a", "b"]
    column = pd.Series([*"aab", *"cccc"])
    categories.update(column, 0)
    assert categories.names == ["c", "other"]
    column = pd.Series([*"aab", *"cccc", *"aaaa"])
    assert categories.update(column, 0).tolist().count(0) == 4
    assert categories.names == ["c", "other"]
    column = pd.Series([*"aab", *"cccc", *"aaaaaaa"])
    categories.update(column, 0)
    assert categories.names == ["a", "other"]


def test_missing_and_odd_categories() -> None:
    """Missing values are a category, and values of any type can be."""
    categories = Categories(6)
    column = pd.Series([None, "a", 1, [2], {"b": 3}, np.nan, True], dtype=object)
    groups = categories.update(column, 0).tolist()
    assert categories.names[:2] == [MISSING, "a"]
    assert groups[0] == groups[5] == 0
    assert "[2]" in categories.names


@pytest.mark.parametrize("kind", ["line", "area", "bar", "scatter", "hist"])
@pytest.mark.parametrize("how", [None, "count", "std", "median"])
@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308, 3],
        [np.inf, 1, -np.inf],
        [1e300] * 3,
        [0.0] * 3,
        [1e-320, 0, 2],
        [np.nan] * 3,
    ],
)
def test_numbers_of_any_size(kind: str, how: str | None, values: list[float]) -> None:
    """Numbers of any size, as x, as values and in buckets, give a picture or a note."""
    rows = {"v": values, "w": [1.5, 2.5, 3.5]}
    how = None if kind == "hist" else how
    for options in ({"y": "v"}, {"y": "v", "every": 0.5}, {"y": "w", "x": "v", "every": 0.5}):
        if kind == "hist" and "x" in options:
            continue
        with np.errstate(all="ignore"):
            shown = picture(rows, kind=kind, how=how, **options)
            assert shown.lines or shown.notes
            assert static_forms(shown)
            assert shown.encoded()


def test_very_narrow_buckets_are_joined() -> None:
    """Buckets that would be too many are joined, with a note."""
    at = START + pd.to_timedelta([0, 10], unit="h")
    shown = picture({"at": at, "v": [1.0, 2.0]}, every="1ms", how="sum")
    (note,) = shown.notes
    assert "because 1 ms would make 36,000,000 buckets" in note
    assert shown.lines[0].last == 2


def test_a_view_has_full_resolution() -> None:
    """A range that is zoomed into is computed from the rows themselves."""
    rows = np.arange(100_000.0)
    chart = source({"at": START + pd.to_timedelta(rows, unit="s"), "v": rows}, utc=True)
    begin = START.timestamp() + 5_000
    shown = chart.picture(100, (begin, begin + 9))
    assert shown.zoomed
    assert shown.rows == 10
    assert shown.lines[0].extremes.first.tolist() == list(range(5000, 5010))
    assert shown.extent == (START.timestamp(), START.timestamp() + 99_999)
    empty = chart.picture(100, (begin - 9_000, begin - 8_000))
    assert (empty.lines, empty.notes) == ((), ["There are no values in this range."])
    assert len(empty.x.ticks)
    bars = source({"at": START + pd.to_timedelta(rows, unit="s"), "v": rows}, kind="bar", utc=True)
    assert "every 10 s" in bars.picture(100, (begin, begin + 60)).what


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "bra"},
            "kind must be line, area, bar, scatter or hist, not 'bra': did you mean 'bar'?",
        ),
        ({"kind": 5}, "kind must be line, area, bar, scatter or hist, not 5."),
        (
            {"how": "avg"},
            "how must be count, sum, mean, median, min, max, first, last or std, not 'avg'",
        ),
        ({"how": "medain"}, "did you mean 'median'?"),
        ({"every": "1 mn"}, "every must be a span of time, as in '5min', or a number: '1 mn'."),
        ({"every": -5}, "every must be a span of time"),
        ({"every": True and "0s"}, "every must be a span of time"),
        ({"y": ["a", "b"], "by": "c"}, "y must be one column, not 2"),
        ({"y": 5}, "y must be a column or a list of columns, not 5."),
        ({"kind": "hist", "how": "sum"}, "A histogram counts rows"),
        ({"kind": "hist", "x": "a"}, "leave out x='a'"),
        ({"kind": "hist", "every": "1min"}, "every must be a number, not '1min'"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str) -> None:
    """Unknown options, and options that do not go together, are an error with those allowed."""
    with pytest.raises(InvalidArgument) as raised:
        source({}, **options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"y": "totl"}, "There is no column 'totl' yet: did you mean 'total'?"),
        ({"by": "suk"}, "There is no column 'suk' yet: did you mean 'sku'?"),
        ({"x": "totla"}, "There is no column 'totla' yet: did you mean 'total'?"),
        ({"y": "sku"}, "The column 'sku' holds no numbers"),
        ({"x": "total", "every": "1min"}, "total is a number, so the every must be one too."),
    ],
)
def test_columns_that_are_wrong(options: dict[str, Any], note: str) -> None:
    """A chart without a column to draw says so, with a similar name."""
    shown = picture(ORDERS, **options)
    assert shown.lines == ()
    assert note in " ".join(shown.notes)


@pytest.mark.parametrize("options", [{}, {"every": "1s"}, {"kind": "bar"}, {"kind": "hist"}])
def test_a_column_turns_into_text(options: dict[str, Any]) -> None:
    """A column that turns into text while it is drawn is named, with those that can be drawn."""
    stream = UnconnectedStream()
    stream.add_rows([{"total": 1.5, "qty": 2.5}, {"total": 2.5, "qty": 3.5}])
    chart = Source(stream, "total", **options)
    assert chart.picture(100).lines
    stream.add_rows([{"total": "n/a", "qty": 4.5}])
    shown = chart.picture(100)
    assert shown.lines == ()
    (note,) = shown.notes
    assert note == "The column 'total' holds no numbers (object): choose from 'qty'."
