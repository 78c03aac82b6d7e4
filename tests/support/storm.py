"""A process that logs far too much: records as they travel, as fast as it is told to and as it can.

    python -m tests.support.storm URI DOMAIN SERVICE_ID RATE RECORDS

    async with Storm.of(uri, 100_000, rate=50_000, processes=2) as storm:
        ...
    storm.sent, storm.rate

Its records are numbered, `storm.text(number)`, from 0 in each process. Publishing them with the
project's own code would take as much of the machine as what is tested.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiormq
from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from fabric_nb.fabric import naming, wire
from tests.support.peers import DOMAIN

CHUNK = 250
"""Records that are handed to the socket at once."""
_BODY, _END = 3, b"\xce"


def text(number: int) -> str:
    """What the record of this number says; all are equally long."""
    return f"storm {number:09d} " + 60 * "."


class Storm:
    """Processes that log, and what they have sent once they have ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.rate = 0.0
        """Records a second, of all together."""

    @classmethod
    @asynccontextmanager
    async def of(
        cls, uri: str, records: int, *, rate: float, processes: int = 1
    ) -> AsyncIterator[Storm]:
        """Start them; they log while the block runs, and have ended after it.

        Args:
            uri: the broker.
            records: how many, of all together.
            rate: how many a second, at most.
            processes: how many processes share in it.
        """
        storm = cls()
        started = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, uri, DOMAIN, f"storm{n}"),
                *(str(rate / processes), str(records // processes)),
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            for n in range(processes)
        ]
        try:
            yield storm
            for process in started:
                out, _ = await process.communicate()
                told = json.loads(out)
                storm.sent += told["sent"]
                storm.rate += told["sent"] / told["seconds"]
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _send(uri: str, domain: str, service: str, rate: float, records: int) -> None:
    connection = await aiormq.connect(uri)
    channel = await connection.channel(publisher_confirms=False)
    exchange = naming.log_exchange(domain)
    await channel.exchange_declare(exchange, exchange_type="headers", durable=True)
    record = wire.LogRecord(
        time=time.time(),
        level="INFO",
        service_type="app",
        service_id=service,
        message=text(0),
        logger="storm",
        file="storm.py",
        line=1,
        instance="0123abcd",
    )
    message = wire.log_message(record)
    method = frame.marshal(Basic.Publish(exchange=exchange), channel.number)
    properties = Basic.Properties(headers={**message.headers}, content_type=message.content_type)
    header = ContentHeader(properties=properties, body_size=len(message.body))
    head = method + frame.marshal(header, channel.number)
    head += struct.pack(">BHI", _BODY, channel.number, len(message.body))
    sent, began = 0, time.monotonic()
    while sent < records:
        due = min(int((time.monotonic() - began) * rate), sent + CHUNK, records)
        if fresh := [head + json.dumps(text(n)).encode() + _END for n in range(sent, due)]:
            taken = asyncio.get_running_loop().create_future()
            await connection.write_queue.put(
                ChannelFrame(payload=b"".join(fresh), should_close=False, drain_future=taken)
            )
            await taken
            sent = due
        else:
            await asyncio.sleep(0.001)
    # Answered behind all that was published before it on the channel.
    await channel.exchange_declare(exchange, passive=True)
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(_send(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5])))
