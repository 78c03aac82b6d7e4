"""DataFrames and Series in JSON: restored by fabric_nb, plain records for other readers."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.tables import MAX_DESCRIPTOR, restore_tables

NA = pd.NA


def there_and_back(value: Any) -> Any:
    return decode(*encode(value))


def assert_same(received: object, sent: pd.DataFrame | pd.Series[Any]) -> None:
    """Assert equal values, types, index, names and labels; an index may lose its frequency."""
    if isinstance(sent, pd.DataFrame):
        assert isinstance(received, pd.DataFrame)
        assert_frame_equal(received, sent, check_column_type=False, check_freq=False)
        assert received.columns.name == sent.columns.name
    else:
        assert isinstance(received, pd.Series)
        assert_series_equal(received, sent, check_freq=False)


def assert_frame_returns(frame: pd.DataFrame) -> None:
    assert_same(there_and_back(frame), frame)


TIMES: Any = ["2024-03-31T01:30:00", None, "1999-12-31T23:59:59.999"]
SPANS = [1, None, -5]

COLUMNS: dict[str, Any] = {
    **{
        f"int{bits}": np.array([-1, 0, 2 ** (bits - 1) - 1], f"int{bits}")
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": np.array([0, 1, 2**bits - 1], f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{
        f"{sign}Int{bits}": pd.array([0, None, 100], dtype=cast("Any", f"{sign}Int{bits}"))
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    "Int64 large": pd.array([2**63 - 1, None, -(2**63)], dtype="Int64"),
    "UInt64 large": pd.array([2**64 - 1, None, 0], dtype="UInt64"),
    "float32": np.array([0.1, math.nan, -1e30], "float32"),
    "float64": np.array([0.1, math.nan, 5e-324]),
    "float64 infinite": np.array([math.inf, math.nan, -math.inf]),
    "Float32": pd.array([0.5, None, 1.5], dtype="Float32"),
    "Float64": pd.array([0.5, None, 1.5], dtype="Float64"),
    "bool": [True, False, True],
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "str": pd.Series(["a", None, "é\n"], dtype="str"),
    "string": pd.Series(["a", None, ""], dtype="string"),
    "object": pd.Series(["a", 1, None], dtype="object"),
    "object nested": pd.Series([{"a": [1]}, [1, 2], "x"], dtype="object"),
    "object large": pd.Series([2**70, -1, 2.5], dtype="object"),
    "category": pd.Series(["a", None, "b"], dtype="category"),
    "category ordered": pd.Series(
        ["low", None, "high"],
        dtype=pd.CategoricalDtype(["low", "middle", "high"], ordered=True),
    ),
    "category in an order of its own": pd.Categorical(["b", None, "a"], categories=["b", "a"]),
    "category of times": pd.Categorical(pd.to_datetime(["2024-03-31", None, "1999-12-31"])),
    "category of spans": pd.Categorical(pd.to_timedelta([5, None, 1])),
    "category of floats": pd.Categorical([0.5, None, 1.0], categories=[1.0, 0.5, 7.0]),
    "category of mixed": pd.Categorical(["x", 1, None], categories=[1, "x", 2.5]),
    "category of small ints": pd.Categorical(np.array([1, 2, 1], "int8")),
    "category numbers": pd.Series([1, 2, 1], dtype="category"),
    **{
        f"datetime64[{unit}]": np.array(TIMES, f"datetime64[{unit}]")
        for unit in ("s", "ms", "us", "ns")
    },
    **{
        f"datetime64[{unit}] zoned": pd.to_datetime(TIMES, format="ISO8601", utc=True)
        .as_unit(cast("Any", unit))
        .tz_convert("Europe/Berlin")
        for unit in ("s", "ms", "us", "ns")
    },
    "datetime64 offset": pd.to_datetime(["2024-03-31T01:30:00+02:00"] * 3),
    "datetime64 fine": pd.to_datetime(["2024-03-31T01:30:00.000000001"] * 3),
    "datetime64 twice an hour": pd.DatetimeIndex(
        ["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z", "NaT"]
    ).tz_convert("Europe/Berlin"),
    **{
        f"timedelta64[{unit}]": np.array([1, "NaT", -5], f"timedelta64[{unit}]")
        for unit in ("s", "ms", "us", "ns")
    },
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_every_type_survive(kind: str) -> None:
    """A column of any supported type is restored with its values, missing ones and type."""
    assert_frame_returns(pd.DataFrame({"c": COLUMNS[kind]}))


@pytest.mark.parametrize("kind", COLUMNS)
def test_series_of_every_type_survive(kind: str) -> None:
    """A Series of any supported type is restored."""
    for name in (None, "name", 5):
        series = pd.Series(COLUMNS[kind], name=name)
        assert_same(there_and_back(series), series)


@pytest.mark.parametrize("kind", [kind for kind in COLUMNS if "nested" not in kind])
def test_indexes_of_every_type_survive(kind: str) -> None:
    """An index of any supported type is restored."""
    index = pd.Index(COLUMNS[kind], name="when")
    assert_frame_returns(pd.DataFrame({"c": [1, 2, 3]}, index=index))
    series = pd.Series([1, 2, 3], index=index, name="s")
    assert_same(there_and_back(series), series)


@pytest.mark.parametrize("kind", COLUMNS)
def test_empty_tables_keep_their_types(kind: str) -> None:
    """A table without rows keeps its columns and their types."""
    frame = pd.DataFrame({"a": COLUMNS[kind], "b": [1, 2, 3]})
    received = there_and_back(frame.iloc[:0])
    assert list(received.columns) == ["a", "b"]
    assert_same(received, frame.iloc[:0])


INDEXES: dict[str, Any] = {
    "counting": pd.RangeIndex(3),
    "counting by two": pd.RangeIndex(10, 16, 2, name="n"),
    "counting down": pd.RangeIndex(0, -3, -1),
    "with gaps": pd.Index([5, 1, 7]),
    "repeated": pd.Index(["a", "a", "b"]),
    "consecutive ids, which pandas counts": pd.DataFrame({"id": [1, 2, 3]}).set_index("id").index,
    "ids": pd.Index([3, 1, 7], name="id"),
    "counting, named as a column": pd.RangeIndex(3, name="x"),
    "counting, named by number": pd.RangeIndex(3, name=5),
    "ordered categories": pd.CategoricalIndex(["b", "a", "b"], ["b", "a"], ordered=True),
    "named by number": pd.Index(["a", "b", "c"], name=0),
    "two levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", None]),
    "two levels of one name": pd.MultiIndex.from_tuples(
        [("a", 1), ("b", 2), ("c", 3)], names=["k", "k"]
    ),
    "levels named by other levels' numbers": pd.MultiIndex.from_tuples(
        [("a", 1), ("b", 2), ("c", 3)], names=[1, 0]
    ),
    "levels without names": pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("c", 3)]),
    "named as a column": pd.Index([7, 8, 9], name="x"),
    "named as index": pd.Index([7, 8, 9], name="index"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_indexes_of_every_kind_survive(kind: str) -> None:
    """An index is restored: a row counter, repeated labels, several levels, with any names."""
    frame = pd.DataFrame({"x": [1, 2, 3], "_x": ["a", "b", "c"]}, index=INDEXES[kind])
    assert_frame_returns(frame)
    assert_same(there_and_back(frame["x"]), frame["x"])
    if isinstance(INDEXES[kind], pd.RangeIndex):
        assert_index_equal(there_and_back(frame).index, INDEXES[kind], exact=True)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(3)),
        pd.DataFrame(index=pd.Index(["a", "b"], name="k")),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2], [3, 4]]),
        pd.DataFrame({1: [1], 2.5: [2], "three": [3]}),
        pd.DataFrame({"a": [1], "b": [2]}).rename_axis(columns="letters"),
        pd.DataFrame({"é\n": [1], "🎉": ["\x00"]}),
        pd.DataFrame({"": [1], " ": [2], "a.b": [3], "at": [4], "index": [5]}),
        pd.DataFrame({"a": ["x", "y"], "v": [1, 2]}).pivot_table(index="a", values="v"),
        pd.DataFrame({"r": [1, 1], "c": ["x", "y"], "v": [1, 2]}).pivot(
            index="r", columns="c", values="v"
        ),
    ],
    ids=range(11),
)
def test_unusual_frames_survive(frame: pd.DataFrame) -> None:
    """DataFrames without rows, without columns, or with unusual labels are restored."""
    assert_frame_returns(frame)


def test_unnamed_series_stays_unnamed() -> None:
    """A Series without a name is restored without one, also if it is empty."""
    for series in (
        pd.Series([1.5, 2.5]),
        pd.Series([], dtype="float64"),
        pd.Series([1], index=["a"]),
        pd.Series([], dtype="int64", index=pd.Index([], dtype="str")),
    ):
        assert_same(there_and_back(series), series)


def test_tables_anywhere_in_a_value() -> None:
    """Several tables at any positions in the arguments are restored."""
    frame = pd.DataFrame({"a": [1.5, None]}, index=["x", "y"])
    series = pd.Series([1, 2], name="s")
    value = {"frames": [frame, {"deep": (frame, 1)}], 5: series, None: frame, "plain": [1]}
    received = there_and_back(value)
    assert_same(received["frames"][0], frame)
    assert_same(received["frames"][1]["deep"][0], frame)
    assert_same(received["5"], series)
    assert_same(received["null"], frame)
    assert received["plain"] == [1]


def test_tables_in_cells_of_tables() -> None:
    """A table in a cell of another table, or of a Series, is restored."""
    inner = pd.DataFrame({"a": [1.5, None]}, index=["x", "y"])
    for outer in (
        pd.DataFrame({"n": [1, 2], "t": [None, {"deep": [inner]}]}, index=["p", "q"]),
        pd.Series([None, {"deep": [inner]}], name="t"),
        pd.Series([None, {"deep": [inner]}], index=["p", "q"], name="t"),
    ):
        received = there_and_back({"outer": outer})["outer"]
        assert list(received.index) == list(outer.index)
        column = received["t"] if isinstance(received, pd.DataFrame) else received
        assert_same(column.iloc[1]["deep"][0], inner)


def test_labels_with_lone_surrogates() -> None:
    """A table is restored also if a label contains a lone surrogate."""
    frame = pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object))
    assert_same(there_and_back(frame), frame)


def test_peers_read_plain_records() -> None:
    """An amqp-fabric peer reads a list of records, with null for missing values."""
    frame = pd.DataFrame({"a": [1.5, None], 7: ["x", "y"]})
    assert json.loads(encode(frame)[0]) == [{"a": 1.5, "7": "x"}, {"a": None, "7": "y"}]
    indexed = frame.set_index("a")
    assert json.loads(encode(indexed)[0]) == [{"a": 1.5, "7": "x"}, {"a": None, "7": "y"}]
    assert json.loads(encode(pd.Series([1, 2]))[0]) == [1, 2]
    named = pd.Series([1, 2], index=["x", "y"], name="n")
    assert json.loads(encode(named)[0]) == [{"index": "x", "n": 1}, {"index": "y", "n": 2}]
    assert encode({"x": [1, "a"]})[1] is None


# -- tables of all kinds

labels = st.text(max_size=5) | st.integers(-5, 5)
LONG_AGO_AND_FAR_AHEAD: list[tuple[str, list[Any]]] = [
    *(
        (f"datetime64[{unit}{zone}]", times)
        for unit in ("s", "ms", "us")
        for zone in ("", ", UTC")
        for times in (["2500-01-01T00:00:01", None, "2024-05-31"], ["9999-12-30", "0001-01-03"])
    ),
    ("datetime64[us, Europe/Berlin]", ["2500-07-01T12:00:00", "2024-05-31", None]),
    ("datetime64[us, Europe/Berlin]", ["1890-05-31", "1893-04-02"]),
    *(
        (f"timedelta64[{unit}]", [10**14 if unit == "us" else 10**11, 5, -3, None])
        for unit in ("s", "ms", "us")
    ),
    ("timedelta64[us]", [2**62, 7, -(2**62) + 1, None]),
    ("datetime64[s]", ["20000-01-01T00:00:01", "2024-05-31", None]),
]
"""Beyond what nanoseconds can count, which pandas 2 reads everything into; and local mean times."""


@pytest.mark.parametrize("as_index", [False, True])
@pytest.mark.parametrize(("dtype", "cells"), LONG_AGO_AND_FAR_AHEAD)
def test_any_time_survives(dtype: str, cells: list[Any], as_index: bool) -> None:
    """A column or an index with any times and durations is restored equal."""
    kind, _, unit = dtype.removesuffix("]").partition("[")
    unit, _, zone = unit.partition(", ")
    values = np.array(["NaT" if cell is None else cell for cell in cells], dtype=f"{kind}[{unit}]")
    column = pd.Series(values)
    if zone:
        column = column.dt.tz_localize("UTC").dt.tz_convert(zone)
    frame = pd.DataFrame({"t": column, "n": range(len(cells))})
    frame = frame.set_index("t") if as_index else frame
    pd.testing.assert_frame_equal(decode(*encode(frame)), frame)


CELLS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(),
    "bool": st.booleans(),
    "boolean": st.none() | st.booleans(),
    "str": st.none() | st.text(max_size=5),
    "object": st.text(max_size=3) | st.integers() | st.lists(st.integers(), max_size=2),
    "datetime64[us]": st.none() | st.datetimes(),
    "timedelta64[us]": st.none() | st.timedeltas(timedelta(-100_000), timedelta(100_000)),
}


@st.composite
def columns(draw: st.DrawFn, rows: int, name: Any = None) -> pd.Series[Any]:
    dtype = draw(st.sampled_from(sorted(CELLS)))
    cells = draw(st.lists(CELLS[dtype], min_size=rows, max_size=rows))
    made: pd.Series[Any] = pd.Series(cells, dtype=cast("Any", dtype), name=name)
    return made


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 4))
    names = draw(st.lists(labels, max_size=4, unique_by=str))
    frame = pd.DataFrame(
        {name: draw(columns(rows)) for name in names}, index=pd.RangeIndex(rows), columns=names
    )
    levels = draw(st.integers(0, 2))
    if levels:
        unhashable = {"object"}
        made = [draw(columns(rows, draw(st.none() | labels))) for _ in range(levels)]
        made = [one.astype("str") if str(one.dtype) in unhashable else one for one in made]
        frame.index = pd.Index(made[0]) if levels == 1 else pd.MultiIndex.from_arrays(made)
    return frame


@settings(max_examples=60)
@given(frames())
def test_any_table_survives(frame: pd.DataFrame) -> None:
    """Any table of supported types is restored, whatever its index and labels."""
    received = there_and_back(frame)
    assert list(received.columns) == list(frame.columns)
    assert list(received.dtypes) == list(frame.dtypes)
    assert received.index.names == frame.index.names
    assert_frame_equal(received, frame, check_column_type=False, check_index_type=False)


# -- what cannot be sent


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "v has the column 'a' twice"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "v has the column '1' twice"),
        (
            pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([(1, 2)])),
            "v has the column '(1, 2)'",
        ),
        (pd.DataFrame({pd.Timestamp(0): [1]}), "v has the column '1970-01-01 00:00:00'"),
        (pd.DataFrame({"a": [1j]}), "v['a'] has the type complex128"),
        (pd.DataFrame({"a": pd.period_range("2024", periods=1)}), "v['a'] has the type period"),
        (pd.DataFrame({"a": pd.interval_range(0, 1)}), "v['a'] has the type interval"),
        (pd.DataFrame({"a": np.array([1], "float16")}), "v['a'] has the type float16"),
        (pd.DataFrame({"a": ["x", b"y"]}), "v['a'][1] is a bytes"),
        (
            pd.DataFrame({"a": [1]}, index=pd.Index([2], name=(1, 2))),
            "v has an index called '(1, 2)'",
        ),
        (
            pd.DataFrame({"a": [1]}, index=pd.period_range("2024", periods=1)),
            "v['index'] has the type",
        ),
        (pd.Series([1], name=("a", "b")), "v has the column"),
        (
            pd.DataFrame({f"a rather long label {i}": [i] for i in range(2000)}),
            "A table of 2000 columns",
        ),
        ({"x": [pd.DataFrame({"a": [{1}]})]}, "v['x'][0]['a'][0] is a set"),
        (pd.Series(pd.Categorical([(1, 2)])), "v['value']['categories'] are no single values"),
    ],
    ids=range(15),
)
def test_unsupported_tables_are_refused(table: object, sentence: str) -> None:
    """A table that JSON cannot represent is refused, with the position of the cause."""
    with pytest.raises(NotSerializable) as caught:
        encode(table, label="v")
    assert sentence in str(caught.value)


def test_descriptor_fits_into_a_header() -> None:
    """The descriptor of tables is short ASCII text, whatever their labels."""
    frame = pd.DataFrame({"é" * 30 + str(i): [i] for i in range(100)})
    described = encode(frame)[1]
    assert described is not None
    assert described.isascii()
    assert len(described) <= MAX_DESCRIPTOR


# -- descriptions from elsewhere

RECORDS: list[dict[str, Any]] = [{"a": 1, "b": "2024-05-31"}, {"a": 2, "b": None}]


def description(**changes: Any) -> dict[str, Any]:
    base = {
        "at": [],
        "series": False,
        "columns": [{"key": "a", "label": "a", "dtype": "int64"}],
        "index": [],
        "range": [0, 1, None],
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def column(**changes: Any) -> list[dict[str, Any]]:
    return [{"key": "a", "label": "a", "dtype": "int64", **changes}]


@pytest.mark.parametrize(
    "descriptor",
    [
        "",
        "nope",
        "{}",
        "[" * 100_000,
        "[1, null, [], {}]",
        "\ud800",
        " " * (MAX_DESCRIPTOR + 1),
        *(
            [bad]
            for bad in [
                description(at=["x"]),
                description(at=[5]),
                description(at=[0, "a"]),
                description(at=[0, "a", 0]),
                description(at="a"),
                description(at=None),
                description(at=[[1]]),
                description(columns=None),
                description(columns=[None]),
                description(columns=column(key="missing")),
                description(columns=column(key=["a"])),
                description(columns=column(dtype="int8, evil")),
                description(columns=column(dtype="os.system")),
                description(columns=column(dtype=5)),
                description(columns=column(dtype="float16")),
                description(columns=column(dtype="datetime64[ns]"))
                and description(columns=column(key="b", dtype="int64")),
                description(columns=column(key="b", dtype="timedelta64[ns]")),
                description(columns=column(key="b", dtype="datetime64[ns, Nowhere]")),
                description(columns=column(key="b", dtype="datetime64[ns, America]")),
                description(columns=column(key="b", dtype="datetime64[ns, /etc/passwd]")),
                description(columns=column(label=["a"])),
                description(columns=column(label={"a": 1})),
                description(range=None),
                description(range=[0, 0, None]),
                description(range=["a", 1, None]),
                description(range=[0, 1, []]),
                description(range=[0, 1]),
                description(range=...),
                description(index=...),
                description(index=[{}]),
                description(index=column(key="missing")),
                description(series=True, columns=[]),
                description(heading=["x"]),
            ]
        ),
    ],
    ids=lambda bad: (bad if isinstance(bad, str) else json.dumps(bad))[:60],
)
def test_descriptors_that_do_not_match_are_ignored(descriptor: Any) -> None:
    """If a descriptor does not match, the records stay plain."""
    text = descriptor if isinstance(descriptor, str) else json.dumps(descriptor)
    assert decode(json.dumps(RECORDS).encode(), text) == RECORDS


def test_valid_descriptor_beside_invalid_ones() -> None:
    """An invalid descriptor does not affect the other tables."""
    text = json.dumps([description(at=["x", 1]), description(at=["good"]), 5])
    received = decode(json.dumps({"good": RECORDS, "x": RECORDS}).encode(), text)
    assert list(received["good"]["a"]) == [1, 2]
    assert received["x"] == RECORDS


keys = st.sampled_from(
    ["at", "columns", "index", "range", "series", "heading", "key", "label", "dtype", "a", "b"]
)
small = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | keys
dtypes = st.sampled_from(
    [
        "int64",
        "Int8",
        "bool",
        "str",
        "object",
        "category",
        "datetime64[ns]",
        "timedelta64[us]",
        "datetime64[s, UTC]",
        "datetime64[ns, Europe]",
        "uint64",
        "float32",
    ]
)
odd = st.recursive(
    small | dtypes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
told_columns = st.lists(
    st.fixed_dictionaries({"key": keys | odd, "label": odd, "dtype": dtypes | odd}), max_size=3
)
descriptors = st.lists(
    odd
    | st.fixed_dictionaries(
        {
            "at": st.lists(keys | st.integers(-3, 3), max_size=3) | odd,
            "columns": told_columns | odd,
            "index": told_columns | odd,
            "range": st.lists(small, min_size=3, max_size=3) | odd,
        },
        optional={"series": odd, "heading": odd},
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(odd, descriptors)
def test_arbitrary_descriptors(value: Any, descriptor: Any) -> None:
    """Decoding continues with any descriptor, and records that it does not match stay plain."""
    received = decode(json.dumps(value).encode(), json.dumps(descriptor))
    assert received is None or isinstance(
        received, (bool, int, float, str, list, dict, pd.DataFrame, pd.Series)
    )


@given(st.text())
def test_arbitrary_text_as_descriptor(text: str) -> None:
    """Arbitrary text is ignored as a descriptor."""
    decode(b'[{"a": 1}]', text)


def test_descriptors_cannot_multiply_values() -> None:
    """A descriptor that uses a field for many columns, or a table several times, is ignored."""
    records = [{"a": n} for n in range(10)]
    column = {"key": "a", "label": "a", "dtype": "int64"}
    whole = {"at": [], "columns": [column], "index": [], "range": [0, 1, None]}
    many = {**whole, "columns": [{**column, "label": f"c{n}"} for n in range(500)]}
    series = {**many, "series": True}
    for descriptor in (many, series):
        assert restore_tables(records, json.dumps([descriptor])) == records
    restored = restore_tables(records, json.dumps([many, whole, whole]))
    assert restored == records, "of several descriptions of one place the first is tried"
    assert len(restore_tables(records, json.dumps([whole, whole]))) == 10
