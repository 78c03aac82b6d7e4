"""Fixtures: one JupyterLab, one browser and one notebook for the package.

After a failed test all of them are opened anew (`tests.support.failures`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import Lab, LabNotebook, new_page, open_browser, wait_for_lab
from tests.browser.panels import show
from tests.browser.shop import open_shop
from tests.support.failures import FAILED

PROJECT = Path(__file__).parents[2]
SCREENS = PROJECT / "build" / "screens"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this package in one event loop, so that they can share the browser."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            # The tests of a file follow one another in a notebook that they share.
            item.add_marker(pytest.mark.random_order(disabled=True))


@pytest.fixture(scope="package")
def panel_built() -> None:
    """Build the panel from its current sources into this environment."""
    build = [sys.executable, PROJECT / "hatch_lab.py"]
    subprocess.run(build, check=True, env={**os.environ, "FABRIC_NB_REQUIRE_LAB": "1"})


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def lab(panel_built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """Start JupyterLab."""
    async with await Lab.start(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="package")
def errors() -> list[str]:
    """Uncaught errors of the page."""
    return []


KNOWN_ERRORS = (
    "Canceled future for create_subshell_request",
    "[anywidget] Failed to initialize model.",
)


def own_errors(error: Error) -> list[str]:
    """Return an error of the page as text, unless it is JupyterLab's or anywidget's own.

    JupyterLab requests a subshell for comms, and reports an error if the kernel is restarted before
    the reply, whichever extension has comms. anywidget reports one if it needs more than two
    seconds to load a widget; a test that looks at this widget does not find it.
    """
    text = error.stack or str(error)
    return [] if any(known in text for known in KNOWN_ERRORS) else [text]


@pytest.fixture(autouse=True)
def _no_errors(errors: list[str]) -> Iterator[None]:
    """Fail a test with uncaught errors of the page."""
    errors.clear()
    yield
    assert errors == []


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser(lab: Lab) -> AsyncIterator[Browser]:
    """Browser, which ends before JupyterLab."""
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _close_after_failure(
    request: pytest.FixtureRequest, browser: Browser, screens: Path
) -> AsyncIterator[None]:
    """After a failed test, save a screenshot, and close the browser."""
    yield
    if request.node.stash.get(FAILED, False):
        pages = [page for context in browser.contexts for page in context.pages]
        for number, page in enumerate(pages, 1):
            with contextlib.suppress(Error):
                path = screens / f"failed-{request.node.name}-{number}.png"
                await page.screenshot(path=path, timeout=10_000)
        # Whatever waits for a page ends with an error. A page that hangs cannot prevent this.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(browser.close(), 20)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def page(lab: Lab, browser: Browser, errors: list[str]) -> AsyncIterator[Page]:
    """JupyterLab in the browser."""
    page = await new_page(browser)
    page.on("pageerror", lambda error: errors.extend(own_errors(error)))
    await page.goto(f"{lab.url}/lab?reset")
    await wait_for_lab(page)
    yield page
    await page.close()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def notebook(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """Notebook with one cell, shared by the tests of the package."""
    notebook = await LabNotebook.open(page, lab)
    yield notebook
    await notebook.close()


@pytest.fixture
def screens() -> Path:
    """Folder for screenshots."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    return SCREENS


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """Broker of this module."""
    with BrokerProcess() as broker:
        yield broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(broker: BrokerProcess) -> AsyncIterator[AmqBrokerConnector]:
    """Service `shop.orders`, which also publishes and logs."""
    async with open_shop(broker.uri) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="session")
async def empty(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """Open a new notebook."""
    notebook = await LabNotebook.open(page, lab)
    yield notebook
    await show(notebook)
    await notebook.close()
