"""`make lab` in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
from playwright.async_api import Page, expect

from tests.browser.conftest import PROJECT
from tests.browser.lab import Lab, LabNotebook, wait_for_lab
from tests.browser.panels import LONG, row, show_panel

TOUR = "01_tour.ipynb"


async def test_the_tour_opens_beside_its_services(
    page: Page, errors: list[str], tmp_path: Path, screens: Path
) -> None:
    """It opens the tour, whose first cells meet the demo's services, and ends with all of them."""
    assert page.context.browser is not None
    (tmp_path / "root").mkdir()
    shutil.copy(PROJECT / "notebooks" / TOUR, tmp_path / "root")
    own = await page.context.browser.new_page(viewport={"width": 1200, "height": 900})
    own.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    async with await Lab.start(tmp_path, "fabric_nb.demo", "lab", "--notebook", TOUR) as lab:
        assert f"/lab/tree/{TOUR}" in lab.log  # the browser is sent there
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
        await expect(row(own, "calc")).to_contain_text("\u00d72")
        await own.screenshot(path=screens / "make-lab.png")
        await tour.close()
        began = psutil.Process(lab.pid).children(recursive=True)
    assert [one for one in began if one.is_running() and one.status() != "zombie"] == []
    await own.close()
