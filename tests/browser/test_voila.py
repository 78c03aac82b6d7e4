"""A dashboard with `%fabric` and a chart, served by Voilà."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nbformat
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import new_page, open_browser
from tests.browser.shop import log
from tests.browser.test_table import ROWS
from tests.browser.test_views import opened
from tests.support.peers import DOMAIN
from tests.support.rabbitmq_supervisor import free_port

SECTIONS = ("Services", "Calls", "Serving", "Streams", "Logs")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(
    broker: BrokerProcess, shop: AmqBrokerConnector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """URL of a notebook served by Voilà."""
    folder = tmp_path_factory.mktemp("voila")
    cells = [
        f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN} --id dashboard",
        "await fabric.call('orders.price', sku='a')",
        "%fabric",
        "orders = %fabric_stream kind=ORDER\norders.plot('total');",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    nbformat.write(notebook, folder / "dashboard.ipynb")
    port = free_port()
    own = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "FABRIC_NB_RUNTIME_DIR")
    command = [sys.executable, "-m", "voila", "dashboard.ipynb", "--no-browser", f"--port={port}"]
    log = folder / "voila.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {"AMQP_URL": broker.uri} | {name: str(folder / name) for name in own},
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert await listening(port, process), log.read_text(errors="replace")
        yield f"http://127.0.0.1:{port}/"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def listening(port: int, process: asyncio.subprocess.Process) -> bool:
    """Wait until a port is open; return False if the process has exited."""
    async with asyncio.timeout(60):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)  # there is no event for an open port
            else:
                writer.close()
                return True
    return False


@pytest_asyncio.fixture(loop_scope="session")
async def dashboard(address: str, errors: list[str]) -> AsyncIterator[Page]:
    """Dashboard in a browser, with its own kernel."""
    async with open_browser() as browser:
        page = await new_page(browser)
        page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
        await page.goto(address)
        yield page


async def test_the_dashboard_is_live(
    dashboard: Page, shop: AmqBrokerConnector, screens: Path
) -> None:
    """The page shows services, calls, streams, logs and the chart, live, and no code.

    A method can be called from the page, and the call is listed.
    """
    tables = dashboard.locator(".fabric-table")
    await expect(tables).to_have_count(len(SECTIONS) + 1)
    for name, table in zip(SECTIONS, await tables.all(), strict=False):
        await expect(table).to_contain_text(name)
    services, calls, _, streams, logs, _ = await tables.all()
    card = dashboard.locator(".fabric-page")
    await expect(card).to_contain_text("connected")
    await expect(dashboard.locator(".fabric-page-last")).to_be_hidden()
    drawn = await card.locator(".as-of").text_content()
    await expect(card.locator(".as-of")).not_to_have_text(drawn or "")

    detail = await opened(services, "orders")
    form = detail.locator("details.form").filter(has_text="price(")
    await form.locator("summary").click()
    await form.get_by_label("sku").fill("'chair'")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.locator(".answer")).to_contain_text("9.5")
    await expect(calls.locator(ROWS).filter(has_text="price")).to_have_count(2)

    for number in range(30):
        await shop.publish_data({"total": number * 9.5}, {"kind": "ORDER"})
    log.warning("the shelf is empty")
    await expect(streams.locator(ROWS).filter(has_text="kind=ORDER")).to_contain_text("30")
    await expect(logs.locator(ROWS).filter(has_text="the shelf is empty")).to_be_visible()
    await expect(dashboard.get_by_role("img", name="30 rows")).to_be_visible()
    for last in await dashboard.locator(".fabric-table-last, .fabric-plot-last").all():
        await expect(last).not_to_be_visible()
    await expect(dashboard.get_by_text("%fabric_stream kind=ORDER")).to_have_count(0)
    await dashboard.screenshot(path=screens / "voila.png", full_page=True)
