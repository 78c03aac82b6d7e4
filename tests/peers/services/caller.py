"""Caller of services by amqp-fabric's `rpc_proxy`: `{"do": "call", "type", "target", ...}`."""

from __future__ import annotations

import asyncio
from typing import Any

import peer_io


async def main() -> None:
    """Call on request until the end is requested."""
    options = peer_io.arguments(__doc__, type="peer", id="caller", keep_alive=0).parse_args()
    connector = peer_io.connector(options)
    await connector.open()
    proxies: dict[tuple[str, str, str], asyncio.Task[Any]] = {}

    async def call(
        target: str,
        method: str,
        kwargs: dict[str, Any] | None = None,
        type: str = "calc",  # noqa: A002
        domain: str = options.domain,
    ) -> Any:
        name = (domain, target, type)
        if name not in proxies:
            # A proxy holds a channel of its own that cannot be closed: keep to one a service.
            proxies[name] = asyncio.create_task(connector.rpc_proxy(*name))
        proxy = await proxies[name]
        return await getattr(proxy, method)(**(kwargs or {}))

    await peer_io.serve(call=call)
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
