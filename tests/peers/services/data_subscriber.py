"""Hears data through amqp-fabric's `subscribe_data`; each message is an event `data`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import peer_io


async def hear(message: Any) -> None:
    """Tell what a message carries."""
    async with message.process():
        peer_io.tell("data", **peer_io.message_facts(message))


async def main() -> None:
    """Hear until told to end."""
    parser = peer_io.arguments(__doc__, type="peer", id="subscriber", keep_alive=0)
    parser.add_argument("--queue", default="data-subscriber", help="shared by those who name it")
    parser.add_argument("--headers", type=json.loads, default={}, help="JSON: all must match")
    options = parser.parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    await connector.subscribe_data(options.queue, options.headers, hear)
    await peer_io.serve()
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
