"""Screenshots for the README and the manual, of the running demo, in the light theme.

python -m tests.browser.pictures           into docs/images
python -m tests.browser.pictures FOLDER    elsewhere
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, expect

from fabric_nb.demo.broker import demo_broker
from fabric_nb.demo.services import DOMAIN, demo_services
from tests.browser.lab import Lab, LabNotebook, open_browser, set_theme, wait_for_lab
from tests.browser.panels import cell, panel_of, row, show_panel

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SHARPNESS = 2
"""Device pixels per CSS pixel."""
WIDTH = 1240
UNSEEN = ".jp-cell-toolbar { display: none }"
MARGIN, BAR = 8, 24
"""Pixels above and below the cells, and the width of the marker of the active cell."""
SERVE = """%%fabric_serve --type analytics --id stats --version 1.2
import statistics


def spread(values: list) -> dict:
    "The mean and the standard deviation of the values."
    return {"mean": statistics.mean(values), "stdev": round(statistics.stdev(values), 3)}"""
ASK = '%fabric_call calc.ask service_type="analytics" service_id="stats" method="spread"'
ASK += ' arguments={"values": [1, 2, 6]}'
CALLS = """
async def tried(method, /, **arguments):
    try:
        await fabric.call(method, **arguments)
    except Exception:
        pass

await tried("calc.multiply", x=5, y=7)
await tried("monitor.top", n=3)
await tried("calc.ask", service_type="analytics", service_id="stats", method="spread",
            arguments={"values": [1, 2, 6]})
await tried("calc.divide", x=1, y=0)
await tried("stats.spread", values=[1])
await tried("monitor.complain", text="the disk is nearly full")
"""


async def notebook(page: Page, lab: Lab) -> None:
    """Make `notebook.png`: cells that connect, call, stream and serve."""
    lab_notebook = await _open(page, lab, "tour", width=WIDTH, height=1400)
    await lab_notebook.run(f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}")
    await expect(lab_notebook.panel).to_contain_text("host")
    await cell(lab_notebook, "%fabric_call calc.multiply x=5 y=7")
    plot = 'load.plot(["cpu_percent", "memory_percent"], window="30s")'
    await cell(lab_notebook, f'load = await fabric.stream(msg_type="LOAD")\n{plot}')
    await cell(lab_notebook, SERVE)
    await cell(lab_notebook, ASK)
    await lab_notebook.execute("await load.wait(150, timeout=90)")  # fills the chart
    await expect(lab_notebook.panel.locator(".fabric-table")).to_contain_text(
        "spread(values: list)"
    )
    await _take(lab_notebook, "notebook")


async def dashboard(page: Page, lab: Lab) -> None:
    """Make `dashboard.png`: `%fabric`, with rows in each table."""
    lab_notebook = await _open(page, lab, "cockpit", width=WIDTH, height=1200)
    await lab_notebook.execute(
        f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN} --id cockpit"
    )
    await lab_notebook.execute(SERVE)
    await lab_notebook.run("%fabric")
    tables = lab_notebook.panel.locator(".fabric-table")
    await expect(tables).to_have_count(5)
    await lab_notebook.execute("load = %fabric_stream msg_type=LOAD")
    await lab_notebook.execute(CALLS)
    await lab_notebook.execute("await load.wait(30, timeout=60)")
    await expect(tables.nth(1)).to_contain_text("StatisticsError")
    await expect(tables.nth(4)).to_contain_text("nearly full")
    await _take(lab_notebook, "dashboard")


async def panel(page: Page, lab: Lab) -> None:
    """Make `panel.png`: the panel beside a notebook."""
    lab_notebook = await _open(page, lab, "orders", width=1200, height=900)
    await show_panel(page)
    await lab_notebook.run(f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}")
    await expect(panel_of(page)).to_contain_text(DOMAIN)
    await cell(lab_notebook, SERVE)
    await cell(lab_notebook, ASK)
    await cell(lab_notebook, "load = %fabric_stream msg_type=LOAD")
    await lab_notebook.execute(CALLS)
    await page.evaluate(
        """() => {
          for (const widget of [...jupyterapp.shell.widgets("main")]) {
            if (widget.title.label === "Launcher") widget.close();
          }
        }"""
    )
    await row(page, "monitor").click()
    await expect(panel_of(page)).to_contain_text("complain")
    await expect(panel_of(page)).to_contain_text("nearly full")
    await lab_notebook.execute("await load.wait(30, timeout=60)")
    await lab_notebook.panel.locator(".fabric-table").last.scroll_into_view_if_needed()
    await page.mouse.move(0, 0)
    await page.screenshot(path=_folder() / "panel.png")


async def trace(page: Page, lab: Lab) -> None:
    """Make `trace.png`: the waterfall of a call through five services."""
    lab_notebook = await _open(page, lab, "shop", width=WIDTH, height=900)
    await lab_notebook.execute(f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}")
    await lab_notebook.execute("await fabric.call('orders.place', sku='tea')")
    await lab_notebook.run('traced = %fabric_trace orders.place sku="coffee" count=3')
    await expect(lab_notebook.panel.locator(".fabric-table .badges")).to_contain_text("done")
    await _take(lab_notebook, "trace")


async def graph(page: Page, lab: Lab) -> None:
    """Make `graph.png`: who calls whom in the demo."""
    lab_notebook = await _open(page, lab, "shop", width=900, height=900)
    await lab_notebook.execute(f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}")
    await lab_notebook.execute("for _ in range(20): await fabric.call('orders.place', sku='tea')")
    await lab_notebook.run("%fabric_graph")
    await expect(lab_notebook.panel.locator(".fabric-table g.service").first).to_be_visible()
    await _take(lab_notebook, "graph")


async def _open(page: Page, lab: Lab, name: str, *, width: int, height: int) -> LabNotebook:
    await page.set_viewport_size({"width": width, "height": height})
    path = LabNotebook.write(lab)
    return await LabNotebook.reopen(page, path.rename(path.with_stem(name)))


async def _take(notebook: LabNotebook, name: str) -> None:
    """Take a screenshot of the cells."""
    await notebook.page.mouse.move(0, 0)
    await notebook.page.evaluate("() => document.activeElement.blur()")
    cells = notebook.panel.locator(".jp-Cell")
    boxes = [await each.bounding_box() for each in await cells.all()]
    first, last = boxes[0], boxes[-1]
    assert first is not None
    assert last is not None
    clip = {
        "x": first["x"] + BAR,
        "y": first["y"] - MARGIN,
        "width": first["width"] - BAR + MARGIN,
        "height": last["y"] + last["height"] - first["y"] + 2 * MARGIN,
    }
    await notebook.page.screenshot(path=_folder() / f"{name}.png", clip=clip)


def _folder() -> Path:
    return Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES


async def _all(folder: Path) -> None:
    async with await Lab.start(folder) as lab, open_browser() as browser:
        for picture in (notebook, dashboard, panel, trace, graph):
            page = await browser.new_page(device_scale_factor=SHARPNESS)
            await page.goto(f"{lab.url}/lab/workspaces/{picture.__name__}?reset")
            await wait_for_lab(page)
            await set_theme(page, "JupyterLab Light")
            await page.add_style_tag(content=UNSEEN)
            await picture(page, lab)
            await page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
            await page.close()
            print(f"{_folder() / picture.__name__}.png", flush=True)


def main() -> None:
    """Run the demo and make the screenshots."""
    with (
        tempfile.TemporaryDirectory() as folder,
        demo_broker() as broker,
        demo_services(broker.uri, DOMAIN),
    ):
        os.environ["AMQP_URL"] = broker.uri  # of the kernels
        asyncio.run(_all(Path(folder)))


if __name__ == "__main__":
    main()
