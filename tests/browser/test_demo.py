"""`make lab` in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
from playwright.async_api import Page, expect

from tests.browser.conftest import PROJECT
from tests.browser.lab import Lab, LabNotebook, wait_for_lab
from tests.browser.panels import LONG, row, show_panel
from tests.support.fabric import until

TOUR = "01_tour.ipynb"
KEEPS_PAGE = '#!/bin/sh\ncp "${1#file://}" "$0.html"\n'
"""A browser that only keeps the page that it is to open."""


async def test_the_tour_opens_beside_its_services(
    page: Page, errors: list[str], tmp_path: Path, screens: Path
) -> None:
    """It opens the tour, whose first cells meet the demo's services, and ends with all of them."""
    (tmp_path / "root").mkdir()
    shutil.copy(PROJECT / "notebooks" / TOUR, tmp_path / "root")
    browser, opened = tmp_path / "browser", tmp_path / "browser.html"
    browser.write_text(KEEPS_PAGE)
    browser.chmod(0o700)
    assert page.context.browser is not None
    own = await page.context.browser.new_page(viewport={"width": 1200, "height": 900})
    own.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    command = ("fabric_nb.demo", "lab", "--notebook", TOUR)
    async with await Lab.start(tmp_path, *command, browser=f"{browser} %s") as lab:
        await until(opened.exists)
        assert f"/lab/tree/{TOUR}" in opened.read_text()
        await own.goto(f"{lab.url}/lab/tree/{TOUR}")
        await wait_for_lab(own)
        await show_panel(own)
        tour = await LabNotebook.reopen(own, lab.root / TOUR)
        for magic in ("%load_ext", "%fabric_connect"):
            await own.evaluate(
                """async (magic) => {
                  const { content } = jupyterapp.shell.currentWidget;
                  content.activeCellIndex = content.widgets.findIndex(
                    ({ model }) => model.sharedModel.source.startsWith(magic)
                  );
                  await jupyterapp.commands.execute("notebook:run-cell");
                }""",
                magic,
            )
        status = own.locator("#jp-main-statusbar")
        await expect(status).to_contain_text("Fabric: demo · 3 up", timeout=LONG)
        # Members on amqp-fabric tell no instance by which they could be counted.
        await expect(row(own, "calc")).to_contain_text("\u00d71+")
        await own.screenshot(path=screens / "make-lab.png")
        await tour.close()
        began = psutil.Process(lab.pid).children(recursive=True)
    _, alive = psutil.wait_procs(began, timeout=LONG / 1000)  # the broker stays for some seconds
    assert alive == []
    await own.close()
