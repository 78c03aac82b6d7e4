"""The other end vanishes without a word: no packet comes any more, and none is answered.

A filter on our end of the socket drops what comes in, as a cut cable does; it needs no rights.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
import time

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


async def test_silence_is_noticed():
    """A silent connection is noticed within 15 s: idle, in use, and while the loop is blocked.

    Whoever was noticed is back right afterwards. A call that the broker has meanwhile given to
    the silent connection is given to others when the broker's own end has noticed.
    """
    with BrokerProcess() as broker:
        async with Members(broker.uri) as members:
            idle = await members.join("idle", keep_alive_seconds=False, keep_alive_listen=False)
            busy = await members.join("busy")
            late = await members.join("late", keep_alive_seconds=False, keep_alive_listen=False)
            outcome: list[State] = []
            blocked = threading.Thread(
                target=lambda: outcome.append(asyncio.run(block(broker.uri)))
            )
            blocked.start()
            for one in (idle, busy, late):
                fall_silent(one._connection)
            # Bytes sent while an idle connection is being probed start the waiting anew.
            asyncio.get_running_loop().call_later(LATE, late.publish_data, {"n": 1})
            within = NOTICED_AFTER + MARGIN
            for one in (idle, busy, late):
                await until(lambda one=one: one._connection.reconnects, timeout=within)
                await until(lambda one=one: one.state is State.CONNECTED)
            await idle.serve({"double": lambda x: 2 * x})
            assert await busy.call(f"{idle.fqn}.double", x=1, timeout=10) == 2
            await asyncio.to_thread(blocked.join)
            assert outcome == [State.RECONNECTING]


async def block(uri):
    """Block a loop over a silence, and look what the connection knows of it right afterwards."""
    async with Connection(uri, name="blocked") as connection:
        states = []
        connection.on_state.append(states.append)
        fall_silent(connection)
        time.sleep(NOTICED_AFTER + 1)  # noqa: ASYNC251 - that is the point
        await until(lambda: states, timeout=2)
        return states[0]
