"""Tests of the frame buffer."""

from __future__ import annotations

import math
import re
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fabric_nb.frames import column_storage, time_conversion, typed_chunks
from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.column_storage import estimated_size
from fabric_nb.frames.rows import OVERFLOW

Rows = list[dict[str, Any]]

TEXT_DTYPE = str(pd.Series(["text"]).dtype)


# -- expected columns, computed value by value -----------------------------------------------------


ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def is_missing(value: object) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def as_time(value: object) -> pd.Timestamp | None:
    """Return the value parsed by pandas as a single time, None if it is not a time."""
    if isinstance(value, str) and not ISO.fullmatch(value):
        return None
    try:
        return pd.Timestamp(value) if isinstance(value, str | datetime) else None
    except ValueError:
        return None


def expected_column(values: list[Any], *, text_dtype: str) -> tuple[str, list[Any]]:
    """Return the documented dtype and values, derived from pandas' own inference."""
    present = [value for value in values if not is_missing(value)]
    if not present:
        return "float64", [None] * len(values)
    stamps = [as_time(value) for value in present]
    if all(stamp is not None for stamp in stamps):
        zoned = {stamp.tzinfo is not None for stamp in stamps if stamp is not None}
        fine = any(re.search(r"\.\d{7}", v) for v in present if isinstance(v, str))
        reach = (pd.Timestamp.min.year, pd.Timestamp.max.year) if fine else (1, 9999)
        if len(zoned) == 1 and all(reach[0] <= s.year <= reach[1] for s in stamps if s):
            dtype = f"datetime64[{'ns' if fine else 'us'}{', UTC' if zoned == {True} else ''}]"
            return dtype, [None if is_missing(v) else as_time(v) for v in values]
    if all(isinstance(value, str) for value in present):
        return text_dtype, values
    ints = [value for value in present if type(value) is int]
    rounded = len(ints) < len(values) and any(abs(value) > 2**53 for value in ints)
    if rounded or any(not -(2**63) <= value < 2**63 for value in ints):
        return "object", values
    if any(isinstance(value, datetime) for value in present):
        return "object", values
    return str(pd.DataFrame([{"a": value} for value in values])["a"].dtype), values


def assert_column(series: pd.Series[Any], values: list[Any], *, text_dtype: str) -> None:
    dtype, expected = expected_column(values, text_dtype=text_dtype)
    assert str(series.dtype) == dtype
    assert len(series) == len(expected)
    for shown, value in zip(series, expected, strict=True):
        if is_missing(value):
            assert is_missing(shown)
            continue
        assert shown == value
        if dtype == "object" and not isinstance(value, datetime):
            assert type(shown) is type(value)


# -- rows ------------------------------------------------------------------------------------------


datetimes = st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01"))


def iso_texts(zones: list[str]) -> st.SearchStrategy[str]:
    digits = st.sampled_from([0, 0, 3, 6, 9])
    return st.builds(
        lambda moment, separator, digits, zone: (
            f"{moment:%Y-%m-%d}{separator}{moment:%H:%M:%S}"
            + (f".{moment.microsecond:06}000"[: digits + 1] if digits else "")
            + zone
        ),
        datetimes,
        st.sampled_from("T "),
        digits,
        st.sampled_from(zones),
    )


small_ints = st.integers(-1000, 1000)
large_ints = st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 2**80])
floats = st.floats(allow_nan=True, width=64)
words = st.text(st.characters(codec="utf-8"), max_size=5)
nested = st.one_of(st.lists(small_ints, max_size=3), st.dictionaries(words, small_ints, max_size=2))
near_times = st.sampled_from(
    ["2024-02-30", "2024-01-01T25:00:00Z", "2024-13-01", "2024-01-01\n", ""]
)

families: list[st.SearchStrategy[Any]] = [
    st.booleans(),
    small_ints,
    large_ints,
    floats,
    words,
    iso_texts(["Z", "+02:00", "-09:30"]),
    iso_texts([""]),
    near_times,
    datetimes,
    datetimes.map(lambda moment: moment.replace(tzinfo=UTC)),
    nested,
    st.just(Decimal("1.5")),
]
gaps = st.sampled_from([None, None, math.nan])


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Generate rows with columns mostly of one kind, gaps, absent values and late columns."""
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    cells: dict[str, st.SearchStrategy[Any]] = {}
    for name in names:
        kinds = draw(st.lists(st.sampled_from(families), min_size=1, max_size=2))
        cells[name] = st.one_of(*kinds, gaps) if draw(st.booleans()) else st.one_of(*kinds)
    whole = st.fixed_dictionaries(cells)
    partial = st.fixed_dictionaries({}, optional=cells)
    return draw(st.lists(st.one_of(whole, partial) if draw(st.booleans()) else whole, max_size=12))


@st.composite
def chunked(draw: st.DrawFn) -> list[Rows]:
    """Generate rows, cut where snapshots are taken."""
    rows = draw(tables())
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    return [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


@contextmanager
def text_as(arrow: bool) -> Iterator[str]:
    """Store text as this pandas does, or as one without pyarrow; yield the dtype of text."""
    with pytest.MonkeyPatch.context() as patch:
        if not arrow:
            for module in (typed_chunks, column_storage):
                patch.setattr(module, "arrow", lambda: None)
        yield TEXT_DTYPE if arrow else "object"


def take_snapshot(buffer: FrameBuffer) -> None:
    """Write pending rows, as any snapshot does."""
    assert len(buffer.df) == len(buffer)


def put(buffer: FrameBuffer, rows: Rows, method: int) -> None:
    if method == 0:
        buffer.extend(rows)
    elif method == 1 or len({tuple(row) for row in rows}) != 1 or not rows[0]:
        for row in rows:
            buffer.append(row)
    else:
        buffer.extend_columns({name: [row[name] for row in rows] for name in rows[0]})


@settings(max_examples=100, deadline=None)
@given(
    chunks=chunked(),
    methods=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    arrow=st.booleans(),
)
@example([[{"a": 1}], [{"a": None}], [{"a": "x"}]], [0] * 5, True)
@example([[{"a": 2**53 + 1}], [{}]], [0] * 5, True)
@example([[{"a": math.nan}], [{"a": "x"}]], [0] * 5, True)
@example([[{"a": "2024-01-01"}], [{"a": pd.Timestamp("2024-01-01")}], [{"a": "x"}]], [0] * 5, True)
@example([[{"a": "2024-01-01T00:00:00.123456789"}], [{"a": "9999-01-01"}]], [0] * 5, False)
def test_a_snapshot_equals_a_dataframe_of_all_rows(
    chunks: list[Rows], methods: list[int], arrow: bool
) -> None:
    """The columns, dtypes and values depend neither on chunks nor on the method of adding."""
    rows = [row for chunk in chunks for row in chunk]
    with text_as(arrow) as text_dtype:
        buffer = FrameBuffer()
        for chunk, method in zip(chunks, methods, strict=False):
            put(buffer, chunk, method)
            take_snapshot(buffer)
        frame = buffer.df
        assert list(frame.columns) == list(pd.DataFrame(rows).columns)
        assert list(frame.index) == list(range(len(rows)))
        for name in map(str, frame):
            assert_column(frame[name], [row.get(name) for row in rows], text_dtype=text_dtype)


@settings(max_examples=50, deadline=None)
@given(chunks=chunked(), arrow=st.booleans())
def test_a_snapshot_never_changes(chunks: list[Rows], arrow: bool) -> None:
    """Later rows, dropped rows and changes of type do not change a snapshot."""
    with text_as(arrow):
        buffer = FrameBuffer(max_rows=5)
        seen = []
        for chunk in chunks:
            buffer.extend(chunk)
            frame = buffer.df
            seen.append((frame, frame.copy(deep=True)))
        buffer.clear()
        for frame, copy in seen:
            pd.testing.assert_frame_equal(frame, copy)


@settings(max_examples=50, deadline=None)
@given(chunks=chunked(), max_rows=st.integers(1, 8), n=st.integers(0, 10))
@example(
    chunks=[[{"a": None}, {"a": "2000-01-01T00:00:00Z"}, {"a": None}], [{"a": 0}]], max_rows=1, n=0
)
def test_max_rows_keeps_the_newest(chunks: list[Rows], max_rows: int, n: int) -> None:
    """With max_rows a snapshot is the end of the unbounded one, and dropped rows are counted."""
    bounded, unbounded = FrameBuffer(max_rows=max_rows), FrameBuffer()
    for chunk in chunks:
        bounded.extend(chunk)
        unbounded.extend(chunk)
        assert len(bounded) == min(max_rows, len(unbounded))
    pd.testing.assert_frame_equal(bounded.df, unbounded.df.tail(max_rows))
    pd.testing.assert_frame_equal(bounded.tail(n), unbounded.df.tail(max_rows).tail(n))
    assert bounded.dropped == bounded.rows_seen - len(bounded)
    assert bounded.rows_seen == sum(map(len, chunks))


def test_original_values_are_restored_after_rows_were_dropped() -> None:
    """The remaining rows show their original values, whatever the format of dropped rows was."""
    buffer = FrameBuffer(max_rows=4)
    for row in range(20):
        at = f"2024-01-01T00:00:{row:02}{'.5' if row % 3 else ''}Z"
        buffer.append({"number": row if row % 2 else row + 0.5, "at": at})
        take_snapshot(buffer)
    buffer.append({"number": "none", "at": "never"})
    assert list(buffer.df["number"]) == [17, 18.5, 19, "none"]
    assert [type(value) for value in buffer.df["number"]] == [int, float, int, str]
    assert list(buffer.df["at"].str[17:]) == ["17.5Z", "18Z", "19.5Z", ""]


# -- views -----------------------------------------------------------------------------------------


MIXED: Rows = [
    {
        "flag": row % 2 == 0,
        "count": row,
        "value": row / 2,
        "name": f"n{row}",
        "at": f"2024-01-01T00:00:{row % 60:02}Z",
        "local": f"2024-01-01 00:00:{row % 60:02}",
        "tags": [row],
    }
    for row in range(200)
]


@pytest.mark.parametrize("name", MIXED[0])
def test_writing_into_a_snapshot_fails(name: str) -> None:
    """A snapshot cannot be written to, so that it always equals the received rows."""
    buffer = FrameBuffer()
    buffer.extend(MIXED)
    frame = buffer.df
    before = list(frame[name])
    # pandas turns the ValueError of a datetime column into an AssertionError.
    with pytest.raises((ValueError, AssertionError)):
        frame.loc[0, name] = frame[name].iloc[1]
    assert list(frame[name]) == before
    assert list(buffer.df[name]) == before


def test_copies_and_new_columns_do_not_change_the_buffer() -> None:
    """A copy is writable and columns can be added to a snapshot, without changing the buffer."""
    buffer = FrameBuffer()
    buffer.extend(MIXED)
    frame = buffer.df
    frame["twice"] = frame["count"] * 2
    copied = frame.copy()
    copied.loc[0, "count"] = -1
    copied.loc[0, "name"] = "other"
    copied.loc[0, "at"] = pd.Timestamp(0, tz="UTC")
    assert "twice" not in buffer.df
    assert buffer.df["count"][0] == 0
    assert buffer.df["name"][0] == "n0"


def test_a_snapshot_copies_nothing() -> None:
    """Two snapshots share memory, so that their cost does not depend on the number of rows."""
    buffer = FrameBuffer()
    buffer.extend(MIXED)
    first = buffer.df
    buffer.extend(MIXED[:50])
    second = buffer.df
    for name in ("flag", "count", "value", "local", "tags"):
        assert np.shares_memory(first[name].to_numpy(), second[name].to_numpy()), name
    by_count = FrameBuffer(index="count")
    by_count.extend(MIXED)
    assert np.shares_memory(by_count.df.index.to_numpy(), by_count.df.index.to_numpy())
    # Values with a zone share memory too.
    instants = [frame["at"].astype("int64").to_numpy() for frame in (first, second)]
    assert np.array_equal(instants[0], instants[1][:200])


def test_text_can_be_used_as_text() -> None:
    """Text columns have the dtype of this pandas and the methods of text."""
    buffer = FrameBuffer()
    buffer.extend([{"name": "Ada"}, {}, {"name": "Grace"}])
    series = buffer.df["name"]
    assert str(series.dtype) == TEXT_DTYPE
    assert list(series.str.upper().dropna()) == ["ADA", "GRACE"]
    assert list(series.isna()) == [False, True, False]


# -- times -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(iso_texts(["Z", "+00:00", "-09:30", "+14:00"])), min_size=1))
def test_original_time_texts_are_restored(texts: list[str]) -> None:
    """A column that is no longer of times shows the original texts exactly."""
    buffer = FrameBuffer()
    buffer.extend([{"at": text} for text in texts])
    assert isinstance(buffer.df["at"].dtype, pd.DatetimeTZDtype)
    buffer.append({"at": "never"})
    assert list(buffer.df["at"]) == [*texts, "never"]


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29", "2024-04-31", "2024-00-10", "2024-10-00", "0000-01-01", "2024-01-01T24:00:00",
        "2024-01-01T00:60:00", "2024-01-01T00:00:60", "2024-01-01T00:00:00.", "2024-01-01T00:00",
        "2024-01-01T00:00:00.1234567890", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+0200",
        "2024-01-01T00:00:00z", "2024-01-01Z", "20240101", " 2024-01-01", "2024-01-01 ",
        "\uff12024-01-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
        "1677-12-31T00:00:00.1234567", "2262-01-01T00:00:00.1234567",
    ],
)  # fmt: skip
def test_invalid_times_stay_text(text: str) -> None:
    """Text that only resembles a time is shown unchanged."""
    buffer = FrameBuffer()
    buffer.append({"at": text})
    assert list(buffer.df["at"]) == [text]


def test_zones_may_differ_and_naive_times_do_not_mix_with_them() -> None:
    """Times of several zones are one column in UTC; times without a zone stay text beside them."""
    buffer = FrameBuffer()
    buffer.extend([{"at": "2024-03-31T01:30:00+01:00"}, {"at": "2024-03-31T03:30:00+02:00"}])
    assert list(buffer.df["at"].diff().dropna()) == [pd.Timedelta("1h")]
    buffer.append({"at": "2024-03-31T03:30:00"})
    assert str(buffer.df["at"].dtype) == TEXT_DTYPE


def test_time_recognition_can_be_disabled() -> None:
    """With times=False text stays text."""
    buffer = FrameBuffer(times=False)
    buffer.append({"at": "2024-01-01T00:00:00Z"})
    assert list(buffer.df["at"]) == ["2024-01-01T00:00:00Z"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("as_array", [False, True])
def test_numbers_are_times_if_a_unit_is_given(unit: time_conversion.Unit, as_array: bool) -> None:
    """Only a column named in unit= reads numbers as times since 1970, in UTC."""
    instants = pd.DatetimeIndex(["2024-05-31T12:30:00.5", "1969-12-31T23:59:59.25"], tz="UTC")
    numbers = (instants.as_unit("ns").astype("int64") / time_conversion.NANOSECONDS[unit]).tolist()
    buffer = FrameBuffer(unit={"at": unit})
    buffer.extend_columns(
        {name: np.array(numbers) if as_array else numbers for name in ("at", "other")}
    )
    frame = buffer.df
    assert str(frame["at"].dtype) == "datetime64[ns, UTC]"
    assert list(frame["at"]) == list(instants)
    assert list(frame["other"]) == numbers


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(
        st.one_of(st.integers(-(2**40), 2**33), st.floats(2**23, 2**33), st.none()), min_size=1
    ),
    last=st.sampled_from(["never", 9.3e9, 9_300_000_000, -9.3e9, 1e300, math.inf, 2**70]),
)
def test_original_numbers_are_restored(numbers: list[float | None], last: Any) -> None:
    """A column of numbers that is no longer of times shows the original numbers."""
    numbers = [n if n is None or abs(n) < 9e9 else 0 for n in numbers]
    buffer = FrameBuffer(unit={"at": "s"})
    buffer.extend([{"at": number} for number in numbers])
    take_snapshot(buffer)
    buffer.append({"at": last})
    shown = buffer.df["at"]
    assert [None if is_missing(v) else v for v in shown] == [*numbers, last]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.sampled_from([0, 1.5, 1e300, None, "2024-01-01T00:00:00Z", "2024-01-01", "x", True]),
            st.just(datetime(2024, 1, 1, tzinfo=UTC)),
        ),
        min_size=1,
        max_size=6,
    ),
    cut=st.integers(0, 5),
)
def test_mixed_times_do_not_depend_on_snapshots(values: list[Any], cut: int) -> None:
    """Text, numbers and datetimes in one column with a unit give the same column in any chunks."""
    at_once, cut_up = FrameBuffer(unit={"at": "s"}), FrameBuffer(unit={"at": "s"})
    at_once.extend([{"at": value} for value in values])
    cut_up.extend([{"at": value} for value in values[:cut]])
    take_snapshot(cut_up)
    cut_up.extend([{"at": value} for value in values[cut:]])
    pd.testing.assert_frame_equal(at_once.df, cut_up.df)


def test_an_unknown_unit_is_rejected() -> None:
    """An invalid unit raises at construction, not at the first row."""
    with pytest.raises(ValueError, match="'at'"):
        FrameBuffer(unit={"at": "hours"})  # type: ignore[dict-item]


# -- columns as input ------------------------------------------------------------------------------


ARRAYS: dict[str, Any] = {
    "bool": np.array([True, False]),
    "int8": np.array([1, -2], dtype=np.int8),
    "uint64": np.array([1, 2], dtype=np.uint64),
    "huge": np.array([1, 2**63], dtype=np.uint64),
    "float32": np.array([0.5, np.nan], dtype=np.float32),
    "nan": np.array([np.nan, np.nan]),
    "text": np.array(["a", "b"]),
    "str": pd.Series(["a", None]),
    "iso": pd.Series(["2024-01-01", None]),
    "category": pd.Series(["a", "b"], dtype="category"),
    "nullable": pd.array([1, None], dtype="Int64"),
    "datetime": np.array(["2024-01-01", "NaT"], dtype="M8[s]"),
    "nanoseconds": np.array(["2024-01-01T00:00:00.000000001", "NaT"], dtype="M8[ns]"),
    "zoned": pd.Series(pd.date_range("2024-01-01", periods=2, tz="Europe/Berlin", unit="us")),
    "timedelta": pd.Series([timedelta(1), None]),
    "object": np.array([{"a": 1}, None], dtype=object),
    "list": [date(2024, 1, 1), None],
    "tuple": (1, 2.5),
    "range": range(2),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_columns_equal_rows_of_the_same_values(name: str) -> None:
    """Arrays and Series of any dtype are shown like their single values."""
    by_columns, by_rows = FrameBuffer(), FrameBuffer()
    by_columns.extend_columns({"a": ARRAYS[name]})
    by_rows.extend([{"a": value} for value in ARRAYS[name]])
    pd.testing.assert_frame_equal(by_columns.df, by_rows.df)


def test_a_frame_round_trips() -> None:
    """A DataFrame's columns keep names, dtypes and values; its index is not used."""
    buffer = FrameBuffer()
    buffer.extend(MIXED)
    frame = buffer.df
    again = FrameBuffer()
    again.extend_columns(frame.iloc[:120].set_axis(range(500, 620)))
    again.extend_columns(frame.iloc[120:])
    pd.testing.assert_frame_equal(again.df, frame)


@given(
    chunks=st.lists(
        st.tuples(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "n": st.none() | st.integers(-5, 5),
                        "x": st.none() | st.floats(-5, 5),
                        "text": st.none() | st.sampled_from(["a", "b", "2026-11-27", ""]),
                        "at": st.none() | st.integers(0, 10**6),
                    }
                ),
                max_size=4,
            ),
            st.sampled_from(["rows", "table", "narrow table"]),
            st.booleans(),
        ),
        max_size=8,
    ),
    max_rows=st.none() | st.integers(1, 6),
)
def test_pending_arrow_tables_do_not_change_the_result(
    chunks: list[tuple[Rows, str, bool]], max_rows: int | None
) -> None:
    """Tables of any schemas, with rows between them, give the same with and without snapshots."""
    pa = pytest.importorskip("pyarrow")
    fields = {"n": pa.int32(), "x": pa.float64(), "text": pa.string(), "at": pa.timestamp("ms")}
    with_snapshots, without_snapshots = (
        FrameBuffer(max_rows=max_rows),
        FrameBuffer(max_rows=max_rows),
    )
    for rows, kind, snapshot in chunks:
        names = list(fields)[: 2 if kind == "narrow table" else 4]
        table = pa.table(
            {name: pa.array([row[name] for row in rows], fields[name]) for name in names}
        )
        for buffer in (with_snapshots, without_snapshots):
            if kind == "rows":
                buffer.extend(table.to_pylist())
            else:
                assert buffer.extend_columns(table) == len(rows)
        if snapshot:
            assert with_snapshots.rows_seen == without_snapshots.rows_seen
            assert len(with_snapshots.df) == len(with_snapshots)
    pd.testing.assert_frame_equal(with_snapshots.df, without_snapshots.df)
    assert with_snapshots.dropped == without_snapshots.dropped
    assert with_snapshots.version == without_snapshots.version


def test_pending_tables_are_bounded() -> None:
    """Tables are written into columns without a snapshot when many are pending."""
    pa = pytest.importorskip("pyarrow")
    buffer = FrameBuffer()
    buffer.extend_columns(pa.table({"n": [0]}))
    assert buffer.columns == 0
    for n in range(1, 100):
        buffer.extend_columns(pa.table({"n": [n]}))
    assert buffer.columns == 1
    assert buffer.df["n"].tolist() == list(range(100))


def test_an_arrow_table_or_batch_can_be_added() -> None:
    """Arrow columns are converted exactly: ints with gaps, zones, nested values, text."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table(
        {
            "count": pa.array([1, None, 2]),
            "id": pa.array([2**60 + 1, None, 3]),
            "at": pa.array([0, None, 10**6], pa.timestamp("us", tz="Europe/Berlin")),
            "name": ["a", None, "c"],
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "tags": [[1, 2], None, []],
            "where": [{"x": 1}, {"x": 2}, None],
            "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
            "view": pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())),
            "deep": [{"a": [{"b": None}], "c": None}, None, {"a": None, "c": {"d": [1.5]}}],
            "none": pa.array([{}, None, {}], pa.struct([])),
        }
    )
    buffer = FrameBuffer()
    buffer.extend_columns(table)
    for batch in table.to_batches(max_chunksize=2):
        buffer.extend_columns(batch)
    rows = FrameBuffer()
    rows.extend(table.to_pylist() * 2)
    pd.testing.assert_frame_equal(buffer.df, rows.df)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"a": [1], "b": [1, 2]}, ValueError, "differ in length"),
        ({"a": np.zeros((2, 2))}, ValueError, "one dimension"),
        ({"a": "text"}, TypeError, "'a'.*not str"),
        ({"a": 1}, TypeError, "'a'.*not int"),
        ([{"a": 1}], TypeError, "mapping, a DataFrame or an Arrow table"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "same name"),
    ],
)
def test_invalid_columns_are_rejected_completely(
    columns: Any, error: type[Exception], message: str
) -> None:
    """Columns that are not a table raise, and none of their values is kept."""
    buffer = FrameBuffer()
    buffer.append({"a": 0})
    with pytest.raises(error, match=message):
        buffer.extend_columns(columns)
    assert list(buffer.df["a"]) == [0]
    assert buffer.rows_seen == 1


@pytest.mark.parametrize("row", [None, 1, "text", [1, 2], [("a", 1)]])
def test_a_row_that_is_not_a_mapping_is_rejected(row: Any) -> None:
    """A row that is not a mapping raises when added, and none of its batch is kept."""
    buffer = FrameBuffer()
    with pytest.raises(TypeError, match=type(row).__name__):
        buffer.append(row)
    with pytest.raises(TypeError, match="Row 1"):
        buffer.extend([{"a": 1}, row])
    assert buffer.rows_seen == 0


def test_extend_with_columns_names_the_right_method() -> None:
    """Columns passed to extend() raise an error that names extend_columns()."""
    for table in ({"a": [1]}, pd.DataFrame({"a": [1]})):
        with pytest.raises(TypeError, match="extend_columns"):
            FrameBuffer().extend(table)  # type: ignore[arg-type]


@pytest.mark.parametrize("mapping", [dict, OrderedDict])
@pytest.mark.parametrize("batched", [False, True])
def test_a_row_can_be_reused_after_it_was_added(
    mapping: Callable[[], dict[str, int]], batched: bool
) -> None:
    """The buffer copies rows of any mapping type."""
    buffer = FrameBuffer()
    row = mapping()
    for value in range(3):
        row["a"] = value
        if batched:
            buffer.extend([row])
        else:
            buffer.append(row)
    assert list(buffer.df["a"]) == [0, 1, 2]


def test_lone_surrogates_are_kept() -> None:
    """Text from JSON that UTF-8 cannot encode is shown unchanged."""
    buffer = FrameBuffer()
    buffer.extend([{"a": "whole"}, {"a": "half \ud800"}])
    take_snapshot(buffer)
    buffer.append({"a": "\ud800"})
    assert list(buffer.df["a"]) == ["whole", "half \ud800", "\ud800"]


# -- bounds ----------------------------------------------------------------------------------------


def test_memory_is_flat_once_max_rows_is_reached() -> None:
    """With max_rows memory stops growing, also without snapshots."""
    rows = [{"a": row, "b": row / 2, "c": [row]} for row in range(2000)]
    buffer = FrameBuffer(max_rows=2000)
    used = []
    tracemalloc.start()
    try:
        for _ in range(40):
            for row in rows:
                buffer.append(row)
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(used[20:]) <= max(used[5:20])
    assert len(buffer) == 2000
    assert buffer.dropped == 78_000


@pytest.mark.parametrize("batch", [1, 100, 5000])
def test_max_bytes_bounds_the_rows(batch: int) -> None:
    """The rows never exceed max_bytes, and dropped rows are counted."""
    buffer = FrameBuffer(max_bytes=50_000)
    total = 0
    for start in range(0, 5000, batch):
        buffer.extend(
            [{"a": n, "b": "x" * (n % 50), "c": {"n": n}} for n in range(start, start + batch)]
        )
        total += batch
        if start % 500 == 0:
            assert buffer.nbytes <= 50_000
    assert buffer.nbytes <= 50_000
    assert 50 < len(buffer) == total - buffer.dropped
    assert buffer.df["a"].iloc[-1] == 4999


def test_pending_rows_are_bounded_by_max_bytes() -> None:
    """With max_bytes memory stays bounded without snapshots."""
    buffer = FrameBuffer(max_bytes=100_000)
    tracemalloc.start()
    try:
        for n in range(1000):
            buffer.append({"a": [f"{n:10000}"]})
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 400_000


def test_a_row_larger_than_max_bytes_is_still_shown() -> None:
    """The newest row is kept even if it alone exceeds max_bytes, and dropped at the next row."""
    buffer = FrameBuffer(max_bytes=1000)
    buffer.extend([{"a": ["x"]}, {"a": ["x" * 10_000]}])
    assert buffer.df["a"][1] == ["x" * 10_000]
    buffer.append({"a": ["y"]})
    assert list(buffer.df["a"]) == [["y"]]
    assert buffer.dropped == 2


def test_values_beyond_max_columns_go_to_the_overflow_column() -> None:
    """Values of columns beyond max_columns are shown as dicts in one column, and counted."""
    buffer = FrameBuffer(max_columns=2)
    buffer.append({"a": 1})
    take_snapshot(buffer)
    buffer.extend([{"a": 2, "b": 3, "c": 4, "d": None}, {"d": 5}])
    buffer.extend_columns({"a": [6], "e": np.array([7])})
    buffer.append({OVERFLOW: "value"})
    frame = buffer.df
    assert list(frame.columns) == ["a", "b", OVERFLOW]
    assert list(frame[OVERFLOW]) == [None, {"c": 4}, {"d": 5}, {"e": 7}, {OVERFLOW: "value"}]
    assert buffer.overflowed == 4


def test_a_name_that_is_not_unicode_does_not_break_the_frame() -> None:
    """A column whose name is valid in JSON but not in pandas goes to the overflow column."""
    buffer = FrameBuffer()
    buffer.append({"a": 1, "\ud800": 2})
    assert list(buffer.df.columns) == ["a", OVERFLOW]
    assert list(buffer.df[OVERFLOW]) == [{"\ud800": 2}]


def test_a_self_referencing_value_can_be_stored() -> None:
    """A value that contains itself is stored and measured like any other."""
    value: list[Any] = []
    value.append(value)
    buffer = FrameBuffer(max_bytes=10_000)
    buffer.append({"a": value})
    assert buffer.df["a"][0] is value


def test_a_flood_of_columns_is_bounded() -> None:
    """A new column in each row does not make the frame wider than max_columns."""
    buffer = FrameBuffer(max_columns=10)
    for n in range(100):
        buffer.append({f"column {n}": n})
    assert buffer.df.shape == (100, 11)
    assert buffer.overflowed == 90


@pytest.mark.parametrize("bound", ["max_rows", "max_bytes", "max_columns"])
def test_a_bound_must_be_positive(bound: str) -> None:
    """A bound of zero raises, and the error names it."""
    with pytest.raises(ValueError, match=bound):
        FrameBuffer(**{bound: 0})  # type: ignore[arg-type]


# -- index, counters, threads ----------------------------------------------------------------------


def test_the_index_can_be_a_column() -> None:
    """A column named as index is the snapshot's index, a DatetimeIndex if it is one of times."""
    buffer = FrameBuffer(index="at", max_rows=150)
    assert buffer.df.index.name == "at"
    buffer.extend(MIXED)
    frame = buffer.df
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index.name == "at"
    assert "at" not in frame.columns
    assert frame.resample("10s")["count"].count().sum() == 150
    assert list(buffer.tail(2)["count"]) == [198, 199]


@pytest.mark.parametrize("values", [["a", "b"], [1, 2], [[1], "b"], [None, None]])
def test_an_index_may_hold_anything(values: list[Any]) -> None:
    """Text, numbers and mixtures serve as an index too."""
    buffer = FrameBuffer(index="key")
    buffer.extend([{"key": value, "a": 1} for value in values])
    assert [None if is_missing(v) else v for v in buffer.df.index] == values


def test_arrival_numbers_continue() -> None:
    """Without an index column, the index is the arrival number, also after drops and clear()."""
    buffer = FrameBuffer(max_rows=2)
    buffer.extend([{"a": n} for n in range(5)])
    assert list(buffer.df.index) == [3, 4]
    buffer.clear()
    assert buffer.df.shape == (0, 0)
    buffer.append({"b": "text"})
    assert list(buffer.df.index) == [5]
    assert list(buffer.df.columns) == ["b"]
    assert (buffer.rows_seen, buffer.dropped, len(buffer)) == (6, 3, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda buffer: buffer.append({"a": 1}),
        lambda buffer: buffer.extend([{}]),
        lambda buffer: buffer.extend_columns({"a": [1]}),
        lambda buffer: buffer.clear(),
    ],
)
def test_the_version_changes_with_the_rows(change: Callable[[FrameBuffer], None]) -> None:
    """Every change of the rows changes the version; a snapshot does not."""
    buffer = FrameBuffer()
    buffer.append({"a": 0})
    before = buffer.version
    take_snapshot(buffer)
    assert buffer.nbytes > 0
    assert buffer.version == before
    change(buffer)
    assert buffer.version > before


def test_rows_without_values_count() -> None:
    """Rows without columns count, as in pandas."""
    buffer = FrameBuffer()
    buffer.extend([{}, {}])
    assert buffer.df.shape == (2, 0)
    buffer.append({"a": 1})
    assert str(buffer.df["a"].dtype) == "float64"


def test_tail_of_a_negative_number_is_rejected() -> None:
    """A negative number of rows raises."""
    with pytest.raises(ValueError, match="-1"):
        FrameBuffer().tail(-1)


def test_another_thread_may_take_snapshots() -> None:
    """Snapshots in another thread while rows are added neither lose nor duplicate rows."""
    buffer = FrameBuffer()
    done = threading.Event()
    sizes = []

    def watch() -> None:
        while not done.is_set():
            frame = buffer.df
            if "n" in frame:
                assert list(frame["n"].iloc[-5:]) == list(frame.index[-5:])
            sizes.append(len(frame))

    watcher = threading.Thread(target=watch)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    watcher.start()
    try:
        for n in range(20_000):
            buffer.append({"n": n, "text": str(n)})
    finally:
        sys.setswitchinterval(interval)
        done.set()
        watcher.join()
    assert sizes == sorted(sizes)
    assert list(buffer.df["n"]) == list(range(20_000))


def test_a_row_added_during_a_snapshot_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row added during a snapshot appears in the next one."""
    buffer = FrameBuffer()
    buffer.append({"a": 1})

    def late(*args: Any, **options: Any) -> typed_chunks.Chunk:
        monkeypatch.undo()
        buffer.append({"a": 2})
        return typed_chunks.infer_chunk(*args, **options)

    monkeypatch.setattr("fabric_nb.frames.buffer.infer_chunk", late)
    assert list(buffer.df["a"]) == [1]
    assert list(buffer.df["a"]) == [1, 2]


def test_datetimes_beyond_the_unit_are_kept_unchanged() -> None:
    """A datetime beyond the range of nanoseconds does not wrap around beside one needing them."""
    fine, far = pd.Timestamp("2024-01-01T00:00:00.000000001"), pd.Timestamp("9999-01-01")
    buffer = FrameBuffer()
    buffer.extend([{"at": fine}, {"at": far}])
    take_snapshot(buffer)
    buffer.append({"at": fine})
    assert list(buffer.df["at"]) == [fine, far, fine]


def test_the_repr_contains_the_size() -> None:
    """The repr is one short line, whatever the number of rows."""
    buffer = FrameBuffer()
    buffer.extend(MIXED)
    assert repr(buffer) == "<FrameBuffer: 200 rows, 7 columns>"


def test_zoned_datetimes_are_shown_in_utc() -> None:
    """Datetimes of any zone are one column of instants."""
    east = timezone(timedelta(hours=2))
    buffer = FrameBuffer()
    buffer.extend(
        [{"at": datetime(2024, 1, 1, 2, tzinfo=east)}, {"at": datetime(2024, 1, 1, tzinfo=UTC)}]
    )
    assert list(buffer.df["at"]) == [pd.Timestamp("2024-01-01", tz="UTC")] * 2


# -- assigned values -------------------------------------------------------------------------------


def test_assigned_values_become_columns() -> None:
    """Values assigned to all rows of a batch become columns, for rows and for columns."""
    by_rows, by_columns = FrameBuffer(), FrameBuffer()
    at = datetime(2026, 11, 25, 12, tzinfo=UTC)
    shared = {"kind": "A", "at": at, "tags": ["x"], "none": None}
    by_rows.extend([{"n": 1}, {"n": 2}], assign=shared)
    assert by_columns.extend_columns({"n": [1, 2]}, assign=shared) == 2
    for frame in (by_rows.df, by_columns.df):
        assert list(frame.columns) == ["n", "kind", "at", "tags", "none"]
        assert frame["kind"].tolist() == ["A", "A"]
        assert str(frame["at"].dtype) == "datetime64[us, UTC]"
        assert frame["at"].tolist() == [pd.Timestamp(at)] * 2
        assert frame["none"].isna().all()


def test_assigned_values_do_not_replace_values_of_rows() -> None:
    """A row's own value of an assigned name is kept as `row.<name>`."""
    buffer = FrameBuffer()
    row = {"at": "noon", "n": 1}
    buffer.extend([row], assign={"at": 5})
    buffer.extend_columns({"at": ["night"], "n": [2]}, assign={"at": 6})
    assert buffer.df["row.at"].tolist() == ["noon", "night"]
    assert buffer.df["at"].tolist() == [5, 6]
    assert row == {"at": "noon", "n": 1}


def test_rows_can_be_handed_over_without_a_copy() -> None:
    """Rows are copied unless the caller hands them over."""
    copied, handed_over = FrameBuffer(), FrameBuffer()
    row = {"n": 1}
    copied.extend([row])
    handed_over.extend([row], copy=False)
    row["n"] = 2
    assert copied.df["n"].tolist() == [1]
    assert handed_over.df["n"].tolist() == [2]
    handed_over.extend([OrderedDict(n=3)], copy=False)
    with pytest.raises(TypeError, match="Row 1 must be a mapping"):
        handed_over.extend([{"n": 4}, 5], copy=False)  # type: ignore[list-item]
    assert handed_over.df["n"].tolist() == [2, 3]


# -- cost


class Key(str):
    """A column name that counts its comparisons."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Key.compared += 1
        return str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


def operations(work: Callable[[], object]) -> int:
    """Return the number of calls, of Python and of C, and of comparisons of `Key`."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    Key.compared = 0
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls + Key.compared


WIDE: dict[str, Callable[[int], Callable[[FrameBuffer], object]]] = {
    "own-keys": lambda n: lambda buffer: buffer.extend([{Key(f"k{i}"): i} for i in range(n)]),
    "one-row": lambda n: lambda buffer: buffer.append({Key(f"k{i}"): i for i in range(n)}),
    "columns": lambda n: (
        lambda buffer: buffer.extend_columns({Key(f"k{i}"): [i] for i in range(n)})
    ),
    "overflow": lambda n: (
        lambda buffer: buffer.extend([{Key(f"k{i}"): i, Key(f"m{i}"): 0.5} for i in range(n)])
    ),
}


@pytest.mark.parametrize("rows", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("max_columns", [100, 100_000])
def test_the_cost_is_proportional_to_the_values(
    rows: Callable[[int], Callable[[FrameBuffer], object]], max_columns: int
) -> None:
    """Twice as many values cost twice as much, whatever the number of columns."""

    def cost(count: int) -> int:
        buffer, add = FrameBuffer(max_columns=max_columns), rows(count)
        add(FrameBuffer())
        return operations(lambda: (add(buffer), len(buffer)))

    assert cost(4000) < 2.5 * cost(2000)


def test_sparse_rows_take_little_memory() -> None:
    """Rows with a different column each are converted without a dense table."""
    rows = [{f"k{n}": n} for n in range(8000)]
    buffer = FrameBuffer()
    tracemalloc.start()
    buffer.extend(rows)
    assert len(buffer) == 8000
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 200_000_000
    assert peak < 2 * used


def test_pending_values_are_bounded() -> None:
    """Wide rows are written into columns without a snapshot before many values are pending."""
    buffer = FrameBuffer()
    for _ in range(99):
        buffer.append({f"k{n}": n for n in range(1000)})
    assert buffer.columns == 0
    buffer.append({f"k{n}": n for n in range(1000)})
    assert buffer.columns == 1000


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcdefgh"),
            st.sampled_from([1, 2.5, "x", "2026-01-01", None, True, [1], float("nan"), 2**60]),
            max_size=2,
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 9),
)
def test_sparse_columns_equal_dense_ones(rows: list[dict[str, Any]], max_columns: int) -> None:
    """Sparse columns have the same types and values as dense ones."""
    sparse, full = FrameBuffer(max_columns=max_columns), FrameBuffer(max_columns=max_columns)
    sparse.extend(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    for row in rows:
        full.append({name: row.get(name) for name in names})
    if names:
        pd.testing.assert_frame_equal(sparse.df, full.df)
        assert sparse.overflowed == full.overflowed


@given(
    st.lists(
        st.lists(
            st.dictionaries(
                st.sampled_from("abcdef"),
                st.sampled_from(
                    [1, 2.5, "x", "2026-01-01", None, True, [1], "2026-01-01T00:00:00Z", 2**60]
                ),
                max_size=4,
            ),
            max_size=8,
        ),
        max_size=5,
    ),
    st.integers(1, 6),
)
def test_absorbed_rows_equal_added_ones(
    batches: list[list[dict[str, Any]]], max_columns: int
) -> None:
    """Rows collected in a staging buffer equal rows that were added directly."""
    added, absorbing = FrameBuffer(max_columns=max_columns), FrameBuffer(max_columns=max_columns)
    for number, rows in enumerate(batches):
        added.extend(rows)
        len(added)
        if number % 2:
            absorbing.extend(rows)
        else:
            staged = absorbing.staging()
            staged.extend(rows)
            assert absorbing.absorb(staged) == len(rows)
    pd.testing.assert_frame_equal(absorbing.df, added.df)
    assert absorbing.overflowed == added.overflowed
    assert absorbing.rows_seen == added.rows_seen


def test_absorbed_rows_drop_older_ones() -> None:
    """Rows from a staging buffer are subject to max_rows like any others."""
    buffer = FrameBuffer(max_rows=3)
    buffer.extend([{"n": n} for n in range(2)])
    for rows in (range(2, 4), range(4, 14)):
        staged = buffer.staging()
        staged.extend([{"n": n} for n in rows])
        buffer.absorb(staged)
    assert buffer.df["n"].tolist() == [11, 12, 13]
    assert (buffer.dropped, buffer.rows_seen) == (11, 14)


def test_the_size_of_large_values_is_estimated() -> None:
    """The size of a large container is extrapolated from a sample."""
    flat, nested = list(range(1000, 301_000)), [[float(n)] for n in range(300_000)]
    assert 0.9 < estimated_size(flat) / (sys.getsizeof(flat) + 28 * 300_000) < 1.1
    assert 0.8 < estimated_size(nested) / (sys.getsizeof(nested) + 88 * 300_000) < 1.2
    assert operations(lambda: estimated_size(nested)) < 100_000
