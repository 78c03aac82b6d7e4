"""The picture of who calls whom, under a cell and in the panel, in a real JupyterLab."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Locator, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.panels import panel_of, row, show_panel
from tests.support.peers import DOMAIN

COUNTS = """
from fabric_nb.fabric.rpc.instance_statistics import Edge
from fabric_nb.fabric.rpc.instances import CallGraph
edges = []
def calls(caller, service, method, calls_s, errors_s=0.0):
    names = [f"my_project.{name}" if name else "" for name in (caller, service)]
    counts = int(calls_s * 100), int(errors_s * 100)
    edges.append(Edge(*names, method, *counts, calls_s, errors_s))
calls("notebook.nb", "shop.orders", "place", 2.0)
calls("web.shop-frontend", "shop.orders", "place", 12.0)
calls("web.shop-frontend", "shop.pricing", "quote", 140.0)
calls("web.shop-frontend", "catalogue.search", "find", 60.0)
calls("mobile.app", "shop.orders", "place", 4.0)
calls("mobile.app", "catalogue.search", "find", 30.0)
calls("shop.orders", "shop.pricing", "quote", 16.0)
calls("shop.orders", "shop.stock", "reserve", 14.0, 1.5)
calls("shop.orders", "shop.stock", "release", 0.4)
calls("shop.orders", "mail.confirmation-sender", "send", 12.0)
calls("shop.stock", "warehouse.north", "pick", 9.0, 0.2)
calls("warehouse.north", "shop.stock", "count", 1.0)
calls("warehouse.north", "warehouse.north", "sweep", 0.2)
calls("shop.pricing", "bank.rates", "rate", 3.0)
calls("web.shop-frontend", "bank.rates", "rate", 0.5)
calls("", "bank.rates", "rate", 0.1)
calls("<img src=x onerror=window.hacked=1>", "mail.confirmation-sender", "<b>", 0.3)
few = list(edges)
for number in range(60):
    calls(f"batch.worker-{number:02}", "shop.stock", "reserve", 0.01 * number)
many, edges = edges, few
async def graph(domain):
    return CallGraph(list(edges), {})
"""
"""Code with the counts of many services, in place of those that one notebook could make."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def counted(
    notebook: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector
) -> AsyncIterator[LabNotebook]:
    """Notebook of the package, connected as `notebook.nb`, with counted calls."""
    await notebook.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN} --id nb"
    )
    await notebook.execute(COUNTS + "fabric.member.instances.graph = graph")
    yield notebook
    await notebook.execute("%fabric_disconnect\n%unload_ext fabric_nb")
    await notebook.run("")


def service(graph: Locator, label: str) -> Locator:
    """Return a service of a picture."""
    return graph.locator(f'g.service[aria-label^="{label}"]')


async def pictures(notebook: LabNotebook, screens: Path, name: str, part: Locator) -> None:
    """Take pictures in both themes and two widths, and check that all texts can be read."""
    page = notebook.page
    for width in (1400, 900):
        await page.set_viewport_size({"width": width, "height": 1000})
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            await set_theme(page, theme)
            await page.wait_for_timeout(300)
            path = screens / f"{name}-{theme.split()[1].lower()}-{width}.png"
            await page.screenshot(path=path)
            assert await part.evaluate(POOR_CONTRAST) == []
            assert await part.evaluate(POOR_INK) == []


POOR_INK = POOR_CONTRAST.replace(".color)", ".fill)").replace(
    'querySelectorAll("*")', 'querySelectorAll("svg text")'
)
"""As `POOR_CONTRAST`, for the texts of a picture."""

PLACES = """(graph) => Object.fromEntries(
  [...graph.querySelectorAll("g.service")].map((group) => {
    const rect = group.querySelector("rect");
    return [group.textContent, [rect.getAttribute("x"), rect.getAttribute("y")].join(" ")];
  })
)"""


async def test_a_picture_above_the_table(counted: LabNotebook, screens: Path) -> None:
    """Services are drawn from callers to called ones; the pointer and keys name their calls."""
    await counted.run("%fabric_graph")
    graph = counted.panel.locator(".fabric-table .graph")
    caption = graph.locator("figcaption")
    await expect(graph.locator("g.service")).to_have_count(12)
    await expect(graph.locator("g.call.failing")).to_have_count(2)
    await expect(caption).to_contain_text("Dashed")
    orders = service(graph, "shop.orders")
    await orders.hover()
    await expect(caption).to_contain_text(
        "shop.orders calls shop.stock: reserve 14/s, 1.5/s failing; release 0.4/s"
    )
    await pictures(counted, screens, "graph", graph)
    await counted.page.mouse.move(0, 0)
    await orders.click()
    await expect(orders).to_have_attribute("aria-pressed", "true")
    await expect(service(graph, "mobile.app")).not_to_have_class("service faded")
    await expect(service(graph, "catalogue.search")).to_have_class("service faded")
    await orders.press("ArrowRight")
    focused = counted.page.locator("g.service:focus")
    await expect(focused).to_have_count(1)
    await expect(focused).not_to_contain_text("shop.orders")
    await focused.press("Enter")
    await expect(focused).to_have_attribute("aria-pressed", "true")
    await focused.press("Escape")
    await expect(graph.locator("g.faded")).to_have_count(0)
    hostile = service(graph, "<img src=x")
    await expect(hostile).to_have_count(1)
    assert await counted.page.evaluate("window.hacked") is None


async def test_services_stay_where_they_are(counted: LabNotebook) -> None:
    """After a refresh with more and other calls, known services have not moved."""
    await counted.run("%fabric_graph")
    table = counted.panel.locator(".fabric-table")
    graph = table.locator(".graph")
    await expect(graph.locator("g.service")).to_have_count(12)
    before = await graph.evaluate(PLACES)
    await counted.execute(
        "edges = [*edges, edges[0]._replace(caller='my_project.new.one', calls_s=5.0)]"
    )
    await table.get_by_role("button", name="Refresh").click()
    await expect(graph.locator("g.service")).to_have_count(13)
    after = await graph.evaluate(PLACES)
    assert before.items() <= after.items()
    await counted.execute("edges = few")


async def test_many_services(counted: LabNotebook, screens: Path) -> None:
    """Of many services the busiest are drawn, and the others counted."""
    await counted.execute("edges = many")
    await counted.run("%fabric_graph")
    table = counted.panel.locator(".fabric-table")
    await expect(table.locator("g.service")).to_have_count(40)
    await expect(table.locator(".notes")).to_contain_text("Not in the picture: ")
    await pictures(counted, screens, "graph-many", table.locator(".graph"))
    await counted.execute("edges = few")


async def test_the_saved_picture(counted: LabNotebook, screens: Path) -> None:
    """When the view has ended, the same picture is in the notebook as SVG."""
    await counted.run("%fabric_graph")
    await expect(counted.panel.locator(".fabric-table g.service")).to_have_count(12)
    await counted.execute(
        "from fabric_nb.notebook import extension\n"
        "for live in extension._loaded.session.screen.outputs(): live.freeze()"
    )
    saved = counted.panel.locator("svg.graph")
    await expect(saved.locator("rect")).to_have_count(12)
    await pictures(counted, screens, "graph-saved", counted.panel.locator(".fabric-table-last"))
    assert await counted.page.evaluate("window.hacked") is None


async def test_the_picture_in_the_panel(counted: LabNotebook, screens: Path) -> None:
    """The panel asks few services at once, and shows one that is clicked in its list."""
    page = counted.page
    await page.set_viewport_size({"width": 1400, "height": 1000})
    await counted.run("")
    await show_panel(page)
    panel = panel_of(page)
    await expect(row(page, "orders")).to_be_visible()
    graph = panel.locator(".fabric-calls .graph")
    await expect(graph.locator("g.service")).to_have_count(12)
    await service(graph, "shop.orders").click()
    await expect(row(page, "orders")).to_be_focused()
    await expect(row(page, "orders")).to_have_attribute("aria-selected", "true")
    await pictures(counted, screens, "graph-panel", graph)
    await page.set_viewport_size({"width": 1400, "height": 1000})
