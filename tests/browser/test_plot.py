"""Live charts in a real JupyterLab."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.async_api import Locator, expect

from tests.browser.lab import LabNotebook, set_theme
from tests.browser.looks import BLUE, ORANGE, painted
from tests.browser.test_speed import WATCH


async def show(notebook: LabNotebook, scene: str) -> Locator:
    """Show a scene as `chart` in the notebook, and return the live chart."""
    await notebook.run(
        "from tests.browser import charts\n\n"
        "if 'chart' in globals():\n    chart.close()\n"
        f"chart = charts.{scene}\nchart.show()"
    )
    chart = notebook.panel.locator(".fabric-plot")
    await expect(chart.locator("canvas")).to_be_visible()
    return chart


async def test_lines_are_drawn_in_both_themes(notebook: LabNotebook, screens: Path) -> None:
    """Each line is drawn in its colour, in light and dark themes."""
    chart = await show(notebook, "chart(y=['price', 'offer'], window='5min')")
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        await set_theme(notebook.page, theme)
        assert await painted(chart, BLUE) > 1000
        assert await painted(chart, ORANGE) > 100
        await notebook.page.screenshot(path=screens / f"plot-{theme.split()[-1].lower()}.png")
    await set_theme(notebook.page, "JupyterLab Light")
    assert int(await notebook.value("chart._columns")) > 600
    await expect(chart.locator(".name")).to_have_text(["price", "offer"])
    assert await notebook.page.evaluate("window.hacked") is None
    await expect(chart.locator(".title")).to_contain_text("<img src=x")


KINDS = {
    "bars": "y='load', every='30s', how='sum', by='sensor', kind='bar'",
    "area": "every='10s', how='count', by='sensor', kind='area'",
    "scatter": "y='price', by='sensor', kind='scatter'",
    "hist": "y='price', kind='hist'",
}


async def test_each_kind_of_chart(notebook: LabNotebook, screens: Path) -> None:
    """Bars, areas, points, distributions and lines by category are drawn in both themes."""
    for kind, options in KINDS.items():
        chart = await show(notebook, f"chart({options})")
        for theme, width in (("JupyterLab Dark", 900), ("JupyterLab Light", 1400)):
            await set_theme(notebook.page, theme)
            await notebook.page.set_viewport_size({"width": width, "height": 900})
            if kind != "scatter":  # its points are translucent
                assert await painted(chart, BLUE) > 0
            await hover(chart, width // 3)
            await notebook.page.screenshot(path=screens / f"plot-{kind}-{width}.png")


async def hover(chart: Locator, x: int) -> None:
    """Move the pointer over a chart until it shows the values, which a resize hides."""
    canvas, tip = chart.locator("canvas"), chart.locator(".tip")
    async with asyncio.timeout(60):
        while not await tip.is_visible():
            await canvas.hover(position={"x": x - 1, "y": 100})
            await canvas.hover(position={"x": x, "y": 100})


async def test_colours_without_a_theme(notebook: LabNotebook) -> None:
    """Outside JupyterLab the axes have the colours of the system's colour scheme.

    They are repainted when the style changes without new rows, as for a stored chart.
    """
    chart = await show(notebook, "chart(12, y='price')")
    names = ["--jp-border-color2", "--jp-ui-font-color1", "--jp-layout-color1"]
    for scheme, line in (("light", "221,221,221"), ("dark", "68,68,68")):
        await chart.evaluate(
            """(chart, [scheme, names]) => {
              for (const name of names) chart.style.setProperty(name, "initial");
              chart.style.colorScheme = scheme;
            }""",
            [scheme, names],
        )
        assert await painted(chart, line) > 100


async def test_values_at_the_pointer(notebook: LabNotebook) -> None:
    """A box beside the pointer has x and the value of each line there."""
    chart = await show(notebook, "chart(12, y=['price', 'offer'])")
    canvas, tip = chart.locator("canvas"), chart.locator(".tip")
    await painted(chart, BLUE)
    box = await canvas.bounding_box()
    assert box is not None
    await canvas.hover(position={"x": box["width"] / 2, "y": 100})
    await expect(tip.locator(".when")).to_contain_text("2026-11-25 12:00:00.0")
    await expect(tip.locator(".entry")).to_have_text(
        [re.compile(r"price6\d\."), re.compile(r"offer1(19|20)\.")]
    )
    await notebook.page.mouse.move(0, 0)
    await expect(tip).to_be_hidden()


async def view_of(notebook: LabNotebook) -> list[float]:
    """Return the range that the chart shows, in seconds after its first row."""
    view = await notebook.value("[at - chart.picture(9).extent[0] for at in chart._view or ()]")
    return list(map(float, json.loads(view)))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - it is a condition of the kernel
            await asyncio.sleep(0.05)


async def test_zooming_and_moving(notebook: LabNotebook, screens: Path) -> None:
    """A range is chosen by dragging, wheel and keys, and stays while rows arrive."""
    chart = await show(notebook, "chart(30_000, y=['price', 'offer'])")
    page, canvas, reset = notebook.page, chart.locator("canvas"), chart.get_by_text("Show all")
    await painted(chart, BLUE)
    await expect(reset).to_be_hidden()
    box = await canvas.bounding_box()
    assert box is not None
    left, width, y = box["x"], box["width"], box["y"] + 100

    async def drag(begin: float, end: float) -> None:
        await page.mouse.move(left + begin * width, y)
        await page.mouse.down()
        await page.mouse.move(left + end * width, y, steps=4)
        if begin == 0.5:
            await page.screenshot(path=screens / "plot-brush.png")
        await page.mouse.up()

    async def changed(before: list[float]) -> list[float]:
        async def differs() -> bool:
            return await view_of(notebook) != before

        await until(differs)
        return await view_of(notebook)

    await drag(0.5, 0.6)
    low, high = await changed([])
    assert 130 < low < 150
    assert 25 < high - low < 35
    await expect(reset).to_be_visible()
    await notebook.execute("chart.rows.add(1000); chart.update()")
    assert await view_of(notebook) == [low, high], "rows that arrive do not move it"
    await page.mouse.wheel(0, -400)
    narrow = await changed([low, high])
    assert low < narrow[0] < narrow[1] < high, "a chart with the focus is zoomed by the wheel"
    await page.screenshot(path=screens / "plot-zoomed.png")
    await page.keyboard.down("Shift")
    await drag(0.6, 0.4)
    await page.keyboard.up("Shift")
    panned = await changed(narrow)
    assert panned[1] - panned[0] == pytest.approx(narrow[1] - narrow[0])
    assert panned[0] > narrow[0]
    await page.keyboard.press("-")
    wide = await changed(panned)
    assert wide[1] - wide[0] == pytest.approx(2 * (panned[1] - panned[0]))
    await canvas.dblclick(position={"x": width / 2, "y": 100})
    assert await changed(wide) == []
    await expect(reset).to_be_hidden()


async def test_hidden_lines_and_saved_pictures(notebook: LabNotebook, tmp_path: Path) -> None:
    """The legend hides a line, also from the axis and from pictures saved as SVG and PNG."""
    chart = await show(notebook, "chart(3_000, y=['price', 'load'])")
    await painted(chart, ORANGE)
    await chart.get_by_role("button", name="load").click()
    await expect(chart.get_by_role("button", name="load")).to_have_attribute(
        "aria-pressed", "false"
    )
    assert await notebook.value("chart._hidden") == "frozenset({'load'})"
    saved = {}
    for suffix in ("SVG", "PNG"):
        async with notebook.page.expect_download() as download:
            await chart.get_by_role("button", name=suffix).click()
        file = await download.value
        saved[suffix] = tmp_path / file.suggested_filename
        await file.save_as(saved[suffix])
    assert saved["SVG"].name == "kind-ticks-venue-img-src-x-onerror-window-hacked-1.svg"
    drawing = ElementTree.parse(saved["SVG"]).getroot()
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "price" in texts
    assert "load" not in texts
    assert any("2026-11-25" in (text or "") for text in texts)
    assert saved["PNG"].read_bytes().startswith(b"\x89PNG")


async def test_text_alternative_of_a_chart(notebook: LabNotebook) -> None:
    """The canvas has a text alternative; keys select values, which are announced."""
    chart = await show(notebook, "chart(12, y='price')")
    image = chart.get_by_role("img")
    await expect(image).to_have_attribute("aria-label", re.compile(r"price 5\d\.\d+ to 6\d\.\d+"))
    await painted(chart, BLUE)
    await image.focus()
    await notebook.page.keyboard.press("Home")
    announced = chart.locator(".unseen")
    await expect(announced).to_contain_text("2026-11-25 12:00:00.000, price 60.5")
    await notebook.page.keyboard.press("ArrowRight")
    await expect(announced).to_contain_text("price")
    await notebook.page.keyboard.press("Escape")
    await expect(announced).to_have_text("")
    await expect(notebook.panel.locator(".jp-CodeCell")).to_have_count(1)


async def test_new_rows_are_drawn(notebook: LabNotebook) -> None:
    """An empty chart has a note, and draws new rows."""
    chart = await show(notebook, "chart(0, y='price')")
    await expect(chart.locator(".notes")).to_have_text("No row received yet.")
    await notebook.execute("chart.rows.add(100); chart.update()")
    await expect(chart.locator(".notes")).to_have_text("")
    assert await painted(chart, BLUE) > 100
    before = await chart.locator(".value").inner_text()
    await notebook.execute("chart.rows.add(77); chart.update()")
    await expect(chart.locator(".value")).not_to_have_text(before)


async def test_static_copy_in_a_saved_notebook(notebook: LabNotebook) -> None:
    """A notebook that was saved with a live chart shows the static copy."""
    chart = await show(notebook, "chart(300, y='price')")
    await painted(chart, BLUE)
    last = notebook.panel.locator(".fabric-plot-last")
    await expect(last).to_be_hidden()
    await notebook.execute("chart.rows.add(300); chart.update(); chart.showing.record()")
    await notebook.save()
    page, path = notebook.page, notebook.path
    again = path.with_name("again.ipynb")
    again.write_bytes(path.read_bytes())
    reopened = await LabNotebook.reopen(page, again)
    await page.evaluate(
        "() => { const { content } = jupyterapp.shell.currentWidget;"
        " for (const cell of content.widgets) cell.model.trusted = true; }"
    )
    await expect(reopened.panel.locator(".fabric-plot-last svg polyline")).to_be_visible()
    await expect(reopened.panel.locator(".fabric-plot-last")).to_contain_text("600 rows")
    await expect(reopened.panel.get_by_text("Error displaying widget")).to_be_hidden()
    await reopened.close()
    await notebook.execute("chart.freeze()")
    await expect(notebook.panel.locator(".fabric-plot")).to_have_count(0)
    await expect(last.locator("polyline")).to_be_visible()


async def test_a_million_rows_ten_times_a_second(notebook: LabNotebook) -> None:
    """A chart of a million rows is updated with a thousand new ones ten times a second."""
    chart = await show(notebook, "chart(999_000, y=['price', 'offer'])")
    await painted(chart, BLUE)
    await notebook.execute("import asyncio\nflowing = asyncio.ensure_future(charts.flow(chart, 3))")
    seen = await notebook.page.evaluate(WATCH, 2.5)
    await notebook.execute("took, pictures = await flowing")
    took, pictures = float(await notebook.value("took")), int(await notebook.value("pictures"))
    assert pictures > 2
    last = (await notebook.value("chart.source.picture(800).encoded()['lines'][0]['last']")).strip(
        "'"
    )
    await expect(chart.locator(".value").first).to_have_text(last)
    print(
        f"\n1,000,000 rows x 2 lines: {pictures / 3:.1f} pictures/s, {took:.1f} ms of the kernel "
        f"each; browser {seen['frames']:.0f} frames/s, longest task {seen['longest']:.0f} ms"
    )
