"""Views in a real JupyterLab, with a real service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import nbformat
import pytest
import pytest_asyncio
from nbconvert import HTMLExporter
from playwright.async_api import Error, Locator, Page, expect

import fabric_nb
from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook, new_page, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.shop import fill_everything, log
from tests.browser.test_table import ROWS
from tests.faults import hostile as tricks
from tests.faults.hostile import BIDI_TEXT, MARKUP, TERMINAL_CODES, Hostile, Reply
from tests.support.peers import DOMAIN

EVERYTHING = MARKUP + TERMINAL_CODES + BIDI_TEXT


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def connected(
    notebook: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector
) -> AsyncIterator[LabNotebook]:
    """Notebook of the package, connected as `notebook.cockpit`."""
    await notebook.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN} --id cockpit"
    )
    await notebook.execute("await fabric.call('orders.price', sku='a')")  # the service is known now
    yield notebook
    await notebook.execute("%fabric_disconnect\n%unload_ext fabric_nb")
    await notebook.run("")


async def show(notebook: LabNotebook, code: str) -> Locator:
    """Run a cell that shows a table, and return the table."""
    await notebook.run(code)
    table = notebook.panel.locator(".fabric-table")
    await expect(table).to_have_count(1)
    return table


async def opened(table: Locator, text: str) -> Locator:
    """Open the row with a text, and return its detail."""
    details = table.locator(ROWS).filter(has_text=text).get_by_role("button", name="Details")
    # A mouse click could miss it, because new services move the rows.
    await details.dispatch_event("click")
    detail = table.locator("tr.detail")
    await expect(detail).to_be_visible()
    return detail


# -- the registry


async def test_a_method_is_called_from_its_form(connected: LabNotebook, screens: Path) -> None:
    """A form has signature, docs and fields by the types of the arguments, and shows the result."""
    table = await show(connected, "%fabric_services --type shop")
    detail = await opened(table, "orders")
    form = detail.locator("details.form").filter(has_text="price(")
    await form.locator("summary").click()
    await expect(form.locator("summary")).to_have_text(
        "price(sku: str, count: int = 1, express: bool = False) -> float"
    )
    await expect(form.locator(".text")).to_contain_text("count: how many.")
    await expect(form.locator(".hint")).to_have_text(
        'Values are JSON or Python literals, as in 5, "text" or [1, 2].'
    )
    await form.get_by_label("sku").fill("chair")
    await form.get_by_label("count").fill("two")
    await form.get_by_role("button", name="Call", exact=True).click()
    answer = form.locator(".answer")
    problem = form.locator(".field").filter(has_text="count").get_by_role("alert")
    await expect(problem).to_have_text("count is a number: write it as in 5 or 2.5.")
    await expect(form.get_by_label("count")).to_be_focused()
    await expect(answer).to_be_empty()
    await form.get_by_label("express").select_option("True")
    await _picture(connected, screens, "form-by-type")
    await form.get_by_label("count").fill("2")
    await connected.page.keyboard.press("Enter")
    await expect(answer).to_contain_text("39.0")
    await expect(problem).to_have_count(0)
    await expect(answer).to_contain_text(" ms")


async def test_a_form_is_copied_as_a_call(connected: LabNotebook) -> None:
    """A form can be copied as a line with the same call."""
    await connected.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    table = await show(connected, "%fabric_services --type shop")
    form = (await opened(table, "orders")).locator("details.form").filter(has_text="price(")
    await form.locator("summary").click()
    await form.get_by_label("sku").fill("a 'b' c")
    await form.get_by_label("express").select_option("True")
    await form.get_by_role("button", name="Copy as %fabric_call").click()
    line = "%fabric_call shop.orders.price sku=\"a 'b' c\" express=True"
    await expect(form.locator(".answer")).to_have_text(f"Copied: {line}")
    assert await connected.page.evaluate("() => navigator.clipboard.readText()") == line
    await connected.run(f"x = {line}\nprint('costs', x)")
    await expect(connected.panel.locator(".jp-OutputArea")).to_contain_text("costs 29.5")


# -- calls


async def test_a_failed_call_opens_to_its_traceback(connected: LabNotebook) -> None:
    """Calls are shown when they end; failed ones can be selected, and have tracebacks."""
    table = await show(connected, "%fabric_calls")
    await connected.execute(
        "await fabric.call('orders.price', sku='b')\n"
        "try:\n    await fabric.call('orders.ship', order={'n': 7})\n"
        "except LookupError: pass"
    )
    failed = table.locator(ROWS).filter(has_text="ship")
    await expect(failed).to_contain_text("no such order: {'n': 7}")
    await expect(failed.locator("span.badge")).to_have_text("failed")
    await table.get_by_label("Show").select_option("failed")
    await expect(table.locator(ROWS).filter(has_text="price")).to_have_count(0)
    await expect(await opened(table, "ship")).to_contain_text("in ship")


async def test_a_call_is_edited_and_called_again(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A call opens to its arguments and result, and to a form that calls again, edited or not."""
    table = await show(connected, "%fabric_calls")

    def quote(sku: str, amount: int, token: str, day: date, tags: list[str]) -> dict[str, float]:
        return {f"{sku} {day} {'+'.join(tags)}": amount * 2.5}

    server = await shop.serve({"quote": quote}, type="shop", id="desk")
    await connected.execute(
        "import asyncio\n"
        "while 'quote' not in ' '.join(fabric.registry.df.methods): await asyncio.sleep(0.05)\n"
        "await fabric.call('shop.desk.quote', sku='green tea', amount=3, token='s3cret',"
        " day='2026-12-01', tags=['a', 'b'])"
    )
    detail = await opened(table, "quote")
    await expect(detail).to_contain_text("sku = 'green tea'")
    await expect(detail).to_contain_text("{'green tea 2026-12-01 a+b': 7.5}")
    await expect(detail).not_to_contain_text("s3cret")
    form = detail.locator("form").first
    await expect(form.get_by_label("sku")).to_have_value("green tea")
    await expect(form.get_by_label("day")).to_have_attribute("type", "date")
    await expect(form.get_by_label("day")).to_have_value("2026-12-01")
    await form.get_by_label("day").fill("2026-12-24")
    await form.get_by_label("tags").fill("c, d")
    await form.get_by_label("amount").fill("4")
    await form.get_by_label("token").fill('"other"')
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.locator(".answer")).to_contain_text("{'green tea 2026-12-24 c+d': 10.0}")
    await expect(table.locator(ROWS).filter(has_text="quote")).to_have_count(2)
    await _picture(connected, screens, "call-again")
    await server.close()


async def test_progress_of_a_form(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A form shows progress and time of its call, and what becomes of it when it is cancelled."""

    async def train() -> None:
        """Train the forecast."""
        fabric_nb.progress(30, 120, "training")
        await asyncio.Event().wait()

    server = await shop.serve({"train": train}, type="shop", id="trainer")
    table = await show(connected, "%fabric_services --type shop")
    form = (await opened(table, "trainer")).locator("details.form").filter(has_text="train(")
    await expect(form.locator(".text")).to_have_text("Train the forecast.")  # a single one is open
    await form.get_by_role("button", name="Call", exact=True).click()
    answer = form.locator(".answer")
    await expect(answer).to_contain_text("training · 30 of 120 · 25 %")
    await expect(answer).to_contain_text(f"on trainer {shop.instance}")
    await expect(form.locator(".cancel")).to_contain_text(re.compile(r"Cancel · \d+ s"))
    await _picture(connected, screens, "form-in-table")
    await form.locator(".cancel").click()
    await expect(answer).to_contain_text("was cancelled: it was stopped")
    await server.close()


# -- maps


async def test_bar_of_a_map(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A running map is a bar with its counts; then its failed rows are listed, and open."""
    gate = asyncio.Event()

    async def rate(n: int, currency: str) -> float:
        if n >= 10:
            await gate.wait()
        if n % 15 == 14:
            raise LookupError(f"no rate of {currency} on day {n}")
        return n * 1.5

    server = await shop.serve({"rate": rate}, type="shop", id="rates", prefetch=100)
    await connected.run("%config FabricMagics.progress_after = 0")
    call = f"{DOMAIN}.shop.rates.rate"  # the notebook may not know the short name yet
    await connected.start(f'rates = %fabric_map {call} n=range(40) currency="EUR"')
    table = connected.panel.locator(".fabric-table")
    progress = table.locator("progress")
    await expect(progress).to_have_js_property("value", 0.25)
    await expect(table.locator(".badges")).to_have_text("running")
    await expect(table.locator(".facts")).to_contain_text("10 of 40 rows")
    await expect(table.locator(".facts")).to_contain_text(f"{shop.instance}: 10")
    for part in (".filter", ".count", ".scroller"):
        await expect(table.locator(part)).to_be_hidden()
    await _picture(connected, screens, "map-running")
    gate.set()
    await expect(progress).to_have_js_property("value", 1)
    await expect(table.locator(".badge")).to_have_text(["done", "2 failed"])
    await expect(table.locator(ROWS)).to_have_count(2)
    detail = await opened(table, "n=14")
    await expect(detail).to_contain_text("no rate of EUR on day 14")
    await expect(detail).to_contain_text("in rate")
    await _picture(connected, screens, "map-done")
    await server.close()


async def test_progress_and_output_of_a_call(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A running call has a bar and its last lines; then its output stays, or is under its error."""
    gate = asyncio.Event()

    async def train(days: int) -> float:
        for day in range(days):
            if day == 30:
                await gate.wait()
            if day == 50:
                raise LookupError(f"no prices of day {day}")
            fabric_nb.progress(day + 1, 120, "training")
            print(f"day {day}: error {1 / (day + 1):.4f}")
        return 0.025

    server = await shop.serve({"train": train}, type="shop", id="forecast")
    call = f"{DOMAIN}.shop.forecast.train"  # the notebook may not know the short name yet
    await connected.run("%config FabricMagics.progress_after = 0")
    await connected.start(f"error = %fabric_call {call} days=40 --output")
    page = connected.panel.locator(".jp-OutputArea-output .fabric-nb").last
    await expect(page.locator("progress")).to_have_js_property("value", 0.25)
    await expect(page.locator(".head")).to_contain_text("training")
    await expect(page.locator(".head")).to_contain_text(f"on forecast {shop.instance}")
    await expect(page.locator("pre")).to_contain_text("day 29: error 0.0333")
    await _picture(connected, screens, "call-running", ".fabric-nb")
    gate.set()
    await expect(page.locator("progress")).to_have_count(0)
    await expect(page.locator(".head")).to_contain_text("Output of")
    await page.locator("summary").click()
    await expect(page.locator("details pre")).to_contain_text("day 0: error 1.0000")
    await page.locator("summary").click()
    await _picture(connected, screens, "call-done", ".fabric-nb")
    await connected.start(f"%fabric_call {call} days=60")
    failure = connected.panel.locator(".jp-OutputArea-output").last
    await expect(failure).to_contain_text("Output of the call:")
    await expect(failure).to_contain_text("day 49: error 0.0200")
    await _picture(connected, screens, "call-failed", ".jp-OutputArea-output")
    await server.close()


async def test_histogram_of_a_benchmark(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A benchmark has live figures with a bar; then its result has a histogram, also when saved."""
    gate = asyncio.Event()
    calls = 0

    async def quote(sku: str) -> float:
        nonlocal calls
        calls += 1
        if calls > 3000:
            await gate.wait()
        if calls % 100 == 0:
            raise LookupError(f"{sku} is sold out")
        await asyncio.sleep(0.0005 * (calls % 7) ** 2)
        return 2.5

    server = await shop.serve({"quote": quote}, type="shop", id="quotes", prefetch=100)
    call = f"{DOMAIN}.shop.quotes.quote"  # the notebook may not know the short name yet
    await connected.start(f'%fabric_bench {call} sku="tea" --calls 4000 --yes --timeout 600')
    page = connected.panel.locator(".jp-OutputArea-output .fabric-nb").last
    await expect(page.locator(".head")).to_contain_text("2,999 calls in")
    await expect(page.locator("progress")).to_have_js_property("value", 0.75)
    await _picture(connected, screens, "benchmark-running", ".fabric-nb")
    gate.set()
    await expect(page.locator(".bars svg")).to_be_visible()
    await expect(page.locator(".head")).to_contain_text("40 failed")
    await expect(page.locator("progress")).to_have_count(0)
    await expect(page.locator("table")).to_have_count(3)
    await expect(page.locator("table").nth(1)).to_contain_text("tea is sold out")
    await _picture(connected, screens, "benchmark-done", ".fabric-nb")
    await server.close()


async def _picture(
    notebook: LabNotebook, screens: Path, name: str, part: str = ".fabric-table"
) -> None:
    """Take pictures of the notebook in both themes, and check the contrast of its last output."""
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(notebook.page, theme)
        await notebook.page.screenshot(path=screens / f"{name}-{theme.split()[1].lower()}.png")
        shown = notebook.panel.locator(part).last
        with contextlib.suppress(Error):  # until the style sheet of the theme is in use
            await notebook.page.wait_for_function(
                f"element => ({POOR_CONTRAST})(element).length === 0",
                arg=await shown.element_handle(),
                timeout=60_000,
            )
        assert await shown.evaluate(POOR_CONTRAST) == []


# -- statistics

FIVE_MINUTES = """
import math, time
from fabric_nb.fabric.discovery.clock import ReceptionClock
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics
registry = fabric.registry
registry.clock = ReceptionClock(lambda: time.monotonic() + ahead)
rates = {
    "steady": lambda t: 40,
    "waves": lambda t: 25 + 20 * math.sin(t / 20),
    "burst": lambda t: 900 if 150 < t < 170 else 0.4,
    "idle": lambda t: 0,
    "many": lambda t: 1e4,
}
totals = dict.fromkeys(rates, 0)
for ahead in range(0, 325, 5):
    for name, rate in rates.items():
        totals[name] += int(5 * rate(ahead))
        calls = CallCounts(totals[name], totals[name] // 300, 2, 12.5)
        statistics = Statistics(float(ahead), calls, {"price": calls})
        for instance in ("7f3a81c0", "02bc94aa")[: 1 + (name == "waves")]:
            announcement = Announcement("1.4.0", instance, 600.0, None, {"price": "(sku)"})
            keep_alive = KeepAlive(ServiceName("shop", "stock", name), announcement)
            registry.receive(dataclasses.replace(keep_alive, statistics=statistics))
"""
"""Code that fills the registry with the statistics of five minutes."""


async def test_statistics_of_five_minutes(
    empty: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector, screens: Path
) -> None:
    """`--stats` shows totals, rates and a line of each service, live, and in the static copy."""
    await empty.execute(f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN}")
    await empty.execute(f"import dataclasses\n{FIVE_MINUTES}")
    table = await show(empty, "%fabric_services --stats")
    waves = table.locator(ROWS).filter(has_text="waves")
    line = waves.locator("td.spark path")
    await expect(line).to_have_attribute("d", re.compile(r"M\d+ \d+h0L"))
    await expect(waves.locator("td.spark")).to_have_attribute("title", "up to 89.60")
    orders = table.locator(ROWS).filter(has_text="orders")
    await expect(orders).to_contain_text("up")  # the clock was advanced by five minutes
    await empty.execute(f"await fabric.call('{DOMAIN}.shop.orders.price', sku='a')")
    await expect(orders.locator('td[data-label="calls"]')).not_to_have_text("0")
    await opened(table, "waves")
    await _picture(empty, screens, "statistics")
    await empty.execute("%fabric_disconnect")
    saved = empty.panel.locator(".fabric-table-last")
    await expect(saved.locator("svg").first).to_be_visible()
    await _picture(empty, screens, "statistics-saved", ".fabric-nb")


# -- traces

SHOP = """
import asyncio, logging
from fabric_nb import AmqBrokerConnector

async def part(name, functions):
    member = AmqBrokerConnector(
        fabric.member._uri, fabric.domain, "shop", name,
        keep_alive_seconds=1, keep_alive_listen=True,
    )
    await member.open()
    await member.serve({key: f.__get__(member) for key, f in functions.items()})
    return member

async def place(self, sku, count=1):
    total = await self.call("pricing.quote", sku=sku, count=count)
    await self.call("stock.reserve", sku=sku, count=count)
    await self.publish_data({"sku": sku}, {"msg_type": "ORDER"})
    return {"sku": sku, "total": total}

async def quote(self, sku, count=1):
    await asyncio.sleep(0.02)
    return 4.5 * count

async def reserve(self, sku, count=1):
    await self.call("warehouse.pick", sku=sku)
    if count > 3:
        raise ValueError(f"{count} of {sku} are not in stock")

async def pick(self, sku):
    await asyncio.sleep(0.05)

members = [
    await part("orders-desk", {"place": place}),
    await part("pricing", {"quote": quote}),
    await part("stock", {"reserve": reserve}),
    await part("warehouse", {"pick": pick}),
]
names = {"orders-desk", "pricing", "stock", "warehouse"}
while not names <= {service.name.id for service in fabric.registry.services()}:
    await asyncio.sleep(0.05)
"""


async def test_waterfall(
    connected: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A traced call is a waterfall, live and in the static copy; a row opens to its details."""
    await connected.execute(SHOP)
    table = await show(connected, '%fabric_trace orders-desk.place sku="tea" count=2')
    await expect(table.locator(ROWS)).to_have_count(5)
    await expect(table.locator(".badges")).to_contain_text("done")
    await expect(table.locator(".facts")).to_contain_text("4 services")
    bars = table.locator("td.bar i.ran")
    await expect(bars).to_have_count(5)
    widths = [(await bar.bounding_box() or {"width": 0})["width"] for bar in await bars.all()]
    assert widths[0] > 100 > 1 <= min(widths)
    await opened(table, "stock")
    await _picture(connected, screens, "trace")

    table = await show(connected, '%fabric_trace orders-desk.place sku="tea" count=9')
    await expect(table.locator("td.bar i.failed")).to_have_count(2)
    await table.locator(ROWS).nth(2).get_by_role("button", name="Details").click()
    await expect(table.locator(".detail").first).to_contain_text("Traceback")
    await _picture(connected, screens, "trace-failed")
    await connected.execute("for member in members: await member.close()")
    await connected.execute("%fabric_disconnect")
    saved = connected.panel.locator(".fabric-table-last")
    await expect(saved.locator("svg.bar").first).to_be_visible()
    await _picture(connected, screens, "trace-saved", ".fabric-nb")
    await connected.execute(f"%fabric_connect {broker.uri} --domain {DOMAIN} --id cockpit")


# -- streams


async def test_chart_of_a_stream(connected: LabNotebook, shop: AmqBrokerConnector) -> None:
    """Rows, rate, and a chart of any numeric column are live, and can be paused."""
    table = await show(connected, "orders = %fabric_stream kind=ORDER")
    for n in range(20):
        await shop.publish_data({"n": n, "item": f"i{n}", "price": 100 - n}, {"kind": "ORDER"})
    await expect(table.locator(ROWS).last).to_contain_text("i19")
    line = table.locator("figure.chart")
    await expect(line).to_contain_text("price, last 20 rows")
    await expect(line).to_contain_text("81 to 100")
    await table.get_by_label("Line").select_option("n")
    await expect(line).to_contain_text("0 to 19")
    assert (await line.locator("path").get_attribute("d") or "").startswith("M0 100L1 95")
    pause = table.get_by_role("button", name="Pause")
    await pause.click()
    await expect(pause).to_have_attribute("aria-pressed", "true")
    await expect(table.locator(".badges")).to_have_text("paused")
    await shop.publish_data({"n": 20, "item": "i20", "price": 1}, {"kind": "ORDER"})
    await pause.click()
    await expect(table.locator(ROWS).last).to_contain_text("i20")
    await expect(table.locator(".facts")).to_contain_text("21 rows")


# -- logs


async def test_logs_are_filtered_and_paused(connected: LabNotebook) -> None:
    """Logs are filtered by level and words; while paused, new records are counted."""
    table = await show(connected, "%fabric_logs")
    await expect(table.get_by_role("log", name="Logs")).to_be_visible()
    log.info("Order %d was taken", 1)
    log.error("The warehouse does not answer")
    await expect(table.locator(ROWS)).to_have_count(2)
    await expect(table.locator("[data-tone=bad]")).to_have_text("ERROR")
    await table.get_by_label("Filter rows").fill("order taken")
    await expect(table.locator(ROWS)).to_have_count(1)
    await table.get_by_label("Filter rows").fill("")
    await table.get_by_label("Level", exact=True).select_option("WARNING")
    await expect(table.locator(ROWS)).to_have_count(1)
    await expect(table.locator(ROWS)).to_contain_text("warehouse")
    await table.get_by_role("button", name="Pause").click()
    await expect(table.locator(".badges")).to_have_text("paused")
    log.error("Another")
    await expect(table.locator(".facts")).to_contain_text("1 new")
    await expect(table.locator(ROWS)).to_have_count(1)
    await table.get_by_role("button", name="Pause").click()
    await expect(table.locator(ROWS)).to_have_count(2)


# -- together


PARTS = ("Services", "Calls", "Serving", "Streams", "Logs")


async def test_the_dashboard_shows_everything(
    connected: LabNotebook, shop: AmqBrokerConnector, page: Page, screens: Path
) -> None:
    """`%fabric` shows services, calls, serving, streams and logs, in both themes."""
    await connected.run("%fabric")
    tables = connected.panel.locator(".fabric-table")
    await expect(tables.locator(".title")).to_have_text(PARTS)
    services, calls, serving, streams, logs = await tables.all()
    await fill_everything(connected, shop)
    await expect(services).to_contain_text("notebook.cockpit")
    await expect(services.locator(ROWS).filter(has_text="1.4.0")).to_be_visible()
    await expect(calls.locator(ROWS).last).to_contain_text("ZeroDivisionError")
    await expect(serving.locator(ROWS)).to_contain_text(["analytics.mynb"])
    await expect(streams.locator(ROWS).filter(has_text="prices")).to_contain_text("40")
    await expect(logs.locator(ROWS).last).to_contain_text("No answer")
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        await set_theme(page, theme)
        for table in await tables.all():
            assert await table.evaluate(POOR_CONTRAST) == [], theme
        await connected.panel.screenshot(path=screens / f"dashboard-{name}.png")


@pytest.mark.filterwarnings("ignore:Your element with mimetype")  # the live table is omitted
async def test_an_exported_dashboard_shows_the_static_copy(
    connected: LabNotebook, page: Page, screens: Path
) -> None:
    """A notebook that was saved and exported shows the static copies."""
    await connected.run("%fabric")
    last = connected.panel.locator(".fabric-table-last")
    await expect(last.first).to_be_attached()
    await connected.save()
    exporter = HTMLExporter()
    exported, _ = exporter.from_notebook_node(nbformat.read(connected.path, as_version=4))
    file = screens / "dashboard.html"
    file.write_text(exported)
    browser = page.context.browser
    assert browser is not None
    other = await new_page(browser)
    await other.goto(file.as_uri(), wait_until="domcontentloaded")
    for part in PARTS:
        await expect(other.locator(".fabric-table-last .title").get_by_text(part)).to_be_visible()
    await expect(other.locator(".fabric-table-last").first).to_contain_text("orders")
    await other.screenshot(path=screens / "dashboard-exported.png", full_page=True)
    await other.close()


async def test_markup_in_details_stays_text(connected: LabNotebook, broker: BrokerProcess) -> None:
    """Docs, signatures, results and errors of a hostile peer are shown as text."""
    description = {"methods": {"fail": {"signature": f"(x={MARKUP!r})", "doc": EVERYTHING}}}
    fail = tricks.error("builtins.ValueError", EVERYTHING, message=EVERYTHING, traceback=EVERYTHING)
    async with Hostile.on(broker.uri) as hostile:
        await hostile.serve(
            {"fail": lambda _: fail, "_describe": lambda _: Reply(json.dumps(description).encode())}
        )
        await hostile.announce(version=MARKUP, methods={"fail": f"(x={MARKUP!r})"})
        await connected.run("%fabric")
        services = connected.panel.locator(".fabric-table").first
        form = (await opened(services, "evil")).locator("details.form")
        await expect(form.locator(".text")).to_contain_text("<script>")
        await form.get_by_role("button", name="Call", exact=True).click()
        await expect(form.locator(".answer")).to_contain_text("onerror=")
        calls = connected.panel.locator(".fabric-table").nth(1)
        await expect(await opened(calls, "evil")).to_contain_text("<script>")
        outputs = connected.panel.locator(".jp-OutputArea")
        assert await outputs.locator("img, script").count() == 0
        assert await connected.page.evaluate("() => window.hacked") is None
        assert "\u202e" not in await outputs.first.inner_text()


async def test_views_after_a_restart(
    lab: Lab, page: Page, broker: BrokerProcess, shop: AmqBrokerConnector
) -> None:
    """After a restart of the kernel views keep their state, with a badge, and actions fail."""
    notebook = await LabNotebook.open(page, lab)
    await notebook.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN}\n%fabric_services"
    )
    table = notebook.panel.locator(".fabric-table")
    form = (await opened(table, "orders")).locator("details.form").first
    await form.locator("summary").click()
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(table.locator(".badges")).to_have_text("kernel gone: last state")
    for field in await form.locator("input[required]").all():
        await field.fill("1")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.locator(".answer")).to_contain_text("Run the cell again")
    await expect(table.locator(ROWS).filter(has_text="orders")).to_be_visible()
    await notebook.close()


# -- without a kernel


async def test_pages_without_a_kernel(
    empty: LabNotebook, broker: BrokerProcess, page: Page, screens: Path
) -> None:
    """A card without a kernel, or saved, is grey and has its time."""
    await empty.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN} --id orphan"
    )
    card = empty.panel.locator(".fabric-page")
    badge, as_of = card.locator(".badge").first, card.locator(".as-of")
    await expect(badge).to_have_css("background-color", "rgb(27, 127, 59)")
    await expect(as_of).to_be_hidden()
    await empty.save()
    # A restart while the panel's comm is being opened is an error of JupyterLab.
    await expect(page.locator("#jp-main-statusbar")).to_contain_text(f"Fabric: {DOMAIN}")
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(as_of).to_be_visible(timeout=20_000)
    await expect(badge).to_have_css("background-color", "rgb(107, 107, 107)")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"orphaned-{theme.split()[1].lower()}.png")
    again = await LabNotebook.reopen(page, empty.path)
    saved = again.panel.locator(".fabric-page-last")
    await expect(saved).to_contain_text(re.compile(r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"))
    await expect(saved.locator(".badge").first).to_have_css(
        "background-color", "rgb(107, 107, 107)"
    )
    await page.screenshot(path=screens / "reopened.png")
