"""Reader of a domain's log records, as for amqp-fabric; each is an event `log`.

The library only writes logs: a reader binds a queue of its own to the exchange of the records.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import peer_io


async def on_message(message: Any) -> None:
    """Send a record as an event; the body must be a JSON text."""
    async with message.process():
        facts = peer_io.message_facts(message)
        peer_io.send_event("log", headers=facts["headers"], message=json.loads(facts["body"]))


async def main() -> None:
    """Receive until the end is requested."""
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
        await queue.consume(on_message)
        await peer_io.serve()


if __name__ == "__main__":
    asyncio.run(main())
