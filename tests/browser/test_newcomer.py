"""The panel in a real JupyterLab: first steps of a new user."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook, new_page, set_theme
from tests.browser.looks import BLUE, painted
from tests.browser.panels import (
    active_cell,
    beside_notebooks,
    cell,
    panel_of,
    row,
    show,
    source,
)
from tests.browser.test_table import ROWS


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """Open a page with JupyterLab and the panel, for this module."""
    async with beside_notebooks(page, lab, errors) as own:
        yield own


async def test_first_steps(lab: Lab, empty: LabNotebook, page: Page, screens: Path) -> None:
    """Clicks lead from an empty notebook to services, a stream, logs and a serving cell."""
    panel = panel_of(page)
    # A button loads the extension, in a visible cell.
    await expect(panel).to_contain_text("fabric_nb is not loaded in this notebook.")
    await page.screenshot(path=screens / "panel-empty.png")
    await panel.get_by_role("button", name="Load and connect").click()
    await expect(panel).to_contain_text("1 up")
    assert await source(page) == "%load_ext fabric_nb\n%fabric_connect"
    await expect(page.locator("#jp-main-statusbar")).to_contain_text("Fabric: my_project · 1 up")
    # A button starts the demo services.
    await panel.get_by_role("button", name="Start demo services").click()
    await expect(row(page, "monitor")).to_be_visible()
    await expect(panel.get_by_role("button", name="Start demo services")).to_have_count(0)
    await expect(page.locator("#jp-main-statusbar")).to_contain_text("7 up")
    # A click inserts the call, with the first argument selected, and does not run it.
    await row(page, "monitor").click()
    await row(page, "complain").click()
    await expect(active_cell(page).locator(".cm-selectionBackground")).to_be_visible()
    assert await source(page) == "%fabric_call host.monitor.complain text=..."
    await page.keyboard.type("'from a cell'")
    assert await source(page) == "%fabric_call host.monitor.complain text='from a cell'"
    await page.keyboard.press("Control+Enter")
    await expect(panel.get_by_role("log", name="Logs")).to_contain_text("from a cell")
    # The form calls without a cell.
    await row(page, "complain").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="host.monitor.complain")
    await expect(form).to_contain_text("Write a warning to the fabric's logs.")
    await expect(form.get_by_label("text")).to_be_focused()
    await page.keyboard.type("from the form")
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("status")).to_have_text("True")
    await expect(panel.get_by_role("log", name="Logs")).to_contain_text("from the form")
    await page.keyboard.press("Escape")
    await expect(form).to_have_count(0)
    # A stream with a live chart, and a serving cell.
    await cell(empty, "tx = %fabric_stream msg_type=LOAD")
    streams = panel.get_by_role("region", name="Streams").last
    rate = streams.locator("tr.row").filter(has_text="tx").locator("[data-unit='rows/s']")
    await expect(rate).to_have_text(re.compile(r"[1-9]"))
    await streams.get_by_role("button", name="Pause tx").click()
    await expect(streams).to_contain_text("paused")
    await streams.get_by_role("button", name="Resume tx").click()
    await expect(streams).not_to_contain_text("paused")
    await expect(rate).to_be_visible()
    await cell(empty, 'tx.plot("cpu_percent", window="30s")')
    chart = empty.panel.locator(".fabric-plot")
    assert await painted(chart, BLUE) > 0
    rows = await chart.get_by_role("img").get_attribute("aria-label")
    await expect(chart.get_by_role("img")).not_to_have_attribute("aria-label", str(rows))
    await streams.get_by_role("button", name="Insert df = tx.df").click()
    await expect(active_cell(page)).to_contain_text("df = tx.df")
    await cell(
        empty,
        "%%fabric_serve --id answers --version 1.2\n"
        "def twice(x: float) -> float:\n    return 2 * x",
    )
    await cell(empty, "%fabric_call answers.twice x=21")
    served = panel.get_by_role("region", name="Serving").last.locator("tr.row")
    await expect(served).to_contain_text(["notebook.answers"])
    await expect(served.locator("[data-label=calls]")).to_have_text("1")
    # The panel shows a second notebook, which calls the service of the first one.
    second = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("fabric_nb is not loaded in this notebook.")
    await panel.get_by_role("button", name="Load and connect").click()
    await row(page, "answers").click()
    await row(page, "twice").click()
    assert await source(page) == "%fabric_call notebook.answers.twice x=..."
    await page.keyboard.type("4.5")
    await page.keyboard.press("Control+Enter")
    await expect(second.panel.locator(".jp-OutputArea-executeResult")).to_contain_text("9.0")
    await expect(panel).to_contain_text("Nothing is served")
    await show(empty)
    await expect(served.locator("[data-label=calls]")).to_have_text("2")
    await expect(served.locator("[data-label=errors]")).to_be_hidden()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"panel-{theme.split()[1].lower()}.png")
    await set_theme(page, "JupyterLab Light")
    await page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    # A restart clears the panel, and connecting again fills it.
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(panel).to_contain_text("fabric_nb is not loaded in this notebook.")
    await panel.get_by_role("button", name="Only load").click()
    await expect(panel).to_contain_text("This notebook is not connected to a fabric.")
    assert await source(page) == "%load_ext fabric_nb"
    await panel.get_by_role("button", name="Connect", exact=True).click()
    await expect(panel).to_contain_text("my_project")
    # The domain of the other open notebook.
    assert await source(page) == "%fabric_connect --domain my_project"
    await expect(row(page, "notebook")).to_be_visible()
    await show(second)
    await second.close()


async def test_a_magic_before_loading(empty: LabNotebook, page: Page, screens: Path) -> None:
    """A magic that is used before loading shows a notification with a button to load."""
    toast = page.locator(".Toastify__toast")
    await empty.run("%fabric_connect")
    await expect(toast).to_have_text(
        f"%fabric_connect needs fabric_nb, which is not loaded in {empty.path.name};"
        " load it and run the cell again.Load the extension"
    )
    # Further magics show no second notification, and nothing is run.
    await empty.run("%%fabric_serve\ndef one():\n    return 1")
    await expect(toast).to_contain_text("%%fabric_serve needs fabric_nb")
    await expect(toast).to_have_count(1)
    assert await empty.value("'fabric_nb' in __import__('sys').modules") == "False"
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"toast-{theme.split()[1].lower()}.png")
    await set_theme(page, "JupyterLab Light")
    # A hidden notification is shown again with the next such cell.
    await page.get_by_role("button", name="Hide notification").click()
    await expect(toast).to_have_count(0)
    await empty.run("%fabric_services")
    await toast.get_by_role("button", name="Load the extension").click()
    await expect(toast).to_have_count(0)
    await expect(panel_of(page)).to_contain_text("This notebook is not connected to a fabric.")
    # Inserted above the first cell that needs it, so that Run All works; the last one is rerun.
    await expect(active_cell(page)).to_contain_text("%fabric_services")
    await expect(active_cell(page).locator(".jp-OutputArea")).to_contain_text("%fabric_connect")
    sources: list[str] = await page.evaluate(
        "() => jupyterapp.shell.currentWidget.content.widgets"
        ".map(cell => cell.model.sharedModel.source)"
    )
    uses = [text for text in sources if text.lstrip().startswith("%")]
    assert uses[0] == "%load_ext fabric_nb"
    assert uses.count("%load_ext fabric_nb") == 1
    # An unknown magic shows no notification: the next one comes from elsewhere.
    await empty.run("%fabric_nothing")
    await page.evaluate(
        """() => jupyterapp.commands.execute(
          "apputils:notify", { message: "x", options: { autoClose: false } }
        )"""
    )
    await expect(toast).to_have_text(["x"])
    # The magic works after loading.
    await empty.run("%fabric_connect --domain early")
    await expect(panel_of(page).locator(".fabric-connection")).to_contain_text("early")


async def test_from_a_url_to_a_report(
    empty: LabNotebook, shop: AmqBrokerConnector, broker: BrokerProcess, page: Page, screens: Path
) -> None:
    """With a URL, two cells show the services; a call, a chart and a saved report follow."""
    await cell(empty, f"%load_ext fabric_nb\n%fabric_connect {broker.uri}")
    card = empty.panel.locator(".fabric-page")
    await expect(card).to_contain_text("shop")
    await expect(card).to_contain_text("orders")
    await cell(empty, "%fabric services calls")
    tables = empty.panel.locator(".fabric-table")
    await expect(tables).to_have_count(2)
    services, calls = await tables.all()
    await services.locator(ROWS).filter(has_text="orders").locator("td").nth(1).click()
    form = services.locator("details.form").filter(has_text="price(")
    await form.locator("summary").click()
    await form.get_by_label("sku").fill("tea")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.locator(".answer")).to_contain_text("9.5")
    await expect(calls.locator(ROWS).filter(has_text="price")).to_have_count(1)
    await cell(empty, "prices = %fabric_stream kind=PRICE")
    for number in range(20):
        await shop.publish_data({"total": number * 9.5}, {"kind": "PRICE"})
    await cell(empty, "await prices.wait(20, timeout=60)\nprices.plot('total');")
    await expect(empty.panel.locator(".fabric-plot")).to_be_visible()
    await cell(empty, "%fabric_report first.html")
    await expect(empty.panel.get_by_text("first.html").last).to_be_visible()
    browser = page.context.browser
    assert browser is not None
    report = await new_page(browser)
    await report.goto((empty.path.parent / "first.html").as_uri())
    await expect(report.locator(".fabric-table").first).to_be_visible()
    await expect(report.locator("section").filter(has_text="price").first).to_be_visible()
    await expect(report.locator("section svg[role=img]")).to_be_visible()
    await report.screenshot(path=screens / "first-report.png", full_page=True)
    await report.close()
