"""Processes that flood the log exchange: records at a rate, or as fast as possible.

    python -m tests.support.storm URI DOMAIN SERVICE_ID RATE RECORDS publish|log

    async with Storm.of(uri, 100_000, rate=50_000, processes=2) as storm:
        ...
    storm.sent, storm.rate

The records are numbered, `storm.text(number)`, from 0 in each process. They are published as raw
frames, because the library would use as much CPU time as the tested code; or they are logged,
and an `AmqpHandler` sends or drops them.
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
"""Maximum records per write to the socket."""
_BODY, _END = 3, b"\xce"


def text(number: int) -> str:
    """Return the message of a record; all have the same length."""
    return f"storm {number:09d} " + 60 * "."


class Storm:
    """Logging processes, and their counts after they have ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.dropped = 0
        """Records dropped by the senders."""
        self.rate = 0.0
        """Records per second of all processes, including dropped ones."""

    @classmethod
    @asynccontextmanager
    async def of(
        cls, uri: str, records: int, *, rate: float, processes: int = 1, logged: bool = False
    ) -> AsyncIterator[Storm]:
        """Run the processes during the block, and wait for their end after it.

        Args:
            uri: URI of the broker.
            records: Total number of records.
            rate: Maximum records per second in total.
            processes: Number of processes.
            logged: True to log records, False to publish raw frames.
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
                result = json.loads(out)
                storm.sent += result["sent"]
                storm.dropped += result["dropped"]
                storm.rate += (result["sent"] + result["dropped"]) / result["seconds"]
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
        if frames := [head + json.dumps(text(n)).encode() + _END for n in range(sent, due)]:
            drained = asyncio.get_running_loop().create_future()
            await connection.write_queue.put(
                ChannelFrame(payload=b"".join(frames), should_close=False, drain_future=drained)
            )
            await drained
            sent = due
        else:
            await asyncio.sleep(0.001)
    # The reply follows the routing of all messages published before on the channel.
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
    run = {"publish": _publish, "log": _log}[sys.argv[6]]
    asyncio.run(run(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5])))
