"""Views that are chosen, side by side under a cell, and as a report without a kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook, new_page, set_theme, wait_for_lab
from tests.browser.looks import POOR_CONTRAST
from tests.browser.shop import fill_everything
from tests.browser.test_table import ROWS
from tests.support.peers import DOMAIN

MARKUP = "</script><img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
CHOICES = "services calls prices prices.plot('price')"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(
    notebook: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector
) -> AsyncIterator[LabNotebook]:
    """Notebook with calls, served functions, a stream and logs."""
    await notebook.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN} --id cockpit"
    )
    await fill_everything(notebook, shop)
    yield notebook
    await notebook.execute("%fabric_disconnect\n%unload_ext fabric_nb")
    await notebook.run("")


async def test_views_are_placed_side_by_side(busy: LabNotebook, page: Page, screens: Path) -> None:
    """Chosen views are beside each other where there is room, and below each other elsewhere."""
    await busy.run(f"%fabric {CHOICES}")
    tables = busy.panel.locator(".fabric-table")
    await expect(tables.locator(".title").first).to_have_text("Services")
    chart = busy.panel.locator(".fabric-plot")
    await expect(chart.locator("canvas").first).to_be_visible()
    services, calls = tables.nth(0), tables.nth(1)

    async def lefts() -> list[float]:
        boxes = [await each.bounding_box() for each in (services, calls)]
        return [box["x"] for box in boxes if box]

    size = page.viewport_size
    assert size is not None
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        await set_theme(page, theme)
        for width in (1400, 900):
            await page.set_viewport_size({"width": width, "height": size["height"]})
            first, second = await lefts()
            assert (first < second) is (width == 1400)
            await busy.panel.screenshot(path=screens / f"side-by-side-{width}-{name}.png")
        for table in await tables.all():
            assert await table.evaluate(POOR_CONTRAST) == [], theme
    await page.set_viewport_size(size)
    # All of them are live.
    await busy.execute("await fabric.call('orders.price', sku='seen', count=77)")
    await expect(calls.locator(ROWS).last).to_contain_text("price")
    await expect(busy.panel.locator(".fabric-table-last").first).to_be_hidden()


async def test_several_people_watch_the_same_views(busy: LabNotebook, lab: Lab, page: Page) -> None:
    """Each page on which the notebook is open shows its views, live."""
    await busy.run("%fabric calls")
    await busy.save()
    browser = page.context.browser
    assert browser is not None
    other = await new_page(browser)
    await other.goto(f"{lab.url}/lab/tree/{busy.path.name}")
    await wait_for_lab(other)
    tables = [each.locator(".jp-NotebookPanel .fabric-table") for each in (page, other)]
    for table in tables:
        await expect(table).to_be_visible()
    await busy.execute("_ = await fabric.call('orders.set_options', seen=True)")
    for table in tables:
        await expect(table.locator(ROWS).filter(has_text="set_options")).to_be_visible()
    await other.close()


async def test_a_report_is_one_file_that_needs_no_kernel(
    busy: LabNotebook, page: Page, screens: Path
) -> None:
    """The tables of a report are sorted and searched, and its chart is SVG; it loads nothing.

    Markup in values stays text. Without scripts, as in a mail program, the static copies are shown.
    """
    await busy.execute(f"_ = await fabric.call('orders.price', sku={MARKUP!r})")
    file = screens / "report.html"
    await busy.run(f"%fabric_report {file} {CHOICES}")
    await expect(busy.panel.locator(".jp-OutputArea-output")).to_contain_text("4 views")
    browser = page.context.browser
    assert browser is not None
    requests: list[str] = []
    other = await new_page(browser)
    other.on("request", lambda request: requests.append(request.url))
    await other.goto(file.as_uri(), wait_until="domcontentloaded")
    calls = other.locator(".fabric-table").nth(1)
    await expect(calls.locator(ROWS).first).to_be_visible()
    await calls.get_by_role("columnheader", name="method").click()
    await expect(calls.locator(ROWS).first).to_contain_text("mean")
    await calls.get_by_role("searchbox").fill("ZeroDivisionError")
    await expect(calls.locator(ROWS)).to_have_count(2)  # made and served
    await expect(other.locator("section svg[role=img]")).to_be_visible()
    for theme in ("dark", "light"):
        for width in (1400, 900):
            await other.set_viewport_size({"width": width, "height": 900})
            await other.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            await other.screenshot(path=screens / f"report-{width}-{theme}.png", full_page=True)
        assert await calls.evaluate(POOR_CONTRAST) == [], theme
    assert await other.evaluate("window.hacked") is None
    assert [url for url in requests if not url.startswith(("file:", "blob:"))] == []
    await other.close()

    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(file.as_uri(), wait_until="domcontentloaded")
    await expect(plain.locator(".fabric-table-last").nth(1)).to_contain_text("mean")
    await context.close()
