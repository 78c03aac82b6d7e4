"""Listener for keep-alives on amqp-fabric: `{"do": "services"}`; each is an event `alive`."""

from __future__ import annotations

import asyncio
from typing import Any

import peer_io


async def on_keep_alive(headers: dict[str, Any]) -> None:
    """Send the headers of a keep-alive as an event."""
    peer_io.send_event("alive", headers=dict(headers))


async def main() -> None:
    """Listen until the end is requested."""
    parser = peer_io.arguments(__doc__, type="peer", id="listener", keep_alive=0)
    parser.add_argument("--ttl", type=float, default=5, help="seconds a service stays listed")
    options = parser.parse_args()
    connector = peer_io.connector(options, keep_alive_listen=True, discovery_cache_ttl=options.ttl)
    connector.subscribe_service_keepalives("listener", on_keep_alive)
    await connector.open()

    async def services(
        domain: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> list[dict[str, str]]:
        return connector.list_services(service_domain=domain, service_type=type)

    await peer_io.serve(services=services)
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
