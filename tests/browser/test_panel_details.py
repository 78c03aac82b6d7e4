"""The panel's parts, one by one: its rows, badges, logs, settings, keys and colours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Locator, Page, Response, expect

from tests.browser.lab import Lab, LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.panels import (
    CROWD,
    LONG,
    active_cell,
    beside_notebooks,
    connected,
    only,
    panel_of,
    row,
    show,
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
    one = AmqBrokerConnector(fabric._uri, "details", "shop", "clique", 0.5)
    await one.open()
    await one.serve(Shop(), version="2.0")
    return one
one, other = await member(), await member()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """A JupyterLab of this module's own, with the panel beside its notebooks."""
    await default_settings(page, lab)
    async with beside_notebooks(page, lab, errors) as own:
        yield own
    await default_settings(page, lab)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def details(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """A notebook in the domain `details` that serves `notebook.orders`, and logs."""
    notebook = await LabNotebook.open(page, lab)
    await connected(notebook, "details")
    await notebook.execute(CROWD)
    await notebook.execute(SERVED.lstrip())
    await notebook.execute(LOGGING)
    await row(page, re.compile("^orders")).click(timeout=LONG)
    yield notebook
    await show(notebook)
    await notebook.close()


async def default_settings(page: Page, lab: Lab) -> None:
    """Set the panel's settings back."""
    reply = await page.request.put(f"{lab.url}/{SETTINGS}", data={"raw": "{}"})
    assert reply.ok, await reply.text()


async def test_members_states_and_errors(details: LabNotebook, page: Page, screens: Path) -> None:
    """Members are told apart, each with its state; failed calls are counted; all is readable."""
    panel = panel_of(page)
    await details.execute(CLIQUE)
    await row(page, re.compile("^clique")).click(timeout=LONG)
    await expect(row(page, re.compile("^clique"))).to_contain_text("\u00d72")
    members = row(page, re.compile("^member"))
    await expect(members).to_have_count(2)
    await expect(members.locator(".badge")).to_have_text(["up", "up"])
    await details.execute("await other.close()")
    await expect(members.locator(".badge")).to_have_text(["up", "gone"])
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
    await ship.click()
    opened = panel.get_by_role("region", name="Serving").last.locator("tr.detail")
    await expect(opened).to_contain_text("LookupError: no such order: b")
    # A form with an outcome, and all badges there are.
    await row(page, re.compile("^ship")).click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.orders.ship")
    await form.get_by_label("order").fill("'c'")
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("status")).to_contain_text("no such order: c")
    for level in ("info", "warning", "error"):
        await until_heard(details, level)
    await log_rows(page).filter(has_text="heard at error").first.click()
    await details.execute(
        "await crowd(1, instance='silent', interval=4.0)\n"
        "await crowd(1, instance='blocked', busy_since=1.0, interval=60.0)"
    )
    await row(page, "s0000").click()
    await expect(members.filter(has_text="silent")).to_contain_text("late", timeout=LONG)
    await expect(members.filter(has_text="blocked")).to_contain_text("busy")
    await expect(row(page, "s0000")).to_contain_text("busy")
    await panel.get_by_role("tree", name="Services").focus()
    await page.keyboard.press("Home")
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        await set_theme(page, theme)
        assert await panel.evaluate(POOR_CONTRAST) == [], theme
        await page.screenshot(path=screens / f"panel-details-{name}.png")
    await page.keyboard.press("Escape")


async def test_a_click_inserts_and_never_runs(details: LabNotebook, page: Page) -> None:
    """A click on a method puts the call into a cell, which nobody has run."""
    await only(page, "notebook orders")
    await row(page, re.compile("^price")).click()
    await expect(active_cell(page)).to_contain_text("%fabric_call")
    assert await source(page) == "%fabric_call notebook.orders.price sku=..."
    await details.execute("pass")  # what had been run would have come first
    cells = await page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets.map(
          ({ model }) => [model.sharedModel.source, model.executionCount, model.outputs.length]
        )"""
    )
    assert ["%fabric_call notebook.orders.price sku=...", None, 0] in cells
    await only(page, "")


async def test_the_menu_of_a_row_by_keyboard(details: LabNotebook, page: Page) -> None:
    """Shift+F10 and the menu key open the active row's menu, which copies its address."""
    words = panel_of(page).get_by_label("Filter services")
    tree = panel_of(page).get_by_role("tree", name="Services")
    await only(page, "notebook orders")
    await expect(row(page, re.compile("^price"))).to_be_visible()
    await tree.focus()
    await page.keyboard.press("Home")
    for key, steps, address in (
        ("ContextMenu", 2, "details.notebook.orders"),
        ("Shift+F10", 3, "details.notebook.orders.price"),
    ):
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press(key)
        await expect(page.get_by_role("menuitem", name="Copy the Address")).to_be_visible()
        for _ in range(steps):
            await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(page.locator(".lm-Menu")).to_have_count(0)
        await expect(tree).to_be_focused()
        await words.fill("")
        await words.press("Control+V")
        await expect(words).to_have_value(address)
        await only(page, "notebook orders")
        await tree.focus()
    await page.keyboard.press("Shift+F10")
    await expect(page.get_by_role("menuitem", name="Copy the Address")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(tree).to_be_focused()
    await words.fill("")


async def test_logs_by_level_and_text(details: LabNotebook, page: Page) -> None:
    """Log lines are chosen by level and by text, stand still when paused, and are followed."""
    panel = panel_of(page)
    lines = panel.get_by_role("log", name="Logs")
    level = panel.get_by_label("Level")
    words = (
        panel.locator(".fabric-live")
        .filter(has=page.get_by_role("log"))
        .get_by_label("Filter rows")
    )
    pause = panel.get_by_role("button", name="Pause", exact=True)
    messages = log_rows(page).locator("[data-label=message]")
    await until_heard(details, "info")
    await words.fill("chosen")
    await expect(panel).to_contain_text("No row matches the filter.")
    await details.execute("log.debug('chosen quiet')\nlog.warning('chosen slow')")
    await details.execute("log.error('chosen broken')")
    await expect(messages).to_have_text(["chosen slow", "chosen broken"])
    await level.select_option("ERROR")
    await expect(messages).to_have_text(["chosen broken"])
    await level.select_option("DEBUG")
    await words.fill("")
    await until_heard(details, "debug")
    await details.execute("log.debug('chosen detail')")
    await words.fill("chosen")
    # Lines of a lower level are shown although they came before it was chosen.
    chosen = ["chosen quiet", "chosen slow", "chosen broken", "chosen detail"]
    await expect(messages).to_have_text(chosen)
    await words.fill("DETAIL chosen")
    await expect(messages).to_have_text(["chosen detail"])
    # Paused, it shows none of what comes.
    await words.fill("meanwhile")
    await pause.click()
    await expect(pause).to_have_attribute("aria-pressed", "true")
    await details.execute("log.error('meanwhile')")
    await later_news(details)
    await expect(messages).to_have_count(0)
    await pause.click()
    await expect(messages).to_have_text(["meanwhile"])
    # A line opens to what it cuts and leaves out.
    await messages.click()
    await expect(lines.locator("tr.detail")).to_contain_text("shop.orders")
    # Scrolled up, it stands where it is; at its end it follows.
    await words.fill("many")
    await details.execute("for n in range(100): log.info(f'many {n}')")
    await expect(messages.get_by_text("many 99", exact=True)).to_be_in_viewport(timeout=LONG)
    await lines.evaluate("lines => { lines.scrollTop = 0; }")
    await expect(messages.get_by_text("many 0", exact=True)).to_be_in_viewport()
    await details.execute("log.info('many more')")
    await later_news(details)
    await expect(messages.get_by_text("many 0", exact=True)).to_be_in_viewport()
    await lines.evaluate("lines => { lines.scrollTop = lines.scrollHeight; }")
    await expect(messages.get_by_text("many more", exact=True)).to_be_in_viewport()
    await details.execute("log.info('many most')")
    await expect(messages.get_by_text("many most", exact=True)).to_be_in_viewport()


def log_rows(page: Page) -> Locator:
    """The rows of the log."""
    return panel_of(page).get_by_role("log", name="Logs").locator("tr.row")


def served(page: Page, method: str) -> Locator:
    """The row of a method of the notebook's service `orders`."""
    rows = panel_of(page).get_by_role("region", name="Serving").last.locator("tr.row")
    return rows.filter(has_text="notebook.orders").filter(has_text=f"{method}(")


async def until_heard(notebook: LabNotebook, level: str) -> None:
    """Log until the panel hears that level: it shows all it hears, but what it does not is lost."""
    line = log_rows(notebook.page).filter(has_text=f"heard at {level}").first
    for _ in range(40):
        await notebook.execute(f"log.{level}('heard at {level}')")
        try:
            await expect(line).to_be_visible(timeout=1000)
        except AssertionError:
            continue
        return
    raise AssertionError(f"the panel never heard a log line at {level}")


async def later_news(notebook: LabNotebook) -> None:
    """Wait for news that are later than any log line before this: one more call that is served."""
    calls = served(notebook.page, "price").locator("[data-label=calls]")
    count = int(await calls.inner_text())
    await notebook.execute("%fabric_call orders.price sku='a'")
    await expect(calls).to_have_text(str(count + 1))


def is_read_again(response: Response) -> bool:
    """Whether it brings the panel's settings."""
    return "settings/fabric-nb" in response.url and response.request.method == "GET"


async def test_settings_load_and_name_the_domain(lab: Lab, page: Page, screens: Path) -> None:
    """With auto-load it is there, unconnected; Connect and its command join the default domain."""
    await page.evaluate(
        "() => jupyterapp.commands.execute('settingeditor:open', { query: 'Fabric' })"
    )
    # Each is saved, and then read again for all who follow it.
    async with page.expect_response(is_read_again):
        await page.locator("input[id$=defaultDomain]").fill("settled")
    async with page.expect_response(is_read_again):
        await page.locator("input[id$=autoLoad]").check()
    await page.screenshot(path=screens / "panel-settings.png")
    panel = panel_of(page)
    notebook = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("This notebook is not connected to a fabric.", timeout=LONG)
    assert await source(page) == ""
    assert await notebook.value("'fabric' in dir()") == "False"
    await page.screenshot(path=screens / "panel-loaded.png")
    await panel.get_by_role("button", name="Connect", exact=True).click()
    head = panel.locator(".fabric-head")
    await expect(head).to_contain_text("settled", timeout=LONG)
    assert await source(page) == "%fabric_connect --domain settled"
    await notebook.execute("%fabric_disconnect")
    await expect(panel).to_contain_text("This notebook is not connected to a fabric.")
    await page.keyboard.press("Control+Shift+C")
    await page.keyboard.type("Connect This Notebook")
    await expect(
        page.locator(".lm-CommandPalette-item.lm-mod-active"),
    ).to_contain_text("Connect This Notebook to the Fabric")
    await page.keyboard.press("Enter")
    await expect(head).to_contain_text("settled", timeout=LONG)
    await notebook.close()
