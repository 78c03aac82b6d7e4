"""Chains of calls that fail because a call made by them failed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import pickle

import aio_pika
import pytest

from fabric_nb.errors import CallTimeout, RemoteError
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # it carries bytes

HOPS = ("orders.place", "pricing.quote", "catalog.price")


class NoPrice(Exception):
    """Error class of a service."""


def missing():
    return {"wine": 3}["beer"]


@pytest.fixture
async def shop(members):
    """Members: orders calls pricing, which calls catalog; the failure of each can be set."""
    orders, pricing, catalog = [
        await members.join(name) for name in ("orders", "pricing", "catalog")
    ]

    async def serve(price, quote=None, place=None):
        async def call_catalog():
            return await pricing.call(f"{catalog.fqn}.price", timeout=60)

        async def call_pricing():
            return await orders.call(f"{pricing.fqn}.quote", timeout=60)

        await catalog.serve({"price": price})
        await pricing.serve({"quote": quote(call_catalog) if quote else call_catalog})
        await orders.serve({"place": place(call_pricing) if place else call_pricing})
        return await members.join("caller")

    return serve


async def failed(caller):
    with pytest.raises(RemoteError) as caught:
        await caller.call(f"{DOMAIN}.app.orders.place", timeout=60)
    return caught.value


def calls_of(error):
    return [hop.call for hop in error.chain]


FULL = [f"{DOMAIN}.app.{hop}" for hop in HOPS]


async def test_the_whole_chain_is_named(shop):
    """The error of a failure three calls away names every service, and has the original type."""
    error = await failed(await shop(missing))
    assert str(error) == "orders.place → pricing.quote → catalog.price: KeyError 'beer'"
    assert isinstance(error, KeyError)
    assert error.type == "builtins.KeyError"
    assert error.remote_args == ("beer",)
    assert calls_of(error) == FULL
    assert 'return {"wine": 3}["beer"]' in error.chain[-1].traceback
    shown = "\n".join(error._render_traceback_())
    first, *rest = shown.splitlines()
    assert first == f"RemoteError: {error}"
    assert "Remote traceback of catalog.price:" in rest
    functions = ("call_pricing", "call_catalog", "missing")
    for hop, function in zip(HOPS, functions, strict=True):
        (line,) = (one for one in rest if one.startswith(f"  {hop}: "))
        assert f", in {function}: " in line
    assert rest.index("Remote traceback of catalog.price:") > 3
    assert shown.rstrip().endswith("KeyError: 'beer'")
    assert "fabric/rpc/client.py" not in shown
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.chain) == (str(error), error.chain)


async def test_errors_of_another_class(shop):
    """A type that cannot be imported is named over all hops, and is caught as RemoteError."""

    def fail():
        raise NoPrice("beer", 7)

    error = await failed(await shop(fail))
    assert type(error) is RemoteError
    assert error.type == f"{__name__}.NoPrice"
    assert error.remote_args == ("beer", 7)
    assert str(error) == "orders.place → pricing.quote → catalog.price: NoPrice 'beer', 7"


async def test_attributes_of_errors_over_all_hops(shop):
    """The attributes of built-in exceptions are sent over all hops, and can be pickled."""

    def fail():
        with open("/nowhere/at all"):  # noqa: PTH123 - the error is what is tried
            pass

    error = await failed(await shop(fail))
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, FileNotFoundError)
        assert (one.errno, one.filename) == (errno.ENOENT, "/nowhere/at all")
        assert calls_of(one) == FULL


@pytest.mark.parametrize("how", ["from", "during", "group", "group of groups"])
async def test_an_error_that_another_one_caused(shop, how):
    """An error raised from a failed call has its own type, and the chain of its cause."""

    def quote(call_catalog):
        async def quote():
            try:
                if how.startswith("group"):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(call_catalog())
                else:
                    await call_catalog()
            except BaseException as error:
                if how == "from":
                    raise ValueError("no price") from error
                if how == "during":
                    raise ValueError("no price")  # noqa: B904 - that is tried here
                if how == "group of groups":
                    raise BaseExceptionGroup("all", [OSError(), error]) from None
                raise

        return quote

    error = await failed(await shop(missing, quote))
    assert calls_of(error) == FULL
    assert str(error).endswith(", from catalog.price: KeyError 'beer'")
    assert str(error).startswith("orders.place → pricing.quote: ")
    assert isinstance(error, ValueError) is (not how.startswith("group"))
    assert not isinstance(error, KeyError)


async def test_a_call_that_was_not_answered(shop, members):
    """A call without a reply is a hop too."""

    def quote(_):
        async def quote():
            caller = await members.join("impatient")
            await caller.call(f"{DOMAIN}.app.catalog.price", timeout=0.2)

        return quote

    error = await failed(await shop(lambda: asyncio.sleep(5), quote))
    assert calls_of(error) == FULL
    assert error.type.endswith(CallTimeout.__name__)
    assert "gave no answer within 0.2 s" in str(error)


async def test_handled_errors_are_no_cause(shop):
    """An error that is not related to an earlier failed call has no chain."""

    def quote(call_catalog):
        async def quote():
            with contextlib.suppress(KeyError):
                await call_catalog()
            raise ValueError("something else")

        return quote

    error = await failed(await shop(missing, quote))
    assert str(error) == "orders.place → pricing.quote: ValueError 'something else'"


async def test_circular_calls(members):
    """Services that call each other in a circle fail with a chain of limited length."""
    member = await members.join("loop")

    async def again(depth):
        if not depth:
            return missing()
        return await member.call(f"{member.fqn}.again", depth=depth - 1, timeout=60)

    await member.serve({"again": again}, prefetch=50)
    with pytest.raises(KeyError) as caught:
        await member.call(f"{member.fqn}.again", depth=40, timeout=60)
    error = caught.value
    assert isinstance(error, RemoteError)
    assert len(error.chain) <= 20
    assert str(error).endswith("loop.again: KeyError 'beer'")
    assert "…" in str(error)
    assert sum(len(hop.traceback) for hop in error.chain) < 100_000


EVIL = "x\x1b[2J\nRemoteError: forged\u202e"


@pytest.mark.parametrize(
    "chain",
    [
        None,
        7,
        "text",
        {},
        [None, 7, [], {}],
        [{"call": 7, "type": [], "message": {}, "traceback": None}],
        [{"call": EVIL, "type": EVIL, "message": EVIL, "traceback": EVIL}],
        [{"call": "a.b.c.d", "type": "os.system", "message": "x" * 10**4}] * 500,
        [{"call": "a.b.c.d", "traceback": '  File "a", line 1, in f\n' * 50_000}] * 20,
        [{"call": "a.b.c.d", "chain": [{"call": "x"}]}],
    ],
    ids=lambda chain: str(chain)[:30],
)
async def test_hostile_chains(members, raw, chain):
    """The chain of a hostile peer is text of limited length, and nothing is looked up by it."""
    caller = await members.join("caller")
    name = f"{DOMAIN}.api.app.evil"
    exchange = await raw.declare_exchange(name, "direct", auto_delete=True)
    queue = await raw.declare_queue(f"{name}::do", durable=True, auto_delete=True)
    await queue.bind(exchange, queue.name)
    error = {"type": "os.system", "message": "m", "args": [], "traceback": EVIL, "chain": chain}

    async def answer(request):
        message = aio_pika.Message(
            json.dumps({"error": error}).encode(),
            type="error",
            correlation_id=request.correlation_id,
        )
        await raw.default_exchange.publish(message, request.reply_to)

    await queue.consume(answer, no_ack=True)
    with pytest.raises(RemoteError) as caught:
        await caller.call(f"{DOMAIN}.app.evil.do", timeout=60)
    error = caught.value
    assert type(error) is RemoteError
    shown = "\n".join(error._render_traceback_())
    assert len(shown) < 60_000
    assert not {"\x1b", "\u202e"} & set(shown)
    assert "\n" not in str(error)
    assert len(error.chain) <= 18
