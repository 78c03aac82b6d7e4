"""Data: publishing, subscriptions with callbacks, and data streams."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import logging

import aio_pika
import pandas as pd
import pytest

from fabric_nb.errors import WaitTimeout
from fabric_nb.fabric.data.recording import HEADER_PREFIX
from tests.support.fabric import next_message, until, wait_for_service


@pytest.fixture
async def publisher(members):
    """Return a member that publishes."""
    return await members.join("publisher", type="source")


@pytest.fixture
async def subscriber(members):
    """Return a member that subscribes."""
    return await members.join("subscriber", type="sink")


@pytest.fixture
async def next_published(raw, publisher):
    """Return a function for the next published message, as on the wire."""
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(publisher.data_exchange)

    return functools.partial(next_message, queue)


# -- publishing


async def test_bytes_are_published_unchanged(publisher, next_published):
    """Bytes are published unchanged, with the publisher's name in the headers."""
    headers = {"kind": "A", "n": 7, "nested": {"a": [1]}}
    given = json.loads(json.dumps(headers))
    assert await publisher.publish_data(b"\x00\xff", headers) is None
    message = await next_published()
    assert message.body == b"\x00\xff"
    assert message.headers == {**headers, "service_id": "publisher", "service_type": "source"}
    assert headers == given


async def test_values_are_published_as_json(publisher, next_published):
    """A mapping or a list, passed as `data` or `items`, is published as JSON."""
    for published in (
        publisher.publish_data({"a": "ü"}),
        publisher.publish_data(items={"a": "ü"}, headers={}),
        publisher.publish_data(data=[{"a": "ü"}], headers=None),
    ):
        await published
    bodies = [json.loads((await next_published()).body) for _ in range(3)]
    assert bodies == [{"a": "ü"}, {"a": "ü"}, [{"a": "ü"}]]
    with pytest.raises(TypeError):
        publisher.publish_data()
    with pytest.raises(TypeError):
        publisher.publish_data({"a": 1}, items={"a": 1})


async def test_publishing_without_waiting(members, subscriber):
    """All messages that are published without waiting arrive, in order."""
    publisher = await members.join("brief", keep_alive_seconds=False)
    async with await subscriber.stream() as stream:
        for n in range(300):
            publisher.publish_data({"n": n})
        await publisher.close()
        await stream.wait(300, timeout=60)
        assert list(stream.df["n"]) == list(range(300))


async def test_failed_publishing_is_counted_and_logged(publisher, raw, caplog):
    """A refused message is counted and logged, and its error is raised if it is awaited."""
    await raw.exchange_delete(publisher.data_exchange)
    with caplog.at_level(logging.WARNING, "fabric_nb.fabric.data.publisher"):
        waiting = publisher.publish_data({"n": 1})
        publisher.publish_data({"n": 2})  # not awaited
        with pytest.raises(Exception, match=r"refused|lost"):
            await waiting
        await until(lambda: publisher.publisher.failed == 2)
    assert "was not published" in caplog.text
    await publisher.publish_data({"n": 3})  # the channel has come back, and the exchange
    assert publisher.publisher.published == 1


# -- subscriptions, as in amqp-fabric


async def test_subscriber_receives_messages(publisher, subscriber):
    """The callback receives a message of aio_pika, and acknowledges it with `message.process()`."""
    received = asyncio.Queue()

    async def callback(message):
        async with message.process():
            received.put_nowait(message)

    await subscriber.subscribe_data("sub", {"kind": "A"}, callback)
    await publisher.publish_data(b"no", {"kind": "B"})
    await publisher.publish_data(b"yes", {"kind": "A", "more": 1})
    async with asyncio.timeout(60):
        message = await received.get()
    assert isinstance(message, aio_pika.IncomingMessage)
    assert message.body == b"yes"
    assert message.headers["more"] == 1


async def test_subscribers_of_one_name_share(members, publisher, subscriber):
    """Subscribers of one name share the messages; each other name receives all."""
    shared, alone = [], []

    def into(received):
        async def callback(message):
            async with message.process():
                received.append(json.loads(message.body)["n"])

        return callback

    second = await members.join("second", type="sink")
    first_part, second_part = [], []
    await subscriber.subscribe_data("shared", {}, into(first_part))
    await second.subscribe_data("shared", {}, into(second_part))
    await second.subscribe_data("alone", {}, into(alone))
    for n in range(40):
        publisher.publish_data({"n": n})
    await until(lambda: len(first_part) + len(second_part) == 40 and len(alone) == 40)
    shared = sorted(first_part + second_part)
    assert shared == list(range(40))
    assert first_part
    assert second_part


async def test_failing_callback(publisher, subscriber, caplog):
    """An error of a callback is logged, and the next message is received."""
    received = asyncio.Queue()

    async def callback(message):
        async with message.process():
            if message.body == b"bad":
                raise ValueError("bad message")
            received.put_nowait(message.body)

    await subscriber.subscribe_data("sub", {}, callback)
    await publisher.publish_data(b"bad", {})
    await publisher.publish_data(b"good", {})
    async with asyncio.timeout(60):
        assert await received.get() == b"good"
    await until(lambda: "bad message" in caplog.text)


# -- data streams


async def test_stream_of_rows(publisher, subscriber):
    """Matching messages become rows of a DataFrame: an object is one, a list several."""
    async with await subscriber.stream(kind="A") as stream:
        await publisher.publish_data({"n": 0}, {"kind": "B"})
        await publisher.publish_data({"n": 1, "s": "x"}, {"kind": "A"})
        await publisher.publish_data([{"n": 2}, {"n": 3, "s": "z"}], {"kind": "A"})
        await stream.wait(3, timeout=60)
        assert list(stream.df["n"]) == [1, 2, 3]
        assert list(stream.tail(2)["n"]) == [2, 3]
        assert stream.rows == len(stream) == 3
        assert stream.messages == 2
        assert stream.rate > 0
        assert "kind='A'" in repr(stream)
    assert stream.closed
    assert list(stream.df["n"]) == [1, 2, 3]


async def test_headers_in_a_mapping(publisher, subscriber):
    """Headers of any name can be passed in a mapping."""
    async with await subscriber.stream({"name": "x", "a-b": 1}) as stream:
        await publisher.publish_data({"n": 1}, {"name": "x", "a-b": 1})
        await stream.wait(1, timeout=60)


async def test_stream_wait_timeout(subscriber):
    """The error of `wait` after its timeout has the numbers of received and expected rows."""
    async with await subscriber.stream() as stream:
        with pytest.raises(WaitTimeout, match=r"0 of 5 rows came within 0\.1 s\.") as caught:
            await stream.wait(5, timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.seconds == 0.1


async def test_closing_ends_waiting(subscriber):
    """Closing the stream or the connector ends waiting for rows."""
    for close in ("stream", "connector"):
        stream = await subscriber.stream()

        async def read(stream=stream):
            return [rows async for rows in stream.batches()]

        waiting = asyncio.create_task(stream.wait(5))
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await (stream if close == "stream" else subscriber).close()
        async with asyncio.timeout(60):
            await waiting
            assert await reading == []
        assert stream.closed


@pytest.mark.parametrize("name", ["", "shared-name"])
async def test_pause_and_resume(publisher, subscriber, name):
    """A paused stream receives no rows; none is lost when it resumes."""
    async with await subscriber.stream(name=name, prefetch=10) as stream:
        await publisher.publish_data({"n": 0})
        await stream.wait(1, timeout=60)
        await stream.pause()
        assert stream.paused
        for n in range(1, 40):
            await publisher.publish_data({"n": n})
        assert stream.rows == 1
        await stream.resume()
        await stream.wait(40, timeout=60)
        assert list(stream.df["n"]) == list(range(40))


async def test_batches(publisher, subscriber):
    """`batches` yields the rows of each message until the stream is closed."""
    stream = await subscriber.stream()
    batches = []

    async def read():
        async for rows in stream.batches():
            batches.append([row["n"] for row in rows])
            if len(batches) == 3:
                await stream.close()

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    await publisher.publish_data({"n": 1})
    await publisher.publish_data([{"n": 2}, {"n": 3}])
    await publisher.publish_data([])
    async with asyncio.timeout(60):
        await reading
    assert batches == [[1], [2, 3], []]


async def test_max_rows(publisher, subscriber):
    """A stream keeps the newest rows and counts the dropped ones."""
    async with await subscriber.stream(max_rows=100) as stream:
        for start in range(0, 1000, 50):
            publisher.publish_data([{"n": n} for n in range(start, start + 50)])
        await stream.wait(1000, timeout=60)
        assert list(stream.df["n"])[-1] == 999
        assert len(stream) <= 100
        assert stream.dropped == 1000 - len(stream)
        assert "dropped" in repr(stream)


@pytest.mark.parametrize("count", [1, 3, 250])
async def test_received_rows_are_acknowledged(members, publisher, subscriber, count):
    """Received rows are acknowledged before a stream is closed, and not redelivered."""
    first = await subscriber.stream(name="shared", prefetch=1000)
    for n in range(count):
        publisher.publish_data({"n": n})
    await first.wait(count, timeout=60)
    await until(lambda: first.consumer.unacknowledged == 0)
    second = await subscriber.stream(name="shared")
    await first.consumer.channel.close()  # as a crash does: what was not acknowledged comes again
    await publisher.publish_data({"n": -1})
    await second.wait(1, timeout=60)
    assert list(second.df["n"]) == [-1]
    await first.close()


async def test_acknowledgements_are_batched(publisher, subscriber, monkeypatch):
    """A burst is acknowledged a hundred messages at a time, and its rest soon after."""
    async with await subscriber.stream() as stream:
        sent = []
        send = stream.consumer.channel.ack

        def ack(delivery, *, multiple=False):
            sent.append((stream.messages, multiple))
            send(delivery, multiple=multiple)

        monkeypatch.setattr(stream.consumer.channel, "ack", ack)
        for n in range(250):
            publisher.publish_data({"n": n})
        await stream.wait(250, timeout=60)
        await until(lambda: sent and sent[-1][0] == 250)
        assert all(multiple for _, multiple in sent)
        acknowledged = [0, *(messages for messages, _ in sent)]
        # At a hundred, or when 50 ms are over: a burst that takes long to come may have more.
        assert len(sent) <= 10
        assert max(later - sooner for sooner, later in itertools.pairwise(acknowledged)) <= 100
        assert stream.consumer.unacknowledged == 0


async def test_five_hundred_messages_are_in_flight(raw, publisher, subscriber):
    """A paused stream has 500 unacknowledged messages by default; others stay at the broker."""
    async with await subscriber.stream(name="paused") as stream:
        await stream.pause()
        await asyncio.gather(*(publisher.publish_data({"n": n}) for n in range(600)))
        await until(lambda: stream.waiting >= 500)
        queue = await raw.get_queue("paused", ensure=False)
        left = [await queue.get(no_ack=True, timeout=60) for _ in range(100)]
        assert stream.waiting == 500
        assert [json.loads(message.body)["n"] for message in left] == list(range(500, 600))
        assert await queue.get(no_ack=True, fail=False) is None


async def test_batches_of_a_number_of_rows(publisher, subscriber):
    """A reader of a limited number of rows leaves further rows to the next reader."""
    async with await subscriber.stream(name="kept", paused=True) as first:
        for n in range(300):
            publisher.publish_data({"n": n}, {"kind": "A"})
        await until(lambda: first.waiting == 300)
        assert first.rows == 0
        second = await subscriber.stream(name="kept", paused=True, with_headers=["kind"])
        resuming = asyncio.create_task(first.resume())  # once the reader waits
        read = [row async for rows in first.batches(120) for row in rows]
        await resuming
        assert [row["n"] for row in read] == list(range(120))
        assert first.paused
        assert first.rows == 120
    resuming = asyncio.create_task(second.resume())
    rest = [row async for rows in second.batches(180) for row in rows]
    await resuming
    assert sorted(row["n"] for row in rest) == list(range(120, 300))
    assert {row["header.kind"] for row in rest} == {"A"}
    await second.close()


async def test_closed_shared_stream_returns_its_messages(members, publisher, subscriber):
    """Unread messages of a shared stream are redelivered to other readers when it closes."""
    first = await subscriber.stream(name="shared")
    await first.pause()
    for n in range(5):
        await publisher.publish_data({"n": n})
    other = await members.join("other", type="sink")
    second = await other.stream(name="shared")
    await first.close()
    await second.wait(5, timeout=60)
    assert sorted(second.df["n"]) == list(range(5))


async def test_headers_and_arrival_as_columns(publisher, subscriber):
    """Headers and the time of arrival can be columns, and replace no column of the rows."""
    before = pd.Timestamp.now("UTC")
    async with (
        await subscriber.stream(
            {"kind": "A"}, with_headers=["level", "other"], arrival=True
        ) as some,
        await subscriber.stream({"kind": "A"}, with_headers=True, arrival="came") as all_,
    ):
        row = {"n": 1, "arrival": "noon", "header.level": "mine"}
        await publisher.publish_data(row, {"kind": "A", "level": 3})
        frame = pd.DataFrame({"n": [2, 3]})
        await publisher.publish_data(frame, {"kind": "A", "level": "x"}, format="arrow")
        await some.wait(3, timeout=60)
        await all_.wait(3, timeout=60)
        assert some.df["header.level"].tolist() == [3, "x", "x"]
        assert some.df["header.other"].isna().all()
        assert some.df["row.arrival"].tolist()[0] == "noon"
        assert some.df["row.header.level"].tolist()[0] == "mine"
        assert some.df["arrival"].between(before, pd.Timestamp.now("UTC")).all()
        assert all_.df["header.service_id"].tolist() == ["publisher"] * 3
        assert {"came", "arrival", "header.kind", "header.service_type"} <= {*all_.df.columns}


async def test_index_unit_and_bytes(publisher, subscriber):
    """Index, unit of times and limit of bytes are options of a stream."""
    async with await subscriber.stream(index="at", unit={"at": "ms"}, max_bytes=20_000) as stream:
        for start in range(0, 2000, 100):
            publisher.publish_data([{"at": n, "n": n} for n in range(start, start + 100)])
        await stream.wait(2000, timeout=60)
        assert str(stream.df.index.dtype) == "datetime64[ns, UTC]"
        assert stream.df.index[-1] == pd.Timestamp(1999, unit="ms", tz="UTC")
        assert len(stream) < 2000
        assert stream.dropped == 2000 - len(stream)
    with pytest.raises(TypeError, match="a header of that name is given in a mapping"):
        await subscriber.stream(unit="m")
    with pytest.raises(ValueError, match="must be s, ms, us or ns"):
        await subscriber.stream(unit={"at": "minutes"})


async def test_resample(publisher, subscriber):
    """Windows are based on a column of times, or on the times of arrival."""
    async with (
        await subscriber.stream(kind="A") as stream,
        await subscriber.stream(kind="B") as other,
    ):
        assert stream.resample("1s").mean().empty
        rows = [
            {"at": f"2026-11-25T12:00:0{n // 2}Z", "value": n, "ok": True, "who": "Ann"}
            for n in range(10)
        ]
        await publisher.publish_data(rows, {"kind": "A"})
        await publisher.publish_data([{"value": 1}, {"value": 3}], {"kind": "B"})
        await stream.wait(10, timeout=60)
        await other.wait(2, timeout=60)
        means = stream.resample("1s").mean()
        assert list(means["value"]) == [0.5, 2.5, 4.5, 6.5, 8.5]
        assert list(means.columns) == ["value", "ok"]
        assert means.index[0] == pd.Timestamp("2026-11-25T12:00:00Z")
        assert list(stream.resample("5s", columns=["who"]).nunique()["who"]) == [1]
        assert list(other.resample("1h").mean()["value"]) == [2]
        assert (pd.Timestamp.now("UTC") - other.timed().index[-1]).total_seconds() < 60
        with pytest.raises(ValueError, match="'value' holds int64, and no times"):
            stream.resample("1s", on="value")
        with pytest.raises(ValueError, match="There is no column 'nothing'"):
            stream.timed("nothing")
        await publisher.publish_data({"at": "2026-11-25", "b": "2026-11-25"}, {"kind": "B"})
        await other.wait(3, timeout=60)
        with pytest.raises(ValueError, match="several columns of times: choose one of at, b"):
            other.resample("1s")
        assert len(other.resample("1s", on="b").size()) == 1


async def test_a_slow_reader_slows_the_stream(publisher, subscriber):
    """While a reader of batches is behind, messages wait at the broker, and none is lost."""
    async with await subscriber.stream(prefetch=20) as stream:
        reader = aiter(stream.batches())
        publishing = publisher.publish_data({"n": 0})
        assert [row["n"] for row in await anext(reader)] == [0]
        await publishing
        for n in range(1, 300):
            publisher.publish_data({"n": n})
        await until(lambda: stream.held_up)
        assert stream.rows <= 21
        found = [(await anext(reader))[0]["n"] for _ in range(299)]
        assert found == list(range(1, 300))
        for n in range(300, 400):
            publisher.publish_data({"n": n})
        await until(lambda: stream.held_up)
        await reader.aclose()  # no reader is left
        await stream.wait(400, timeout=60)
        assert list(stream.df["n"]) == list(range(400))


async def test_order_of_messages_that_wait_for_a_channel(publisher, subscriber):
    """Messages published while the channel is lost are sent in order after it is reopened."""
    async with await subscriber.stream() as stream:
        await publisher.publish_data({"n": 0})
        publisher.publisher.channel.renew()
        waiting = [publisher.publish_data({"n": n}) for n in range(1, 50)]
        await asyncio.gather(*waiting)
        await stream.wait(50, timeout=60)
        assert list(stream.df["n"]) == list(range(50))
        assert publisher.publisher.failed == 0


async def test_stream_of_another_domain(members, subscriber):
    """A stream can read the data of another domain."""
    stranger = await members.join("stranger", domain="elsewhere")
    async with await subscriber.stream(domain="elsewhere") as stream:
        await stranger.publish_data({"n": 1})
        await stream.wait(1, timeout=60)


async def test_refused_stream_leaves_nothing(subscriber, raw):
    """A stream that the broker refuses is an error, and leaves no task behind."""
    await raw.declare_queue("taken", auto_delete=False, durable=True)
    tasks = asyncio.all_tasks()
    with pytest.raises(Exception, match="refused"):
        await subscriber.stream(name="taken")
    await until(lambda: asyncio.all_tasks() <= tasks)
    await (await raw.declare_queue("taken", durable=True)).delete(if_empty=False, if_unused=False)


async def test_rows_join_with_the_registry(members):
    """Rows with headers can be joined with `registry.df`, by type and id of their publisher."""
    publisher, reader = [await members.join(name) for name in ("publisher", "reader")]
    async with await reader.stream(mark="joined", with_headers=True) as stream:
        await publisher.publish_data({"n": 1}, {"mark": "joined"})
        await stream.wait(1, timeout=60)
        await wait_for_service(reader, "publisher")
        who = [f"{HEADER_PREFIX}service_type", f"{HEADER_PREFIX}service_id"]
        joined = stream.df.merge(reader.registry.df, left_on=who, right_on=["type", "id"])
    assert joined[["n", "id", "state"]].values.tolist() == [[1, "publisher", "up"]]


async def test_filters_with_a_leading_x(members):
    """Header names that begin with x- are part of a filter, for streams and subscribers."""
    one, other = await members.join("one"), await members.join("other")
    received: list[bytes] = []

    async def on_message(message):
        async with message.process():
            received.append(message.body)

    await other.subscribe_data("received", {"x-tenant": "a", "kind": "K"}, on_message)
    async with (
        await other.stream({"x-tenant": "a"}) as tenant,
        await other.stream({"x-tenant": "a", "kind": "K"}) as both,
    ):
        for n, headers in enumerate(
            [
                {"x-tenant": "b"},
                {},
                {"kind": "K"},
                {"x-tenant": "a"},
                {"x-tenant": "a", "kind": "K"},
            ]
        ):
            await one.publish_data({"n": n}, headers)
        await tenant.wait(2, timeout=60)
        await both.wait(1, timeout=60)
        await until(lambda: received)
        assert (list(tenant.df["n"]), list(both.df["n"])) == ([3, 4], [4])
        assert received == [b'{"n":4}']
