"""The other end vanishes without a word: no packet comes any more, and none is answered.

A filter on our end of the socket drops what comes in, as a cut cable does; it needs no rights.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
import struct
import time
from pathlib import Path

from fabric_nb.fabric.amqp import Connection, State
from tests.broker.process import BrokerProcess
from tests.support.fabric import Members, until

SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the classic packet filter: return 0 bytes (socket(7))."""
NOTICED_AFTER = 15.0
MARGIN = 5.0
LATE = 6.0
"""Seconds."""


def fall_silent(connection: Connection) -> None:
    """Let nothing come in from the broker any more."""
    sock = connection._transport.line.transport.get_extra_info("socket")
    program = ctypes.create_string_buffer(DROP_ALL)
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    with socket.socket(fileno=socket.dup(sock.fileno())) as ours:
        ours.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


class Watched:
    """A member, and how many seconds after its silence began it noticed that."""

    def __init__(self, fabric) -> None:
        self.fabric = fabric
        self.seconds = 0.0
        self._channels = open_channels(fabric)
        fabric.on_state(self._on_state)

    def fall_silent(self) -> None:
        fall_silent(self.fabric._connection)
        self._began = time.monotonic()

    def _on_state(self, state: State) -> None:
        if state is State.RECONNECTING and not self.seconds:
            self.seconds = time.monotonic() - self._began

    async def noticed(self) -> None:
        """Wait until it has noticed and is back, as whole as before."""
        await until(lambda: self.seconds, timeout=NOTICED_AFTER + MARGIN)
        await until(lambda: self.fabric.state is State.CONNECTED)
        assert self.fabric._connection.reconnects == 1
        assert open_channels(self.fabric) == self._channels


def open_channels(fabric):
    """How many channels of a member are open, and how many it has in use."""
    return len(fabric._connection._amqp.channels), len(fabric._connection._channels)


def open_files():
    """What this process has open."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_silence_is_noticed(rabbitmq_uri):
    """A silent connection is noticed within 15 s: idle, in use, and while the loop is blocked.

    Whoever was noticed is back right afterwards, with nothing left of what was. A call that the
    broker has meanwhile given to the silent connection is given to others when the broker's own
    end has noticed.
    """
    with BrokerProcess() as broker:
        tasks, files = asyncio.all_tasks(), open_files()
        noticed = await asyncio.gather(silence(rabbitmq_uri), silence(broker.uri))
        await until(lambda: asyncio.all_tasks() <= tasks, what="no task is left")
        assert open_files() <= files
    for seconds in noticed:
        assert max(seconds.values()) < NOTICED_AFTER, noticed


async def silence(uri):
    """Let members of each kind fall silent; in how many seconds each has noticed."""
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
            await one.noticed()
        await idle.fabric.serve({"double": lambda x: 2 * x})
        assert await busy.fabric.call(f"{idle.fabric.fqn}.double", x=1, timeout=10) == 2
        assert await blocked is State.RECONNECTING
        return {one.fabric.name.id: one.seconds for one in (idle, busy, late)}


async def block(uri):
    """Block a loop over a silence, and look what the connection knows of it right afterwards."""
    async with Connection(uri, name="blocked") as connection:
        states = []
        connection.on_state.append(states.append)
        fall_silent(connection)
        time.sleep(NOTICED_AFTER)  # noqa: ASYNC251 - that is the point
        await until(lambda: states, timeout=2)
        return states[0]
