"""Maps: one method called for many rows."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import threading
from contextlib import aclosing

import aio_pika
import pandas as pd
import pytest

from fabric_nb.errors import (
    CallCancelled,
    CallTimeout,
    InvalidArgument,
    InvalidArgumentType,
    InvalidName,
    InvalidTimeout,
    MapStopped,
    NotConnected,
    NotInNotebook,
    NotSerializable,
    RemoteError,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.wire.names import ServicePattern
from tests.support.fabric import until, wait_for_service

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


ORDERS = pd.DataFrame({"sku": ["a", "b", "c"], "amount": [1, 2, 3]}, index=["x", "y", "z"])
PRICES = {"a": 1.5, "b": 2.0, "c": 4.0}


class Pricing:
    """Functions of a service, and what they have received."""

    def __init__(self):
        self.received = []
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.broken = set()

    async def quote(self, sku, amount=1, country="DE"):
        self.received.append(sku)
        if sku in self.broken:
            raise KeyError(sku)
        return {"total": PRICES[sku] * amount, "country": country}

    async def wait(self, n):
        """Return n after `gate` is set, if n is odd; at once otherwise."""
        self.received.append(n)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if n % 2:
                await self.gate.wait()
            return n
        finally:
            self.running -= 1

    def echo(self, **kwargs):
        return kwargs

    def value(self, value):
        return value


@pytest.fixture
def pricing():
    """Return the functions of ``shop.pricing``."""
    return Pricing()


@pytest.fixture
async def server(members, pricing):
    """Return a member that serves them."""
    member = await members.join("server", type="shop")
    await member.serve(pricing, id="pricing", prefetch=100)
    return member


@pytest.fixture
async def fabric(members, server):
    """Return a member that calls them."""
    return await members.join("caller")


def numbers(count):
    return [{"n": n} for n in range(count)]


# -- results


@pytest.mark.every_broker
async def test_map_over_a_dataframe(fabric, server):
    """The result has a row for each row, in its order and with its index, to be joined with it."""
    prices = await fabric.map("shop.pricing.quote", ORDERS, country="AT")
    assert list(prices.columns) == ["total", "country", "error", "ms", "instance"]
    assert prices.index.equals(ORDERS.index)
    assert prices.total.tolist() == [1.5, 4.0, 12.0]
    assert prices.country.tolist() == ["AT"] * 3
    assert prices.error.isna().all()
    assert (prices.ms > 0).all()
    assert prices.instance.tolist() == [server.instance] * 3
    assert ORDERS.join(prices).total["z"] == 12
    prices["note"] = "changed"
    prices.loc["x", "total"] = 0.0


async def test_spread_or_not(fabric):
    """Without spread a dict stays one value, and a result that is no dict always is."""
    whole = await fabric.map("shop.pricing.quote", ORDERS, spread=False)
    assert list(whole.columns) == ["result", "error", "ms", "instance"]
    assert whole.result["x"] == {"total": 1.5, "country": "DE"}
    scalars = await fabric.map("shop.pricing.value", value=[1, 2])
    assert scalars.result.tolist() == [1, 2]
    assert scalars.result.dtype == "int64"


async def test_mixed_results(fabric):
    """Dicts and other results may be mixed; each column is empty where a row has no value of it."""
    values = [{"a": 1}, 7, None, {"b": [1, 2], "result": "text"}, 2**60 + 1]
    mixed = await fabric.map("shop.pricing.value", value=values)
    assert set(mixed.columns) == {"a", "b", "result", "error", "ms", "instance"}
    assert mixed.a.tolist()[0] == 1
    assert mixed.a.isna().tolist() == [False, True, True, True, True]
    assert mixed.b[3] == [1, 2]
    assert mixed.result.tolist() == [None, 7, None, "text", 2**60 + 1]


async def test_results_with_the_names_of_the_facts(fabric):
    """Items of a result that are named as the facts of each row are kept beside them."""
    values = [{"error": "none", "ms": 5, "instance": "i", "result.ms": 6}]
    row = (await fabric.map("shop.pricing.value", value=values)).iloc[0]
    assert row["result.error"] == "none"
    assert row["result.instance"] == "i"
    assert (row["result.ms"], row["result.result.ms"]) == (6, 5)
    assert row.error is None
    assert row.ms != 5


async def test_a_dataframe_as_each_result(fabric):
    """A result that is a DataFrame is kept as one."""
    frame = pd.DataFrame({"a": [1, 2]})
    results = await fabric.map("shop.pricing.value", value=[frame, frame])
    for result in results.result:
        pd.testing.assert_frame_equal(result, frame)


@pytest.mark.parametrize("rows", [[], ORDERS.iloc[:0], iter([])])
async def test_no_rows(fabric, rows):
    """A map of no rows has an empty result with its columns, and makes no call."""
    handle = fabric.map("shop.pricing.quote", rows)
    results = await handle
    assert results.shape == (0, 4)
    assert list(results.columns) == ["result", "error", "ms", "instance"]
    assert (handle.progress.done, handle.progress.total, handle.progress.remaining) == (0, 0, 0)
    assert len(fabric.calls) == 0


async def test_duplicate_and_nested_index(fabric):
    """Any index is kept, with labels that occur twice and with levels."""
    twice = ORDERS.set_axis(["x", "x", "y"])
    assert (await fabric.map("shop.pricing.quote", twice)).index.tolist() == ["x", "x", "y"]
    nested = ORDERS.set_index([["p", "p", "q"], [1, 2, 1]])
    assert (await fabric.map("shop.pricing.quote", nested)).index.equals(nested.index)


# -- rows


async def later(rows):
    for row in rows:
        await asyncio.sleep(0)
        yield row


@pytest.mark.parametrize("kind", [list, iter, later, lambda rows: (row for row in rows)])
async def test_kinds_of_rows(fabric, kind):
    """Rows are mappings in a sequence, an iterable or an async iterable."""
    handle = fabric.map("shop.pricing.quote", kind(ORDERS.to_dict("records")))
    results = await handle
    assert results.total.tolist() == [1.5, 4.0, 12.0]
    assert results.index.tolist() == [0, 1, 2]
    assert handle.progress.total == 3


async def test_keyword_columns(fabric):
    """Without rows, keywords that are Series, arrays and sequences are columns."""
    prices = await fabric.map(
        "shop.pricing.quote", sku=ORDERS.sku, amount=ORDERS.amount.to_numpy(), country="AT"
    )
    assert prices.index.equals(ORDERS.index)
    assert prices.total.tolist() == [1.5, 4.0, 12.0]
    prices = await fabric.map("shop.pricing.quote", sku=("a", "b"), amount=range(2))
    assert prices.total.tolist() == [0, 2]


async def test_a_list_for_all_rows(fabric):
    """With rows, a list among the keywords is sent with each; a row's own value comes first."""
    rows = [{"n": 1}, {"n": 2, "tags": ["z"]}]
    results = await fabric.map("shop.pricing.echo", rows, tags=["x", "y"])
    assert results.tags.tolist() == [["x", "y"], ["z"]]


async def test_keywords_of_map_as_arguments(fabric):
    """`map_service`, and rows, accept arguments of any name, also those of options."""
    names = {"timeout": 1, "rows": 2, "call": 3, "in_flight": 4, "spread": 5}
    pattern = ServicePattern.parse("shop.pricing", domain=fabric.domain)
    by_service = await fabric.map_service(pattern, "echo", [{"n": 1}], names, in_flight=2)
    by_row = await fabric.map("shop.pricing.echo", [names])
    assert by_service[list(names)].iloc[0].tolist() == [1, 2, 3, 4, 5]
    assert by_row[list(names)].iloc[0].tolist() == [1, 2, 3, 4, 5]


async def test_missing_numbers_are_sent_as_by_a_call(fabric):
    """A row is sent as a call with its values would send it, NaN and gaps included."""
    frame = pd.DataFrame({"value": [1.5, math.nan, None]})
    results = await fabric.map("shop.pricing.value", frame)
    assert results.error.isna().all()
    called = await fabric.call("shop.pricing.value", value=math.nan)
    assert math.isnan(called)
    assert math.isnan(results.result[1])
    texts = await fabric.map("shop.pricing.echo", pd.DataFrame({"n": [1, 2], "s": ["a", "b"]}))
    assert texts.n.tolist() == [1, 2]


# -- invalid rows and options


@pytest.mark.parametrize(
    ("rows", "keywords", "error", "message"),
    [
        (None, {}, InvalidArgument, "needs rows"),
        (None, {"sku": "abc", "tags": {"a": 1}}, InvalidArgument, "needs rows"),
        ("abc", {}, InvalidArgumentType, "rows is a str"),
        ({"sku": ["a"]}, {}, InvalidArgumentType, r"map\(call, \*\*columns\)"),
        (ORDERS.sku, {}, InvalidArgumentType, "rows is a Series"),
        (7, {}, InvalidArgumentType, "rows is a int"),
        (ORDERS.rename(columns={"sku": "unit price"}), {}, InvalidArgument, "'unit price' cannot"),
        (pd.DataFrame([[1, 2]]), {}, InvalidArgument, "'0' cannot be a keyword"),
        (pd.concat([ORDERS, ORDERS], axis=1), {}, InvalidArgument, "more than once"),
        (None, {"a": [1, 2], "b": [1]}, InvalidArgument, "b has 1 rows, and a has 2"),
        (
            None,
            {"a": ORDERS.sku, "b": ORDERS.amount.reset_index(drop=True)},
            InvalidArgument,
            "different indexes",
        ),
    ],
)
async def test_invalid_rows(fabric, rows, keywords, error, message):
    """Rows that cannot be called are refused by the call itself, before any row is sent."""
    for make in (fabric.map, fabric.map_stream):
        with pytest.raises(error, match=message):
            make("shop.pricing.quote", rows, **keywords)
    assert len(fabric.calls) == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"in_flight": 0}, InvalidArgument),
        ({"in_flight": 1.5}, InvalidArgument),
        ({"retries": -1, "idempotent": True}, InvalidArgument),
        ({"retries": 1}, InvalidArgument),
        ({"on_error": "ignore"}, InvalidArgument),
        ({"timeout": -1}, InvalidTimeout),
    ],
)
async def test_invalid_options(fabric, options, error):
    """An invalid option is refused by the call itself."""
    for make in (fabric.map, fabric.map_stream):
        with pytest.raises(error):
            make("shop.pricing.quote", ORDERS, **options)
    with pytest.raises(InvalidName):
        fabric.map("pricing", ORDERS)


async def test_rows_that_fail(fabric):
    """A row with wrong or unsendable keywords fails alone, with the error of such a call."""
    rows = [{"sku": "a"}, {}, {"sku": "a", "x": 1}, {"sku": {1}}, {1: 2}, 5, {"sku": "b"}]
    handle = fabric.map("shop.pricing.quote", rows)
    results = await handle
    errors = results.error.tolist()
    assert [error is None for error in errors] == [True, *[False] * 5, True]
    assert all(isinstance(error, RemoteError) for error in errors[1:3])
    assert all(isinstance(error, TypeError) for error in errors[1:6])
    assert isinstance(errors[3], NotSerializable)
    assert isinstance(errors[5], InvalidArgumentType)
    assert results.total.tolist()[::6] == [1.5, 2.0]
    assert handle.failed.index.tolist() == [1, 2, 3, 4, 5]
    assert handle.progress.failed == 5
    assert "7 of 7 rows, 5 failed" in repr(handle)


# -- failures


async def test_failed_rows_can_be_retried(fabric, pricing):
    """A failed row keeps its error and stops nothing, and is called again on request."""
    pricing.broken = {"b"}
    handle = fabric.map("shop.pricing.quote", ORDERS)
    results = await handle
    assert isinstance(results.error["y"], KeyError)
    assert isinstance(results.error["y"], RemoteError)
    assert results.total.isna().tolist() == [False, True, False]
    assert handle.failed.index.tolist() == ["y"]
    pricing.broken = set()
    pricing.received.clear()
    results = await handle.retry_failed()
    assert pricing.received == ["b"]
    assert results.total.tolist() == [1.5, 4.0, 12.0]
    assert results.error.isna().all()
    assert handle.failed.empty
    assert (handle.progress.done, handle.progress.failed) == (3, 0)


async def test_retries(fabric, pricing):
    """With retries a row that fails is called again before it counts as failed."""
    calls = 0

    def fail_twice(n):
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise ValueError(n)
        return calls

    await fabric.serve({"fail_twice": fail_twice}, id="shaky")
    results = await fabric.map("app.shaky.fail_twice", [{"n": 1}], idempotent=True, retries=2)
    assert results.result.tolist() == [3]
    calls = 0
    results = await fabric.map("app.shaky.fail_twice", [{"n": 1}], idempotent=True, retries=1)
    assert isinstance(results.error[0], ValueError)


async def test_timeout_of_a_row(fabric, pricing):
    """The timeout is for each row."""
    results = await fabric.map("shop.pricing.wait", numbers(3), timeout=0.2)
    assert results.result.dropna().tolist() == [0, 2]
    assert isinstance(results.error[1], CallTimeout)


async def test_on_error_raise(fabric, pricing):
    """The first failure ends the map after the rows under way, whose results stay in the handle."""
    pricing.broken = {"b"}
    rows = [{"sku": sku} for sku in "aabca" + "c" * 100]
    with pytest.raises(
        MapStopped, match=r"of 105 rows, because of a row failed|RemoteKeyError"
    ) as e:
        await fabric.map("shop.pricing.quote", rows, in_flight=2, on_error="raise")
    assert isinstance(e.value.__cause__, KeyError)
    handle = e.value.handle
    assert handle.done()
    assert 3 <= len(handle.results) <= 5
    assert handle.failed.index.tolist() == [2]
    assert "stopped" in repr(handle)
    assert len(await handle.resume()) == 105
    assert handle.progress.failed == 1


async def test_rows_that_raise_half_way(fabric):
    """An error of the iterable ends the map; the rows before it have their results."""

    def rows():
        yield {"sku": "a"}
        yield {"sku": "b"}
        raise OSError("the file has ended")

    for source in (rows(), later(rows())):
        with pytest.raises(MapStopped, match=r"after 2 rows.* OSError: the file has ended") as e:
            await fabric.map("shop.pricing.quote", source)
        assert isinstance(e.value.__cause__, OSError)
        assert e.value.handle.results.total.tolist() == [1.5, 2.0]
        assert len(await e.value.handle.resume()) == 2  # a generator that has raised has ended


# -- services


async def test_a_service_that_is_unknown(fabric):
    """A map of a method that is not served ends with the first row; no row counts as failed."""
    for call, cause in (("shop.pricing.quoet", "quoet"), ("app.missing.quote", "missing")):
        with pytest.raises(MapStopped, match=cause) as caught:
            await fabric.map(call, ORDERS)
        assert isinstance(caught.value.__cause__, Exception)
        assert caught.value.handle.progress.done == 0
    with pytest.raises(MapStopped) as caught:
        await fabric.map("shop.pricing.quote", ORDERS, version=">2")
    assert isinstance(caught.value.__cause__, VersionMismatch)


async def leave(uri, server):
    """Begin to end a server, and return when no further call is routed to it.

    A call that waited in its queue until then would be lost with the queue.
    """
    closing = asyncio.create_task(server.close(grace=None))
    queue = server.name.method_queue("wait")
    async with await aio_pika.connect(uri) as connection, asyncio.timeout(60):
        while True:
            channel = await connection.channel()
            try:
                await channel.get_queue(queue)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return closing


@pytest.mark.every_broker
async def test_a_service_that_disappears(members, fabric, server, pricing, broker_uri):
    """A map whose service does not return within the timeout stops there, and can be resumed."""
    handle = fabric.map("shop.pricing.wait", numbers(50), in_flight=4, timeout=2)
    await until(lambda: pricing.running == 4)
    done = handle.progress.done
    closing = await leave(broker_uri, server.servers[0])
    pricing.gate.set()
    with pytest.raises(MapStopped) as caught:
        await handle
    await closing
    assert isinstance(caught.value.__cause__, UnknownService)
    assert (handle.progress.done, handle.progress.failed) == (done + 4, 0)
    await server.serve(pricing, id="pricing", prefetch=100)
    assert (await handle.resume()).result.tolist() == list(range(50))


@pytest.mark.every_broker
async def test_a_service_that_restarts(members, fabric, server, pricing, broker_uri):
    """A map waits for a service that leaves and returns within the timeout; no row fails."""
    handle = fabric.map("shop.pricing.wait", numbers(50), in_flight=4, timeout=60)
    await until(lambda: pricing.running == 4)
    closing = await leave(broker_uri, server.servers[0])
    pricing.gate.set()
    await closing
    assert not handle.done()
    second = await members.join("second", type="shop")
    await second.serve(pricing, id="pricing", prefetch=100)
    results = await handle
    assert results.result.tolist() == list(range(50))
    assert set(results.instance) == {server.instance, second.instance}
    assert sum(handle.progress.instances.values()) == 50


@pytest.mark.every_broker
async def test_instances_that_join(members, fabric, server, pricing):
    """Instances that join during a map share its rows, and the progress counts those of each."""
    await server.servers[0].close()
    await server.serve(pricing, id="pricing", prefetch=1)
    handle = fabric.map("shop.pricing.wait", numbers(40), in_flight=8)
    await until(lambda: pricing.running == 1)
    second = await members.join("second", type="shop")
    await second.serve(pricing, id="pricing", prefetch=1)
    pricing.gate.set()
    results = await handle
    assert results.result.tolist() == list(range(40))
    assert handle.progress.instances == results.instance.value_counts().to_dict()
    assert set(results.instance) == {server.instance, second.instance}


@pytest.mark.every_broker
async def test_a_connector_that_is_closed(members, server, pricing):
    """A map ends when its connector is closed; rows that were not called are missing."""
    fabric = await members.join("other")
    handle = fabric.map("shop.pricing.wait", numbers(50), in_flight=4)
    await until(lambda: pricing.running == 4)
    await fabric.close()
    with pytest.raises(MapStopped) as caught:
        await handle
    assert isinstance(caught.value.__cause__, NotConnected)
    assert handle.progress.failed == 4
    assert handle.progress.done < 50


# -- the handle


async def test_results_and_progress_half_way(fabric, pricing):
    """A handle has the results so far, in the order of the rows, and a state to poll."""
    handle = fabric.map("shop.pricing.wait", numbers(6), in_flight=6)
    assert "running, 0 of 6 rows" in repr(handle)
    await until(lambda: handle.progress.done == 3)
    revision = handle.revision
    assert handle.results.index.tolist() == [0, 2, 4]
    assert handle.results.result.tolist() == [0, 2, 4]
    progress = handle.progress
    assert (progress.done, progress.failed, progress.total) == (3, 0, 6)
    assert progress.rate > 0
    assert progress.remaining > 0
    assert sum(progress.instances.values()) == 3
    assert not handle.done()
    pricing.gate.set()
    await handle
    assert handle.done()
    assert handle.revision > revision
    assert handle.progress.remaining == 0
    assert "done, 6 of 6 rows" in repr(handle)
    assert not handle.cancel()
    elapsed = handle.elapsed
    assert (await handle).result.tolist() == list(range(6))
    assert handle.elapsed == elapsed


@pytest.mark.every_broker
async def test_cancel_of_an_idempotent_map(fabric, pricing):
    """After a cancellation the rows under way are missing, and `resume` calls those once more."""
    handle = fabric.map("shop.pricing.wait", numbers(10), in_flight=4, idempotent=True)
    await until(lambda: pricing.running == 4)
    assert handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle
    done = handle.progress.done
    assert handle.progress.failed == 0
    assert "cancelled" in repr(handle)
    pricing.gate.set()
    pricing.received.clear()
    assert (await handle.resume()).result.tolist() == list(range(10))
    assert len(pricing.received) == 10 - done
    assert await handle.resume() is not None  # there is nothing to do
    assert len(pricing.received) == 10 - done


async def test_resume_at_once(fabric, pricing):
    """A map may be resumed before its cancellation has taken effect."""
    handle = fabric.map("shop.pricing.wait", numbers(10), in_flight=4, idempotent=True)
    await until(lambda: pricing.running == 4)
    handle.cancel()
    handle.resume()
    pricing.gate.set()
    assert (await handle).result.tolist() == list(range(10))


async def test_cancel_of_other_maps(fabric, pricing):
    """Rows under way of a method that is not idempotent fail, because they may have been run."""
    handle = fabric.map("shop.pricing.wait", numbers(10), in_flight=4)
    await until(lambda: pricing.running == 4)
    handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle
    assert len(handle.failed) == 4
    assert all(isinstance(error, CallCancelled) for error in handle.failed.error)
    pricing.gate.set()
    await handle.resume()
    assert (handle.progress.done, handle.progress.failed) == (10, 4)
    assert (await handle.retry_failed()).result.tolist() == list(range(10))


async def test_stop(members, fabric, pricing):
    """`stop` returns whether the functions of the rows under way were stopped, or one runs on."""
    handle = fabric.map("shop.pricing.wait", n=[1, 3, 5])
    await until(lambda: pricing.running == 3)
    assert await handle.stop(60) is True
    assert handle.cancellation == "The 3 rows under way were stopped."
    gate, began = threading.Event(), []

    def block(n):
        began.append(n)
        gate.wait(60)

    threaded = await members.join("threaded")
    await threaded.serve({"block": block}, threads=True, prefetch=2)
    handle = fabric.map("app.threaded.block", n=[1, 2])
    await until(lambda: len(began) == 2)
    assert await handle.stop(60) is False
    assert handle.cancellation == "Of the 2 rows under way, 2 run on in threads."
    gate.set()


@pytest.mark.every_broker
async def test_stop_while_rows_wait(fabric, server, pricing):
    """Rows that wait in their queue are not run, and their outcome is not known."""
    await server.servers[0].close()
    await server.serve(pricing, id="pricing", prefetch=1)
    handle = fabric.map("shop.pricing.wait", n=[1] * 5, in_flight=5)
    await until(lambda: fabric.member.rpc.pending == 5 and pricing.running == 1)
    assert await handle.stop(1) is None
    assert handle.cancellation == (
        "Of the 5 rows under way, 1 was stopped and 4 will not begin, unless they had begun"
        " already."
    )
    assert await fabric.call("shop.pricing.wait", n=2) == 2
    assert pricing.received == [1, 2]
    handle.resume()
    await until(lambda: handle.done())
    assert await handle.stopped() is True
    assert handle.cancellation == ""


async def test_result_in_a_program(fabric, pricing):
    """`result` returns the results of a map that has ended; only a notebook can wait for them."""
    handle = fabric.map("shop.pricing.quote", ORDERS)
    with pytest.raises(NotInNotebook, match="write `await handle`"):
        handle.result()
    results = await handle
    pd.testing.assert_frame_equal(handle.result(), results)
    unknown = fabric.map("shop.pricing.quoet", ORDERS)
    assert await unknown.ended(60)
    with pytest.raises(MapStopped):
        unknown.result()


async def test_the_task_that_awaits_is_cancelled(fabric, pricing):
    """A map ends with the task that awaits it, as after a timeout."""
    handle = fabric.map("shop.pricing.wait", numbers(10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await handle
    assert handle.done()
    assert fabric.member.rpc.pending == 0


async def test_cancel_keeps_an_async_iterable(fabric, pricing):
    """A row that was being read when the map was cancelled is called after `resume`."""
    readable = asyncio.Event()

    async def rows():
        yield {"n": 0}
        await readable.wait()
        yield {"n": 2}

    handle = fabric.map("shop.pricing.wait", rows(), idempotent=True)
    await until(lambda: handle.progress.done == 1)
    handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle
    readable.set()
    assert (await handle.resume()).result.tolist() == [0, 2]


async def test_failed_rows_are_retried_while_the_map_runs(fabric, pricing):
    """`retry_failed` does not wait for an iterable that has no row now."""
    readable = asyncio.Event()

    async def rows():
        yield {"sku": "b"}
        await readable.wait()

    pricing.broken = {"b"}
    handle = fabric.map("shop.pricing.quote", rows())
    await until(lambda: handle.progress.failed == 1)
    pricing.broken = set()
    assert handle.retry_failed() is handle
    await until(lambda: handle.progress.done == 1)
    assert handle.progress.failed == 0
    readable.set()
    assert (await handle).total.tolist() == [2.0]


async def test_an_error_stops_a_map_whose_iterable_waits(fabric, pricing):
    """With `on_error="raise"` a failure ends the map though its iterable has no row now."""
    readable = asyncio.Event()

    async def rows():
        yield {"sku": "missing"}
        await readable.wait()

    with pytest.raises(MapStopped) as caught:
        await fabric.map("shop.pricing.quote", rows(), on_error="raise")
    assert isinstance(caught.value.__cause__, KeyError)
    readable.set()


# -- back-pressure and streams


async def test_rows_are_taken_only_when_they_can_be_called(fabric, pricing):
    """No more than `in_flight` rows are under way, and none beyond them is taken."""
    taken = 0

    def rows():
        nonlocal taken
        while True:
            taken += 1
            yield {"n": 1}

    handle = fabric.map("shop.pricing.wait", rows(), in_flight=8)
    await until(lambda: pricing.running == 8)
    assert taken == 8
    assert handle.progress.total is None
    assert handle.progress.remaining is None
    handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle
    assert pricing.most_running == 8


async def test_map_stream(fabric, pricing):
    """Rows are yielded with their results, as they end: a slow one delays no other."""
    received = []
    async for row, result in fabric.map_stream("shop.pricing.wait", numbers(6), in_flight=6):
        received.append((row, result))
        if len(received) == 3:
            assert [result for _, result in received] == [0, 2, 4]
            pricing.gate.set()
    assert sorted(result for _, result in received) == list(range(6))
    assert all(row == {"n": result} for row, result in received)


async def test_map_stream_keeps_errors(fabric, pricing):
    """The result of a row that failed is its exception, or it is raised after the others."""
    pricing.broken = {"b"}
    stream = fabric.map_stream("shop.pricing.quote", ORDERS)
    results = {row["sku"]: result async for row, result in stream}
    assert results["c"] == {"total": 12.0, "country": "DE"}
    assert isinstance(results["b"], KeyError)
    raising = fabric.map_stream("shop.pricing.quote", ORDERS, in_flight=3, on_error="raise")
    received = {(await anext(raising))[0]["sku"] for _ in range(2)}
    assert received == {"a", "c"}
    with pytest.raises(KeyError):
        await anext(raising)
    with pytest.raises(UnknownService):
        await anext(fabric.map_stream("app.missing.quote", ORDERS))


async def test_map_stream_of_an_endless_iterable(fabric, pricing):
    """Of an endless iterable at most twice `in_flight` rows are taken before they are consumed."""
    taken = 0

    def rows():
        nonlocal taken
        while True:
            taken += 1
            yield {"n": 2 * taken}

    consumed = 0
    async with aclosing(fabric.map_stream("shop.pricing.wait", rows(), in_flight=8)) as stream:
        async for row, result in stream:
            assert row["n"] == result
            consumed += 1
            if consumed % 50 == 0:  # a slow consumer, so that replies arrive in the meantime
                await fabric.call("shop.pricing.value", value=1)
                await asyncio.sleep(0.02)
            assert taken - consumed <= 16
            if consumed == 500:
                break
    before = taken
    await fabric.call("shop.pricing.value", value=1)
    assert taken == before
    assert fabric.member.rpc.pending == 0


async def test_memory_of_a_map_stream(fabric):
    """An iterable of any length needs no more memory than a short one."""
    rows = ({"value": n} for n in range(11_000))
    blocks = {}
    async with aclosing(fabric.map_stream("shop.pricing.value", rows, in_flight=64)) as stream:
        async for row, result in stream:
            assert row["value"] == result
            if result in (3_000, 10_000):
                gc.collect()
                blocks[result] = sys.getallocatedblocks()
    assert blocks[10_000] - blocks[3_000] < 3_500  # half an object for each row


async def test_a_service_that_disappears_after_thousands_of_rows(fabric, server, pricing):
    """The results of the 4,000 rows before it are kept, and the map continues when it is back."""
    leaving = []

    def rows():
        for n in range(4_500):
            if n == 4_000:
                leaving.append(asyncio.create_task(server.servers[0].close()))
            yield {"value": n}

    handle = fabric.map("shop.pricing.value", rows(), in_flight=64, timeout=1)
    with pytest.raises(MapStopped, match=r"after 4,\d{3} rows, because of UnknownService"):
        await handle
    await leaving[0]
    results = handle.results
    assert len(results) - handle.progress.failed >= 4_000 - 64
    assert handle.progress.failed <= 64
    await server.serve(pricing, id="pricing", prefetch=100)
    await handle.resume()
    assert (await handle.retry_failed()).result.tolist() == list(range(4_500))


async def test_map_by_a_short_name(fabric):
    """A map waits for the keep-alive of a service that is named by its id, as a call does."""
    await wait_for_service(fabric, "pricing")
    assert len(await fabric.map("pricing.quote", ORDERS)) == 3
