"""Service on amqp-fabric with a method that calls a method of another service."""

from __future__ import annotations

import asyncio
from typing import Any

import peer_io


class ForwardApi(peer_io.AbstractServiceApi):
    """API that calls other services."""

    def __init__(self, connector: Any, domain: str) -> None:
        self._connector = connector
        self._domain = domain

    async def forward(self, target: str, type: str, method: str) -> Any:  # noqa: A002
        """Call a method without arguments, and return its result."""
        proxy = await self._connector.rpc_proxy(self._domain, target, type)
        return await getattr(proxy, method)()


async def main() -> None:
    """Serve until the end is requested."""
    options = peer_io.arguments(__doc__, type="calc", id="forward", keep_alive=1).parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    await connector.rpc_register(ForwardApi(connector, options.domain))
    await peer_io.serve()
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
