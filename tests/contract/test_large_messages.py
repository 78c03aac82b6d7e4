"""Large messages: decoded in a thread, in order, while further messages wait."""

from __future__ import annotations

import asyncio
import gzip
import json
import operator
import threading

import aio_pika
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.data import consumer as consumer_module
from fabric_nb.fabric.data import stream as stream_module
from fabric_nb.fabric.rpc import call_runner
from fabric_nb.fabric.rpc import requester as requester_module
from fabric_nb.fabric.wire.data_encoding import arrow_body
from fabric_nb.fabric.wire.formats import ARROW, JSON_COLUMNS
from tests.support.fabric import Members, until
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # it carries bytes

ROWS = 60_000


def numbered(first, rows=ROWS):
    """Return numbered rows of more than 64 kB."""
    return [{"n": n, "name": "},{ " + str(n)} for n in range(first, first + rows)]


def as_columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


FORMS = {
    "json": lambda rows: (json.dumps(rows).encode(), {}),
    "gzip": lambda rows: (
        gzip.compress(json.dumps(rows).encode()),
        {"content_encoding": "gzip"},
    ),
    "columns": lambda rows: (
        json.dumps(as_columns(rows)).encode(),
        {"content_type": JSON_COLUMNS},
    ),
    "arrow": lambda rows: (arrow_body(pa.table(as_columns(rows))), {"content_type": ARROW}),
    "arrow-lists": lambda rows: (
        arrow_body(pa.table({**as_columns(rows), "more": [[row["n"]] for row in rows]})),
        {"content_type": ARROW},
    ),
}


@pytest.fixture
async def fabric(members):
    """Member with streams."""
    return await members.join("reader")


@pytest.fixture
def held(monkeypatch):
    """Gate that blocks the decoding of large messages until it is set, and counts those begun."""
    go, read = threading.Event(), stream_module.read_parts
    go.begun = 0

    def wait_and_read(*args, **options):
        go.begun += 1
        assert go.wait(30)
        return read(*args, **options)

    monkeypatch.setattr(stream_module, "read_parts", wait_and_read)
    yield go
    go.set()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_rows_keep_their_order(fabric, send_data, form):
    """Rows of large and small messages have the order of the messages, in every form."""
    async with await fabric.stream() as stream:
        await send_data(b'{"n": 0}')
        body, properties = form(numbered(1))
        assert len(body) > 256 * 1024
        await send_data(body, **properties)
        for n in range(ROWS + 1, ROWS + 6):
            await send_data(b'{"n": %d}' % n)
        await stream.wait(ROWS + 6, timeout=60)
        frame = stream.df
    assert frame["n"].tolist() == list(range(ROWS + 6))
    assert frame["name"][1] == "},{ 1"
    assert (stream.messages, stream.rejected, stream.dropped) == (7, 0, 0)


async def test_readers_and_recordings_get_them(fabric, send_data, tmp_path):
    """Readers of batches and recordings get the rows of a large message, once and in order."""
    async with await fabric.stream(paused=True, arrival=True) as stream:
        recording = await stream.record(tmp_path / "rows.jsonl")
        body, properties = FORMS["gzip"](numbered(1))
        for each, options in ((b'{"n": 0}', {}), (body, properties), (b'[{"n": 60001}]', {})):
            await send_data(each, **options)
        resuming = asyncio.create_task(stream.resume())
        got = [batch async for batch in stream.batches(ROWS + 2)]
        await resuming
        await recording.close()
    assert [len(batch) for batch in got] == [1, ROWS, 1]
    assert [row["n"] for batch in got for row in batch] == list(range(ROWS + 2))
    assert "arrival" in got[1][0]
    assert recording.rows == ROWS + 2
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [row["n"] for line in lines[1:] for row in json.loads(line)["rows"]] == list(
        range(ROWS + 2)
    )


async def test_the_loop_is_not_blocked(fabric, send_data):
    """While a large message is decoded, other work on the loop continues."""
    body, properties = FORMS["gzip"](numbered(0, 300_000))
    async with await fabric.stream() as stream:
        await send_data(body, **properties)
        await until(lambda: stream.consumer.is_reading)
        turns = 0
        while stream.consumer.is_reading:
            await asyncio.sleep(0)
            turns += 1
        assert stream.rows == 300_000
    assert turns > 50


async def test_further_messages_wait_unacknowledged(fabric, send_data, held):
    """Messages after a large one are neither processed nor acknowledged before it."""
    acknowledged = []
    async with await fabric.stream(name="shared") as stream:
        ack = stream.consumer.channel.ack
        stream.consumer.channel.ack = lambda delivery, **o: (
            acknowledged.append(delivery.tag) or ack(delivery, **o)
        )
        await send_data(b'{"n": 0}')
        await stream.wait(1, timeout=60)
        await until(lambda: acknowledged == [1])
        body, properties = FORMS["json"](numbered(1))
        await send_data(body, **properties)
        for n in range(ROWS + 1, ROWS + 4):
            await send_data(b'{"n": %d}' % n)
        await until(lambda: stream.waiting == 3)
        assert (stream.messages, stream.rows, acknowledged) == (1, 1, [1])
        held.set()
        await stream.wait(ROWS + 4, timeout=60)
        await until(lambda: acknowledged[-1] == 5)
        assert acknowledged == sorted(acknowledged)
        assert stream.df["n"].tolist() == list(range(ROWS + 4))


async def test_the_channel_is_lost_meanwhile(fabric, send_data, held):
    """A large message that is decoded while its channel is lost becomes rows once."""
    await lose_the_channel(fabric, send_data, held)


async def test_the_channel_of_a_durable_stream_is_lost_meanwhile(rabbitmq_uri, held):
    """A large message of a durable stream, which is redelivered, becomes rows once."""
    async with Members(rabbitmq_uri) as members, await aio_pika.connect(rabbitmq_uri) as own:
        fabric = await members.join("reader")
        publish = publisher(await own.channel())
        await lose_the_channel(fabric, publish, held, name="kept", durable=True)


async def lose_the_channel(fabric, publish, held, **options):
    """Lose the channel of a stream while a large message of it is decoded."""
    async with await fabric.stream(**options) as stream:
        body, properties = FORMS["json"](numbered(0))
        await publish(body, **properties)
        await until(lambda: held.begun == 1)
        channel = stream.consumer.channel
        generation = channel.generation
        channel.renew()
        await until(lambda: channel.generation > generation and channel.is_ready)
        held.set()
        await stream.wait(ROWS, timeout=60)
        await publish(b'{"n": %d}' % ROWS)
        await stream.wait(ROWS + 1, timeout=60)
        assert stream.df["n"].tolist() == list(range(ROWS + 1))
        assert stream.rejected == 0


async def test_waiting_messages_are_bounded(fabric, send_data, held, monkeypatch):
    """While a large message is decoded, only a limited number of bytes is received."""
    monkeypatch.setattr(consumer_module, "MAX_WAITING_BYTES", 200_000)
    async with await fabric.stream() as stream:
        body, properties = FORMS["json"](numbered(0))
        await send_data(body, **properties)
        await until(lambda: held.begun == 1)
        filler = "x" * 50_000
        sending = [
            asyncio.create_task(send_data(json.dumps({"n": ROWS + n, "f": filler}).encode()))
            for n in range(200)
        ]
        connection = fabric.member.consumer_connection
        await until(lambda: not connection.receiving)
        waiting = stream.waiting
        assert waiting < 100
        held.set()
        await stream.wait(ROWS + 200, timeout=60)
        await asyncio.gather(*sending)
        assert connection.receiving
        assert stream.df["n"].tolist() == list(range(ROWS + 200))


async def test_closing_meanwhile(fabric, send_data, held):
    """A stream may be closed while a large message is decoded; its rows are dropped."""
    stream = await fabric.stream()
    await send_data(FORMS["json"](numbered(0))[0])
    await until(lambda: held.begun == 1)
    await stream.close()
    held.set()
    await until(lambda: not stream.consumer.is_reading)
    assert (stream.rows, stream.rejected) == (0, 0)


HOSTILE = {
    "own-keys": json.dumps([{f"k{n}": n} for n in range(8000)]).encode(),
    "one-row": json.dumps({f"k{n}": n for n in range(100_000)}).encode(),
    "one-row-in-list": json.dumps([{f"k{n}": n for n in range(100_000)}]).encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_wide_and_sparse_rows(fabric, send_data, body):
    """Rows of very many columns are kept: the first 1,000 columns, and the rest in one."""
    async with await fabric.stream() as stream:
        await send_data(body)
        await send_data(b'{"last": 1}')
        rows = len(json.loads(body)) if body.startswith(b"[") else 1
        await stream.wait(rows + 1, timeout=60)
        frame = stream.df
    assert len(frame.columns) == 1001
    assert frame["k0"][0] == 0
    values = [len(row) for row in frame["_overflow"] if row]
    assert sum(values) == (7000 if rows > 1 else 99_000) + 1


def times(kind, values, dtype):
    """Return an array of times that Python's types may not represent."""
    data = pa.py_buffer(np.array(values, dtype=dtype).tobytes())
    return pa.Array.from_buffers(kind, len(values), [None, data])


OUT_OF_RANGE = {
    "date32": times(pa.date32(), [2**31 - 1], "i4"),
    **{
        f"{unit}-{zone}": times(pa.timestamp(unit, zone), [2**62], "i8")
        for unit in ("s", "ms", "us")
        for zone in (None, "UTC", "Europe/Paris")
    },
    "duration-s": times(pa.duration("s"), [2**62], "i8"),
    "duration-ms": times(pa.duration("ms"), [2**62], "i8"),
    "list": pa.ListArray.from_arrays([0, 1], times(pa.date32(), [2**31 - 1], "i4")),
    "dictionary": pa.DictionaryArray.from_arrays([0], times(pa.timestamp("s"), [2**62], "i8")),
}


@pytest.mark.parametrize("array", OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
async def test_values_that_python_cannot_hold(fabric, send_data, failures, array, tmp_path):
    """Arrow values beyond Python's range are rejected and acknowledged; the stream continues."""
    async with await fabric.stream(paused=True) as stream:
        recording = await stream.record(tmp_path / "rows.parquet")
        await send_data(arrow_body(pa.table({"x": array})), content_type=ARROW)
        await send_data(b'{"n": 1}')
        resuming = asyncio.create_task(stream.resume())
        got = [batch async for batch in stream.batches(1)]
        await resuming
        assert [row["n"] for batch in got for row in batch] == [1]
        await recording.close()
        assert (stream.messages, stream.rejected, recording.rows) == (2, 1, 1)
        assert list(stream.df["n"]) == [1]
    assert failures.total == 0


@pytest.fixture
def send_data(raw):
    """Publish any body to the data exchange, confirmed."""
    return publisher(raw)


def publisher(channel):
    """Function that publishes any body over a channel, confirmed."""

    async def publish(body, **properties):
        exchange = await channel.get_exchange(f"{DOMAIN}.data")
        await exchange.publish(aio_pika.Message(body, **properties), "")

    return publish


# -- calls


@pytest.mark.parametrize("kind", ["rows", "nested", "frame"])
async def test_large_results_and_arguments_do_not_block(members, monkeypatch, kind):
    """A large argument, result or item arrives equal, and does not block the loop."""
    value = {
        "rows": [{"n": n, "text": "},{"} for n in range(60_000)],
        "nested": {"a": {"b": {str(n): [n, {"c": n}] for n in range(60_000)}}},
        "frame": pd.DataFrame({"n": range(60_000), "x": 0.5}),
    }[kind]
    equal = pd.DataFrame.equals if kind == "frame" else operator.eq

    def echo(value):
        return value

    def items(value):
        yield value

    server = await members.join("server")
    await server.serve({"echo": echo, "items": items})
    caller = await members.join("caller", type="client")
    threads = []
    for module, name in ((requester_module, "read_reply"), (call_runner, "read_call")):
        read = getattr(module, name)

        def noted(*args, read=read):
            threads.append(threading.current_thread())
            return read(*args)

        monkeypatch.setattr(module, name, noted)
    assert equal(await caller.call("app.server.echo", value=value), value)
    (item,) = [one async for one in caller.call_stream("app.server.items", value=value)]
    assert equal(item, value)
    large = [one for one in threads if one is not threading.main_thread()]
    assert len(large) == 4


async def test_a_large_result_that_cannot_be_read(members, raw):
    """A large reply that is not JSON is an error that names the call."""
    caller = await members.join("caller", type="client")

    async def garbage(delivery):
        await raw.default_exchange.publish(
            aio_pika.Message(
                b'{"a": ' * 200_000, type="result", correlation_id=delivery.correlation_id
            ),
            delivery.reply_to,
        )

    exchange = await raw.declare_exchange("my_project.api.app.broken", "direct", auto_delete=True)
    queue = await raw.declare_queue(
        "my_project.api.app.broken::give", durable=True, auto_delete=True
    )
    await queue.bind(exchange, queue.name)
    await queue.consume(garbage, no_ack=True)
    with pytest.raises(MalformedMessage, match=r"broken\.give sent a reply that cannot be read"):
        await caller.call("my_project.app.broken.give", timeout=60)
