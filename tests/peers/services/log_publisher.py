"""Logger with amqp-fabric's `AmqpHandler`: `{"do": "log", "level": "INFO", "message": "..."}`."""

from __future__ import annotations

import asyncio
import logging

import peer_io


async def main() -> None:
    """Log on request until the end is requested."""
    options = peer_io.arguments(__doc__, type="peer", id="logger", keep_alive=1).parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    handler = peer_io.AmqpHandler()
    await connector.init_logging_handler(handler)
    # A separate logger: on the root logger the records of the handler's own library would loop.
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
