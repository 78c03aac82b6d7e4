"""A calculator service as in amqp-fabric's documentation, without fabric_nb's connector.

AMQP_URL=... SERVICE_DOMAIN=... python -m fabric_nb.demo.calc
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from amqp_fabric.abstract_service_api import AbstractServiceApi
from amqp_fabric.amq_broker_connector import AmqBrokerConnector

from fabric_nb.fabric.core.signals import on_signals


class Calc(AbstractServiceApi):
    """API of the calculator."""

    def __init__(self, connector: Any) -> None:
        self._connector = connector

    def multiply(self, x: float, y: float) -> float:
        """Return the product of two numbers."""
        return x * y

    def divide(self, x: float, y: float) -> float:
        """Return the quotient of two numbers."""
        return x / y

    def whoami(self) -> int:
        """Return the process id, which identifies the instance of a clique."""
        return os.getpid()

    async def report(self, day: str, seconds: float = 3.0) -> dict[str, Any]:
        """Return a report after some seconds."""
        await asyncio.sleep(seconds)
        return {"day": day, "orders": 1204, "total": 98213.5}

    async def ask(self, service_type: str, service_id: str, method: str, arguments: Any) -> Any:
        """Call another service, as any program on amqp-fabric does."""
        proxy = await self._connector.rpc_proxy(self._connector.domain, service_id, service_type)
        return await getattr(proxy, method)(**arguments)


async def main(uri: str, domain: str) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    on_signals(stopped.set, signal.SIGTERM)
    connector = AmqBrokerConnector(
        amqp_uri=uri,
        service_domain=domain,
        service_type="math",
        service_id="calc",
        keep_alive_seconds=1,
    )
    await connector.open(timeout=10)
    await connector.rpc_register(Calc(connector))
    print("ready", flush=True)
    await stopped.wait()
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main(os.environ["AMQP_URL"], os.environ["SERVICE_DOMAIN"]))
