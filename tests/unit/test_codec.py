"""Encoding of values as JSON, and the errors for values that cannot be sent."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import math
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabric_nb.errors import MalformedMessage, NotSerializable
from fabric_nb.fabric.wire.codec import decode, encode

# Lone low surrogates only: a high one before a low one is one character, in JSON as anywhere.
text = st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udfff"), max_size=8)
integers = st.integers() | st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30])
json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    """Return whether two values are equal in type and value, with NaN equal to itself."""
    match one, other:
        case float(), float():
            return repr(one) == repr(other)
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict(), dict():
            return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


class Colour(enum.Enum):
    RED = "red"
    NOTHING = None


class Shade(str, enum.Enum):  # noqa: UP042 - as older programs have it
    DARK = "dark"


class Level(enum.IntEnum):
    LOW = 3


class Odd(int, enum.Enum):
    """Member of an enumeration that is one number and has another as its value."""

    def __new__(cls, number: int) -> Odd:
        member = int.__new__(cls, number)
        member._value_ = -number
        return member

    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


class Whole(int):
    def __int__(self) -> int:
        return 7


class Real(float):
    def __float__(self) -> float:
        return 7.0


@dataclasses.dataclass
class Point:
    x: float
    y: object = None


@dataclasses.dataclass
class Account:
    _id: int
    name: str = "a"
    opened: int = dataclasses.field(init=False, default=2024)
    tags: list[str] = dataclasses.field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.no_field = "not sent"


@dataclasses.dataclass(slots=True)
class Slotted:
    _id: int
    opened: int = dataclasses.field(init=False, default=2024)


@dataclasses.dataclass
class Unfinished:
    total: int = dataclasses.field(init=False)


LMT = dt.timezone(dt.timedelta(minutes=53, seconds=28))


# -- there and back


@given(json_values)
@example(math.nan)
@example({"a": math.inf, "b": None})
@example([10**25, None, -math.inf])
@example(["\udc80", 2**70, math.nan, None])
@example(12345678901234567890)
@example(0.12345678901234567890)
@example("12345678901234567890123")
def test_json_values_come_back(value: Any) -> None:
    """Every JSON value is read back equal, including NaN, infinities and integers of any size."""
    body, tables = encode(value)
    assert tables is None
    assert same(decode(body), value)


@given(json_values)
def test_peers_read_encoded_values(value: Any) -> None:
    """Encoded values are read by Python's own `json`, which amqp-fabric uses."""
    assert same(json.loads(encode(value)[0]), value)


@given(json_values, st.booleans())
def test_values_of_peers_are_read(value: Any, ascii_only: bool) -> None:
    """Values written by Python's own `json`, which amqp-fabric uses, are read."""
    written = json.dumps(value, ensure_ascii=ascii_only, default=repr)
    assert same(decode(written.encode(errors="surrogatepass")), value) or not ascii_only


NAN = math.nan
STAMP = dt.datetime(2024, 5, 31, 12, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        ({"a": (1, [2])}, {"a": [1, [2]]}),
        (dt.date(2024, 5, 31), "2024-05-31"),
        (dt.time(12, 30), "12:30:00"),
        (STAMP, "2024-05-31T12:30:00+00:00"),
        (pd.Timestamp("2024-05-31T12:30:00.000000001"), "2024-05-31T12:30:00.000000001"),
        (np.datetime64("2024-05-31T12:30:00.000000001"), "2024-05-31T12:30:00.000000001"),
        (np.datetime64("2024-05-31", "ns"), "2024-05-31T00:00:00"),
        (np.array(["2024-05-31", "NaT"], "datetime64[ns]"), ["2024-05-31T00:00:00", None]),
        (np.array("2024-05-31", "datetime64[ns]"), "2024-05-31T00:00:00"),
        (pd.DatetimeIndex(["2024-05-31"]), ["2024-05-31T00:00:00"]),
        (pd.NaT, None),
        (pd.NA, None),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), NAN),
        (np.int64(2**62), 2**62),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.5, NAN]), [1.5, NAN]),
        (pd.Index([1, 2]), [1, 2]),
        (pd.array([1, None], "Int64"), [1, None]),
        (pd.Series(["a", "b", "a"]).unique(), ["a", "b"]),
        (pd.Categorical(["b", None]), ["b", None]),
        (pd.array([STAMP]), ["2024-05-31T12:30:00+00:00"]),
        (Account(5), {"_id": 5, "name": "a", "opened": 2024, "tags": []}),
        ([Slotted(5)], [{"_id": 5, "opened": 2024}]),
        (STAMP.replace(tzinfo=LMT), "2024-05-31T12:30:00+00:53:28"),
        (dt.time(12, 30, tzinfo=dt.UTC), "12:30:00+00:00"),
        (dt.date.min, "0001-01-01"),
        (STAMP.replace(microsecond=5), "2024-05-31T12:30:00.000005+00:00"),
        (Shade.DARK, "dark"),
        (Level.LOW, 3),
        (Odd.ONE, -1),
        (Rights.READ | Rights.WRITE, 3),
        (Text("text"), "text"),
        (Whole(5), 5),
        (Real(0.5), 0.5),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        ({Shade.DARK: 1, Text("t"): 2, Colour.RED: 3}, {"dark": 1, "t": 2, "red": 3}),
        ({Level.LOW: 1, Odd.ONE: 2, Whole(5): 3}, {"3": 1, "-1": 2, "5": 3}),
        ({np.str_("s"): np.str_("v"), np.bool_(True): 1}, {"s": "v", "true": 1}),
        (Colour.RED, "red"),
        (Colour.NOTHING, None),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Point(1.5, "a"), {"x": 1.5, "y": "a"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (
            {3: "a", 2.5: "b", None: "c", True: "d"},
            {"3": "a", "2.5": "b", "null": "c", "true": "d"},
        ),
        ({np.int64(1): "a"}, {"1": "a"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("beside", [None, NAN, "plain", 2**70])
def test_python_values_become_json(value: Any, arrives: Any, beside: Any) -> None:
    """Dates, tuples, numpy and other types are encoded alike, whatever values are beside them."""
    received = decode(encode({"value": value, "beside": beside})[0])
    assert same(received, {"value": arrives, "beside": beside})


beside = st.sampled_from([None, NAN, 2**70, (1,), Point(1.5), "\udc80", np.int64(1), pd.NaT])
python_values = st.recursive(
    json_values
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times()
    | st.uuids()
    | st.sampled_from([*Colour, *Shade, *Level, *Odd, *Rights, Text("t"), Whole(1), Real(0.5)])
    | st.builds(Account, st.integers())
    | st.builds(Slotted, st.integers()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(text | st.sampled_from([Shade.DARK, Level.LOW, 5, None]), inner)
        | st.builds(Point, st.floats(), inner)
    ),
    max_leaves=6,
)


@given(python_values, beside)
def test_values_are_encoded_independently(value: Any, other: Any) -> None:
    """A value is encoded alike alone and beside one that takes another path through the codec."""
    try:
        alone = decode(encode(value)[0])
    except NotSerializable:
        with pytest.raises(NotSerializable):
            encode([value, other])
        return
    assert same(decode(encode([value, other])[0])[0], alone)
    assert same(decode(encode({"a": value, "b": [other]})[0])["a"], alone)


def test_nan_in_a_dataclass() -> None:
    """NaN in a dataclass stays NaN, and does not become null."""
    received = decode(encode({"point": Point(NAN), "none": None})[0])
    assert math.isnan(received["point"]["x"])


@pytest.mark.parametrize("depth", [10, 200, 300])
def test_nested_values_come_back(depth: int) -> None:
    """Values nested some hundred levels deep are read back equal."""
    value: Any = {"leaf": [1, "é"]}
    for level in range(depth):
        value = [value] if level % 2 else {"a": value, "b": None}
    # Compared as text: comparing would need as many frames as there are levels.
    assert encode(decode(encode(value)[0]))[0] == encode(value)[0]


# -- what cannot be sent


LOOP: list[Any] = []
LOOP.append(LOOP)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"x", "v is a bytes, which JSON cannot carry: decode it to text, or publish it as data."),
        ({1, 2}, "v is a set, which JSON cannot carry: make it a list."),
        (frozenset(), "v is a frozenset, which JSON cannot carry: make it a list."),
        (1j, "v is a complex, which JSON cannot carry: send its real and imaginary parts."),
        (object(), "v is a object, which JSON cannot carry."),
        (Point, "v is a type, which JSON cannot carry."),
        (len, "v is a builtin_function_or_method, which JSON cannot carry."),
        (Decimal("1.5"), "v is a Decimal, which JSON cannot carry: send its text, or a float."),
        (dt.timedelta(1), "v is a timedelta, which JSON cannot carry: send its total_seconds()."),
        (np.timedelta64(1, "ns"), "v is a timedelta64, which JSON cannot carry: send its seconds"),
        (np.array([1], "timedelta64[ns]"), "v[0] is a timedelta64, which JSON cannot carry:"),
        (np.longdouble(1), "v is a longdouble, which JSON cannot carry: make it a float."),
        (pd.Period("2024"), "v is a Period, which JSON cannot carry: send its text."),
        (range(3), "v is a range, which JSON cannot carry: make it a list."),
        (np.datetime64(1500, "ps"), "v is a datetime64, which JSON cannot carry: round it"),
        (np.array([1500], "datetime64[ps]"), "v[0] is a datetime64, which JSON cannot carry:"),
        (np.zeros(1, [("a", int)]), "v is a ndarray, which JSON cannot carry: make it a DataFrame"),
        (pd.arrays.SparseArray([1]), "v has the type Sparse[int64, 0], which JSON cannot carry"),
        ({"a": [1, {"b": b""}]}, "v['a'][1]['b'] is a bytes, which JSON cannot carry:"),
        ((0, [Point(1, {2})]), "v[1][0]['y'] is a set, which JSON cannot carry:"),
        ({"a": {(1, 2): 3}}, "v['a'] has the key '(1, 2)' of type tuple, and JSON keys are text"),
        ({"a": {1: "x", "1": "y"}}, "v['a'] has the key '1' twice, as text and as a number"),
        ({5: b""}, "v['5'] is a bytes"),
        ({Colour.RED: 1, "red": 2}, "v has the key 'red' twice"),
        (
            {uuid.UUID(int=1): 1},
            "v has the key '00000000-0000-0000-0000-000000000001' of type UUID",
        ),
        ({STAMP: 1}, "v has the key '2024-05-31 12:30:00+00:00' of type datetime, and"),
        ([Unfinished()], "v[0] is a Unfinished that cannot be read to be sent: AttributeError"),
        (LOOP, "v is nested too deeply to be sent."),
        (nested(100_000), "v is nested too deeply to be sent."),
        (nested(sys.getrecursionlimit()), "v is nested too deeply to be sent."),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else type(value).__name__,
)
def test_unsupported_values_are_refused(value: object, sentence: str) -> None:
    """A value that JSON cannot represent is refused, with its position and advice."""
    with pytest.raises(NotSerializable) as caught:
        encode(value, label="v")
    assert str(caught.value).startswith(sentence)


# -- what cannot be read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nope",
        b"\xff\xfe",
        b"\x80",
        b"{'a': 1}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"1" * 100_000,
        b"1 2",
    ],
    ids=lambda body: str(body[:10]),
)
def test_invalid_json_is_malformed(body: bytes) -> None:
    """Invalid JSON raises `MalformedMessage` with one short sentence."""
    with pytest.raises(MalformedMessage, match="The body is not JSON") as caught:
        decode(body)
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode()))
def test_any_bytes_are_read_or_malformed(body: bytes) -> None:
    """Arbitrary bytes are JSON or raise `MalformedMessage`."""
    with contextlib.suppress(MalformedMessage):
        decode(body)
