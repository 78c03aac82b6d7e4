"""A small shop on fabric_nb, whose services call each other and the calculator on amqp-fabric.

    orders.place -> pricing.quote -> calc.multiply
                 -> stock.reserve -> warehouse.pick

AMQP_URL=... SERVICE_DOMAIN=... python -m fabric_nb.demo.orders
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

from fabric_nb import AbstractServiceApi, AmqBrokerConnector, AmqpHandler
from fabric_nb.fabric.core.signals import on_signals

PRICES = {"tea": 4.5, "coffee": 6.0, "cocoa": 5.2}
IN_STOCK = {"tea": 80, "coffee": 3, "cocoa": 0}

log = logging.getLogger("shop")


class Part(AbstractServiceApi):
    """API of one service of the shop."""

    def __init__(self, fabric: AmqBrokerConnector) -> None:
        self._fabric = fabric


class Orders(Part):
    """Takes orders."""

    async def place(self, sku: str, count: int = 1) -> dict[str, Any]:
        """Place an order: quote its price, and reserve the goods."""
        total = await self._fabric.call("pricing.quote", sku=sku, count=count)
        left = await self._fabric.call("stock.reserve", sku=sku, count=count)
        order = {"sku": sku, "count": count, "total": total, "left": left}
        await self._fabric.publish_data(order, {"msg_type": "ORDER"})
        return order


class Pricing(Part):
    """Knows the prices."""

    async def quote(self, sku: str, count: int = 1) -> float:
        """Return the price of some goods."""
        await asyncio.sleep(0.01)  # looks the price up
        return float(await self._fabric.call("calc.multiply", x=PRICES[sku], y=count))


class Stock(Part):
    """Knows what is in stock."""

    async def reserve(self, sku: str, count: int = 1) -> int:
        """Reserve goods and have them picked; return how many are left."""
        left = IN_STOCK[sku] - count
        if left < 0:
            log.warning("only %d of %s are left", IN_STOCK[sku], sku)
            raise ValueError(f"{count} of {sku} are not in stock")
        await self._fabric.call("warehouse.pick", sku=sku, count=count)
        return left


class Warehouse(Part):
    """Picks goods from its shelves."""

    async def pick(self, sku: str, count: int = 1) -> str:
        """Pick goods; return the shelf."""
        await asyncio.sleep(0.004 * min(count, 10))
        log.info("picked %d of %s", count, sku)
        return f"shelf {len(sku)}"


PARTS: dict[str, type[Part]] = {
    "orders": Orders,
    "pricing": Pricing,
    "stock": Stock,
    "warehouse": Warehouse,
}


async def main(uri: str, domain: str) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    on_signals(stopped.set, signal.SIGTERM)
    logging.getLogger().setLevel(logging.INFO)
    async with AsyncExitStack() as stack:
        for name, part in PARTS.items():
            fabric = AmqBrokerConnector(
                amqp_uri=uri,
                service_domain=domain,
                service_type="shop",
                service_id=name,
                service_version="1.0",
                keep_alive_seconds=1,
                keep_alive_listen=True,
            )
            await stack.enter_async_context(fabric)
            await fabric.serve(part(fabric), version="1.0", prefetch=10)
            if name == "stock":
                handler = AmqpHandler(logging.INFO)
                await fabric.init_logging_handler(handler)
                log.addHandler(handler)
        print("ready", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(os.environ["AMQP_URL"], os.environ["SERVICE_DOMAIN"]))
