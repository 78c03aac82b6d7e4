"""Calls between fabric_nb and amqp-fabric services, in both directions."""

from __future__ import annotations

import asyncio
import inspect

import pandas as pd
import pytest

from fabric_nb import AbstractServiceApi
from fabric_nb.errors import (
    CallTimeout,
    MethodNotFound,
    NotSerializable,
    RemoteError,
    ServiceLost,
    UnknownService,
)
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN, PeerError

VALUE = {"a": [1, None, "ü", 1.5], "b": True, "c": {}}


class OwnError(Exception):
    """An error of our service's own, which a caller cannot import."""

    __module__ = "our_service"


class Api(AbstractServiceApi):
    """What our service can do."""

    def __init__(self):
        self.nobody = None

    def multiply(self, x, y):
        return x * y

    async def echo(self, value):
        await asyncio.sleep(0)
        return value

    def fail(self, message):
        raise ValueError(message, 7)

    def refuse(self):
        raise OwnError("closed", 42)

    def decode(self):
        return b"\xff".decode()

    def unsendable(self):
        return {1, 2}

    def leave(self):
        raise SystemExit(3)

    async def ask_nobody(self):
        return await self.nobody.call("calc.nobody.x")

    def frame(self):
        return pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])


@pytest.fixture
async def ours(members):
    """A service of ours, as ``calc.ours``."""
    member = await members.join("ours", type="calc")
    api = Api()
    api.nobody = member
    await member.rpc_register(api)
    return member


@pytest.fixture
async def theirs(start_peer, rabbitmq_uri):
    """An amqp-fabric service, as ``calc.calc1``."""
    return await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)


# We call them


async def test_we_call_amqp_fabric(members, theirs):
    """A service on amqp-fabric is called as any other, by any of its names."""
    fabric = await members.join("me")
    assert await fabric.call("calc1.multiply", x=6, y=7) == 42
    assert await fabric.call("calc.calc1.echo", value=VALUE) == VALUE
    assert await fabric.call(f"{DOMAIN}.calc.calc1.whoami") == theirs.pid
    proxy = await fabric.rpc_proxy(DOMAIN, "calc1", "calc")
    assert await proxy.health_check() is True


async def test_many_calls_at_once_to_amqp_fabric(members, theirs):
    """Each of many calls at once gets its own answer."""
    fabric = await members.join("me")
    calls = (fabric.call("calc1.echo", value=n) for n in range(200))
    assert await asyncio.gather(*calls) == list(range(200))


async def test_errors_of_amqp_fabric(members, theirs):
    """Built-in errors are caught as what they are, those of the service's own come as data."""
    fabric = await members.join("me")
    with pytest.raises(ValueError, match="no such row") as builtin:
        await fabric.call("calc1.fail", message="no such row")
    assert isinstance(builtin.value, RemoteError)
    assert builtin.value.remote_args == ("no such row",)
    assert builtin.value.remote_traceback == ""
    with pytest.raises(ZeroDivisionError):
        await fabric.call("calc1.divide", x=1, y=0)
    with pytest.raises(TypeError):
        await fabric.call("calc1.multiply", z=1)
    with pytest.raises(RemoteError) as own:
        await fabric.call("calc1.refuse", reason="closed")
    assert type(own.value) is RemoteError
    assert own.value.type == "__main__.CalcError"
    assert own.value.remote_args == ("closed", 42)


async def test_unknown_method_of_amqp_fabric(members, theirs):
    """A method that an amqp-fabric service does not have is not found, at once."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    async with asyncio.timeout(5):
        with pytest.raises(MethodNotFound):
            await fabric.call("calc1.nothing")
        with pytest.raises(UnknownService):
            await fabric.call("calc.nobody.nothing")


async def test_timeouts_with_amqp_fabric(members, theirs):
    """A slow method times out; a call that nobody takes in time is never run."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    slow = asyncio.create_task(fabric.call("calc1.slow", seconds=1))
    await theirs.event("slow_began")
    before = await fabric.call("calc1.health_check", timeout=0.5)
    with pytest.raises(CallTimeout):
        await fabric.call("calc1.count", timeout=0.0001)
    assert before is True
    with pytest.raises(CallTimeout):
        await fabric.call("calc1.slow", seconds=5, timeout=0.3)
    assert await slow == theirs.pid


async def test_expired_call_is_not_run_by_amqp_fabric(members, start_peer, rabbitmq_uri, theirs):
    """A call that waited too long at a stopped service comes back and is not run later."""
    fabric = await members.join("me")
    assert await fabric.call("calc.calc1.count") == 1
    theirs.pause()
    # One call is with the service already, and the next waits at the broker.
    taken = asyncio.create_task(fabric.call("calc.calc1.count", timeout=20))
    await asyncio.sleep(0)
    with pytest.raises(CallTimeout, match=r"within 0\.3 s"):
        await fabric.call("calc.calc1.count", timeout=0.3)
    theirs.resume()
    assert await taken == 2
    assert await fabric.call("calc.calc1.count") == 3


async def test_service_of_amqp_fabric_that_is_killed(members, start_peer, rabbitmq_uri, theirs):
    """A killed service is unknown at once, and known again when it is back."""
    fabric = await members.join("me")
    assert await fabric.call("calc.calc1.multiply", x=2, y=3) == 6
    theirs.kill()
    await theirs.exited()

    # A call that is sent before the broker has noticed goes with the queue, without an answer.
    expected = (UnknownService, ServiceLost, MethodNotFound, CallTimeout)
    error = None
    async with asyncio.timeout(10):
        while not isinstance(error, (UnknownService, ServiceLost, MethodNotFound)):
            with pytest.raises(expected) as caught:
                await fabric.call("calc.calc1.multiply", x=2, y=3, timeout=1)
            error = caught.value
    again = await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    assert await fabric.call("calc.calc1.whoami") == again.pid


async def test_proxy_of_amqp_fabric_tells_what_it_can(members, theirs):
    """Of a service that tells no methods, a proxy offers any method and no signatures."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    proxy = await fabric.service("calc1").load()
    assert str(inspect.signature(proxy.multiply)) == "(**kwargs)"
    assert await proxy.multiply(x=2, y=3) == 6


async def test_frames_to_amqp_fabric(members, theirs):
    """A DataFrame reaches an amqp-fabric service as plain records."""
    fabric = await members.join("me")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    records = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert await fabric.call("calc1.echo", value=frame) == records
    with pytest.raises(NotSerializable):
        await fabric.call("calc1.echo", value=object())


# They call us


@pytest.fixture
async def caller(start_peer, rabbitmq_uri, ours):
    """A caller on amqp-fabric."""
    return await start_peer("caller", rabbitmq_uri)


async def test_amqp_fabric_calls_us(caller):
    """Our methods answer callers on amqp-fabric."""
    assert await caller.call("ours", "multiply", x=6, y=7) == 42
    assert await caller.call("ours", "echo", value=VALUE) == VALUE
    assert await caller.call("ours", "health_check") is True
    calls = (caller.call("ours", "echo", value=n) for n in range(200))
    assert await asyncio.gather(*calls) == list(range(200))


async def test_amqp_fabric_sees_our_frames_as_records(caller):
    """A DataFrame that we return is a list of records to a caller on amqp-fabric."""
    assert await caller.call("ours", "frame") == [
        {"index": 5, "a": 1, "b": "x"},
        {"index": 6, "a": 2, "b": None},
    ]


async def test_amqp_fabric_sees_our_builtin_errors(caller):
    """A built-in error arrives as amqp-fabric's own servers send it; our traceback is ignored."""
    with pytest.raises(PeerError) as caught:
        await caller.call("ours", "fail", message="no")
    assert caught.value.type == "builtins.ValueError"
    assert caught.value.arguments == ["ValueError('no', 7)", ["no", 7]]
    with pytest.raises(PeerError) as caught:
        await caller.call("ours", "leave")
    assert "SystemExit" in caught.value.type + str(caught.value)
    with pytest.raises(PeerError) as caught:
        await caller.call("ours", "multiply", z=1)
    assert caught.value.type == "builtins.TypeError"
    assert await caller.call("ours", "multiply", x=1, y=1) == 1


async def test_amqp_fabric_sees_our_own_errors(caller):
    """An error of a class of ours arrives as amqp-fabric's own servers send theirs."""
    with pytest.raises(PeerError) as caught:
        await caller.call("ours", "refuse")
    assert caught.value.type == "aio_pika.patterns.rpc.JsonRPCError"
    error = caught.value.arguments[1]["error"]
    assert error["type"].endswith("OwnError")
    assert error["message"] == "OwnError('closed', 42)"
    assert error["args"] == ["closed", 42]


@pytest.mark.parametrize("method", ["decode", "unsendable", "ask_nobody"])
async def test_every_error_of_ours_ends_the_call(caller, method):
    """Whatever our method raises, a caller on amqp-fabric is told at once, and may go on."""
    with pytest.raises(PeerError):
        await caller.call("ours", method, timeout=5)
    assert await caller.call("ours", "multiply", x=1, y=1) == 1


async def test_amqp_fabric_calls_a_method_that_we_do_not_have(caller):
    """An unknown method of ours comes back to a caller on amqp-fabric at once."""
    with pytest.raises(PeerError, match="returned"):
        await caller.call("ours", "nothing", timeout=5)


async def test_amqp_fabric_outlives_our_service(caller, ours, members):
    """A caller on amqp-fabric that called us goes on when we leave and come back."""
    assert await caller.call("ours", "multiply", x=1, y=2) == 2
    await ours.close()
    with pytest.raises(PeerError, match=r"returned|NOT_FOUND"):
        await caller.call("ours", "multiply", x=1, y=2, timeout=5)
    again = await members.join("ours", type="calc")
    await again.rpc_register(Api())
    await until(lambda: again.servers)
    assert await caller.call("ours", "multiply", x=1, y=2) == 2


# Chains of calls


@pytest.mark.parametrize(
    ("method", "builtin", "said"),
    [("decode", UnicodeDecodeError, None), ("missing", KeyError, "KeyError 'beer'")],
)
async def test_errors_through_a_hop_of_amqp_fabric(
    members, ours, start_peer, rabbitmq_uri, method, builtin, said
):
    """What amqp-fabric passes on of an error of ours is caught as what it was, where it can."""
    await ours.servers[0].replace({"missing": missing, "decode": Api().decode})
    await start_peer("forwarder", rabbitmq_uri, keep_alive=0.2)
    caller = await members.join("caller")
    await wait_for_service(caller, "forward")
    call = caller.call("forward.forward", target="ours", type="calc", method=method, timeout=20)
    with pytest.raises(RemoteError) as caught:
        await call
    if said is not None:
        assert isinstance(caught.value, builtin)
        assert caught.value.remote_args == ("beer",)
        assert str(caught.value) == f"forward.forward → …: {said}"


async def test_own_errors_through_a_hop_of_amqp_fabric(members, ours, start_peer, rabbitmq_uri):
    """An error that amqp-fabric cannot import arrives whole, with its traceback."""
    await start_peer("forwarder", rabbitmq_uri, keep_alive=0.2)
    caller = await members.join("caller")
    await wait_for_service(caller, "forward")
    with pytest.raises(RemoteError) as caught:
        await caller.call("forward.forward", target="ours", type="calc", method="refuse")
    assert caught.value.type == "our_service.OwnError"
    assert caught.value.remote_args == ("closed", 42)
    assert "in refuse" in caught.value.chain[-1].traceback


def missing():
    return {}["beer"]
