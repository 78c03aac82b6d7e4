"""The peer vanishes: no packet is received any more, and none is acknowledged.

A filter on the client's socket drops all incoming packets, like a cut cable; no privileges needed.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from fabric_nb.errors import CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp import connection as connection_module
from fabric_nb.fabric.amqp import silence as silence_module
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.silence import CHECK_EVERY, DEAD_AFTER, SUSPECT_AFTER
from fabric_nb.fabric.discovery.registry import ServiceState
from tests.broker.process import BrokerProcess
from tests.support.fabric import Members, until, wait_for_service

SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the classic packet filter: return 0 bytes (socket(7))."""
NOTICED_AFTER = 15.0
MARGIN = 5.0
LATE = 6.0
"""Seconds."""


def fall_silent(connection: Connection) -> None:
    """Drop all packets from the broker."""
    sock = connection._transport.writer.transport.get_extra_info("socket")
    program = ctypes.create_string_buffer(DROP_ALL)
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    with socket.socket(fileno=socket.dup(sock.fileno())) as ours:
        ours.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


class Watched:
    """Member, and the seconds from the start of a silence until it was detected."""

    def __init__(self, fabric) -> None:
        self.fabric = fabric
        self.seconds = 0.0
        self._channels = open_channels(fabric)
        fabric.on_state(self._on_state)

    def fall_silent(self) -> None:
        fall_silent(self.fabric.member.connection)
        self.begin()

    def begin(self) -> None:
        """Start the silence."""
        self._began = time.monotonic()

    def _on_state(self, state: State) -> None:
        if state is State.RECONNECTING and not self.seconds:
            self.seconds = time.monotonic() - self._began

    async def detected(self) -> None:
        """Wait until it was detected and the member works again."""
        await until(lambda: self.seconds, timeout=NOTICED_AFTER + MARGIN)
        await until(lambda: self.fabric.state is State.CONNECTED)
        assert self.fabric.member.connection.reconnects == 1
        assert open_channels(self.fabric) == self._channels


def open_channels(fabric):
    """Return the number of open channels of a member, and of those in use."""
    return len(fabric.member.connection._amqp.channels), len(fabric.member.connection._channels)


def open_files():
    """Return the open files of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_silence_is_detected(rabbitmq_uri):
    """A silent connection is detected within 15 s: idle, in use, and while the loop is blocked.

    The member reconnects right afterwards, without leaks. A call that the broker has delivered to
    the silent connection is redelivered to other instances once the broker has detected it too.
    """
    with BrokerProcess() as broker:
        tasks, files = asyncio.all_tasks(), open_files()
        noticed = await asyncio.gather(silence(rabbitmq_uri), silence(broker.uri))
        await until(lambda: asyncio.all_tasks() <= tasks, description="no task is left")
        assert open_files() <= files
    for seconds in detected:
        assert max(seconds.values()) < NOTICED_AFTER, detected


async def silence(uri):
    """Make members of each kind silent; return the seconds until each has detected it."""
    async with Members(uri) as members:
        quiet = {"keep_alive_seconds": False, "keep_alive_listen": False}
        idle = Watched(await members.join("idle", **quiet))
        busy = await members.join("busy")
        await until(lambda: open_channels(busy) == (4, 4))  # one is opened in the background
        busy = Watched(busy)
        late = Watched(await members.join("late", **quiet))
        blocked = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(block(uri))))
        for one in (idle, busy, late):
            one.fall_silent()
        # Bytes sent while an idle connection is being probed start the waiting anew.
        asyncio.get_running_loop().call_later(LATE, late.fabric.publish_data, {"n": 1})
        for one in (idle, busy, late):
            await one.detected()
        await idle.fabric.serve({"double": lambda x: 2 * x})
        assert await busy.fabric.call(f"{idle.fabric.fqn}.double", x=1, timeout=10) == 2
        assert await blocked is State.RECONNECTING
        return {one.fabric.name.id: one.seconds for one in (idle, busy, late)}


async def block(uri):
    """Block a loop during a silence, and check the connection's state right afterwards."""
    async with Connection(uri, name="blocked") as connection:
        states = []
        connection.on_state.append(states.append)
        fall_silent(connection)
        time.sleep(NOTICED_AFTER)  # noqa: ASYNC251 - that is the point
        await until(lambda: states, timeout=2)
        return states[0]


# A broker that is there and dead


@pytest.fixture(params=["rabbitmq", "embedded"])
def frozen(request):
    """Yield a broker, and the process id to stop and continue it."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield node.uri_for(vhost=vhost), node.pid
        os.kill(node.pid, signal.SIGCONT)
    else:
        with BrokerProcess() as broker:
            yield broker.uri, broker.pid
            os.kill(broker.pid, signal.SIGCONT)


async def test_a_frozen_broker_is_detected(frozen):
    """A stopped broker is detected within 15 s, and named in the errors of that time.

    An in-flight call raises `ConnectionLost`, errors of later calls name the missing connection,
    and everything works again when the broker continues.
    """
    uri, pid = frozen
    async with Members(uri) as members:
        server = await members.join("server")
        await server.serve({"double": lambda x: 2 * x})
        caller = Watched(await members.join("caller"))
        quiet = Watched(
            await members.join("quiet", keep_alive_seconds=False, keep_alive_listen=False)
        )
        fabric = caller.fabric
        await wait_for_service(fabric, "server", methods=2)
        assert await fabric.call("server.double", x=1, timeout=10) == 2
        os.kill(pid, signal.SIGSTOP)
        caller.begin()
        quiet.begin()
        with pytest.raises(ConnectionLost):
            await fabric.call(f"{server.fqn}.double", x=1, timeout=60)
        for one in (caller, quiet):
            await until(lambda one=one: one.seconds, timeout=NOTICED_AFTER)
            assert one.seconds < NOTICED_AFTER
        for name in ("server.double", f"{server.fqn}.double"):
            with pytest.raises(CallTimeout, match="connection"):
                await fabric.call(name, x=1, timeout=0.5)
        (service,) = fabric.registry.find("server", domain=fabric.domain)
        assert fabric.registry.state(service) is ServiceState.UP
        call = asyncio.create_task(fabric.call("server.double", x=4, timeout=60))
        os.kill(pid, signal.SIGCONT)
        assert await call == 8


async def test_a_short_pause_of_the_broker_is_harmless(frozen):
    """A broker that is stopped for some seconds costs no connection and no service."""
    uri, pid = frozen
    async with Members(uri) as members:
        server = await members.join("server")
        await server.serve({"double": lambda x: 2 * x})
        caller = await members.join("caller")
        service = await wait_for_service(caller, "server", methods=2)
        os.kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(caller.call(f"{server.fqn}.double", x=1, timeout=60))
        await until(lambda: caller.registry.deaf, timeout=SUSPECT_AFTER + 3)
        os.kill(pid, signal.SIGCONT)
        assert await call == 2
        await until(lambda: not caller.registry.deaf)
        assert caller.registry.state(service) is not ServiceState.GONE
        assert caller.member.connection.reconnects == server.member.connection.reconnects == 0


async def test_a_blocked_loop_is_not_a_dead_broker(broker_uri):
    """A loop that is blocked for longer than the limit of silence does not lose its connection."""
    async with Members(broker_uri) as members:
        fabric = await members.join("busy", keep_alive_seconds=False)
        await fabric.serve({"double": lambda x: 2 * x})
        for _ in range(3):
            await asyncio.sleep(CHECK_EVERY)
            time.sleep(DEAD_AFTER / 2)  # noqa: ASYNC251 - that is the point
        assert await fabric.call(f"{fabric.fqn}.double", x=2, timeout=10) == 4
        assert fabric.member.connection.reconnects == 0


async def test_probing_does_not_change_consumers(members, monkeypatch):
    """Frequent probes do not change the prefetch of consumers."""
    for name in ("CHECK_EVERY", "PROBE_AFTER"):
        for module in (silence_module, connection_module):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 0.01)
    go, running = asyncio.Event(), []

    async def work(n):
        running.append(n)
        await go.wait()
        return n

    server = await members.join("server", keep_alive_seconds=False, keep_alive_listen=False)
    await server.serve({"work": work}, prefetch=3)
    caller = await members.join("caller", keep_alive_seconds=False, keep_alive_listen=False)
    demultiplexer = server.member.connection._transport.writer.demultiplexer
    asked = demultiplexer.received
    calls = [
        asyncio.create_task(caller.call(f"{server.fqn}.work", n=n, timeout=30)) for n in range(9)
    ]
    await until(lambda: demultiplexer.received > asked + 50)
    assert len(running) == 3
    go.set()
    assert await asyncio.gather(*calls) == list(range(9))
    assert server.member.connection.reconnects == caller.member.connection.reconnects == 0
