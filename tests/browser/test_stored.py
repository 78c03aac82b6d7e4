"""Views and their shared code, in stored and reopened notebooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.lab import Lab, LabNotebook, set_theme
from tests.browser.test_table import ROWS

VIEWS = """\
from fabric_nb.notebook.live.page import PageWidget
from fabric_nb.notebook.pages import Badge, Page
from tests.browser import charts, scenes
PageWidget(Page("Fabric", [Badge("connected", "good")])).show()
charts.chart(300, y="price").show()
for _ in range(2): scenes.numbers(5).show()
orders = scenes.orders(500)"""
GONE, STORED = "kernel gone: last state", "stored: last state"


@pytest_asyncio.fixture(loop_scope="session")
async def stores_state(page: Page) -> AsyncIterator[None]:
    """Enable storing of widget states in JupyterLab."""
    menu = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"
    await page.evaluate("(menu) => jupyterapp.commands.execute(menu)", menu)
    assert await page.evaluate("(menu) => jupyterapp.commands.isToggled(menu)", menu)
    yield
    await page.evaluate("(menu) => jupyterapp.commands.execute(menu)", menu)


async def test_first_table_in_a_blocking_cell(empty: LabNotebook) -> None:
    """Its code is sent before it, so that it is rendered while the kernel is blocked."""
    await empty.start(
        "import time\nfrom tests.browser import scenes\nscenes.numbers(5).show()\ntime.sleep(60)"
    )
    table = empty.panel.locator(".fabric-table")
    await expect(table.locator(ROWS)).to_have_count(5)
    await expect(empty.panel.locator(".jp-InputPrompt").first).to_have_text("[*]:")
    await empty.interrupt()


async def test_first_table_in_an_awaiting_cell(empty: LabNotebook) -> None:
    """Rows are updated while the cell is running."""
    await empty.start(
        "import asyncio\nfrom tests.browser import scenes\n"
        "table = scenes.numbers(5)\ntable.show()\n"
        "for n in range(600):\n"
        "    table.model.put(0, [f'step {n}', 0, 0, 0, 0])\n    table.update()\n"
        "    await asyncio.sleep(0.1)"
    )
    first = empty.panel.locator(f".fabric-table {ROWS}").first
    await expect(first).to_contain_text("step")
    seen = await first.inner_text()
    await expect(first).not_to_have_text(seen)
    await expect(empty.panel.locator(".jp-InputPrompt").first).to_have_text("[*]:")
    await empty.interrupt()


async def test_views_of_one_kind_share_their_code(
    lab: Lab, page: Page, stores_state: None, screens: Path
) -> None:
    """A stored notebook contains the code once; its views are rendered, with a badge."""
    notebook = await LabNotebook.open(page, lab)
    await notebook.run(VIEWS)
    await expect(notebook.panel.locator(".fabric-table")).to_have_count(3)
    await expect(notebook.panel.locator(".fabric-plot canvas")).to_be_visible()
    await expect(notebook.panel.locator(".fabric-page .as-of")).to_be_hidden()
    await notebook.save()
    await notebook.close()
    text = notebook.path.read_text()
    for code in ("class TableView", "class PlotView", "fabric-page .as-of {"):
        assert text.count(code) == 1
    again = await LabNotebook.reopen(page, notebook.path)
    tables, chart = (again.panel.locator(f".fabric-{kind}") for kind in ("table", "plot"))
    await expect(tables.locator(ROWS)).to_have_count(30)
    for table in await tables.all():
        await expect(table.locator(".badges")).to_have_text(STORED)
    await expect(chart.locator(".state")).to_have_text(STORED)
    await expect(again.panel.locator(".fabric-page .as-of")).to_be_visible()
    stream = tables.last
    await expect(stream.locator(".count")).to_have_text("20 rows")
    await expect(stream.locator(".notes")).to_contain_text("… and 480 older rows, not shown.")
    await expect(stream.locator("button.tool:visible")).to_have_count(0)
    await stream.get_by_label("Filter rows").fill("o499")
    await expect(stream.locator(".count")).to_have_text("1 of 20 rows")
    for last in await again.panel.locator("[class^=fabric-][class$=-last]").all():
        await expect(last).to_be_hidden()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"stored-{theme.split()[1].lower()}.png")
    await again.close()
    styles = await page.evaluate(
        "() => [...document.head.querySelectorAll('style')]"
        ".filter((style) => ['.fabric-table .scroller', 'Colours and fonts of tables']"
        ".every((text) => style.textContent.includes(text))).length"
    )
    assert styles == 1


async def test_badge_of_a_chart_without_a_kernel(lab: Lab, page: Page) -> None:
    """After a restart of the kernel the last picture is kept, with a badge."""
    notebook = await LabNotebook.open(page, lab)
    await notebook.run(
        "import asyncio\nfrom tests.browser import charts\n"
        "chart = charts.chart(300, y='price')\nchart.show()"
    )
    chart = notebook.panel.locator(".fabric-plot")
    await expect(chart.locator(".legend")).to_contain_text("price")
    await expect(chart.locator(".state")).to_be_hidden()
    # A restart while a comm is being opened is an error of JupyterLab.
    await notebook.execute("while not chart.attached: await asyncio.sleep(0.05)")
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(chart.locator(".state")).to_have_text(GONE)
    await notebook.close()


async def test_a_page_without_the_code_requests_it(empty: LabNotebook) -> None:
    """A page without the model of the code, as a reloaded window of VS Code, shows views."""
    await empty.run("from tests.browser import scenes\ntable = scenes.numbers(5)")
    # Close the model in the page only.
    await empty.execute("table._code.comm.publish_msg('comm_close', data={})")
    await empty.run("table.show()")
    await expect(empty.panel.locator(f".fabric-table {ROWS}")).to_have_count(5)
