"""Hears a domain's log records as an amqp-fabric reader does; each is an event `log`.

The library only writes logs: a reader binds a queue of its own to the exchange of the records.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import peer_io


async def hear(message: Any) -> None:
    """Tell one record: the body must be a JSON text."""
    async with message.process():
        facts = peer_io.message_facts(message)
        peer_io.tell("log", headers=facts["headers"], message=json.loads(facts["body"]))


async def main() -> None:
    """Hear until told to end."""
    parser = peer_io.arguments(__doc__, type="peer", id="log-reader", keep_alive=0)
    parser.add_argument("--headers", type=json.loads, default={}, help="JSON: all must match")
    options = parser.parse_args()
    async with await aio_pika.connect_robust(options.uri) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(
            f"{options.domain}.log.records", aio_pika.ExchangeType.HEADERS, durable=True
        )
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, arguments={"x-match": "all", **options.headers})
        await queue.consume(hear)
        await peer_io.serve()


if __name__ == "__main__":
    asyncio.run(main())
