"""Tab and Shift-Tab on remote services in JupyterLab."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import LabNotebook
from tests.support.peers import DOMAIN


async def test_cells_complete_and_explain_remote_calls(
    page: Page, empty: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector, screens: Path
) -> None:
    """Tab completes services, methods and arguments, and Shift-Tab shows signature and doc."""
    await empty.execute(f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN}")
    await empty.execute(
        "while 'price' not in ' '.join(fabric.registry.df['methods']):\n"
        "    await fabric.registry.changed()"
    )
    editor = empty.panel.locator(".jp-CodeCell .cm-content").first
    await editor.click()
    await page.keyboard.type("total = %fabric_call orders.")
    await page.keyboard.press("Tab")
    offers = page.locator(".jp-Completer-item")
    await expect(offers.filter(has_text="orders.price")).to_be_visible()
    await expect(offers.filter(has_text="orders.ship")).to_be_visible()
    await page.screenshot(path=screens / "help-completer.png")
    await offers.filter(has_text="orders.price").click()
    await expect(editor).to_contain_text("total = %fabric_call orders.price")
    await page.keyboard.type(" s")
    await page.keyboard.press("Tab")
    await offers.filter(has_text="sku=").click()
    await expect(editor).to_contain_text("orders.price sku=")

    await page.keyboard.press("Shift+Tab")
    tooltip = page.locator(".jp-Tooltip")
    await expect(tooltip).to_contain_text("price(sku: str, count: int = 1")
    await expect(tooltip).to_contain_text("What an order costs.")
    await expect(tooltip).to_contain_text(f"{DOMAIN}.shop.orders")
    await page.screenshot(path=screens / "help-tooltip.png")
    await page.keyboard.press("Escape")
