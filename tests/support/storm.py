"""A process that logs far too much: records as they travel, as fast as it is told to and as it can.

    python -m tests.support.storm URI DOMAIN SERVICE_ID RATE RECORDS publish|log

    async with Storm.of(uri, 100_000, rate=50_000, processes=2) as storm:
        ...
    storm.sent, storm.rate

Its records are numbered, `storm.text(number)`, from 0 in each process. They are published by hand,
as the project's own code would take as much of the machine as what is tested; or they are logged,
and an `AmqpHandler` sends what it can and drops the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
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

from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.fabric.wire.logs import LogRecord, log_message
from fabric_nb.fabric.wire.names import log_exchange
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
        self.dropped = 0
        """What the senders themselves have left out."""
        self.rate = 0.0
        """Records a second, of all together, with what was left out."""

    @classmethod
    @asynccontextmanager
    async def of(
        cls, uri: str, records: int, *, rate: float, processes: int = 1, logged: bool = False
    ) -> AsyncIterator[Storm]:
        """Start them; they log while the block runs, and have ended after it.

        Args:
            uri: the broker.
            records: how many, of all together.
            rate: how many a second, at most.
            processes: how many processes share in it.
            logged: whether they log, in place of publishing by hand.
        """
        storm = cls()
        started = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, uri, DOMAIN, f"storm{n}"),
                *(str(rate / processes), str(records // processes), "log" if logged else "publish"),
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
                storm.dropped += told["dropped"]
                storm.rate += (told["sent"] + told["dropped"]) / told["seconds"]
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _publish(uri: str, domain: str, service: str, rate: float, records: int) -> None:
    connection = await aiormq.connect(uri)
    channel = await connection.channel(publisher_confirms=False)
    exchange = log_exchange(domain)
    await channel.exchange_declare(exchange, exchange_type="headers", durable=True)
    record = LogRecord(
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
    message = log_message(record)
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
    print(json.dumps({"sent": sent, "dropped": 0, "seconds": time.monotonic() - began}))
    await connection.close()


async def _log(uri: str, domain: str, service: str, rate: float, records: int) -> None:
    handler, log = AmqpHandler(), logging.getLogger("storm")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

    def work() -> float:
        began = time.monotonic()
        for n in range(records):
            log.info(text(n))
            if n % CHUNK == 0:
                time.sleep(max(0.0, n / rate - (time.monotonic() - began)))
        return time.monotonic() - began

    async with AmqBrokerConnector(uri, domain, "app", service, 4) as fabric:
        await fabric.init_logging_handler(handler)
        seconds = await asyncio.to_thread(work)
        await handler.flushed(timeout=60)
        print(json.dumps({"sent": handler.sent, "dropped": handler.dropped, "seconds": seconds}))


if __name__ == "__main__":
    how = {"publish": _publish, "log": _log}[sys.argv[6]]
    asyncio.run(how(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5])))
