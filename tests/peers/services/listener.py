"""Listens to keep-alives through amqp-fabric: `{"do": "services"}`; each is an event `alive`."""

from __future__ import annotations

import asyncio
from typing import Any

import peer_io


async def heard(headers: dict[str, Any]) -> None:
    """Tell the headers of one keep-alive."""
    peer_io.tell("alive", headers=dict(headers))


async def main() -> None:
    """Listen until told to end."""
    parser = peer_io.arguments(__doc__, type="peer", id="listener", keep_alive=0)
    parser.add_argument("--ttl", type=float, default=5, help="seconds a service stays listed")
    options = parser.parse_args()
    connector = peer_io.connector(options, keep_alive_listen=True, discovery_cache_ttl=options.ttl)
    connector.subscribe_service_keepalives("listener", heard)
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
