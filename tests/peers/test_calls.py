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
    """Error class of the fabric_nb service, which a caller cannot import."""

    __module__ = "our_service"


class Api(AbstractServiceApi):
    """API of the fabric_nb service."""

    def __init__(self):
        self.member = None

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

    async def call_missing_service(self):
        return await self.member.call("calc.missing.x")

    def frame(self):
        return pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])


@pytest.fixture
async def service(members):
    """Return a service on fabric_nb, as ``calc.nb``."""
    member = await members.join("nb", type="calc")
    api = Api()
    api.member = member
    await member.rpc_register(api)
    return member


@pytest.fixture
async def peer(start_peer, rabbitmq_uri):
    """Return a service on amqp-fabric, as ``calc.calc1``."""
    return await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)


# -- calls from fabric_nb to amqp-fabric


async def test_call_of_amqp_fabric(members, peer):
    """A service on amqp-fabric is called like any other, by any of its names."""
    fabric = await members.join("me")
    assert await fabric.call("calc1.multiply", x=6, y=7) == 42
    assert await fabric.call("calc.calc1.echo", value=VALUE) == VALUE
    assert await fabric.call(f"{DOMAIN}.calc.calc1.whoami") == peer.pid
    proxy = await fabric.rpc_proxy(DOMAIN, "calc1", "calc")
    assert await proxy.health_check() is True


async def test_concurrent_calls_to_amqp_fabric(members, peer):
    """Each of many concurrent calls gets its own reply."""
    fabric = await members.join("me")
    calls = (fabric.call("calc1.echo", value=n) for n in range(200))
    assert await asyncio.gather(*calls) == list(range(200))


async def test_errors_of_amqp_fabric(members, peer):
    """Built-in errors are caught as such, those of the service's own class arrive as data."""
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


async def test_unknown_method_of_amqp_fabric(members, peer):
    """An unknown method of an amqp-fabric service fails at once."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    async with asyncio.timeout(60):
        with pytest.raises(MethodNotFound):
            await fabric.call("calc1.nothing")
        with pytest.raises(UnknownService):
            await fabric.call("calc.missing.nothing")


async def test_timeouts_with_amqp_fabric(members, peer):
    """A slow method times out, and the calls of others go on."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    slow = asyncio.create_task(fabric.call("calc1.slow", seconds=3))
    await peer.event("slow_began")
    assert await fabric.call("calc1.health_check") is True
    assert not slow.done()
    with pytest.raises(CallTimeout):
        await fabric.call("calc1.slow", seconds=5, timeout=0.3)
    assert await slow == peer.pid


async def test_expired_call_is_not_run_by_amqp_fabric(members, start_peer, rabbitmq_uri, peer):
    """A call that expires at a paused service is returned, and not run later."""
    fabric = await members.join("me")
    assert await fabric.call("calc.calc1.count") == 1
    peer.pause()
    # One call is with the service already, and the next waits at the broker.
    taken = asyncio.create_task(fabric.call("calc.calc1.count", timeout=60))
    await asyncio.sleep(0)
    with pytest.raises(CallTimeout, match=r"within 0\.3 s"):
        await fabric.call("calc.calc1.count", timeout=0.3)
    peer.resume()
    assert await taken == 2
    assert await fabric.call("calc.calc1.count") == 3


async def test_service_of_amqp_fabric_that_is_killed(members, start_peer, rabbitmq_uri, peer):
    """A killed service is unknown at once, and known again after its restart."""
    fabric = await members.join("me")
    assert await fabric.call("calc.calc1.multiply", x=2, y=3) == 6
    peer.kill()
    await peer.exited()

    # A call that is sent before the broker has noticed goes with the queue, without an answer.
    expected = (UnknownService, ServiceLost, MethodNotFound, CallTimeout)
    error = None
    async with asyncio.timeout(60):
        while not isinstance(error, (UnknownService, ServiceLost, MethodNotFound)):
            with pytest.raises(expected) as caught:
                await fabric.call("calc.calc1.multiply", x=2, y=3, timeout=1)
            error = caught.value
    again = await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    assert await fabric.call("calc.calc1.whoami") == again.pid


async def test_proxy_of_amqp_fabric(members, peer):
    """The proxy of a service that announces no methods has any method, without signatures."""
    fabric = await members.join("me")
    await wait_for_service(fabric, "calc1")
    proxy = await fabric.service("calc1").load()
    assert str(inspect.signature(proxy.multiply)) == "(**kwargs)"
    assert await proxy.multiply(x=2, y=3) == 6


async def test_frames_to_amqp_fabric(members, peer):
    """A DataFrame arrives at an amqp-fabric service as plain records."""
    fabric = await members.join("me")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    records = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert await fabric.call("calc1.echo", value=frame) == records
    with pytest.raises(NotSerializable):
        await fabric.call("calc1.echo", value=object())


# -- calls from amqp-fabric to fabric_nb


@pytest.fixture
async def caller(start_peer, rabbitmq_uri, service):
    """Return a caller on amqp-fabric."""
    return await start_peer("caller", rabbitmq_uri)


async def test_call_by_amqp_fabric(caller):
    """The methods of fabric_nb reply to callers on amqp-fabric."""
    assert await caller.call("nb", "multiply", x=6, y=7) == 42
    assert await caller.call("nb", "echo", value=VALUE) == VALUE
    assert await caller.call("nb", "health_check") is True
    calls = (caller.call("nb", "echo", value=n) for n in range(200))
    assert await asyncio.gather(*calls) == list(range(200))


async def test_frames_for_amqp_fabric(caller):
    """A DataFrame result is a list of records for a caller on amqp-fabric."""
    assert await caller.call("nb", "frame") == [
        {"index": 5, "a": 1, "b": "x"},
        {"index": 6, "a": 2, "b": None},
    ]


async def test_builtin_errors_for_amqp_fabric(caller):
    """A built-in error arrives as from an amqp-fabric server; the traceback is ignored."""
    with pytest.raises(PeerError) as caught:
        await caller.call("nb", "fail", message="no")
    assert caught.value.type == "builtins.ValueError"
    assert caught.value.arguments == ["ValueError('no', 7)", ["no", 7]]
    with pytest.raises(PeerError) as caught:
        await caller.call("nb", "leave")
    assert "SystemExit" in caught.value.type + str(caught.value)
    with pytest.raises(PeerError) as caught:
        await caller.call("nb", "multiply", z=1)
    assert caught.value.type == "builtins.TypeError"
    assert await caller.call("nb", "multiply", x=1, y=1) == 1


async def test_own_errors_for_amqp_fabric(caller):
    """An error of the service's own class arrives as from an amqp-fabric server."""
    with pytest.raises(PeerError) as caught:
        await caller.call("nb", "refuse")
    assert caught.value.type == "aio_pika.patterns.rpc.JsonRPCError"
    error = caught.value.arguments[1]["error"]
    assert error["type"].endswith("OwnError")
    assert error["message"] == "OwnError('closed', 42)"
    assert error["args"] == ["closed", 42]


@pytest.mark.parametrize("method", ["decode", "unsendable", "call_missing_service"])
async def test_any_error_for_amqp_fabric(caller, method):
    """After any error of a method a caller on amqp-fabric gets a reply, and can continue."""
    with pytest.raises(PeerError):
        await caller.call("nb", method, timeout=5)
    assert await caller.call("nb", "multiply", x=1, y=1) == 1


async def test_unknown_method_for_amqp_fabric(caller):
    """A call of an unknown method is returned to a caller on amqp-fabric at once."""
    with pytest.raises(PeerError, match="returned"):
        await caller.call("nb", "nothing", timeout=5)


async def test_service_that_returns_for_amqp_fabric(caller, service, members):
    """A caller on amqp-fabric can call a service that left and returned."""
    assert await caller.call("nb", "multiply", x=1, y=2) == 2
    await service.close()
    with pytest.raises(PeerError, match=r"returned|NOT_FOUND"):
        await caller.call("nb", "multiply", x=1, y=2, timeout=5)
    again = await members.join("nb", type="calc")
    await again.rpc_register(Api())
    await until(lambda: again.servers)
    assert await caller.call("nb", "multiply", x=1, y=2) == 2


# -- chains of calls


@pytest.mark.parametrize(
    ("method", "builtin", "message"),
    [("decode", UnicodeDecodeError, None), ("missing", KeyError, "KeyError 'beer'")],
)
async def test_errors_through_a_hop_of_amqp_fabric(
    members, service, start_peer, rabbitmq_uri, method, builtin, message
):
    """A built-in error that amqp-fabric forwards is caught as such, if it names the type."""
    await service.servers[0].replace({"missing": missing, "decode": Api().decode})
    await start_peer("forwarder", rabbitmq_uri, keep_alive=0.2)
    caller = await members.join("caller")
    await wait_for_service(caller, "forward")
    call = caller.call("forward.forward", target="nb", type="calc", method=method, timeout=60)
    with pytest.raises(RemoteError) as caught:
        await call
    if message is not None:
        assert isinstance(caught.value, builtin)
        assert caught.value.remote_args == ("beer",)
        assert str(caught.value) == f"forward.forward → …: {message}"


async def test_own_errors_through_a_hop_of_amqp_fabric(members, service, start_peer, rabbitmq_uri):
    """An error that amqp-fabric cannot import arrives complete, with its traceback."""
    await start_peer("forwarder", rabbitmq_uri, keep_alive=0.2)
    caller = await members.join("caller")
    await wait_for_service(caller, "forward")
    with pytest.raises(RemoteError) as caught:
        await caller.call("forward.forward", target="nb", type="calc", method="refuse")
    assert caught.value.type == "our_service.OwnError"
    assert caught.value.remote_args == ("closed", 42)
    assert "in refuse" in caught.value.chain[-1].traceback


def missing():
    return {}["beer"]
