"""The table of a stream: filters, order, columns and rows, in a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from tests.browser.lab import Lab, LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.panels import source
from tests.browser.test_table import ROWS

SIZES = (1400, 900)
THEMES = (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light"))


BLOCK = """(code) => {
  jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
}"""
"""Function that runs code in the kernel, and does not wait for its end."""


async def show(notebook: LabNotebook, rows: int = 5_000) -> Locator:
    """Show a stream of orders, and return its table."""
    await notebook.run(f"from tests.browser import scenes\n\nstream = scenes.orders({rows})")
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(ROWS).last).to_be_visible()
    return table


def cell(table: Locator, row: int, column: str) -> Locator:
    """Return a cell by the place of its row, from 1."""
    return table.locator(f'tr[aria-rowindex="{row + 1}"] td[data-label="{column}"]')


async def test_all_rows_are_filtered_sorted_and_scrolled(notebook: LabNotebook, lab: Lab) -> None:
    """Filter, order and scrolling reach each row that the stream keeps, and follow new ones."""
    table = await show(notebook)
    count = table.locator(".count")
    await expect(count).to_have_text("5,000 rows")
    await table.locator(".scroller").evaluate("(node) => { node.scrollTop = 26 * 2000; }")
    await expect(cell(table, 2001, "order")).to_have_text("o2000")
    released = lab.root / "released"
    await notebook.page.evaluate(
        BLOCK, "import os, time\nwhile not os.path.exists('released'): time.sleep(0.01)"
    )
    await table.get_by_label("Filter rows").fill("green o12")
    await expect(count).to_have_text("Waiting for the running cell.")
    released.touch()
    await expect(count).to_have_text("22 of 5,000 rows")
    await expect(cell(table, 1, "order")).to_have_text("o123")
    await table.get_by_role("columnheader", name="price").get_by_role("button").click()
    await table.get_by_role("columnheader", name="price").get_by_role("button").click()
    await expect(cell(table, 1, "order")).to_have_text("o1248")
    await notebook.execute("scenes.add_orders(stream, 8_000)")
    await expect(count).to_have_text("222 of 13,000 rows")
    await table.get_by_label("Filter rows").press("ArrowDown")
    for key, order in (("End", "o12278"), ("ArrowUp", "o12973"), ("Home", "o12368")):
        await notebook.page.keyboard.press(key)
        await expect(table.locator("tr.row:focus")).to_contain_text(order)
    await notebook.page.keyboard.press("Enter")
    await expect(table.locator("tr.detail")).to_contain_text("o12368")
    await notebook.page.keyboard.press("Space")
    await expect(table.locator("tr.detail")).to_have_count(0)
    await table.get_by_label("Filter rows").fill("")
    await expect(cell(table, 1, "price")).to_have_text("99.99")
    await expect(count).to_have_text("13,000 rows")
    await table.locator(".scroller").evaluate("(node) => { node.scrollTop = 26 * 12_990; }")
    await expect(cell(table, 13_000, "price")).to_have_text("0")


async def test_columns_filters_and_values(notebook: LabNotebook, page: Page, screens: Path) -> None:
    """Columns are chosen and filtered, with a sentence for a bad filter; a row opens to a tree."""
    table = await show(notebook)
    columns = table.get_by_role("button", name=re.compile("^Columns"))
    await columns.click()
    await table.get_by_label("Filter of price").fill("> 99")
    await expect(table.locator(".count")).to_have_text("50 of 5,000 rows")
    await table.get_by_label("Filter of count").fill("abc")
    problem = table.locator(".problem").filter(has_text="abc")
    await expect(problem).to_have_text("'abc' is no number: write > 5 or 5..10.")
    await table.get_by_label("extra 3", exact=True).uncheck()
    await expect(table.get_by_role("columnheader", name="extra 3")).to_have_count(0)
    await expect(table.get_by_role("columnheader", name="price")).to_have_attribute("title", "> 99")
    await expect(table.get_by_role("columnheader", name="extra 13")).to_have_count(1)
    row = table.locator(ROWS).last
    await row.locator("td").nth(2).dblclick()  # the second click selects a word
    detail = table.locator("tr.detail")
    await expect(detail).to_contain_text("o4942")
    await detail.locator("summary").click()
    await detail.locator("summary", has_text="tags").click()
    await detail.locator("summary", has_text="1 field").click()
    await expect(detail.locator("li", has_text="vip").last).to_have_text("vipTrue")
    await row.locator("td").nth(2).select_text()
    await row.locator("td").nth(2).dispatch_event("click")
    await expect(detail).to_have_count(1)
    await table.get_by_role("button", name="Export").click()
    for theme, name in THEMES:
        await set_theme(page, theme)
        assert await table.evaluate(POOR_CONTRAST) == [], theme
        for width in SIZES:
            await page.set_viewport_size({"width": width, "height": 1000})
            await columns.scroll_into_view_if_needed()
            await page.screenshot(path=screens / f"paging-{name}-{width}.png")
    await page.set_viewport_size({"width": 1200, "height": 900})
    await notebook.execute("stream.add_rows([{'price': 'free'}])")
    await expect(table.locator(".problem").filter(has_text="price")).to_have_text(
        "'price' is no column of numbers any more, so that its filter is off: write words."
    )
    await expect(table.locator(".count")).to_have_text("5,001 of 5,001 rows")
    await table.get_by_role("button", name="Clear filters").click()
    await expect(table.locator(".count")).to_have_text("5,001 rows")


async def test_selected_rows_are_used(notebook: LabNotebook, lab: Lab) -> None:
    """The rows that match are copied, saved beside the notebook, and selected in a new cell."""
    table = await show(notebook)
    page = notebook.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await table.get_by_label("Filter rows").fill("o4999")
    await expect(table.locator(".count")).to_have_text("1 of 5,000 rows")
    await table.get_by_role("button", name="Export").click()
    answer = table.locator("> .answer")
    await table.get_by_role("button", name="Copy as TSV").click()
    await expect(answer).to_have_text("Copied 1 row.")
    copied = await page.evaluate("() => navigator.clipboard.readText()")
    assert copied.splitlines()[1].startswith("2026-11-30 13:23:19\tmilk\to4999\t863\t")
    name = f"{notebook.path.stem}.csv"
    await table.get_by_label("File").fill(name)
    for text in (f"Saved 1 row to {name}.", "exists"):
        await table.get_by_role("button", name="Save").click()
        await expect(answer).to_contain_text(text)
    await expect(answer).to_have_text(f"{name} exists: write another name, or tick Replace.")
    await table.get_by_label("Replace").check()
    await page.keyboard.press("Enter")
    await expect(answer).to_have_text(f"Saved 1 row to {name}.")
    assert "o4999" in (lab.root / name).read_text()
    await table.get_by_role("button", name="DataFrame in a new cell").click()
    await expect(answer).to_have_text("Inserted into a cell below.")
    code = await source(page)
    assert code.startswith('df = stream.where("o4999", within=["at", "sku", "order", ')
    await notebook.execute(f"{code}\nassert list(df.order) == ['o4999']")
    await page.evaluate("() => jupyterapp.commands.execute('notebook:delete-cell')")


async def test_rows_without_a_kernel(empty: LabNotebook) -> None:
    """Without its kernel a table filters the rows that it has, and offers nothing else."""
    table = await show(empty)
    await expect(table.locator(".count")).to_have_text("5,000 rows")
    await empty.page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(table.locator(".badges")).to_have_text("kernel gone: last state")
    await expect(table.locator(".notes")).to_contain_text("… and 4,900 older rows, not shown.")
    await table.get_by_label("Filter rows").fill("o4999")
    await expect(table.locator(".count")).to_have_text("1 of 100 rows")
    await expect(table.locator(ROWS)).to_contain_text("o4999")
    await table.locator(ROWS).click()
    await expect(table.locator("tr.detail")).to_have_count(0)
    for name in ("Columns", "Export", "Pause"):
        await expect(table.get_by_role("button", name=name)).to_have_count(0)
