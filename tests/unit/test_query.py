"""Selection of rows: words, conditions on columns, and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fabric_nb.errors import InvalidArgument
from fabric_nb.frames import query as queries
from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.conditions import number_test, time_test
from fabric_nb.frames.query import Cancelled, ColumnFilter, Query, kind_of, select
from tests.support.streams import UnconnectedStream


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a stream keeps them."""
    buffer = FrameBuffer()
    buffer.extend(rows)
    return buffer.df


ORDERS = frame(
    [
        {"sku": "tea", "price": 4.5, "count": 9, "at": "2026-11-30 12:00:00", "tags": ["a"]},
        {"sku": "Green Tea", "price": 1234.5678, "count": 10, "at": "2026-11-30 12:30:59"},
        {"sku": "i10", "price": None, "count": -1, "at": "2026-12-01 00:00:01", "tags": {"b": 1}},
        {"sku": "i9", "price": 49 + 2 / 3, "count": 2_000_000, "at": None, "tags": "a"},
        {"sku": None, "price": 4.5, "count": 0, "at": "2025-01-31 23:59:59.5", "tags": 7},
    ]
)


def rows(query: Query, of: pd.DataFrame = ORDERS) -> list[int]:
    selection = select(of, query)
    assert selection.problems == {}
    return [int(position) for position in selection.positions]


def test_kinds_of_columns() -> None:
    """Numbers, times and all else are filtered in different ways."""
    kinds = [kind_of(dtype) for dtype in ORDERS.dtypes]
    assert kinds == ["text", "number", "number", "time", "text"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("TEA", [0, 1]),
        ("tea gre", [1]),
        ("1,234.57", [1]),
        ("49.6667", [3]),
        ("2000000", [3]),
        ("2026-12", [2]),
        ("23:59:59.5", [4]),
        ("b", [2]),
        ("none", []),
        ("nan", []),
        ("  ", [0, 1, 2, 3, 4]),
    ],
)
def test_words(words: str, found: list[int]) -> None:
    """A row is selected if it contains all words as it is shown, in any column, in any case."""
    assert rows(Query(words)) == found
    assert rows(Query(words, within=["count"])) == [
        row for row in found if words in ("2000000", "  ")
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("> 4.5", [1, 3]),
        (">=4.5", [0, 1, 3, 4]),
        ("< 50", [0, 3, 4]),
        ("<= 4.5", [0, 4]),
        ("5..50", [3]),
        ("5 .. 1,234.6", [1, 3]),
        ("..5", [0, 4]),
        ("50..", [1]),
        ("> 4 < 5", [0, 4]),
        ("4.5", [0, 4]),
        ("= 1234.57", [1]),
        ("!= 4.5", [1, 3]),
        ("> -1e3 and != 49.6667", [0, 1, 4]),
    ],
)
def test_numbers_are_filtered_by_range(text: str, found: list[int]) -> None:
    """Conditions on numbers select the rows that fulfil all; a missing number fulfils none."""
    assert rows(Query(filters=[ColumnFilter("price", text, "number")])) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-30", [0, 1]),
        ("2026-11", [0, 1]),
        ("2026-12", [2]),
        ("> 2026-11-30", [2]),
        (">= 2026-11-30 < 2026-12-01", [0, 1]),
        ("2026-11-30 12:00", [0]),
        ("> 2026-11-30T12:00", [1, 2]),
        ("<= 2026-11-30 12:00", [0, 4]),
        ("2025-01..2026-11", [0, 1, 4]),
        ("12:00..12:29", [0]),
        ("12:00..12:30", [0, 1]),
        ("12:30:59", [1]),
        ("< 12:00", [2]),
        ("> 23:59", []),
        ("23:59:59.5", [4]),
        ("!= 2026-11-30", [2, 4]),
        ("2026-11-30 14:30+02:00", [1]),
    ],
)
@pytest.mark.parametrize("zone", ["", "Z"])
def test_times_are_filtered_by_range(text: str, found: list[int], zone: str) -> None:
    """A time means all moments that it shows, a time of day that of any day; missing is neither."""
    stored = frame(
        [{"at": None if pd.isna(at) else f"{at.isoformat()}{zone}"} for at in ORDERS["at"]]
    )
    assert rows(Query(filters=[ColumnFilter("at", text, "time")]), stored) == found


def test_texts_are_filtered_by_words() -> None:
    """The filter of any other column has words, which it must contain all."""
    assert rows(Query(filters=[ColumnFilter("sku", "tea green", "text")])) == [1]
    assert rows(Query(filters=[ColumnFilter("tags", "a")])) == [0, 3]
    assert rows(Query("tea", [ColumnFilter("price", "> 5"), ColumnFilter("count", "10")])) == [1]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_times(unit: str) -> None:
    """Times of any unit are compared exactly."""
    times = pd.Series(pd.to_datetime(["2026-11-30 12:00:01", "2026-11-30 12:00:02"])).dt.as_unit(
        unit
    )
    one = pd.DataFrame({"at": times})
    assert rows(Query(filters=[ColumnFilter("at", "< 12:00:01.5")]), one) == [0]
    assert rows(Query("12:00:02"), one) == [1]


@pytest.mark.parametrize(
    ("test", "text", "said"),
    [
        (number_test, "abc", "'abc' is no number: write > 5 or 5..10."),
        (number_test, "> ", "A number is missing after >: write > 5 or 5..10."),
        (number_test, "> > 5", "A number is missing after >: write > 5 or 5..10."),
        (number_test, "..", "A number is missing beside ..: write > 5 or 5..10."),
        (number_test, "5 x", "'x' is no number: write > 5 or 5..10."),
        (number_test, " ", "This filter is empty: write > 5 or 5..10."),
        (number_test, "5!", "'!' is no number: write > 5 or 5..10."),
        (number_test, "x" * 100, f"'{'x' * 39}…' is no number: write > 5 or 5..10."),
        (time_test, "noon", "'noon' is no time: write 12:30, 2026-11-30 or 2026-11-30 12:30."),
        (time_test, "25:00", "'25:00' is no time: write 12:30, 2026-11-30 or 2026-11-30 12:30."),
        (time_test, "2026-02-31", "'2026-02-31' is no time"),
        (time_test, "12:00..2026-11-30", "'12:00' and '2026-11-30' are no range"),
        (time_test, ">=", "A time is missing after >=: write > 12:30 or 2026-11-30."),
    ],
)
def test_filters_that_are_none(test: Any, text: str, said: str) -> None:
    """A text that is no condition is refused with a sentence that says what to write."""
    with pytest.raises(InvalidArgument) as refused:
        test(text)
    assert str(refused.value).startswith(said)


def test_a_filter_that_cannot_be_applied_is_off() -> None:
    """A bad filter, or one of a column that changed its kind, is left out, with a sentence."""
    filters = [
        ColumnFilter("price", "many", "number"),
        ColumnFilter("sku", "> 5", "number"),
        ColumnFilter("count", "tea", "text"),
        ColumnFilter("gone", "x", "text"),
        ColumnFilter("at", "2026-11-30", "time"),
    ]
    selection = select(ORDERS, Query(filters=filters))
    assert list(selection.positions) == [0, 1]
    assert selection.problems == {
        "price": "'many' is no number: write > 5 or 5..10.",
        "sku": "'sku' is no column of numbers any more, so that its filter is off: write words.",
        "count": "'count' is no column of texts any more, so that its filter is off: filter it by"
        " numbers.",
        "gone": "There is no column 'gone' any more, so that its filter is off.",
    }


@pytest.mark.parametrize("has_arrow", [True, False])
@pytest.mark.parametrize(
    ("column", "ascending", "descending"),
    [
        ("price", [0, 4, 3, 1, 2], [1, 3, 0, 4, 2]),
        ("count", [2, 4, 0, 1, 3], [3, 1, 0, 4, 2]),
        ("at", [4, 0, 1, 2, 3], [2, 1, 0, 4, 3]),
        ("sku", [1, 3, 2, 0, 4], [0, 2, 3, 1, 4]),
        ("tags", [4, 0, 3, 2, 1], [4, 2, 3, 0, 1]),
    ],
)
def test_sorting(
    column: str,
    ascending: list[int],
    descending: list[int],
    has_arrow: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Numbers are before texts, missing values last, and equal rows in their order."""
    if not has_arrow:
        monkeypatch.setattr(queries, "arrow", lambda: None)
    monkeypatch.setattr(queries, "SLICE", 2)
    assert rows(Query(sort=column)) == ascending
    assert rows(Query(sort=column, descending=True)) == descending
    assert rows(Query("tea", sort=column)) == [row for row in ascending if row in (0, 1)]


def test_texts_are_sorted_like_in_a_browser() -> None:
    """Case does not count, and numbers within texts are compared as numbers."""
    texts = ["b2", "a10", "B1", "a9", "a09", "é", "", "a"]
    assert rows(Query(sort="t"), frame([{"t": text} for text in texts])) == [6, 7, 3, 4, 1, 2, 0, 5]


def test_slices_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection in many steps is that of all rows at once."""
    random = np.random.default_rng(7)
    numbers = random.integers(0, 50, 999)
    table = frame([{"n": int(n), "x": n / 7, "t": f"t{n}"} for n in numbers])
    query = Query("t1", [ColumnFilter("n", "10..20")], sort="x", descending=True)
    expected = table[table["t"].str.contains("1") & table["n"].between(10, 20)]
    for size in (7, 100_000):
        monkeypatch.setattr(queries, "SLICE", size)
        assert rows(query, table) == list(
            expected.sort_values("x", ascending=False, kind="stable").index
        )
        assert rows(Query(), table) == list(range(999))


def test_no_rows() -> None:
    """Without rows, or without columns, nothing is selected."""
    assert rows(Query("x", sort="sku"), ORDERS.iloc[:0]) == []
    assert rows(Query("x", sort="sku"), pd.DataFrame()) == []


def test_a_selection_is_cancelled() -> None:
    """A selection that is not wanted any more ends between two steps."""
    with pytest.raises(Cancelled):
        select(ORDERS, Query("x"), lambda: True)


def test_values_of_any_content() -> None:
    """Deeply nested values and huge numbers are searched and sorted."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    odd = pd.DataFrame(
        {"v": pd.Series([deep, 10**400, float("inf"), "x", True, -(10**400)], dtype=object)}
    )
    assert rows(Query("x"), odd) == [3]
    assert rows(Query(sort="v"), odd) == [5, 1, 2, 0, 4, 3]


# -- rows of a stream


def test_rows_of_a_stream() -> None:
    """`stream.where` returns the rows that match, with their index."""
    stream = UnconnectedStream(index="at")
    stream.add_rows([{"at": f"2026-11-30 12:00:0{n}", "n": n, "s": f"i{n % 2}"} for n in range(6)])
    found = stream.where("I1", {"n": "> 1", "at": "..12:00:04"}, sort="n", descending=True)
    assert list(found.n) == [3]
    assert list(stream.where(sort="s", descending=True).n) == [1, 3, 5, 0, 2, 4]
    assert found.index.name == "at"
    assert list(stream.where("1", within=["s"]).n) == [1, 3, 5]
    assert list(stream.df.columns) == ["n", "s"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": {"n": "many"}}, "The filter of 'n' is wrong: 'many' is no number: write"),
        ({"sort": "x"}, "The stream has no column 'x'; it has 'n', 's'."),
        ({"within": ["x"]}, "The stream has no column 'x'; it has 'n', 's'."),
        ({"columns": {"x": "1"}}, "The stream has no column 'x'; it has 'n', 's'."),
    ],
)
def test_rows_of_a_stream_that_cannot_be_selected(arguments: Any, said: str) -> None:
    """A filter that is none, or of a column that does not exist, is an error."""
    stream = UnconnectedStream()
    stream.add_rows([{"n": 1, "s": "a"}])
    with pytest.raises(InvalidArgument) as refused:
        stream.where(**arguments)
    assert str(refused.value).startswith(said)
