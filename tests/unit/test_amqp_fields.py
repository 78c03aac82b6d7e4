"""Encoding of headers and filters: values are read back equal, all others are refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
import struct
from collections import OrderedDict
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import decode, encode

from fabric_nb.errors import NotSerializable, UnusableHeader
from fabric_nb.fabric.amqp import fields
from fabric_nb.fabric.amqp.fields import MAX_TABLE, checked, filter_tables

RESERVED = ("CC", "BCC")  # used by RabbitMQ as routing keys of copies
names = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda n: n not in RESERVED)
times = st.datetimes(
    dt.datetime(1970, 1, 2),  # noqa: DTZ001 - the zone is added
    dt.datetime(2106, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
).map(lambda time: time.replace(microsecond=0))
sendable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.binary(max_size=20)
    | times
    | st.decimals(0, 10**5, places=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(names, sendable, max_size=5)


def read(raw: bytes) -> Any:
    """Decode a table as a peer on pamqp, such as amqp-fabric, does."""
    size, table = decode.field_table(raw)
    assert size == len(raw)
    return table


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal in value and type; times are compared as instants."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case (bool(), _) | (_, bool()):
            return one is other
        case dt.datetime(), dt.datetime():  # never equal in an hour that comes twice (PEP 495)
            return one.astimezone(dt.UTC) == other.astimezone(dt.UTC)
    return type(one) is type(other) and bool(one == other)


def plain(value: Any) -> Any:
    """Return a value as pamqp decodes it, with byte arrays for bytes."""
    match value:
        case bytes():
            return bytearray(value)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


@given(tables)
@example({"score": 0.1, "half": 0.5, "tiny": 5e-324, "huge": 1e300, "nothing": -0.0})
@example({"edge": [127, 128, -129, 32768, 65536, 2**31, 2**32, -(2**31) - 1]})
def test_headers_are_read_back_equal(table: dict[str, Any]) -> None:
    """Every header is decoded as an equal value, floats to their last digit."""
    assert same(read(checked(table).raw), plain(table))


of_one_type = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | times,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, of_one_type, max_size=5))
def test_values_except_floats_and_bytes_are_encoded_as_by_amqp_fabric(
    table: dict[str, Any],
) -> None:
    """All values except floats and bytes are encoded as by amqp-fabric."""
    assert checked(table).raw == encode.field_table(table)


class Level(enum.IntEnum):
    LOW = 3


class Name(enum.StrEnum):
    A = "a"


class Kind(enum.Enum):
    X = "x"


STAMP = dt.datetime(2024, 5, 31, 12, 30, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (np.int64(5), 5),
        (np.uint8(200), 200),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Level.LOW, 3),
        (Name.A, "a"),
        (Kind.X, "x"),
        (b"\xff", bytearray(b"\xff")),
        (memoryview(b"ab"), bytearray(b"ab")),
        ((1, (2,)), [1, [2]]),
        (OrderedDict(b=1), {"b": 1}),
        (MappingProxyType({"a": np.int64(1)}), {"a": 1}),
        ({Kind.X: [np.float64(0.1)]}, {"x": [0.1]}),
        (STAMP, STAMP),
        (pd.Timestamp(STAMP), STAMP),
        (Decimal("3.14"), Decimal("3.14")),
        (Decimal(2147483647), Decimal(2147483647)),
        (2**63 - 1, 2**63 - 1),
        ("", ""),
        ("a\0ü\n", "a\0ü\n"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_conversions(value: Any, arrives: Any) -> None:
    """Scalars of numpy, members of enumerations and other types are sent as their plain value."""
    assert same(read(checked({"h": value}).raw)["h"], arrives)


def deep(levels: int, kind: type) -> Any:
    value: Any = True
    for _ in range(levels):
        value = {"a": value} if kind is dict else [value]
    return value


LOOP: list[Any] = []
LOOP.append(LOOP)

REFUSED: list[tuple[Any, str]] = [
    ({"h": math.nan}, "header 'h' is nan, and brokers take only finite numbers"),
    ({"h": -math.inf}, "header 'h' is -inf, and"),
    ({"h": np.float32("inf")}, "header 'h' is inf, and"),
    ({"h": {"a": [1, math.nan]}}, "header 'h'['a'][1] is nan, and"),
    ({"h": 2**63}, "header 'h' is an integer over 64 bits"),
    ({"h": np.uint64(2**64 - 1)}, "header 'h' is an integer over 64 bits"),
    ({"h": [-(2**63) - 1]}, "header 'h'[0] is an integer over 64 bits"),
    ({"h": 1j}, "header 'h' is a complex, which AMQP does not have"),
    ({"h": {1}}, "header 'h' is a set, which AMQP does not have: make it a list"),
    ({"h": object()}, "header 'h' is a object, which AMQP does not have"),
    ({"h": np.array([1])}, "header 'h' is a ndarray, which"),
    ({"h": np.longdouble(1)}, "header 'h' is a longdouble, which"),
    ({"h": np.datetime64("2024-01-01")}, "header 'h' is a datetime64, which"),
    ({"h": dt.date(2024, 1, 1)}, "header 'h' is a date, which AMQP does not have: send its iso"),
    ({"h": dt.time(12)}, "header 'h' is a time, which"),
    ({"h": dt.timedelta(1)}, "header 'h' is a timedelta, which AMQP does not have: send its total"),
    ({"h": pd.NaT}, "header 'h' is no time (NaT)"),
    ({"h": pd.NA}, "header 'h' is a NAType"),
    ({"h": STAMP.replace(tzinfo=None)}, "header 'h' is a time without a zone"),
    ({"h": STAMP.replace(microsecond=1)}, "header 'h' is a time with a fraction of a second"),
    ({"h": pd.Timestamp(1, tz="UTC")}, "header 'h' is a time with a fraction of a second"),
    ({"h": dt.datetime(1969, 1, 1, tzinfo=dt.UTC)}, "header 'h' is a time before 1970"),
    (
        {"h": dt.datetime(2107, 1, 1, tzinfo=dt.UTC)},
        "header 'h' is a time before 1970 or after 2106",
    ),
    ({"h": Decimal("-3.14")}, "header 'h' is a Decimal that is negative, or"),
    ({"h": Decimal("NaN")}, "header 'h' is a Decimal that is negative, or"),
    ({"h": Decimal("1E+10")}, "header 'h' is a Decimal that is negative, or"),
    ({"h": Decimal(2147483648)}, "header 'h' is a Decimal that is negative, or"),
    ({"h": Decimal("1E-256")}, "header 'h' is a Decimal that is negative, or"),
    ({"h": Decimal("1." + "1" * 60)}, "header 'h' is a Decimal that is negative, or"),
    ({"h": "\udc80"}, "header 'h' has half a character in it"),
    ({"\udc80": 1}, "header '\\udc80' has half a character in it"),
    ({"h": {5: 1}}, "header 'h'[5] has a name of type int, and names are text"),
    ({None: 1}, "header 'None' has a name of type NoneType"),
    ({b"h": 1}, "header \"b'h'\" has a name of type bytes"),
    (
        {"é" * 65: 1},
        "header 'éééééééééééééééééééé...' has a name of 130 bytes, and 128 are allowed",
    ),
    ({"CC": "USD"}, "header 'CC' has a name that RabbitMQ keeps for copies of a message"),
    ({"BCC": ["a"]}, "header 'BCC' has a name that RabbitMQ keeps for copies of a message"),
    ({"x": 1, Kind.X: 2}, "header 'x' is there twice"),
    ({"h": deep(33, dict)}, "header 'h' is nested more than 32 deep"),
    ({"h": deep(10_000, list)}, "header 'h' is nested more than 32 deep"),
    ({"h": LOOP}, "header 'h' is nested more than 32 deep"),
    ({"h": "x" * MAX_TABLE}, "The headers take 126,987 bytes, and 126,976 fit into a frame"),
    ({f"h{n}": "x" * 100 for n in range(2000)}, "The headers take"),
]


@pytest.mark.parametrize(("table", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_unusable_headers_are_refused(table: Any, sentence: str) -> None:
    """A header that a broker would change, or close the connection over, is refused."""
    for encoder in (checked, filter_tables):
        with pytest.raises(UnusableHeader) as caught:
            encoder(table, "header")
        assert str(caught.value).startswith(sentence)
        assert str(caught.value).endswith(".")
    assert isinstance(caught.value, NotSerializable)
    assert isinstance(caught.value, ValueError)


odd = st.recursive(
    sendable | st.floats() | st.integers() | st.datetimes() | st.decimals() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=150) | st.integers(), inner, max_size=3)
        | st.tuples(inner)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=150) | st.integers() | st.none(), odd, max_size=4))
def test_any_value_is_sent_or_refused(table: Any) -> None:
    """Arbitrary values are encoded or refused; nothing else is raised."""
    with contextlib.suppress(UnusableHeader):
        read(checked(table).raw)


@pytest.mark.parametrize("depth", [fields.MAX_NESTING])
def test_nesting_up_to_the_bound(depth: int) -> None:
    """Nested tables and lists are encoded up to the maximum depth."""
    for kind in (dict, list):
        table = {"h": deep(depth, kind)}
        assert read(checked(table).raw) == table


def bound_values(table: dict[str, Any]) -> list[Any]:
    """Return the values of the header `h` that a filter is bound with."""
    return [read(each.raw)["h"] for each in filter_tables(table)]


def test_a_filter_is_bound_for_each_encoding_of_a_value() -> None:
    """A filter also matches floats that are truncated to 32 bits, and times in milliseconds."""
    truncated = struct.unpack(">f", struct.pack(">f", 0.1))[0]
    stamp = STAMP.replace(tzinfo=dt.UTC)
    assert len(filter_tables({"h": "x", "b": 1, "c": {"d": [True]}})) == 1
    assert bound_values({"h": 0.1}) == [0.1, truncated]
    nested = [[0.1, {"a": 0.5}], [truncated, {"a": 0.5}]]
    assert bound_values({"h": [0.1, {"a": 0.5}]}) == nested
    for exact in (0.5, 0.0, 1e300, 5e-324, -3.0):
        assert bound_values({"h": exact}) == [exact]
    seconds = int(stamp.timestamp())
    assert [each.raw[-8:] for each in filter_tables({"h": stamp})] == [
        seconds.to_bytes(8),
        (seconds * 1000).to_bytes(8),
    ]
    assert len(filter_tables({"h": stamp, "i": 0.1})) == 4


def test_a_checked_table_is_not_encoded_again() -> None:
    """Checking a checked table returns the same object."""
    once = checked({"a": 1})
    assert checked(once) is once
    assert once == {"a": 1}
