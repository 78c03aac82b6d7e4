"""Batches of rows over a broker, from fabric_nb and from other publishers."""

from __future__ import annotations

import gzip
import json

import aio_pika
import pandas as pd
import pyarrow as pa
import pytest

from tests.support.fabric import until

FRAME = pd.DataFrame({"n": range(1000), "x": [i / 8 for i in range(1000)]})


@pytest.fixture
async def publisher(members):
    """Member that publishes."""
    return await members.join("publisher")


@pytest.fixture
async def stream(members):
    """Stream of all published data."""
    subscriber = await members.join("subscriber")
    async with await subscriber.stream() as stream:
        yield stream


@pytest.mark.parametrize("form", [None, "json", "json-columns", "arrow"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
async def test_a_frame_is_published_in_one_message(publisher, stream, form, compression):
    """A DataFrame is sent in one message of any format and arrives as its rows."""
    await publisher.publish_data(FRAME, {"kind": "F"}, format=form, compression=compression)
    await stream.wait(rows=1000, timeout=60)
    assert stream.messages == 1
    pd.testing.assert_frame_equal(stream.df, FRAME, check_dtype=False)


async def test_batches_are_iterated_as_rows(publisher, stream):
    """`stream.batches()` yields rows, whatever the form of the message."""
    got = []
    for form in ("json", "json-columns", "arrow"):
        publisher.publish_data([{"form": form}, {"form": form}], {}, format=form)
    async for rows in stream.batches():
        got += [row["form"] for row in rows]
        if len(got) == 6:
            break
    assert sorted(got) == sorted(["json", "json-columns", "arrow"] * 2)


async def test_batches_of_other_publishers(publisher, stream, raw):
    """A batch of any publisher is read by its content type and content encoding."""
    exchange = await raw.get_exchange(publisher.data_exchange)
    sink = pa.BufferOutputStream()
    table = pa.table({"n": [3, 4]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for body, kind, encoding in [
        (b'{"n": 0}', None, None),
        (b'[{"n": 1}, {"n": 2}]', "application/json; charset=utf-8", None),
        (sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream", None),
        (gzip.compress(json.dumps({"n": 5}).encode(), mtime=0), "application/json", "gzip"),
    ]:
        await exchange.publish(
            aio_pika.Message(body, content_type=kind, content_encoding=encoding), ""
        )
    await stream.wait(rows=6, timeout=60)
    assert stream.df["n"].tolist() == [0, 1, 2, 3, 4, 5]


async def test_columns_that_do_not_fit_are_counted(publisher, stream, raw):
    """An invalid Arrow table is rejected, and the next message is read."""
    exchange = await raw.get_exchange(publisher.data_exchange)
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, twice.schema) as writer:
        writer.write_table(twice)
    kind = "application/vnd.apache.arrow.stream"
    await exchange.publish(aio_pika.Message(sink.getvalue().to_pybytes(), content_type=kind), "")
    await until(lambda: stream.rejected == 1)
    await publisher.publish_data({"n": 1}, {})
    await stream.wait(rows=1, timeout=60)
