"""Values as arguments and results: plain ones, tables, and unsupported ones."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

from fabric_nb.errors import NotSerializable
from tests.support.fabric import next_message

pytestmark = pytest.mark.any_broker  # it carries bytes


@pytest.fixture
async def fabric(members):
    """Member that serves `echo`, and a method that returns the type of its argument."""
    member = await members.join("echo")
    await member.serve({"echo": lambda value: value, "kind": lambda value: type(value).__name__})
    return member


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**80,
        1.5,
        "ü \N{SNOWMAN} \x00 \N{GRINNING FACE}",
        "",
        [],
        {},
        [1, [2, {"a": None}]],
        {"a b": {"": [1.0]}},
        "x" * 3_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_plain_values_survive(fabric, value):
    """JSON values are returned equal."""
    assert await fabric.call("app.echo.echo", value=value) == value


async def test_values_that_become_plain(fabric):
    """Numpy values, dates and tuples arrive as JSON values; NaN stays NaN."""
    value = {
        "array": np.arange(3),
        "number": np.float64(1.5),
        "date": dt.date(2024, 2, 29),
        "time": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
        "pair": (1, 2),
        3: "key",
    }
    assert await fabric.call("app.echo.echo", value=value) == {
        "array": [0, 1, 2],
        "number": 1.5,
        "date": "2024-02-29",
        "time": "2024-02-29T12:00:00+00:00",
        "pair": [1, 2],
        "3": "key",
    }
    assert math.isnan(await fabric.call("app.echo.echo", value=float("nan")))


FRAME = pd.DataFrame(
    {
        "n": [1, 2, 3],
        "x": [0.5, None, -1.0],
        "name": ["a", "ü", None],
        "at": pd.to_datetime(["2024-01-01", "2024-02-29T12:00:00.5", None], format="ISO8601"),
        "zone": pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Berlin"),
        "kind": pd.Categorical(["u", "v", "u"]),
        "size": pd.Categorical(["S", "L", "S"], categories=["S", "M", "L"], ordered=True),
        "whole": pd.array([1, None, 3], dtype="Int64"),
        "ok": [True, False, True],
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.set_index("name").head(2),
        FRAME.set_index("n"),
        FRAME.drop(columns=["n"]).set_index(pd.Index([3, 1, 7], name="n")),
        FRAME.set_index(["n", "ok"])[["x"]],
        FRAME.iloc[1:],
        FRAME.drop(columns="kind").head(0),
        pd.DataFrame(),
        FRAME.rename(columns={"n": 7}),
    ],
    ids=[
        "types",
        "index",
        "counted index",
        "ids",
        "levels",
        "sliced",
        "no rows",
        "nothing",
        "number as label",
    ],
)
async def test_frames_survive(fabric, frame):
    """A DataFrame is restored, as an argument and as a result."""
    assert await fabric.call("app.echo.kind", value=frame) == "DataFrame"
    returned = await fabric.call("app.echo.echo", value=frame)
    assert_frame_equal(returned, frame, check_freq=False, check_column_type=False)


async def test_series_survive(fabric):
    """A Series is restored, also inside other values."""
    by_name = pd.Series([1.5, 2.5], index=["a", "b"], name="price")
    assert_series_equal(await fabric.call("app.echo.echo", value=by_name), by_name)
    assert await fabric.call("app.echo.kind", value=FRAME["n"]) == "Series"
    assert_series_equal(await fabric.call("app.echo.echo", value=FRAME["n"]), FRAME["n"])
    returned = await fabric.call("app.echo.echo", value={"list": [1, {"s": by_name, "f": FRAME}]})
    assert_series_equal(returned["list"][1]["s"], by_name)
    assert_frame_equal(returned["list"][1]["f"], FRAME)


class Opaque:
    """Object that JSON cannot represent."""


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Opaque(), r"argument 'value' is a Opaque"),
        ({"rows": [1, {"x": b"raw"}]}, r"argument 'value'\['rows'\]\[1\]\['x'\] is a bytes"),
        ([{1, 2}], r"argument 'value'\[0\] is a set"),
        ({(1, 2): 3}, r"argument 'value' has the key"),
        (pd.DataFrame({"z": [1j]}), r"argument 'value'\['z'\]"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"has the column 'a' twice"),
        (pd.DataFrame({"o": [1, Opaque()]}), r"argument 'value'\['o'\]\[1\] is a Opaque"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_unsupported_values_are_refused_at_the_sender(fabric, value, place):
    """A value that JSON cannot represent is refused before it is sent, with its position."""
    with pytest.raises(NotSerializable, match=place):
        await fabric.call("app.echo.echo", value=value)
    assert fabric.servers[0].stats["echo"].calls == 0
    with pytest.raises(NotSerializable):
        fabric.publish_data({"value": value})
    with pytest.raises(NotSerializable):
        await (await closed_again(fabric)).call("app.echo.echo", value=value)


async def closed_again(fabric):
    await fabric.close()
    return fabric


async def test_recursive_values_are_refused(fabric):
    """A value that contains itself is refused."""
    loop = []
    loop.append(loop)
    with pytest.raises(NotSerializable, match="nested too deeply"):
        await fabric.call("app.echo.echo", value=loop)


async def test_frames_are_plain_records_on_the_wire(fabric, raw):
    """For a peer without fabric_nb, a DataFrame is a JSON list of records."""
    exchange = await raw.get_exchange(fabric.data_exchange)
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(exchange, arguments={"x-match": "all", "kind": "frame"})
    frame = pd.DataFrame({"a": [1, 2], "at": pd.to_datetime(["2024-01-01", None])})
    await fabric.publish_data(frame, headers={"kind": "frame"})
    message = await next_message(queue)
    assert json.loads(message.body) == [
        {"a": 1, "at": "2024-01-01T00:00:00"},
        {"a": 2, "at": None},
    ]
