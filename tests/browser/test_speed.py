"""Performance of a table and of the panel; figures are printed (`pytest -s`), not asserted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook
from tests.browser.panels import CROWD, beside_notebooks, filter_services, panel_of, row
from tests.browser.test_table import ROWS, show
from tests.support.peers import DOMAIN

SECONDS = 5

WATCH = """(seconds) => new Promise((resolve) => {
  const tasks = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) tasks.push(entry.duration);
  });
  observer.observe({ entryTypes: ["longtask"] });
  let frames = 0;
  const started = performance.now();
  const count = (now) => {
    frames += 1;
    if (now - started < seconds * 1000) return requestAnimationFrame(count);
    observer.disconnect();
    const rate = frames / (now - started) * 1000;
    resolve({ frames: rate, longest: Math.max(0, ...tasks), long: tasks.length });
  };
  requestAnimationFrame(count);
})"""


async def test_a_thousand_rows_ten_times_a_second(notebook: LabNotebook) -> None:
    """A table of a thousand rows that all change ten times a second shows the last state."""
    table = await show(notebook, "numbers()")
    page = notebook.page
    await table.locator(ROWS).first.scroll_into_view_if_needed()
    await notebook.execute(
        f"import asyncio\nflowing = asyncio.ensure_future(scenes.flow(table, {SECONDS}))"
    )
    seen = await page.evaluate(WATCH, SECONDS - 0.5)
    await notebook.execute("putting, sending, updates = await flowing")
    putting, sending = (
        float(await notebook.value("putting")),
        float(await notebook.value("sending")),
    )
    updates = int(await notebook.value("updates"))
    last = (await notebook.value("table.model.rows[3].cells[0]")).strip("'")
    await expect(table.locator('tr[aria-rowindex="5"]')).to_contain_text(last)
    size = int(await notebook.value("scenes.size_of_change(table.model)"))
    print(
        f"\n1000 rows x 5, {updates / SECONDS:.1f} updates/s of {size / 1000:.0f} kB: kernel "
        f"{putting:.1f} ms to put + {sending:.1f} ms to send; "
        f"browser {seen['frames']:.0f} frames/s, "
        f"{seen['long']} tasks over 50 ms, longest {seen['longest']:.0f} ms"
    )


@asynccontextmanager
async def messages(uri: str) -> AsyncIterator[None]:
    """Publish 2,000 messages a second, if the machine is fast enough."""

    async def publish() -> None:
        while True:
            rows = [ticker.publish_data({"n": n}, {"flow": "panel"}) for n in range(200)]
            await asyncio.gather(*rows, asyncio.sleep(0.1))

    async with AmqBrokerConnector(uri, DOMAIN, "ticker", "t1", 1.0) as ticker:
        publishing = asyncio.create_task(publish())
        yield
        publishing.cancel()


async def test_the_panel_among_a_thousand_services(
    page: Page, lab: Lab, errors: list[str], broker: BrokerProcess
) -> None:
    """The panel is usable with a thousand services and a stream of 2,000 messages a second."""
    async with beside_notebooks(page, lab, errors) as own:
        notebook = await LabNotebook.open(own, lab)
        await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --id many")
        panel = panel_of(own)
        await expect(panel).to_contain_text("1 up")  # it receives keep-alives
        await notebook.execute(f"{CROWD}\nawait crowd(1000, methods={{'add': '(x, y=2)'}})")
        tree = panel.get_by_role("tree", name="Services")
        await expect(row(own, "crowd / many")).to_contain_text("1000")
        async with messages(broker.uri):
            await notebook.execute("tx = %fabric_stream flow=panel")
            streams = panel.get_by_role("region", name="Streams").last.locator("tr.row")
            await expect(streams).to_contain_text("tx")
            # The stream's row is updated continuously while rows of the tree are rendered.
            for key, seen in (("End", "s0999"), ("Home", "s0000"), ("End", "s0999")):
                before = await streams.inner_text()
                await tree.press(key)
                await expect(row(own, seen)).to_be_visible()
                await expect(streams).not_to_have_text(before, use_inner_text=True)
                assert await tree.get_by_role("treeitem").count() < 80
            # The filter finds each service.
            for hundred in range(10):
                await filter_services(own, f"many s0{hundred}")
                first = row(own, f"s0{hundred}00")
                await expect(first).to_have_attribute("aria-setsize", "100")
            # New services are shown, and can be called.
            await filter_services(own, "s1007")
            await notebook.execute("await crowd(1008, methods={'add': '(x, y=2)'})")
            await row(own, "s1007").click()
            await expect(row(own, "add")).to_be_visible()
        await notebook.close()
