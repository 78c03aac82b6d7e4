"""Publishing of row data: each form is interpreted correctly, and arrives equal."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, get_args
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.wire.data_decoding import rows_of
from fabric_nb.fabric.wire.data_encoding import (
    Format,
    data_message,
    encode_rows,
)
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.frames.buffer import FrameBuffer
from tests.support.decoding import decode_rows, read_rows
from tests.unit.test_tables import COLUMNS, frames
from tests.unit.test_wire import delivered

FORMS: Sequence[Format] = get_args(Format)
NAME = ServiceName("d", "t", "i")


def arrived(data: Any, form: Format | None) -> list[dict[str, Any]]:
    """Return the rows that a subscriber receives."""
    message = data_message(data, {}, NAME, form=form)
    return [dict(row) for row in rows_of(read_rows(delivered(message)))]


def shown(data: Any, form: Format | None) -> pd.DataFrame:
    """Return the DataFrame of a stream."""
    buffer = FrameBuffer()
    batch = read_rows(delivered(data_message(data, {}, NAME, form=form)))
    if isinstance(batch, (list, tuple)):
        buffer.extend(batch)
    else:
        buffer.extend_columns(batch)
    return buffer.df


class Exported:
    """Table or column of another library, exported as by polars and DuckDB."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._of.__arrow_c_stream__(requested_schema)


TWO = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
TABLE = pa.table({"a": [1, 2], "b": ["x", "y"]})
GIVEN: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "one row": ({"a": 1, "b": "x"}, TWO[:1]),
    "a mapping of another kind": (MappingProxyType({"a": 1, "b": "x"}), TWO[:1]),
    "rows": (TWO, TWO),
    "a tuple of rows": (tuple(OrderedDict(row) for row in TWO), TWO),
    "rows in a deque": (deque(TWO), TWO),
    "no rows": ([], []),
    "columns": ({"a": [1, 2], "b": ["x", "y"]}, TWO),
    "columns of arrays": ({"a": np.array([1, 2]), "b": ("x", "y")}, TWO),
    "columns of Series": ({"a": pd.Series([1, 2], index=[8, 9]), "b": pd.Index(["x", "y"])}, TWO),
    "columns of Arrow": (
        {"a": pa.array([1, 2]), "b": Exported(pa.chunked_array([["x", "y"]]))},
        TWO,
    ),
    "a DataFrame": (pd.DataFrame(TWO), TWO),
    "a DataFrame with an index": (pd.DataFrame(TWO).set_index("a"), TWO),
    "a Series": (pd.Series([1, 2], name="a"), [{"a": 1}, {"a": 2}]),
    "a Series without a name": (pd.Series([1, 2]), [{"value": 1}, {"value": 2}]),
    "a row of a DataFrame": (pd.DataFrame(TWO).iloc[1].to_dict(), TWO[1:]),
    "an Arrow table": (TABLE, TWO),
    "a record batch": (TABLE.to_batches()[0], TWO),
    "a table of another library": (Exported(TABLE), TWO),
    "a row of lists": ([{"a": [1, 2]}], [{"a": [1, 2]}]),
    "a row of a list and a number": ({"a": [1, 2], "b": 3}, [{"a": [1, 2], "b": 3}]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "given", [one for one in GIVEN if "generator" not in one and "reader" not in one]
)
def test_forms_of_row_data(given: str, form: Format) -> None:
    """A row, rows, columns and tables of any library arrive as the same rows, in every format."""
    data, rows = GIVEN[given]
    assert arrived(data, form) == rows
    if rows:
        assert shown(data, form).to_dict("records") == rows


@pytest.mark.parametrize("form", FORMS)
def test_iterators_of_rows(form: Format) -> None:
    """Rows of a generator and a reader of Arrow batches, which can be read once, arrive."""
    assert arrived((row for row in TWO), form) == TWO
    assert arrived(TABLE.to_reader(), form) == TWO


REFUSED: list[tuple[Any, str]] = [
    (5, "the data is a int, which is no rows"),
    (None, "the data is a NoneType, which is no rows"),
    ("text", "the data is a str, which is no rows"),
    (b"bytes", "the data is a bytes, which is no rows"),
    (object(), "the data is a object, which is no rows"),
    ([1, 2], "the data[0] is a int, and a row is a mapping"),
    ([{"a": 1}, "x"], "the data[1] is a str, and a row is a mapping"),
    ([["a", 1]], "the data[0] is a list, and a row is a mapping"),
    (iter("ab"), "the data[0] is a str, and a row is a mapping"),
    (np.array([[1, 2], [3, 4]]), "the data[0] is a ndarray, and a row is a mapping"),
    (pd.Index([1]), "the data[0] is a int, and a row is a mapping"),
    ({1, 2}, "the data[0] is a int, and a row is a mapping"),
    ([pd.DataFrame(TWO)], "the data[0] is a DataFrame, and a row is a mapping"),
    (pa.array([1, 2]), "the data is a Int64Array that is no table"),
    (Exported(pa.chunked_array([[1]])), "the data is a Exported that is no table"),
    ({"a": [1, 2], "b": [1]}, "the data has columns of different lengths, 2 in 'a' and 1 in 'b'"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the data has the column 'a' twice"),
    (pd.DataFrame({("a", 1): [1]}), "the data has the column"),
    (pd.DataFrame({"p": pd.period_range("2024", periods=1)}), "the data['p'] has the type period"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_other_data_are_refused(number: int, form: Format) -> None:
    """Data that are not rows are refused, with the forms that may be published."""
    data, sentence = REFUSED[number]
    if isinstance(data, type(iter(""))):
        data = iter("ab")
    with pytest.raises(NotSerializable) as caught:
        encode_rows(data, form)
    text = str(caught.value)
    if "period" in sentence and form == "arrow":
        sentence = "the data['p'] has the type extension<pandas.period"
    assert text.startswith(sentence)
    assert text.endswith(".")


def test_tables_without_a_format_are_refused_with_what_to_do() -> None:
    """A table of another library without `format=` is refused, with advice."""
    for table in (TABLE, Exported(TABLE)):
        with pytest.raises(NotSerializable, match="format='arrow'"):
            data_message(table, {}, NAME)


def test_two_columns_of_one_name_in_arrow() -> None:
    """An Arrow table with two columns of one name is refused, because JSON would lose one."""
    twice = pa.table([[1], [2]], names=["a", "a"])
    for form in ("json", "json-columns"):
        with pytest.raises(NotSerializable, match="the column 'a' twice"):
            encode_rows(twice, form)


# -- values


class Colour(enum.Enum):
    RED = 1


NOON = dt.datetime.fromisoformat("2024-05-31T12:00:00")
NS = pd.Timestamp("2024-05-31T12:30:00.000000001")
CHANGED_BY_ARROW: list[list[Any]] = [
    [{"a": 1}, {"b": 2}],
    [[{"a": 1}], [{}]],
    ["a", b"a"],
    [b"a", "a"],
    [dt.date(2024, 5, 31), NOON],
    [NOON, NOON.replace(tzinfo=dt.UTC)],
    [NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), NOON],
    [NS, NOON],
    [[NOON, NS]],
    [pd.Timedelta(1), dt.timedelta(1)],
    [{1, 2}],
    [True, 2],
    [1.5, True],
    [1, np.bool_(True)],
    [[0.0, False]],
    [{"a": [1.5]}, {"a": [True]}],
    [1, "a"],
    [2**53 + 1, 0.5],
    [2**64],
    ["\udc80"],
    [object()],
    [Colour.RED],
    [{1: 2}],
]


@pytest.mark.parametrize("cells", CHANGED_BY_ARROW, ids=range(len(CHANGED_BY_ARROW)))
def test_values_that_arrow_would_change_are_refused(cells: list[Any]) -> None:
    """Values that pyarrow would convert silently are refused, with their position."""
    for data in (
        [{"x": cell} for cell in cells],
        {"x": cells},
        pd.DataFrame({"x": pd.Series(cells, dtype=object)}),
    ):
        with pytest.raises(NotSerializable, match=r"the data\['x'\]"):
            encode_rows(data, "arrow")


def test_ints_with_gaps_stay_ints() -> None:
    """A missing value does not turn integers of other rows into floats, however large."""
    rows = [{"n": 2**53 + 1}, {"other": "x"}, {"n": 1}]
    for form in FORMS:
        numbers = [row.get("n") for row in arrived(rows, form)]
        assert numbers == [2**53 + 1, None, 1]
        assert [type(number) for number in numbers if number] == [int, int]


def is_missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or value != value


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal or both missing; booleans do not equal numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (dict, list)) or isinstance(other, (dict, list)):
        return False
    if is_missing(one) or is_missing(other):
        return is_missing(one) and is_missing(other)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


text = st.text(st.characters(codec="utf-8"), max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_infinity=True)
    | text
)
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2)
)
keys = st.sampled_from(["a", "b", "ü", ""])
some_rows = st.lists(st.dictionaries(keys, nested, min_size=1, max_size=3), max_size=4)


@settings(max_examples=60)
@given(some_rows, st.sampled_from(FORMS))
@example([{"a": 1}, {"a": 2.5}, {"b": True}], "arrow")
@example([{"a": [math.nan]}], "arrow")
@example([{"a": {"x": math.nan}}, {"a": None}], "arrow")
@example([{"a": []}, {"a": [1]}, {"a": None}], "arrow")
@example([{"a": {}}], "arrow")
def test_any_rows_arrive_equal_or_are_refused(rows: list[dict[str, Any]], form: Format) -> None:
    """Each value of any rows arrives equal, in every format, or the rows are refused."""
    try:
        got = arrived(rows, form)
    except NotSerializable:
        assert form == "arrow"  # which has one type to a column
        return
    assert len(got) == len(rows)
    for row, received in zip(rows, got, strict=True):
        assert all(same(received.get(key), row.get(key)) for key in row.keys() | received.keys())


@pytest.mark.parametrize("form", [None, *FORMS])
@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_every_type_arrive_equal(kind: str, form: Format | None) -> None:
    """Each cell of each type of column arrives equal in every format, times as text in JSON."""
    frame = pd.DataFrame({"c": COLUMNS[kind]})
    try:
        got = [row["c"] for row in arrived(frame, form)]
    except NotSerializable:
        assert form == "arrow"
        assert kind.startswith("object") or kind == "category of mixed"
        return
    expected = frame["c"].astype(object).tolist()
    timed = kind.startswith(("datetime", "timedelta", "category of times", "category of spans"))
    if form != "arrow" and timed:
        expected = [None if is_missing(cell) else cell.isoformat() for cell in expected]
    assert same(got, expected)


@settings(max_examples=60)
@given(frames(), st.sampled_from([None, *FORMS]))
def test_any_frame_arrives_with_its_index(frame: pd.DataFrame, form: Format | None) -> None:
    """A DataFrame arrives with its columns and the levels of its index, or is refused."""
    try:
        got = arrived(frame, form)
    except NotSerializable:
        assert form in ("arrow", "json-columns")  # which cannot tell rows without a column
        assert form == "arrow" or not frame.columns.size
        return
    counts = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    wide = frame.shape[1] + (0 if counts else frame.index.nlevels)
    assert len(got) == (len(frame) if wide or form in (None, "json") else 0)
    assert all(len(row) == wide for row in got)
    for position, label in enumerate(frame.columns):
        if str(frame.dtypes.iloc[position]).startswith(("datetime", "timedelta")):
            continue  # compared above
        cells = frame.iloc[:, position].astype(object).tolist()
        assert same([row[str(label)] for row in got], cells)


INDEXES: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "of consecutive ids": (pd.Index([1, 2, 3], name="id"), {"id": [1, 2, 3]}),
    "of other ids": (pd.Index([3, 1, 7], name="id"), {"id": [3, 1, 7]}),
    "that counts, with a name": (pd.RangeIndex(3, name="id"), {"id": [0, 1, 2]}),
    "of numbers": (pd.Index([3, 1, 7]), {"index": [3, 1, 7]}),
    "of text": (pd.Index(["x", "y", "z"]), {"index": ["x", "y", "z"]}),
    "of two levels": (
        pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["k", None]),
        {"k": ["x", "x", "y"], "level_1": [1, 2, 1]},
    ),
    "with a column's name": (pd.Index([1, 2, 3], name="v"), {"_v": [1, 2, 3]}),
    "that only counts": (pd.RangeIndex(10, 13), {}),
}


@pytest.mark.parametrize("form", [None, *FORMS])
@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_arrives_in_every_format(kind: str, form: Format | None) -> None:
    """An index is sent as columns, in every format, except for a row counter."""
    index, columns = INDEXES[kind]
    frame = pd.DataFrame({"v": [0.5, 1.5, 2.5]}, index=index)
    expected = pd.DataFrame({**columns, "v": frame["v"].tolist()})
    assert arrived(frame, form) == expected.to_dict("records")


@pytest.mark.parametrize("form", [None, *FORMS])
@pytest.mark.parametrize("ids", [[1, 2, 3], [3, 1, 7]])
def test_set_index_loses_no_column(ids: list[int], form: Format | None) -> None:
    """A column that became an index by `set_index` is a column at the subscriber."""
    frame = pd.DataFrame({"id": ids, "v": ["a", "b", "c"]}).set_index("id")
    assert shown(frame, form).to_dict("list") == {"id": ids, "v": ["a", "b", "c"]}


def test_times_in_a_repeated_hour() -> None:
    """Times with zones arrive in Arrow as the same instants, in each hour of the year."""
    zones = [ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]
    twice = [dt.datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=zones[0]) for fold in (0, 1)]
    rows = [{"at": at} for at in (*twice, dt.datetime(2024, 11, 3, 1, 30, tzinfo=zones[1]))]
    got = [row["at"].astimezone(dt.UTC) for row in arrived(rows, "arrow")]
    assert got == [row["at"].astimezone(dt.UTC) for row in rows]
    assert got[0] != got[1]


def test_decimals_and_bytes_in_arrow() -> None:
    """Arrow represents decimals and bytes, which JSON cannot."""
    rows = [{"d": Decimal("1.50"), "b": b"\xff"}, {"d": Decimal("-2.25"), "b": b""}]
    assert arrived(rows, "arrow") == rows
    for form in ("json", "json-columns"):
        with pytest.raises(NotSerializable, match=r"the data.*'d'"):
            encode_rows(rows, form)


def test_arrow_bodies_have_no_pandas_metadata() -> None:
    """An Arrow body has only the columns, which any library reads."""
    body, kind = encode_rows(pd.DataFrame(TWO).set_index("a"), "arrow")
    table = decode_rows(body, kind, None)
    assert table.column_names == ["a", "b"]
    assert table.schema.metadata is None
