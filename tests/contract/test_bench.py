"""Benchmarks: one method called again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fabric_nb.errors import (
    CallTimeout,
    InstanceNotFound,
    InvalidArgument,
    InvalidName,
    MethodNotFound,
    NotConnected,
    NotSerializable,
    RemoteError,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.rpc import bench_load
from fabric_nb.fabric.wire.names import ServicePattern
from tests.support.fabric import until, wait_for_service
from tests.support.internals import lose_connection

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


class Shop:
    """Functions of a service, and what they have received."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()

    def quote(self, sku: str = "tea") -> dict[str, str]:
        self.calls += 1
        self.changed.set()
        return {"sku": sku}

    async def wait(self, *, free: int = 1) -> None:
        """Wait until the gate is open; the first `free` calls do not wait."""
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.changed.set()
        try:
            if self.calls > free:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def fail(self, *, kinds: int = 1, free: int = 1) -> None:
        """Raise after the first `free` calls, with types of many names."""
        self.calls += 1
        if self.calls > free:
            kind = type(f"Broken{self.calls % kinds}\x1b[2J" * 20, (Exception,), {})
            raise kind("broken")

    async def waits_or_fails(self) -> None:
        """Wait in the second call until the gate is open, and fail in all later ones until then."""
        self.calls += 1
        self.changed.set()
        if self.calls == 2:
            await self.gate.wait()
        elif self.calls > 2 and not self.gate.is_set():
            raise ValueError(self.calls)

    async def called(self, times: int) -> None:
        """Wait until functions were called this many times."""
        async with asyncio.timeout(30):
            while self.calls < times:
                self.changed.clear()
                await self.changed.wait()


async def shop(members: Members, id: str = "server") -> tuple[Shop, AmqBrokerConnector]:  # noqa: A002
    """Serve a shop as ``shop.main``, and return it with its connector."""
    server = await members.join(id)
    functions = Shop()
    await server.serve(functions, type="shop", id="main", version="1.2", prefetch=100)
    return functions, server


async def caller(members: Members, **options: Any) -> AmqBrokerConnector:
    """Return a connector that knows the shop."""
    fabric = await members.join("caller", **options)
    await wait_for_service(fabric, "shop.main")
    return fabric


@pytest.mark.every_broker
async def test_a_number_of_calls(members: Members) -> None:
    """As many calls are made as asked for, and a first one; they are not in the history."""
    functions, server = await shop(members)
    fabric = await caller(members)
    result = await fabric.bench("main.quote", sku="mate", calls=100, repeatable=True)
    assert (result.calls, result.errors, result.state) == (100, 0, "done")
    assert functions.calls == 101
    assert 0 < result.min_ms <= result.p50_ms <= result.p95_ms <= result.p99_ms <= result.max_ms
    assert result.rate == pytest.approx(100 / result.elapsed)
    assert [(one.instance, one.calls) for one in result.by_instance] == [(server.instance, 100)]
    assert result.df.calls.sum() == result.latency.count == 100
    assert len(fabric.calls) == 0
    assert fabric.last_bench is not None
    assert fabric.last_bench.calls == 100
    assert repr(result).startswith(f"{fabric.domain}.shop.main.quote · done")


async def test_a_duration(members: Members) -> None:
    """Calls are made until the time is over; those of the warm-up are not counted."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    result = await fabric.bench("main.quote", seconds=0.3, warmup=0.1, repeatable=True)
    assert result.elapsed >= 0.3
    assert 0 < result.calls < functions.calls
    assert result.cancelled == 0
    assert result.cpu > 0
    both = await fabric.bench("main.quote", seconds=0.1, calls=10**6, repeatable=True)
    assert both.elapsed >= 0.1
    assert 0 < both.calls < 10**6


@pytest.mark.parametrize("in_flight", [1, 3, 50])
async def test_calls_in_flight(members: Members, in_flight: int) -> None:
    """Exactly that many calls are under way at the same time."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    measuring = asyncio.ensure_future(
        fabric.bench("main.wait", in_flight=in_flight, calls=60, repeatable=True)
    )
    await functions.called(1 + in_flight)
    assert functions.running == in_flight
    functions.gate.set()
    assert (await measuring).calls == 60
    assert functions.most_running == in_flight


async def test_latency_counts_from_the_due_time(members: Members) -> None:
    """At a fixed rate, calls that wait behind a slow one are as late as they would be for users."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    asyncio.get_running_loop().call_later(0.5, functions.gate.set)
    result = await fabric.bench("main.wait", rate=100, in_flight=1, calls=5, repeatable=True)
    assert result.calls == 5
    assert result.min_ms > 300  # the last one is due 40 ms after the first one


async def test_calls_that_were_due_and_not_sent(members: Members) -> None:
    """Calls for which there is no room are counted, and a sentence says why they were not sent."""
    await shop(members)
    fabric = await caller(members)
    result = await fabric.bench(
        "main.wait", rate=1000, in_flight=2, seconds=0.3, warmup=0, repeatable=True
    )
    assert result.unsent >= 250
    assert result.cancelled == 2
    assert "did not keep up with the rate" in repr(result)


async def test_a_slow_rate(members: Members) -> None:
    """More calls than the rate allows are not made."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    result = await fabric.bench("main.quote", rate=20, seconds=0.5, warmup=0, repeatable=True)
    assert functions.calls - 1 <= 11
    assert result.unsent == 0
    assert result.elapsed >= 0.5


async def test_calls_under_way_at_the_end(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that do not end are cancelled at their service, and it ends in time."""
    monkeypatch.setattr(bench_load, "GRACE", 0.1)
    functions, _ = await shop(members)
    fabric = await caller(members)
    result = await fabric.bench("main.wait", in_flight=4, seconds=0.2, warmup=0, repeatable=True)
    assert (result.calls, result.cancelled, result.state) == (0, 4, "done")
    await until(lambda: functions.cancelled == 4)
    assert "4 calls were under way at the end and were cancelled." in result.notes


async def test_cancelling(members: Members) -> None:
    """A benchmark that is cancelled cancels its calls at the service, and its result is kept."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    measuring = asyncio.ensure_future(
        fabric.bench("main.wait", free=20, in_flight=4, seconds=60, warmup=0, repeatable=True)
    )
    await functions.called(24)
    assert fabric.last_bench is not None
    assert fabric.last_bench.state == "running"
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    await until(lambda: functions.cancelled == 4)
    result = fabric.last_bench
    assert (result.state, result.calls, result.cancelled) == ("interrupted", 19, 4)


async def test_errors_are_counted_by_type(members: Members) -> None:
    """Errors are counted by type, and the names that a service invents take bounded space."""
    await shop(members)
    fabric = await caller(members)
    result = await fabric.bench("main.fail", kinds=3, calls=30, repeatable=True)
    assert sorted(one.calls for one in result.errors_by_type.values()) == [10, 10, 10]
    assert (result.calls, result.errors, result.latency.count) == (30, 30, 0)
    assert "\x1b" not in repr(result)
    result = await fabric.bench("main.fail", kinds=1000, free=32, calls=100, repeatable=True)
    assert len(result.errors_by_type) == 21
    assert result.errors == 100


@pytest.mark.every_broker
async def test_a_service_that_leaves(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends early with a sentence, and does not call a service that is gone without a pause."""
    monkeypatch.setattr(bench_load, "STOP_AFTER", 1.0)
    functions, server = await shop(members)
    fabric = await caller(members)
    measuring = asyncio.ensure_future(
        fabric.bench("main.quote", in_flight=8, seconds=600, repeatable=True)
    )
    await functions.called(100)
    await server.close()
    result = await measuring
    assert result.state == "stopped"
    assert "all calls failed for 1 s: UnknownService" in result.reason
    assert "UnknownService" in result.errors_by_type
    assert result.errors < 200
    assert result.elapsed < 500


async def test_a_method_that_only_fails_is_left_alone(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends early if all calls fail, and not while one is under way that may succeed."""
    monkeypatch.setattr(bench_load, "STOP_AFTER", 0.1)
    functions, _ = await shop(members)
    fabric = await caller(members)
    stopped = await fabric.bench("main.fail", seconds=600, warmup=0, repeatable=True)
    assert (stopped.state, stopped.latency.count) == ("stopped", 0)
    functions.calls = 0
    measuring = asyncio.ensure_future(
        fabric.bench("main.waits_or_fails", seconds=600, in_flight=2, warmup=0, repeatable=True)
    )
    await until(lambda: fabric.last_bench is not None and fabric.last_bench.elapsed > 0.3)
    await functions.called(functions.calls + 3)
    assert not measuring.done()
    functions.gate.set()
    await functions.called(functions.calls + 100)
    measuring.cancel()
    await asyncio.wait([measuring])
    assert fabric.last_bench is not None
    assert fabric.last_bench.state == "interrupted"
    assert fabric.last_bench.latency.count > 50


@pytest.mark.parametrize(
    ("call", "options", "error", "text"),
    [
        ("main.quote", {"repeatable": False}, InvalidArgument, "would be called for 10 s"),
        ("main.quotes", {}, MethodNotFound, "did you mean quote"),
        ("mein.quote", {}, UnknownService, "did you mean main"),
        ("main@ffff.quote", {}, InstanceNotFound, "no instance ffff"),
        ("main@*.quote", {}, InvalidName, "leave out @"),
        ("quote", {}, InvalidName, "quote"),
        ("main.quote", {"sku": {1}}, NotSerializable, "sku"),
        ("main.quote", {"colour": "red"}, RemoteError, "colour"),
        ("main.quote", {"version": ">=2"}, VersionMismatch, ">=2"),
        ("main.quote", {"in_flight": 0}, InvalidArgument, "in_flight is 0"),
        ("main.wait", {"free": 0, "timeout": 0.05}, CallTimeout, "no answer within 0.05 s"),
    ],
)
async def test_what_cannot_be_measured(
    members: Members, call: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The error of the first call is raised, and no result replaces the last one."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    with pytest.raises(error, match=text):
        await fabric.bench(call, **{"repeatable": True, **options})
    assert functions.calls <= 3
    assert fabric.last_bench is None


async def test_a_closed_connector(members: Members) -> None:
    """A connector that is not open raises that at once."""
    fabric = members.connector("closed")
    with pytest.raises(NotConnected):
        await fabric.bench("shop.main.health_check")


async def test_health_check_is_always_measured(members: Members) -> None:
    """`health_check` needs no consent, because it has no effects."""
    await shop(members)
    fabric = await caller(members)
    assert (await fabric.bench("main.health_check", calls=10)).calls == 10


async def test_one_instance(members: Members) -> None:
    """One instance is measured alone by its id, and all of them by the name of the service."""
    one, first = await shop(members, "first")
    two, second = await shop(members, "second")
    fabric = await caller(members)
    await wait_for_service(fabric, "shop.main", instances=2)
    alone = await fabric.bench(f"main@{first.instance}.quote", calls=40, repeatable=True)
    assert [(each.instance, each.calls) for each in alone.by_instance] == [(first.instance, 40)]
    assert alone.label == f"{fabric.domain}.shop.main@{first.instance}.quote"
    assert two.calls == 0
    both = await fabric.bench("main.quote", calls=400, repeatable=True)
    assert {each.instance for each in both.by_instance} == {first.instance, second.instance}
    assert one.calls + two.calls == 442


async def test_options_that_are_arguments_of_the_method(members: Members) -> None:
    """`bench_service` takes arguments of any name."""
    server = await members.join("server")
    received = []

    def rest(seconds: float, rate: int) -> None:
        received.append((seconds, rate))

    await server.serve({"rest": rest}, type="shop", id="main")
    fabric = await caller(members)
    pattern = ServicePattern.parse("main", domain=fabric.domain)
    kwargs = {"seconds": 1.5, "rate": 2}
    await fabric.bench_service(pattern, "rest", kwargs, calls=2, repeatable=True)
    assert received == [(1.5, 2)] * 3


async def test_from_another_loop(members: Members) -> None:
    """A cell that runs in another thread, as a subshell of JupyterLab, measures as well."""
    await shop(members)
    fabric = await caller(members)

    def measure() -> int:
        return asyncio.run(fabric.bench("main.health_check", calls=10)).calls

    assert await asyncio.to_thread(measure) == 10


async def test_large_results(members: Members) -> None:
    """Large results are measured like small ones, and not kept."""
    server = await members.join("server")
    await server.serve({"large": lambda: "x" * 10_000_000}, type="shop", id="main")
    fabric = await caller(members)
    result = await fabric.bench("main.large", calls=5, in_flight=2, repeatable=True)
    assert (result.calls, result.errors) == (5, 0)


@pytest.mark.every_broker
async def test_a_lost_connection(members: Members) -> None:
    """Calls under way fail with the connection, and it continues when the connection is back."""
    functions, _ = await shop(members)
    fabric = await caller(members)
    measuring = asyncio.ensure_future(
        fabric.bench("main.quote", in_flight=4, seconds=600, warmup=0, repeatable=True)
    )
    await functions.called(500)
    lose_connection(fabric.member.connection)
    await until(lambda: fabric.last_bench is not None and fabric.last_bench.errors > 0)
    await functions.called(functions.calls + 500)
    measuring.cancel()
    await asyncio.wait([measuring])
    assert fabric.last_bench is not None
    assert fabric.last_bench.errors_by_type.keys() <= {"ConnectionLost", "UnknownService"}
    assert fabric.last_bench.errors < 40


async def test_ten_thousand_calls_in_flight(members: Members) -> None:
    """The maximum number of calls in flight is possible."""
    functions, _ = await shop(members)
    fabric = await caller(members, timeout=120)
    result = await fabric.bench("main.quote", in_flight=10_000, calls=20_000, repeatable=True)
    assert (result.calls, result.errors) == (20_000, 0)
    assert functions.calls == 20_001
