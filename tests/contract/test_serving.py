"""Serving: functions, concurrency, replacement without losing a call, and closing."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import threading
import time
from collections import UserDict

import numpy as np
import pandas as pd
import pytest

from fabric_nb import AbstractServiceApi
from fabric_nb.errors import InvalidName, MethodNotFound, RemoteError, UnknownService
from fabric_nb.fabric.rpc.methods import public_functions
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN


@pytest.fixture
async def server(members):
    """Return a member that serves, as ``app.server``."""
    return await members.join("server")


@pytest.fixture
async def caller(members):
    """Return a member that calls it."""
    return await members.join("caller", type="client")


def methods_of(server):
    return {name for name in server.functions if name != "health_check"}


# -- served functions


async def test_register_an_api(server, caller):
    """Public methods of an API are served, sync and async, and `health_check`."""

    class Api(AbstractServiceApi):
        attribute = 5

        def __init__(self):
            self.callback = print

        def plain(self, x):
            return ["plain", x]

        async def later(self, x):
            await asyncio.sleep(0)
            return ["later", x]

        @property
        def computed(self):
            raise AssertionError("a property is not looked at")

        def _private(self):
            raise AssertionError("served")

        @staticmethod
        def fixed():
            return "fixed"

        @classmethod
        def of_class(cls):
            return cls.__name__

    assert await server.rpc_register(Api()) is None
    assert await caller.call("app.server.plain", x=1) == ["plain", 1]
    assert await caller.call("app.server.later", x=2) == ["later", 2]
    assert await caller.call("app.server.fixed") == "fixed"
    assert await caller.call("app.server.of_class") == "Api"
    assert await caller.call("app.server.health_check") is True
    await wait_for_service(caller, "server", methods=5)
    for hidden in ("_private", "computed", "attribute", "__init__"):
        with pytest.raises(MethodNotFound):
            await caller.call(f"app.server.{hidden}", timeout=5)


async def test_register_any_object(server, caller):
    """An API needs no base class, and may define `health_check`."""

    class Api:
        def health_check(self):
            return "so so"

        def hello(self):
            return "hello"

    await server.rpc_register(Api())
    assert await caller.call("app.server.hello") == "hello"
    assert await caller.call("app.server.health_check") == "so so"


async def test_register_twice(server, caller):
    """A second `rpc_register` adds methods, as in amqp-fabric."""

    class First:
        def one(self):
            return 1

        def both(self):
            return "first"

    class Second:
        def two(self):
            return 2

        def both(self):
            return "second"

    await server.rpc_register(First())
    await server.rpc_register(Second())
    assert await caller.call("app.server.one") == 1
    assert await caller.call("app.server.two") == 2
    assert await caller.call("app.server.both") == "second"


async def test_serve_functions(server, caller):
    """A mapping of functions is served, with any kind of callable."""

    class Adder:
        def __call__(self, x):
            return x + 1

    async def generated():
        yield 1
        yield 2

    await server.serve(
        {
            "double": lambda x: 2 * x,
            "add": Adder(),
            "power": functools.partial(pow, 2),
            "rows": lambda: (n for n in range(3)),
            "later_rows": generated,
            "builtin": len,
        }
    )
    assert await caller.call("app.server.double", x=2) == 4
    assert await caller.call("app.server.add", x=2) == 3
    assert await caller.call("app.server.power", exp=5) == 32
    assert await caller.call("app.server.rows") == [0, 1, 2]
    assert await caller.call("app.server.later_rows") == [1, 2]
    with pytest.raises(TypeError):
        await caller.call("app.server.builtin", obj=[1])


@pytest.mark.parametrize("name", ["_hidden", "a.b", "größe", "1st", "", 5])
async def test_names_that_are_not_served(server, name):
    """An invalid name is refused before anything is served."""
    with pytest.raises(InvalidName):
        await server.serve({name: print})
    assert server.servers == ()


async def test_value_that_is_not_callable(server):
    """A value that is not callable is refused with its name."""
    with pytest.raises(TypeError, match="'x' is a int"):
        await server.serve({"x": 5})


async def test_serve_under_other_names(members, caller):
    """One connector serves several services under different names."""
    server = await members.join("server", keep_alive_seconds=60)  # its silence would show later
    math = await server.serve({"double": lambda x: 2 * x}, type="math", id="m1", version="3.1")
    await server.serve({"double": lambda x: x + x}, id="m2")
    assert await caller.call("math.m1.double", x=2) == 4
    assert await caller.call("app.m2.double", x="a") == "aa"
    assert await caller.call("m1.double", x=1, version=">=3") == 2
    with pytest.raises(InvalidName, match="served already"):
        await server.serve({}, type="math", id="m1")
    assert len(server.servers) == 2

    await math.close()
    await until(lambda: not caller.registry.find("m1", domain=DOMAIN))
    assert len(server.servers) == 1
    assert await caller.call("app.m2.double", x=1) == 2


async def test_statistics_and_failures(server, caller):
    """Each method has counts of calls and errors, and times; failed calls are kept."""

    def fail(x):
        x.append("changed")
        raise ValueError(f"not {x}")

    serving = await server.serve({"fail": fail, "fine": lambda: 1})
    await caller.call("app.server.fine")
    with pytest.raises(ValueError, match="not"):
        await caller.call("app.server.fail", x=[5])
    (failure,) = server.calls.failures
    assert failure.record.method == "fail"
    assert failure.kwargs() == {"x": [5]}
    assert "in fail" in failure.record.traceback
    assert serving.stats["fine"].calls == 1
    assert serving.stats["fine"].mean_ms is not None
    assert serving.stats["fail"].errors == 1
    assert serving.stats["fail"].last_error == "ValueError: not [5, 'changed']"
    assert serving.stats["fail"].running == 0


async def test_context_of_served_functions(server, caller):
    """A function runs with the context variables of the code that served it."""
    who = contextvars.ContextVar("who", default="nobody")
    who.set("cell 1")
    serving = await server.serve({"who": who.get})
    who.set("elsewhere")
    assert await caller.call("app.server.who") == "cell 1"
    await serving.replace({"who": who.get})
    assert await caller.call("app.server.who") == "elsewhere"


# -- concurrency


class Gauge:
    """Counts concurrent calls, and blocks them until they are released."""

    def __init__(self):
        self.running = self.most = 0
        self.go = asyncio.Event()

    async def work(self, n=0):
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go.wait()
        self.running -= 1
        return n


@pytest.mark.parametrize("prefetch", [1, 3])
async def test_prefetch(server, caller, prefetch):
    """`prefetch` is the maximum number of concurrent calls of a method; others are queued."""
    gauge = Gauge()
    await server.serve({"work": gauge.work}, prefetch=prefetch)
    calls = [asyncio.create_task(caller.call("app.server.work", n=n)) for n in range(8)]
    await until(lambda: gauge.running == prefetch)
    gauge.go.set()
    assert await asyncio.gather(*calls) == list(range(8))
    assert gauge.most == prefetch


async def test_methods_do_not_wait_for_each_other(server, caller):
    """A slow method delays its own callers only."""
    gauge = Gauge()
    await server.serve({"work": gauge.work, "quick": lambda: "quick"})
    slow = asyncio.create_task(caller.call("app.server.work"))
    await until(lambda: gauge.running)
    assert await caller.call("app.server.quick", timeout=60) == "quick"
    gauge.go.set()
    await slow


async def test_clique_shares_calls(members, caller):
    """The instances of a service share the calls: the next goes to one that is free."""
    gauges = [Gauge(), Gauge()]
    for gauge in gauges:
        member = await members.join("pair")
        await member.serve({"work": gauge.work})
    calls = [asyncio.create_task(caller.call("app.pair.work", n=n)) for n in range(6)]
    await until(lambda: all(gauge.running == 1 for gauge in gauges))
    gauges[0].go.set()
    await until(lambda: sum(call.done() for call in calls) == 5)
    gauges[1].go.set()
    assert await asyncio.gather(*calls) == list(range(6))


async def test_threads(server, caller):
    """With `threads` plain functions run in threads, and the loop continues."""
    go, loop_thread = threading.Event(), threading.get_ident()

    def blocking():
        assert go.wait(10)
        return threading.get_ident()

    async def on_loop():
        go.set()
        return threading.get_ident()

    await server.serve(
        {
            "blocking": blocking,
            "on_loop": on_loop,
            "rows": lambda: (threading.get_ident() for _ in range(1)),
            "later": lambda: asyncio.sleep(0, "later"),
        },
        threads=True,
    )
    waiting = asyncio.create_task(caller.call("app.server.blocking"))
    assert await caller.call("app.server.on_loop") == loop_thread
    assert await waiting != loop_thread
    assert await caller.call("app.server.rows") != [loop_thread]
    assert await caller.call("app.server.later") == "later"


# -- replacement


async def test_replace_without_losing_a_call(server, caller):
    """While functions are replaced repeatedly, no call is lost or run twice."""
    runs = []

    def version(number):
        async def work(n):
            runs.append(n)
            await asyncio.sleep(0.001)
            return number

        return work

    serving = await server.serve({"work": version(0)}, prefetch=2)

    async def call_on_and_on():
        return [await caller.call("app.server.work", n=n, timeout=60) for n in range(80)]

    calling = asyncio.create_task(call_on_and_on())
    number = 0
    while not calling.done():
        number += 1
        await serving.replace({"work": version(number)})
        await asyncio.sleep(0.002)
    answers = await calling
    assert runs == list(range(80))
    assert answers == sorted(answers)
    assert answers[-1] > 1
    assert serving.stats["work"].calls == 80


async def test_running_call_ends_with_its_old_function(server, caller):
    """A running call ends with the old function, a queued one runs with the new."""
    gauge = Gauge()

    async def old(n):
        return ["old", await gauge.work(n)]

    serving = await server.serve({"work": old})
    running = asyncio.create_task(caller.call("app.server.work", n=1))
    await until(lambda: gauge.running)
    queued = asyncio.create_task(caller.call("app.server.work", n=2))
    await serving.replace({"work": lambda n: ["new", n]})
    gauge.go.set()
    assert await running == ["old", 1]
    assert await queued == ["new", 2]


async def test_replacing_a_server_keeps_to_the_new_prefetch(server, caller):
    """From when another `prefetch` is in effect, no more calls than that run at a time."""
    running = most = 0

    async def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1

    serving = await server.serve({"work": work}, prefetch=20)
    await wait_for_service(caller, "server")
    for prefetch in (3, 1, 2):
        most = 0
        serving = await server.serve({"work": work}, prefetch=prefetch, replacing=serving)
        await asyncio.gather(*(caller.call("server.work") for _ in range(12)))
        assert most == prefetch


async def test_replace_adds_and_removes_methods(server, caller):
    """New methods are served at once, removed ones are gone; a running call gets its reply."""
    gauge = Gauge()
    serving = await server.serve({"old": gauge.work, "kept": lambda: "kept"})
    await wait_for_service(caller, "server", methods=3)
    running = asyncio.create_task(caller.call("app.server.old", n=7))
    await until(lambda: gauge.running)

    await serving.replace({"new": lambda: "new", "kept": lambda: "kept too"})
    assert methods_of(serving) == {"new", "kept"}
    assert await caller.call("app.server.new") == "new"
    assert await caller.call("app.server.kept") == "kept too"
    service = await wait_for_service(caller, "server")
    await until(lambda: set(service.methods) == {"new", "kept"})
    with pytest.raises(MethodNotFound, match="it has kept, new"):
        await caller.call("app.server.old", n=1, timeout=60)
    gauge.go.set()
    assert await running == 7


# -- closing


async def test_close_with_grace_finishes_running_calls(server, caller):
    """`close(grace)` accepts no more calls, and replies to running ones."""
    gauge = Gauge()
    serving = await server.serve({"work": gauge.work})
    running = asyncio.create_task(caller.call("app.server.work", n=5))
    await until(lambda: gauge.running)
    closing = asyncio.create_task(serving.close(grace=10))
    await until(lambda: not closing.done())
    gauge.go.set()
    assert await running == 5
    await closing
    assert serving.closed
    with pytest.raises(UnknownService):
        await caller.call("app.server.work", timeout=5)


async def test_close_waits_for_its_grace_only(server, caller):
    """A call that does not end within the grace is redelivered to another instance."""
    gauge = Gauge()
    serving = await server.serve({"work": gauge.work})
    running = asyncio.create_task(caller.call("app.server.work", timeout=60))
    await until(lambda: gauge.running)
    began = time.monotonic()
    await asyncio.wait_for(serving.close(grace=0.2), 60)
    assert time.monotonic() - began >= 0.2
    running.cancel()


async def test_call_of_a_closing_member_is_redelivered(members, caller):
    """A running call of a member that closes is redelivered to the other instance."""
    gauge = Gauge()
    leaving = await members.join("pair")
    await leaving.serve({"work": gauge.work})
    call = asyncio.create_task(caller.call("app.pair.work", n=1))
    await until(lambda: gauge.running)
    staying = await members.join("pair")
    await staying.serve({"work": lambda n: ["stayed", n]})
    await leaving.close()
    assert await call == ["stayed", 1]


async def test_result_that_cannot_be_encoded(server, caller):
    """A result that cannot be encoded is an error with its type, and the service continues."""
    serving = await server.serve({"bad": lambda: {"x": [object()]}, "good": lambda: 1})
    with pytest.raises(RemoteError, match=r"the result\['x'\]\[0\] is a object"):
        await caller.call("app.server.bad", timeout=60)
    assert await caller.call("app.server.good", timeout=60) == 1
    assert serving.stats["bad"].errors == 1


class Broken:
    """Object of which every operation raises."""

    def __init__(self, error):
        self._error = error

    def _fail(self, *_):
        raise self._error

    __repr__ = __str__ = __len__ = __iter__ = __hash__ = __bool__ = _fail


class BrokenMapping(UserDict):
    """Mapping that cannot be iterated."""

    def items(self):
        raise self.data["error"]


@dataclasses.dataclass
class BrokenRecord:
    """Record with a computed field that raises."""

    total: int = dataclasses.field(init=False)


class BrokenError(Exception):
    """Error with a broken text."""

    args = property(lambda self: 1 / 0)

    def __repr__(self):
        raise SystemExit("no repr")

    __str__ = __repr__


def without_end():
    endless = []
    for _ in range(100_000):
        endless = [endless]
    return endless


def raising(error):
    def fail():
        raise error

    return fail


UNLUCKY = {
    "a broken object": lambda: Broken(ValueError("no")),
    "a broken object within": lambda: {"rows": [1, Broken(KeyError("no"))]},
    "out of memory": lambda: {"a": BrokenMapping(error=MemoryError())},
    "an interrupt": lambda: {"a": BrokenMapping(error=KeyboardInterrupt())},
    "a mapping that fails": lambda: {"a": BrokenMapping(error=LookupError("closed"))},
    "a record that fails": BrokenRecord,
    "a table of broken cells": lambda: pd.DataFrame({"a": [1, Broken(RuntimeError())]}),
    "nested without end": without_end,
    "a broken error": raising(BrokenError(Broken(ValueError()))),
    "an error about a broken object": raising(ValueError(Broken(KeyboardInterrupt()))),
    "an error of 100 MB": raising(ValueError("x" * 100_000_000)),
    "half a character": raising(ValueError("\udc80")),
}


@pytest.mark.any_broker
@pytest.mark.parametrize("threads", [False, True])
async def test_no_result_ends_a_method(server, caller, threads):
    """If encoding a result raises, the caller gets an error, and the next call works.

    The statistics stay right: nothing runs any more, and each of them has failed.
    """
    await server.serve({"get": lambda what: UNLUCKY[what]()}, threads=threads)
    await wait_for_service(caller, "server", methods=1)
    for what in UNLUCKY:
        with pytest.raises(RemoteError):
            await caller.call("server.get", what=what, timeout=60)
    stats = server.servers[0].stats["get"]
    assert (stats.running, stats.calls, stats.errors) == (0, len(UNLUCKY), len(UNLUCKY))
    with pytest.raises(KeyError, match="not there"):
        await caller.call("server.get", what="not there", timeout=60)


async def test_numpy_labels_in_results(server, caller):
    """Labels, names and keys that are numpy numbers, as of `iloc`, arrive as numbers."""
    frame = pd.DataFrame({"total": [3, 1, 2]}, index=np.array([7, 8, 9]))
    by_number = pd.DataFrame({np.int64(0): [1.5], np.int64(1): [2.5]})
    results = {
        "row": frame.sort_values("total").iloc[-1],
        "named": pd.Series([1], name=np.float64(0.5)),
        "levels": frame.set_index(pd.MultiIndex.from_product([[np.int64(1)], ["a", "b", "c"]])),
        "columns": by_number.rename_axis(columns=np.int64(5)).rename_axis(index=np.bool_(True)),
        "keys": {np.int64(3): np.float32(0.5), np.str_("a"): {np.bool_(False): np.uint8(1)}},
    }
    await server.serve({"get": lambda key: results[key]})
    await wait_for_service(caller, "server", methods=1)

    async def get(key):
        return await caller.call("server.get", key=key)

    pd.testing.assert_series_equal(await get("row"), results["row"])
    pd.testing.assert_series_equal(await get("named"), results["named"])
    pd.testing.assert_frame_equal(await get("levels"), results["levels"])
    columns = await get("columns")
    pd.testing.assert_frame_equal(columns, results["columns"], check_column_type=False)
    assert await get("keys") == {"3": 0.5, "a": {"false": 1}}


async def test_no_item_stops_a_generator_method(server, caller):
    """An item that cannot be encoded ends its stream with an error, and the next stream works."""

    def items(what):
        yield 1
        yield UNLUCKY[what]()

    await server.serve({"items": items})
    await wait_for_service(caller, "server", methods=1)
    for what in ("a broken object", "a mapping that fails", "an interrupt", "a broken error"):
        stream = caller.call_stream("server.items", what=what, timeout=60)
        assert await anext(stream) == 1
        with pytest.raises(RemoteError):
            await anext(stream)
    await until(lambda: server.servers[0].stats["items"].running == 0)
    assert server.servers[0].stats["items"].errors == 4


async def test_positional_only_parameters(members, caller):
    """Arguments are passed by name, also to positional-only parameters."""

    def plain(a, b=2, /, c=3, *, d=4, **more):
        return [a, b, c, d, more]

    @functools.wraps(plain)
    def wrapped(*args, **kwargs):
        return plain(*args, **kwargs)

    async def later(a, /):
        return a

    def items(a, b, /):
        yield from (a, b)

    class Api(AbstractServiceApi):
        def method(self, a, /, b):
            return a - b

    functions = public_functions(Api()) | {"plain": plain, "wrapped": wrapped, "later": later}
    more = {"items": items, "third": functools.partial(plain, 1)}
    server = await members.join("positions")
    await server.serve({**functions, **more})
    call = functools.partial(caller.call, timeout=60)
    for name in ("plain", "wrapped"):
        assert await call(f"positions.{name}", a=1) == [1, 2, 3, 4, {}]
        assert await call(f"positions.{name}", d=8, b=6, a=5, c=7, e=9) == [5, 6, 7, 8, {"e": 9}]
        with pytest.raises(TypeError, match="'a'"):
            await call(f"positions.{name}", b=1)
    assert await call("positions.later", a=5) == 5
    assert await call("positions.items", a=1, b=2) == [1, 2]
    assert [each async for each in caller.call_stream("positions.items", a=1, b=2)] == [1, 2]
    assert await call("positions.method", a=5, b=2) == 3
    assert await call("positions.third", b=5, c=6) == [1, 5, 6, 4, {}]


class CancelsMapping(UserDict):
    """Mapping that cancels the task that reads it."""

    def items(self):
        asyncio.current_task().cancel()
        return super().items()


async def test_no_cancellation_stops_a_method(server, caller):
    """A function that cancels its own task gets an error reply, and the next call works."""

    def cancels(result):
        asyncio.current_task().cancel()
        asyncio.current_task().cancel()
        return result

    async def cancels_later(result):
        return cancels(result)

    served = {
        "now": cancels,
        "later": cancels_later,
        "read": lambda result: CancelsMapping(a=result),
    }
    serving = await server.serve(served)
    await wait_for_service(caller, "server", methods=3)
    for method in served:
        for number in range(3):
            answer = await caller.call(f"server.{method}", result=number, timeout=60)
            assert answer == ({"a": number} if method == "read" else number)
        assert serving.stats[method].running == 0
    await serving.close(grace=5)
