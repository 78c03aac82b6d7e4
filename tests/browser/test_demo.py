"""`make lab` in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
from playwright.async_api import Page, expect

from tests.browser.conftest import PROJECT
from tests.browser.lab import LIMIT, Lab, LabNotebook, new_page, wait_for_lab
from tests.browser.panels import row, show_panel
from tests.support.fabric import until

TOUR = "01_tour.ipynb"
SAVE_PAGE = '#!/bin/sh\ncp "${1#file:}" "$0.html"\n'
"""Script that replaces a browser and saves the page that it should open."""


async def test_the_tour_opens_beside_its_services(
    page: Page, errors: list[str], tmp_path: Path, screens: Path
) -> None:
    """It opens the tour, starts the demo services, and stops them at the end."""
    (tmp_path / "root").mkdir()
    shutil.copy(PROJECT / "notebooks" / TOUR, tmp_path / "root")
    browser, opened = tmp_path / "browser", tmp_path / "browser.html"
    browser.write_text(SAVE_PAGE)
    browser.chmod(0o700)
    assert page.context.browser is not None
    own = await new_page(page.context.browser)
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
        await expect(status).to_contain_text("Fabric: demo · 7 up")
        # Instances on amqp-fabric send no id: the broker counts the consumers of their queues.
        await expect(row(own, "calc")).to_contain_text("\u00d72")
        await own.screenshot(path=screens / "make-lab.png")
        await tour.close()
        processes = psutil.Process(lab.pid).children(recursive=True)
    _, alive = psutil.wait_procs(processes, timeout=LIMIT / 1000)  # the broker exits with a delay
    assert alive == []
    await own.close()
