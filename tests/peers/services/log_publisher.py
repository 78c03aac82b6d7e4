"""Logs through amqp-fabric's `AmqpHandler`: `{"do": "log", "level": "INFO", "message": "..."}`."""

from __future__ import annotations

import asyncio
import logging

import peer_io
from amqp_fabric.logging_amqp_handler import AmqpHandler


async def main() -> None:
    """Log what it is asked to log until told to end."""
    options = peer_io.arguments(__doc__, type="peer", id="logger", keep_alive=1).parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    handler = AmqpHandler()
    await connector.init_logging_handler(handler)
    # A logger apart: on the root logger the handler hears its own library and never rests.
    log = logging.getLogger("peer")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)

    async def write(level: str, message: str) -> None:
        log.log(getattr(logging, level), message)

    await peer_io.serve(log=write)
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
