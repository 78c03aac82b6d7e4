"""From a bare URL to services: the form under a cell and in the panel, and several connections."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.panels import beside_notebooks, panel_of, source
from tests.support.peers import DOMAIN

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """Open a page with JupyterLab and the panel, for this module."""
    async with beside_notebooks(page, lab, errors) as own:
        yield own


async def pictured(page: Page, parts: list[Locator], screens: Path, name: str) -> None:
    """Take pictures in both themes and two widths, and check the contrast of texts."""
    for theme, title in THEMES.items():
        await set_theme(page, title)
        for width in (1400, 900):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.screenshot(path=screens / f"{name}-{theme}-{width}.png")
        for part in parts:
            assert await part.evaluate(POOR_CONTRAST) == []
    await set_theme(page, THEMES["light"])
    await page.set_viewport_size({"width": 1400, "height": 1000})


async def test_the_form_under_a_cell(
    empty: LabNotebook, page: Page, shop: AmqBrokerConnector, broker: BrokerProcess, screens: Path
) -> None:
    """A URI becomes a list of domains, and a click writes and runs the cell, without a password."""
    uri = broker.uri
    await empty.run("%load_ext fabric_nb\n%fabric_connect --form")
    form = empty.panel.get_by_role("form", name="Connect to a broker")
    await form.get_by_label("Broker", exact=True).fill("http://nowhere")
    await form.get_by_role("button", name="List domains").click()
    await expect(form.get_by_role("status")).to_contain_text("which is not AMQP")
    await form.get_by_label("Broker", exact=True).fill(uri)
    await form.get_by_role("button", name="List domains").click()
    found = form.get_by_role("group", name="Domains").get_by_role("button")
    bare = re.sub(r":[^:@/]*@", "@", uri)
    await expect(form.get_by_label("Broker", exact=True)).to_have_value(bare)
    await expect(found).to_have_text([re.compile(rf"{DOMAIN}\s+1 service$")])
    await found.click()
    await expect(form.get_by_label("Domain", exact=True)).to_have_value(DOMAIN)
    await pictured(page, [form], screens, "connect-form")
    await page.keyboard.press("Enter")  # the button that connects has the focus
    await expect(empty.panel).to_contain_text("is this connection")
    assert await source(page) == f"%fabric_connect {bare} --domain {DOMAIN}"
    assert await empty.value("fabric.domain") == f"'{DOMAIN}'"
    await expect(panel_of(page)).to_contain_text(DOMAIN)


async def test_the_panel_connects_and_switches(
    empty: LabNotebook, page: Page, shop: AmqBrokerConnector, broker: BrokerProcess, screens: Path
) -> None:
    """The panel has the same form, with the recent broker, and switches between connections."""
    uri = broker.uri
    await empty.execute(f"%load_ext fabric_nb\n%fabric_connect {uri} --domain {DOMAIN}")
    await empty.execute("%fabric_disconnect")
    panel = panel_of(page)
    form = panel.get_by_role("form", name="Connect to a broker")
    recent = form.get_by_role("group", name="Recent brokers").get_by_role("button")
    await recent.first.click()
    await form.get_by_label("Password").fill(unquote(re.findall(r":([^:@/]*)@", uri)[0]))
    await pictured(page, [form], screens, "connect-panel")
    await form.get_by_role("button", name="Connect to this broker").click()
    await expect(panel).to_contain_text(" up")
    bare = re.sub(r":[^:@/]*@", "@", uri)
    assert await source(page) == f"%fabric_connect {bare} --domain {DOMAIN}"
    await empty.execute(f"%fabric_connect {uri} --domain elsewhere --as second")
    choice = panel.get_by_label("Connection")
    await expect(choice).to_have_value("second")
    await expect(panel.locator(".fabric-connection .fabric-strong")).to_have_text("elsewhere")
    await pictured(page, [panel.locator(".fabric-connection")], screens, "connections-panel")
    await choice.select_option("default")
    await expect(panel.locator(".fabric-connection .fabric-strong")).to_have_text(DOMAIN)
    assert await source(page) == "%fabric_use default"
    assert await empty.value("fabric.domain") == f"'{DOMAIN}'"
    await empty.execute("%fabric_disconnect")
    await expect(choice).to_have_value("")
    await expect(form).to_be_visible()
