"""Subscriber by amqp-fabric's `subscribe_data`; each message is an event `data`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import peer_io


async def on_message(message: Any) -> None:
    """Send the contents of a message as an event."""
    async with message.process():
        peer_io.send_event("data", **peer_io.message_facts(message))


async def main() -> None:
    """Receive until the end is requested."""
    parser = peer_io.arguments(__doc__, type="peer", id="subscriber", keep_alive=0)
    parser.add_argument("--queue", default="data-subscriber", help="shared by those who name it")
    parser.add_argument("--headers", type=json.loads, default={}, help="JSON: all must match")
    options = parser.parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    await connector.subscribe_data(options.queue, options.headers, on_message)
    await peer_io.serve()
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
