"""Service for the browser tests: `shop.orders`, which replies, publishes and logs."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fabric_nb import AmqBrokerConnector, AmqpHandler
from tests.browser.lab import LabNotebook
from tests.support.peers import DOMAIN

log = logging.getLogger("shop.orders")


class Shop:
    """Methods of the service."""

    def price(self, sku: str, count: int = 1, express: bool = False) -> float:
        """What an order costs.

        Args:
            sku: which article.
            count: how many.
            express: by tomorrow.
        """
        return 9.5 * count + (20 if express else 0)

    def ship(self, order: dict[str, object]) -> str:
        """Send an order out."""
        raise LookupError(f"no such order: {order}")

    def set_options(self, **options: object) -> str:
        """Set any options."""
        return json.dumps(options)


@asynccontextmanager
async def open_shop(uri: str) -> AsyncIterator[AmqBrokerConnector]:
    """Open the service."""
    async with AmqBrokerConnector(uri, DOMAIN, "shop", "orders", 0.5, True) as shop:
        await shop.serve(Shop(), version="1.4.0")
        handler = AmqpHandler()
        await shop.init_logging_handler(handler)
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
        yield shop
        log.removeHandler(handler)


async def fill_everything(notebook: LabNotebook, shop: AmqBrokerConnector) -> None:
    """Create rows for each table of the dashboard."""
    await notebook.execute(
        "%%fabric_serve --type analytics --id mynb --version 0.3\n"
        "def mean(values: list) -> float:\n    return sum(values) / len(values)\n"
    )
    await notebook.execute(
        "prices = %fabric_stream kind=PRICE\n"
        "for n in range(5): await fabric.call('orders.price', sku='c', count=n)\n"
        "await fabric.call('mynb.mean', values=[1, 2, 6])\n"
        "for call in ('orders.ship', 'mynb.mean'):\n"
        "    try: await fabric.call(call, **{'order': {}} if 'ship' in call else {'values': []})\n"
        "    except Exception: pass"
    )
    for n in range(40):
        await shop.publish_data({"price": 100 + n * 37 % 23, "n": n}, {"kind": "PRICE"})
    await notebook.execute("await prices.wait(40, timeout=60)")
    for level, text in ((20, "Order 7 was taken"), (30, "Stock is low"), (40, "No answer")):
        log.log(level, text)
