"""Locators of the panel's parts, and notebooks beside the panel.

async with beside_notebooks(page, lab, errors) as page:
    await connected(await LabNotebook.open(page, lab), "shop")
    await row(page, "orders").click()
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Locator, Page, expect

from tests.browser.lab import Lab, LabNotebook, new_page, wait_for_lab

CROWD = """
from fabric_nb.fabric.wire.names import ServiceName, discovery_exchange
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_message
async def crowd(count, **fields):
    channel = await fabric.member.connection.channel().open()
    for n in range(count):
        announcement = Announcement(**{"instance": "i", "interval": 60.0, **fields})
        message = keep_alive_message(ServiceName("crowd", "many", f"s{n:04}"), announcement)
        await channel.publish(discovery_exchange(), "", message)
    await channel.close()
"""
"""Code that announces services `crowd.many.s0000`, `s0001`, ... with any fields."""


@asynccontextmanager
async def beside_notebooks(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """Open another JupyterLab page in the same browser, with the panel."""
    assert page.context.browser is not None
    own = await new_page(page.context.browser)
    own.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    await own.goto(f"{lab.url}/lab/workspaces/panel?reset")
    await wait_for_lab(own)
    await show_panel(own)
    yield own
    await own.close()


async def show(notebook: LabNotebook) -> None:
    """Make a notebook the current one."""
    await notebook.page.evaluate(
        "async (path) => { await jupyterapp.commands.execute('docmanager:open', { path }); }",
        notebook.path.name,
    )


async def show_panel(page: Page) -> None:
    """Show the panel with its command."""
    await page.evaluate("() => jupyterapp.commands.execute('fabric-nb:show')")
    await expect(panel_of(page)).to_be_visible()


def panel_of(page: Page) -> Locator:
    return page.get_by_role("region", name="Fabric")


def row(page: Page, name: str | re.Pattern[str]) -> Locator:
    """Return a row of the services."""
    return panel_of(page).get_by_role("treeitem", name=name)


def active_cell(page: Page) -> Locator:
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active")


async def filter_services(page: Page, words: str) -> None:
    """Filter the services."""
    await panel_of(page).get_by_label("Filter services").fill(words)


async def source(page: Page) -> str:
    """Return the source of the active cell."""
    text = "() => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.source"
    return str(await page.evaluate(text))


async def cell(notebook: LabNotebook, code: str) -> None:
    """Run code in a new cell at the end of the notebook."""
    await notebook.page.evaluate(
        """async (code) => {
          const { content } = jupyterapp.shell.currentWidget;
          content.activeCellIndex = content.widgets.length - 1;
          await jupyterapp.commands.execute("notebook:insert-cell-below");
          content.activeCell.model.sharedModel.setSource(code);
          await jupyterapp.commands.execute("notebook:run-cell");
        }""",
        code,
    )


async def connected(notebook: LabNotebook, domain: str) -> None:
    """Connect a notebook without a cell, and wait until the panel shows the domain."""
    await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect --domain {domain} --id nb")
    await expect(panel_of(notebook.page)).to_contain_text(domain)
