"""The panel in a real JupyterLab: services, forms, logs, settings, keyboard, themes and sides."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, Response, expect

from tests.browser.lab import Lab, LabNotebook, new_page, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.panels import (
    CROWD,
    active_cell,
    beside_notebooks,
    connected,
    filter_services,
    panel_of,
    row,
    show,
    show_panel,
    source,
)

SETTINGS = "lab/api/settings/fabric-nb:plugin"

SERVED = """
%%fabric_serve --id orders --version 1.4
def price(sku: str, count: int = 1) -> float:
    "What an order costs."
    return 9.5 * count

def ship(order: str) -> str:
    raise LookupError(f"no such order: {order}")
"""

LOGGING = """
import logging
from fabric_nb import AmqpHandler
handler = AmqpHandler()
await fabric.init_logging_handler(handler)
log = logging.getLogger("shop.orders")
log.addHandler(handler)
log.setLevel("DEBUG")
log.propagate = False
"""

CLIQUE = """
from fabric_nb import AmqBrokerConnector
class Shop:
    def price(self): pass
async def member():
    one = AmqBrokerConnector(fabric.member.target().uri, "details", "shop", "clique", 0.5)
    await one.open()
    await one.serve(Shop(), version="2.0")
    return one
one, other = await member(), await member()
"""

CUT_ROWS = """(log) => {
  const { top } = log.getBoundingClientRect();
  return [...log.querySelectorAll("tr.row")]
    .filter((row) => {
      const box = row.getBoundingClientRect();
      return box.top < top - 1 && box.bottom > top + 1;
    })
    .map((row) => row.textContent);
}"""
"""Texts of the rows of a log that are cut off at the top."""

MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """Open a page with JupyterLab and the panel, for this module."""
    await default_settings(page, lab)
    async with beside_notebooks(page, lab, errors) as own:
        yield own
    await default_settings(page, lab)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def details(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """Open a notebook in the domain `details` that serves `notebook.orders` and logs."""
    notebook = await LabNotebook.open(page, lab)
    await connected(notebook, "details")
    await notebook.execute(CROWD)
    await notebook.execute(SERVED.lstrip())
    await notebook.execute(LOGGING)
    await row(page, re.compile("^orders")).click()
    yield notebook
    await show(notebook)
    await notebook.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """Open a notebook in the domain `own`, with the function `crowd`."""
    notebook = await LabNotebook.open(page, lab)
    await connected(notebook, "own")
    await notebook.execute(CROWD)
    yield notebook
    await show(notebook)
    await notebook.close()


async def default_settings(page: Page, lab: Lab) -> None:
    """Restore the default settings of the panel."""
    reply = await page.request.put(f"{lab.url}/{SETTINGS}", data={"raw": "{}"})
    assert reply.ok, await reply.text()


async def test_the_panel_follows_the_notebook(lab: Lab, empty: LabNotebook, page: Page) -> None:
    """Each notebook has its own fabric and UI state in the panel."""
    panel = panel_of(page)
    await connected(empty, "first")
    await empty.execute("%%fabric_serve\ndef twice(x): return 2 * x")
    await filter_services(page, "notebook")
    await row(page, "nb").click()
    await row(page, "twice").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.nb.twice")
    await form.get_by_label("x").fill("21")
    other = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("fabric_nb is not loaded")
    await expect(page.locator("#jp-main-statusbar")).not_to_contain_text("Fabric:")
    await connected(other, "second")
    filter_ = panel.get_by_label("Filter services")
    await expect(filter_).to_have_value("")
    await expect(form).to_have_count(0)
    await show(empty)
    await expect(filter_).to_have_value("notebook")
    await expect(form.get_by_label("x")).to_have_value("21")
    await expect(row(page, "twice")).to_have_attribute("aria-selected", "true")
    connection = panel.locator(".fabric-connection")
    await expect(connection).to_contain_text("first")
    await expect(connection).not_to_contain_text("second")
    await show(other)
    await expect(connection).to_contain_text("second")
    await other.close()
    await expect(connection).to_contain_text("first")


BUSY = """
import asyncio, contextlib
from fabric_nb import AmqBrokerConnector
async def work(sku="a"):
    await asyncio.sleep(0.002)
    if sku == "none":
        raise LookupError(sku)
async def busy(id, version="2.0"):
    member = AmqBrokerConnector(fabric.member.target().uri, "details", "work", id, 0.5)
    await member.open()
    await member.serve({"work": work}, version=version)
    return member
members = [await busy("busy"), await busy("busy"), await busy("idle")]
async def calls():
    while True:
        with contextlib.suppress(Exception):
            await fabric.call("work.busy.work", sku="none" if next(numbers) % 40 == 0 else "a")
import itertools
numbers = itertools.count()
calling = asyncio.ensure_future(calls())
"""


async def test_statistics_of_services(details: LabNotebook, page: Page, screens: Path) -> None:
    """A service that answers calls has their rate beside it, and statistics when it is opened."""
    await details.execute(BUSY)
    await filter_services(page, "work")
    busy, idle = row(page, re.compile("^busy")), row(page, re.compile("^idle"))
    await expect(busy).to_contain_text(re.compile(r"\d/s"))
    await expect(idle).to_be_visible()
    await busy.click()
    instances = row(page, re.compile("^instance"))
    await expect(instances).to_have_count(2)
    await expect(instances.first).to_contain_text(re.compile(r"\d/s"))
    await expect(row(page, re.compile(r"^p95 [\d.]+ ms · \d running"))).to_be_visible()
    await expect(row(page, re.compile(r"^[\d,]+ calls · \d+ errors?$"))).to_be_visible()
    await expect(row(page, re.compile(r"^work\("))).to_be_visible()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        assert await panel_of(page).evaluate(POOR_CONTRAST) == [], theme
        name = f"panel-statistics-{theme.split()[1].lower()}.png"
        await page.screenshot(path=screens / name)
    await details.execute("calling.cancel()\nfor member in members: await member.close()")
    await expect(busy).not_to_contain_text("/s")
    await busy.click()
    await filter_services(page, "")


async def test_instances_states_and_errors(details: LabNotebook, page: Page, screens: Path) -> None:
    """Instances have their own state, failed calls are counted, and contrast is sufficient."""
    panel = panel_of(page)
    await details.execute(CLIQUE)
    await row(page, re.compile("^clique")).click()
    await expect(row(page, re.compile("^clique"))).to_contain_text("\u00d72")
    instances = row(page, re.compile("^instance"))
    await expect(instances).to_have_count(2)
    await expect(instances.locator(".badge")).to_have_text(["up", "up"])
    await details.execute("await other.close()")
    await expect(instances.locator(".badge")).to_have_text(["up", "gone"])
    await expect(row(page, re.compile("^clique"))).not_to_contain_text("\u00d7")
    # A served call that fails.
    await details.execute("%fabric_call orders.price sku='a'")
    await details.execute(
        "try:\n    await fabric.call('notebook.orders.ship', order='b')\n"
        "except LookupError:\n    pass"
    )
    price, ship = served(page, "price"), served(page, "ship")
    await expect(price.locator("[data-label=calls]")).to_have_text("1")
    await expect(price.locator("[data-label=errors]")).to_be_hidden()
    await expect(ship.locator("[data-label=calls]")).to_have_text("1")
    await expect(ship.locator("[data-label=errors]")).to_have_text("1")
    await expect(ship.locator("[data-label=errors]")).to_have_attribute("data-unit", "error")
    await ship.click()
    opened = panel.get_by_role("region", name="Serving").last.locator("tr.detail")
    await expect(opened).to_contain_text("LookupError: no such order: b")
    title = panel.get_by_title("Calls", exact=True)
    await title.click()
    calls = panel.get_by_role("region", name=re.compile("^Calls")).last
    await calls.locator("tr.row").filter(has_text="ship").last.click()
    await expect(calls.locator("tr.detail")).to_contain_text("order = 'b'")
    await expect(calls.locator("tr.detail")).to_contain_text("For the owner of the service")
    await calls.locator("tr.row").filter(has_text="price").last.click()
    await calls.get_by_text("Save the result").click()
    save = calls.locator("details.form", has_text="Save the result")
    await save.get_by_label("file").fill("price.txt")
    await save.get_by_role("button", name="Save").click()
    await expect(save.get_by_role("alert")).to_contain_text("is saved as .json")
    await save.get_by_label("file").fill("price.json")
    await save.get_by_role("button", name="Save").click()
    await expect(save.get_by_role("status")).to_contain_text("Saved price.json, 3 bytes")
    await page.screenshot(path=screens / "panel-calls.png")
    await title.click()
    # A form with an answer, and all kinds of badges.
    await row(page, re.compile("^ship")).click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.orders.ship")
    await form.get_by_label("order").fill("'c'")
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("status")).to_contain_text("no such order: c")
    for level in ("info", "warning", "error"):
        await until_shown(details, level)
    await log_rows(page).filter(has_text="logged at error").first.click()
    await details.execute(
        "await crowd(1, instance='silent', interval=4.0)\n"
        "await crowd(1, instance='blocked', busy_since=1.0, interval=60.0)"
    )
    await page.screenshot(path=screens / "panel-form.png")
    await form.get_by_role("button", name="Close the form").click()
    await filter_services(page, "s0000")
    await row(page, "s0000").click()
    await expect(instances.filter(has_text="silent")).to_contain_text("late")
    await expect(instances.filter(has_text="blocked")).to_contain_text("busy")
    await expect(row(page, "s0000")).to_contain_text("busy")
    await filter_services(page, "")
    await panel.get_by_role("tree", name="Services").focus()
    await page.keyboard.press("Home")
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        await set_theme(page, theme)
        assert await panel.evaluate(POOR_CONTRAST) == [], theme
        await page.screenshot(path=screens / f"panel-details-{name}.png")
    await page.keyboard.press("Escape")


async def test_a_click_inserts_and_never_runs(details: LabNotebook, page: Page) -> None:
    """A click on a method inserts the call into a cell, which is not run."""
    await filter_services(page, "notebook orders")
    await row(page, re.compile("^price")).click()
    await expect(active_cell(page)).to_contain_text("%fabric_call")
    assert await source(page) == "%fabric_call notebook.orders.price sku=..."
    await details.execute("pass")  # a cell that was run would be finished by now
    cells = await page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets.map(
          ({ model }) => [model.sharedModel.source, model.executionCount, model.outputs.length]
        )"""
    )
    assert ["%fabric_call notebook.orders.price sku=...", None, 0] in cells
    await filter_services(page, "")


async def test_the_menu_of_a_row_by_keyboard(details: LabNotebook, page: Page) -> None:
    """Shift+F10 and the menu key open the menu of the active row, which copies its address."""
    filter_ = panel_of(page).get_by_label("Filter services")
    tree = panel_of(page).get_by_role("tree", name="Services")
    selected = tree.get_by_role("treeitem", selected=True)
    await filter_services(page, "notebook orders")
    await expect(row(page, re.compile("^price"))).to_be_visible()
    await tree.focus()
    for end, neighbour, key, steps, address in (
        ("Home", "ArrowDown", "ContextMenu", 2, "details.notebook.orders"),
        ("End", "ArrowUp", "Shift+F10", 3, "details.notebook.orders.price"),
    ):
        await page.keyboard.press(end)
        await page.keyboard.press(neighbour)
        await page.keyboard.press(key)
        await expect(page.get_by_role("menuitem", name="Copy the Address")).to_be_visible()
        for _ in range(steps):
            await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(page.locator(".lm-Menu")).to_have_count(0)
        await expect(selected).to_be_focused()
        await filter_.fill("")
        await filter_.press("Control+V")
        await expect(filter_).to_have_value(address)
        await filter_services(page, "notebook orders")
        await tree.focus()
    await page.keyboard.press("Shift+F10")
    await expect(page.get_by_role("menuitem", name="Copy the Address")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(selected).to_be_focused()
    await filter_.fill("")


async def test_logs_by_level_and_text(details: LabNotebook, page: Page) -> None:
    """Log records are filtered by level and text, paused, opened, and followed at the end."""
    panel = panel_of(page)
    lines = panel.get_by_role("log", name="Logs")
    level = panel.get_by_label("Level")
    filter_ = (
        panel.locator(".fabric-live")
        .filter(has=page.get_by_role("log"))
        .get_by_label("Filter rows")
    )
    pause = panel.get_by_role("button", name="Pause", exact=True)
    messages = log_rows(page).locator("[data-label=message]")
    await until_shown(details, "info")
    await filter_.fill("chosen")
    await expect(panel).to_contain_text("No row matches the filter.")
    await details.execute("log.debug('chosen quiet')\nlog.warning('chosen slow')")
    await details.execute("log.error('chosen broken')")
    await expect(messages).to_have_text(["chosen slow", "chosen broken"])
    await level.select_option("ERROR")
    await expect(messages).to_have_text(["chosen broken"])
    await level.select_option("DEBUG")
    await filter_.fill("")
    await until_shown(details, "debug")
    await details.execute("log.debug('chosen detail')")
    await filter_.fill("chosen")
    # Records of a lower level are shown although they arrived before it was chosen.
    chosen = ["chosen quiet", "chosen slow", "chosen broken", "chosen detail"]
    await expect(messages).to_have_text(chosen)
    await filter_.fill("DETAIL chosen")
    await expect(messages).to_have_text(["chosen detail"])
    # While paused, no new records are shown.
    await filter_.fill("meanwhile")
    await pause.click()
    await expect(pause).to_have_attribute("aria-pressed", "true")
    await details.execute("log.error('meanwhile')")
    await until_pushed(details)
    await expect(messages).to_have_count(0)
    await pause.click()
    await expect(messages).to_have_text(["meanwhile"])
    # The detail of a row has what the row truncates or hides.
    await messages.click()
    await expect(lines.locator("tr.detail")).to_contain_text("shop.orders")
    # Scrolled up, the table keeps its position; at its end it follows.
    await filter_.fill("many")
    await details.execute("for n in range(100): log.info(f'many {n}')")
    await expect(messages.get_by_text("many 99", exact=True)).to_be_in_viewport()
    await lines.evaluate("lines => { lines.scrollTop = 0; }")
    await expect(messages.get_by_text("many 0", exact=True)).to_be_in_viewport()
    await details.execute("log.info('many more')")
    await until_pushed(details)
    await expect(messages.get_by_text("many 0", exact=True)).to_be_in_viewport()
    await lines.evaluate("lines => { lines.scrollTop = lines.scrollHeight; }")
    await expect(messages.get_by_text("many more", exact=True)).to_be_in_viewport()
    await details.execute("log.info('many most')")
    await expect(messages.get_by_text("many most", exact=True)).to_be_in_viewport()
    assert await lines.evaluate(CUT_ROWS) == [], "the first visible row is whole"


def log_rows(page: Page) -> Locator:
    """Return the rows of the log table."""
    return panel_of(page).get_by_role("log", name="Logs").locator("tr.row")


def served(page: Page, method: str) -> Locator:
    """Return the row of a method of the notebook's service `orders`."""
    rows = panel_of(page).get_by_role("region", name="Serving").last.locator("tr.row")
    return rows.filter(has_text="notebook.orders").filter(has_text=f"{method}(")


async def until_shown(notebook: LabNotebook, level: str) -> None:
    """Log repeatedly until the panel receives logs, as records before are lost."""
    line = log_rows(notebook.page).filter(has_text=f"logged at {level}").first
    for _ in range(40):
        await notebook.execute(f"log.{level}('logged at {level}')")
        try:
            await expect(line).to_be_visible(timeout=1000)
        except AssertionError:
            continue
        return
    raise AssertionError(f"the panel received no log record at {level}")


async def until_pushed(notebook: LabNotebook) -> None:
    """Wait for a push that is later than all log records before, by one more served call."""
    calls = served(notebook.page, "price").locator("[data-label=calls]")
    count = int(await calls.inner_text())
    await notebook.execute("%fabric_call orders.price sku='a'")
    await expect(calls).to_have_text(str(count + 1))


async def test_progress_of_a_form(empty: LabNotebook, page: Page, screens: Path) -> None:
    """A form shows the progress of its call, and what becomes of it when it is cancelled."""
    panel = panel_of(page)
    await connected(empty, "caller")
    await empty.execute(
        "%%fabric_serve --id forecast\nimport asyncio, fabric_nb\n"
        "async def train():\n    fabric_nb.progress(30, 120, 'training')\n"
        "    await asyncio.Event().wait()"
    )
    await filter_services(page, "forecast")
    await row(page, "forecast").click()
    await row(page, "train").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.forecast.train")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.get_by_role("status")).to_contain_text("training · 30 of 120 · 25 %")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"form-running-{theme.split()[1].lower()}.png")
        assert await panel.evaluate(POOR_CONTRAST) == []
    await form.get_by_role("button", name="Cancel").click()
    await expect(form.get_by_role("status")).to_contain_text("was cancelled: it was stopped")


@pytest.mark.skipif(
    tuple(map(int, version("jupyterlab").split(".")[:2])) < (4, 4),
    reason="before 4.4 JupyterLab has no subshells, so requests wait for the running cell",
)
async def test_the_panel_is_live_while_a_cell_blocks(crowded: LabNotebook, page: Page) -> None:
    """While a cell blocks, services appear, forms call, and the panel has a badge `busy`."""
    panel = panel_of(page)
    await page.evaluate(
        """() => {
          const { content } = jupyterapp.shell.currentWidget;
          content.activeCell.model.sharedModel.setSource("import time\\ntime.sleep(60)");
          void jupyterapp.commands.execute("notebook:run-cell");
        }"""
    )
    await expect(panel.get_by_text("busy", exact=True).first).to_be_visible()
    await page.evaluate("() => jupyterapp.commands.execute('fabric-nb:start-demo')")
    await row(page, "monitor").click()
    await row(page, "top").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="host.monitor.top")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.get_by_role("status")).to_contain_text("memory_mb")
    await expect(panel.get_by_text("busy", exact=True).first).to_be_visible()
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    await expect(panel.locator(".fabric-connection").get_by_text("busy")).to_have_count(0)


async def test_keyboard_and_screen_reader(crowded: LabNotebook, page: Page) -> None:
    """The tree is navigated by keyboard, keeps the focus while it changes, and has ARIA roles."""
    await crowded.execute("await crowd(1000, methods={'add': '(x, y=2)'})")
    tree = panel_of(page).get_by_role("tree", name="Services")
    await filter_services(page, "crowd many")
    await expect(row(page, "many")).to_be_visible()
    assert await tree.get_by_role("treeitem").count() < 80, "only visible rows are rendered"
    await tree.focus()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    first = row(page, "s0000")
    await expect(first).to_have_attribute("aria-selected", "true")
    await expect(first).to_have_attribute("aria-level", "2")
    await expect(first).to_have_attribute("aria-setsize", "1000")
    await expect(first).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("ArrowRight")
    await expect(first).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("ArrowRight")
    await expect(row(page, "add")).to_have_attribute("aria-selected", "true")
    await expect(row(page, "add")).to_be_focused()
    # Updates must not change the focus.
    await crowded.execute("await crowd(1000, methods={'add': '(x, y=2)', 'about': '()'})")
    await expect(row(page, "about")).to_be_visible()
    await expect(row(page, "add")).to_be_focused()
    await expect(row(page, "add")).to_have_attribute("aria-selected", "true")
    # If the row disappears, the row in its place has the focus.
    await crowded.execute("await crowd(1000, methods={'about': '()'})")
    await expect(row(page, "add")).to_have_count(0)
    await expect(row(page, "s0001")).to_be_focused()
    await expect(row(page, "s0001")).to_have_attribute("aria-selected", "true")
    await crowded.execute("await crowd(1000, methods={'add': '(x, y=2)', 'about': '()'})")
    await expect(row(page, "add")).to_be_visible()
    await page.keyboard.press("End")
    await expect(row(page, "s0999")).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(active_cell(page)).to_contain_text("%fabric_call")
    assert await source(page) == "%fabric_call crowd.many.s0000.add x=..."
    # The filter hides other rows.
    await filter_services(page, "s0777")
    await expect(row(page, "s0777")).to_be_visible()
    await expect(tree.get_by_role("treeitem")).to_have_count(2)


async def test_a_domain_without_services(empty: LabNotebook, page: Page, screens: Path) -> None:
    """In a domain without other services, the panel names domains that have services."""
    await connected(empty, "mistaken")
    await empty.execute(f"{CROWD}\nawait crowd(3)")
    hint = panel_of(page).locator(".fabric-message").filter(has_text="Also on this broker")
    await expect(hint).to_contain_text(
        re.compile(
            r"No other service is in mistaken\. Also on this broker: "
            r".*crowd \([\d,]+\+? services\): --domain crowd"
        )
    )
    await expect(hint.locator("code").get_by_text("--domain crowd")).to_be_visible()
    logs = panel_of(page).get_by_role("log", name="Logs")
    await expect(logs.locator("code").get_by_text("--domain crowd")).to_be_attached()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"panel-wrong-domain-{theme.split()[1].lower()}.png")
    here = CROWD.replace('"crowd"', '"mistaken"')
    await empty.execute(f"{here}\nawait crowd(1)")
    await expect(hint).to_have_count(0)


async def switch_side(page: Page, side: str) -> None:
    """Move the panel to a side with the menu of its tab."""
    await page.get_by_role("tab", name="Fabric").click(button="right")
    await page.get_by_role("menuitem", name="Switch Sidebar Side").click()
    await expect(page.locator(f"#jp-{side}-stack").locator(panel_of(page))).to_be_visible()


async def test_the_other_side(empty: LabNotebook, page: Page, screens: Path) -> None:
    """On the other side the panel keeps filters, expanded rows, scroll position and focus."""
    await connected(empty, "moved")
    await empty.execute(f"{CROWD}\nawait crowd(1000, methods={{'add': '(x, y=2)'}})")
    panel = panel_of(page)
    tree = panel.get_by_role("tree", name="Services")
    selected = tree.get_by_role("treeitem", selected=True)
    await filter_services(page, "crowd s0")
    await row(page, "s0007").click()
    await expect(row(page, "s0007")).to_have_attribute("aria-expanded", "true")
    await row(page, "add").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="many.s0007.add")
    await form.get_by_label("x").fill("42")
    logs = panel.locator(".fabric-live").filter(has=page.get_by_role("log", name="Logs"))
    await logs.get_by_label("Filter rows").fill("nothing")
    await logs.get_by_label("Level").select_option("ERROR")
    await logs.get_by_role("button", name="Pause").click()
    await tree.press("End")
    for _ in range(40):
        await page.keyboard.press("ArrowUp")
    position = await tree.evaluate("tree => tree.scrollTop")
    for side, part in (("right", selected), ("left", form.get_by_label("x"))):
        await part.focus()
        await switch_side(page, side)
        await expect(panel.get_by_label("Filter services")).to_have_value("crowd s0")
        await expect(part).to_be_focused()
        await expect(row(page, "s0959")).to_have_attribute("aria-selected", "true")
        await expect(row(page, "s0959")).to_be_in_viewport()
        assert await tree.evaluate("tree => tree.scrollTop") == position
        await expect(form.get_by_label("x")).to_have_value("42")
        await expect(logs.get_by_label("Filter rows")).to_have_value("nothing")
        await expect(logs.get_by_label("Level")).to_have_value("ERROR")
        await expect(logs.get_by_role("button", name="Pause")).to_have_attribute(
            "aria-pressed", "true"
        )
        await page.screenshot(path=screens / f"panel-on-the-{side}.png")
    await tree.press("Home")
    await expect(row(page, "s0007")).to_have_attribute("aria-expanded", "true")
    # It is still live.
    await empty.execute("await crowd(8, methods={'add': '(x, y=2)', 'about': '()'})")
    await expect(row(page, "about")).to_be_visible()
    await form.get_by_role("button", name="Close the form").click()


async def test_markup_stays_text(crowded: LabNotebook, page: Page) -> None:
    """Markup in signatures, versions, log records and results is shown as text."""
    await show(crowded)
    await crowded.execute(
        f"bad = {MARKUP!r}\n"
        "await crowd(3, version=bad, methods={'m': '(x)' + bad, 'n': '(x={})'})"
    )
    panel = panel_of(page)
    await filter_services(page, "s0002")
    await row(page, "s0002").click()
    await expect(row(page, "m(x)<img")).to_contain_text(MARKUP[:20])
    await expect(panel).to_contain_text(MARKUP[:20])
    await crowded.execute(
        f"%%fabric_serve --id evil\nimport logging\ndef m():\n    return {MARKUP!r}"
    )
    await crowded.execute(
        "from fabric_nb import AmqpHandler\nhandler = AmqpHandler()\n"
        "await fabric.init_logging_handler(handler)\n"
        "log = logging.getLogger('evil')\nlog.addHandler(handler)\n"
        f"log.error({MARKUP!r})"
    )
    line = panel.get_by_role("log", name="Logs").locator("tr.row").filter(has_text="<img")
    await expect(line).to_contain_text("<script>")
    await line.click()
    await filter_services(page, "evil")
    await row(page, "evil").click()
    await row(page, re.compile(r"^m\(\)")).click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.evil.m")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.get_by_role("status")).to_contain_text("<script>")
    await form.get_by_role("button", name="Close the form").click()
    assert await panel.locator("img, script").count() == 0
    assert await page.evaluate("() => window.hacked") is None


def has_settings(response: Response) -> bool:
    """Return whether a response has the panel's settings."""
    return "settings/fabric-nb" in response.url and response.request.method == "GET"


async def test_settings_menu_and_palette(crowded: LabNotebook, page: Page) -> None:
    """Calls are inserted as Python if set; the menu copies addresses; the palette has commands."""
    await show(crowded)
    await crowded.execute("await crowd(2, methods={'add': '(x, y)'})")
    await filter_services(page, "s0001")
    await row(page, "s0001").click()
    await page.evaluate(
        "() => jupyterapp.commands.execute('settingeditor:open', { query: 'Fabric' })"
    )
    # The setting is saved, and then fetched for its listeners.
    async with page.expect_response(has_settings):
        await page.locator("select[id$=insertStyle]").select_option("python")
    await show(crowded)
    await row(page, "add").click()
    await expect(active_cell(page)).to_contain_text("await")
    assert await source(page) == 'await fabric.call("crowd.many.s0001.add", x=..., y=...)'
    await row(page, "add").click(button="right")
    await page.get_by_role("menuitem", name="Copy the Address").click()
    await filter_services(page, "")
    await panel_of(page).get_by_label("Filter services").focus()
    await page.keyboard.press("Control+V")
    await expect(panel_of(page).get_by_label("Filter services")).to_have_value(
        "crowd.many.s0001.add"
    )
    await filter_services(page, "")
    await page.evaluate(
        """() => jupyterapp.commands.execute("apputils:activate-command-palette")"""
    )
    await (
        page.get_by_role("combobox", name="Command Palette Section")
        .or_(page.locator(".lm-CommandPalette-input"))
        .first.fill("Fabric")
    )
    await expect(page.locator(".lm-CommandPalette")).to_contain_text("Show the Fabric Panel")
    await page.keyboard.press("Escape")


async def test_settings_load_and_name_the_domain(lab: Lab, page: Page, screens: Path) -> None:
    """With auto-load fabric_nb is loaded, unconnected; Connect uses the default domain."""
    await page.evaluate(
        "() => jupyterapp.commands.execute('settingeditor:open', { query: 'Fabric' })"
    )
    # Each setting is saved, and then fetched for its listeners.
    async with page.expect_response(has_settings):
        await page.locator("input[id$=defaultDomain]").fill("settled")
    async with page.expect_response(has_settings):
        await page.locator("input[id$=autoLoad]").check()
    await page.screenshot(path=screens / "panel-settings.png")
    panel = panel_of(page)
    notebook = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("This notebook is not connected to a fabric.")
    assert await source(page) == ""
    assert await notebook.value("'fabric' in dir()") == "False"
    await page.screenshot(path=screens / "panel-loaded.png")
    await panel.get_by_role("button", name="Connect", exact=True).click()
    connection = panel.locator(".fabric-connection")
    await expect(connection).to_contain_text("settled")
    assert await source(page) == "%fabric_connect --domain settled"
    await notebook.execute("%fabric_disconnect")
    await expect(panel).to_contain_text("This notebook is not connected to a fabric.")
    await page.keyboard.press("Control+Shift+C")
    await page.keyboard.type("Connect This Notebook")
    await expect(
        page.locator(".lm-CommandPalette-item.lm-mod-active"),
    ).to_contain_text("Connect This Notebook to the Fabric")
    await page.keyboard.press("Enter")
    await expect(connection).to_contain_text("settled")
    await notebook.close()


async def test_reload_restores_it(empty: LabNotebook, page: Page) -> None:
    """After a reload of the page the panel has its place and shows the same notebook."""
    await connected(empty, "reloaded")
    await page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    await page.reload()
    await page.wait_for_function("() => window.jupyterapp !== undefined")
    await page.evaluate("() => jupyterapp.restored")
    await expect(panel_of(page)).to_be_visible()
    await expect(panel_of(page)).to_contain_text("reloaded")


async def test_notebook_7(page: Page, panel_built: None, tmp_path: Path, screens: Path) -> None:
    """In Notebook 7 the panel is beside the notebook and works, without a status bar."""
    assert page.context.browser is not None
    async with await Lab.start(tmp_path / "notebook", "notebook") as lab:
        alone = await new_page(page.context.browser)
        page_errors: list[str] = []
        alone.on("pageerror", lambda error: page_errors.append(error.stack or ""))
        path = LabNotebook.write(lab)
        await alone.goto(f"{lab.url}/notebooks/{path.name}")
        await alone.wait_for_function("() => window.jupyterapp !== undefined")
        await alone.evaluate(
            """async () => {
              await jupyterapp.restored;
              await jupyterapp.shell.currentWidget?.sessionContext.ready;
            }"""
        )
        await show_panel(alone)
        panel = panel_of(alone)
        await panel.get_by_role("button", name="Load and connect").click()
        await expect(panel.locator(".fabric-connection")).to_contain_text("1 up")
        await panel.get_by_role("button", name="Start demo services").click()
        await row(alone, "monitor").click()
        await row(alone, "top").click()
        await expect(active_cell(alone)).to_contain_text("%fabric_call host.monitor.top")
        await alone.screenshot(path=screens / "panel-notebook7.png")
        await alone.close()
        assert [error for error in page_errors if "fabric-nb" in error] == []
