"""Silent connections: no packet is received, and none is answered.

A filter on this end of the socket drops received packets, like a cut cable; it needs no privileges.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from pathlib import Path

import pytest

from fabric_nb.errors import CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp import connection as connection_module
from fabric_nb.fabric.amqp import silence as silence_module
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.silence import CHECK_EVERY, DEAD_AFTER, SUSPECT_AFTER
from fabric_nb.fabric.discovery.services import ServiceState
from tests.broker.process import BrokerProcess
from tests.support.fabric import LoopTime, Members, until, wait_for_service
from tests.support.internals import fall_silent
from tests.support.processes import pause
from tests.support.rabbitmq import deletes_declared_exchanges

DETECTED_WITHIN = 15.0
"""Seconds in which the loop runs; heartbeats would detect it after twenty minutes."""
LATE = 6.0
"""Seconds after which one member sends, while the kernel probes its connection."""


class SilenceTimer:
    """Measures the time until a member detects the silence of its connection."""

    def __init__(self, fabric) -> None:
        self.fabric = fabric
        self.detected = False
        self.time = LoopTime()
        self._reconnects = fabric.member.connection.reconnects
        self._channels = open_channels(fabric)
        fabric.on_state(self._on_state)

    def fall_silent(self) -> None:
        fall_silent(self.fabric.member.connection)
        self.begin()

    def begin(self) -> None:
        """Start the measurement."""
        self.time.start()

    def _on_state(self, state: State) -> None:
        if state is State.RECONNECTING:
            self.detected = True
            self.time.stop()

    async def wait_until_detected(self) -> None:
        """Wait until the silence was detected and the member has recovered."""
        await until(lambda: self.detected)
        await until(lambda: self.fabric.state is State.CONNECTED)
        assert self.fabric.member.connection.reconnects == self._reconnects + 1
        assert open_channels(self.fabric) == self._channels


def open_channels(fabric):
    """Return the numbers of open and of registered channels of a member."""
    connection = fabric.member.connection
    return connection.open_channels, len(connection.channels)


def open_files():
    """Return the number of open files of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_silence_is_detected(rabbitmq_uri):
    """A silent connection is detected within 15 s: idle, in use, or with a blocked loop.

    The member reconnects immediately afterwards, without leaks. A call that the broker has
    delivered to the silent connection is redelivered when the broker has detected the silence.
    """
    with BrokerProcess() as broker:
        tasks, files = asyncio.all_tasks(), open_files()
        detected = await asyncio.gather(silence(rabbitmq_uri), silence(broker.uri))
        await until(lambda: asyncio.all_tasks() <= tasks, description="no task is left")
        assert open_files() <= files
    for seconds in detected:
        assert max(seconds.values()) < DETECTED_WITHIN, detected


async def silence(uri):
    """Silence members of each kind, and return the seconds until detection."""
    async with Members(uri) as members:
        quiet = {"keep_alive_seconds": False, "keep_alive_listen": False}
        idle = SilenceTimer(await members.join("idle", **quiet))
        busy = await members.join("busy")
        await until(lambda: open_channels(busy) == (4, 4))  # one opens in the background
        busy = SilenceTimer(busy)
        late = SilenceTimer(await members.join("late", **quiet))
        blocked = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(block(uri))))
        for timer in (idle, busy, late):
            timer.fall_silent()
        # Bytes sent during the probes of an idle connection restart its timeout.
        asyncio.get_running_loop().call_later(LATE, late.fabric.publish_data, {"n": 1})
        for timer in (idle, busy, late):
            await timer.wait_until_detected()
        await idle.fabric.serve({"double": lambda x: 2 * x})
        assert await busy.fabric.call(f"{idle.fabric.fqn}.double", x=1, timeout=60) == 2
        assert await blocked is State.RECONNECTING
        return {timer.fabric.name.id: timer.time.seconds for timer in (idle, busy, late)}


async def block(uri):
    """Block a loop during a silence, and return the next state of the connection."""
    async with Connection(uri, name="blocked") as connection:
        states = []
        connection.on_state.append(states.append)
        fall_silent(connection)
        time.sleep(DETECTED_WITHIN)  # noqa: ASYNC251 - blocks the loop on purpose
        await until(lambda: states)
        return states[0]


# Frozen brokers


@pytest.fixture(params=[pytest.param("rabbitmq", marks=deletes_declared_exchanges), "embedded"])
def frozen(request):
    """Yield the URI and process id of a broker, and resume it afterwards."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield node.uri_for(vhost=vhost), node.pid
        os.kill(node.pid, signal.SIGCONT)
    else:
        with BrokerProcess() as broker:
            yield broker.uri, broker.pid
            os.kill(broker.pid, signal.SIGCONT)


async def test_a_frozen_broker_is_detected(frozen):
    """A frozen broker is detected within 15 s.

    In-flight calls raise `ConnectionLost`, timeouts of later calls name the missing connection, and
    everything continues when the broker does.
    """
    uri, pid = frozen
    async with Members(uri) as members:
        server = await members.join("server")
        await server.serve({"double": lambda x: 2 * x})
        caller = SilenceTimer(await members.join("caller"))
        quiet = SilenceTimer(
            await members.join("quiet", keep_alive_seconds=False, keep_alive_listen=False)
        )
        fabric = caller.fabric
        await wait_for_service(fabric, "server", methods=2)
        assert await fabric.call("server.double", x=1, timeout=60) == 2
        pause(pid)
        caller.begin()
        quiet.begin()
        with pytest.raises(ConnectionLost):
            await fabric.call(f"{server.fqn}.double", x=1, timeout=60)
        for timer in (caller, quiet):
            await until(lambda timer=timer: timer.detected)
            assert timer.time.seconds < DETECTED_WITHIN
        for name in ("server.double", f"{server.fqn}.double"):
            with pytest.raises(CallTimeout, match="connection"):
                await fabric.call(name, x=1, timeout=0.5)
        (service,) = fabric.registry.find("server", domain=fabric.domain)
        assert fabric.registry.state(service) is not ServiceState.GONE
        call = asyncio.create_task(fabric.call("server.double", x=4, timeout=60))
        os.kill(pid, signal.SIGCONT)
        assert await call == 8


async def test_a_short_pause_of_the_broker_is_harmless(frozen):
    """A pause of some seconds does not close connections, and services are not gone."""
    uri, pid = frozen
    async with Members(uri) as members:
        server = await members.join("server")
        await server.serve({"double": lambda x: 2 * x})
        caller = await members.join("caller")
        service = await wait_for_service(caller, "server", methods=2)
        reconnects = server.member.connection.reconnects
        pause(pid)
        call = asyncio.create_task(caller.call(f"{server.fqn}.double", x=1, timeout=60))
        await until(lambda: caller.registry.stale, timeout=SUSPECT_AFTER + 3)
        os.kill(pid, signal.SIGCONT)
        assert await call == 2
        await until(lambda: not caller.registry.stale)
        assert caller.registry.state(service) is not ServiceState.GONE
        assert caller.member.connection.reconnects == 0
        assert server.member.connection.reconnects == reconnects


@pytest.mark.any_broker
async def test_a_blocked_loop_is_not_a_dead_broker(broker_uri):
    """A loop blocked for longer than the timeout does not lose its connection."""
    async with Members(broker_uri) as members:
        fabric = await members.join("busy", keep_alive_seconds=False)
        await fabric.serve({"double": lambda x: 2 * x})
        reconnects = fabric.member.connection.reconnects
        for _ in range(3):
            await asyncio.sleep(CHECK_EVERY)
            time.sleep(DEAD_AFTER / 2)  # noqa: ASYNC251 - blocks the loop on purpose
        assert await fabric.call(f"{fabric.fqn}.double", x=2, timeout=60) == 4
        assert fabric.member.connection.reconnects == reconnects


async def test_probes_do_not_affect_consumers(members, monkeypatch):
    """Frequent probes do not change the prefetch of channels."""
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
    reconnects = server.member.connection.reconnects
    caller = await members.join("caller", keep_alive_seconds=False, keep_alive_listen=False)
    connection = server.member.connection
    received = connection.received
    calls = [
        asyncio.create_task(caller.call(f"{server.fqn}.work", n=n, timeout=60)) for n in range(9)
    ]
    await until(lambda: connection.received > received + 50)
    assert len(running) == 3
    go.set()
    assert await asyncio.gather(*calls) == list(range(9))
    assert caller.member.connection.reconnects == 0
    assert server.member.connection.reconnects == reconnects
