"""The table of a stream: filters, order, columns and rows, in a real JupyterLab."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Locator, Page, expect

from tests.browser.lab import LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.test_table import ROWS

SIZES = (1400, 900)
THEMES = (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light"))


async def show(notebook: LabNotebook, rows: int = 5_000) -> Locator:
    """Show a stream of orders, and return its table."""
    await notebook.run(f"from tests.browser import scenes\n\nstream = scenes.orders({rows})")
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(ROWS).last).to_be_visible()
    return table


def cell(table: Locator, row: int, column: str) -> Locator:
    """Return a cell by the place of its row, from 1."""
    return table.locator(f'tr[aria-rowindex="{row + 1}"] td[data-label="{column}"]')


async def test_all_rows_are_filtered_sorted_and_scrolled(notebook: LabNotebook) -> None:
    """Filter, order and scrolling reach each row that the stream keeps, and follow new ones."""
    table = await show(notebook)
    count = table.locator(".count")
    await expect(count).to_have_text("5,000 rows")
    await table.locator(".scroller").evaluate("(node) => { node.scrollTop = 26 * 2000; }")
    await expect(cell(table, 2001, "order")).to_have_text("o2000")
    await table.get_by_label("Filter rows").fill("green o12")
    await expect(count).to_have_text("22 of 5,000 rows")
    await expect(cell(table, 1, "order")).to_have_text("o123")
    await table.get_by_role("columnheader", name="price").get_by_role("button").click()
    await table.get_by_role("columnheader", name="price").get_by_role("button").click()
    await expect(cell(table, 1, "order")).to_have_text("o1248")
    await notebook.execute("scenes.add_orders(stream, 8_000)")
    await expect(count).to_have_text("222 of 13,000 rows")
    await table.get_by_label("Filter rows").fill("")
    await expect(cell(table, 1, "price")).to_have_text("99.99")
    await expect(count).to_have_text("13,000 rows")
    await table.locator(".scroller").evaluate("(node) => { node.scrollTop = 26 * 12_990; }")
    await expect(cell(table, 13_000, "price")).to_have_text("0")


async def test_looks(notebook: LabNotebook, page: Page, screens: Path) -> None:
    """Pictures, in both themes and two widths."""
    table = await show(notebook)
    await table.get_by_role("button", name="Columns").click()
    await table.get_by_label("Filter of price").fill("> 99")
    await table.get_by_label("Filter of count").fill("abc")
    await expect(table.locator(".problem").filter(has_text="abc")).to_be_visible()
    await table.locator(ROWS).last.click()
    for width in SIZES:
        await page.set_viewport_size({"width": width, "height": 900})
        for theme, name in THEMES:
            await set_theme(page, theme)
            assert await table.evaluate(POOR_CONTRAST) == [], theme
            await page.screenshot(path=screens / f"paging-{name}-{width}.png")
