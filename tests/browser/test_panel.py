"""The panel in a real JupyterLab: what one may rely on in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, Response, expect

from tests.browser.lab import Lab, LabNotebook, set_theme
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
    show_panel,
    source,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """A JupyterLab of this module's own, with the panel beside its notebooks."""
    async with beside_notebooks(page, lab, errors) as own:
        yield own


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """A notebook in the domain `own`, that `crowd` can give neighbours."""
    notebook = await LabNotebook.open(page, lab)
    await connected(notebook, "own")
    await notebook.execute(CROWD)
    yield notebook
    await show(notebook)
    await notebook.close()


async def test_the_panel_follows_the_notebook(lab: Lab, empty: LabNotebook, page: Page) -> None:
    """Another notebook shows its own fabric; back in the first there is what was there."""
    panel = panel_of(page)
    await connected(empty, "first")
    await empty.execute("%%fabric_serve\ndef twice(x): return 2 * x")
    await only(page, "notebook")
    await row(page, "nb").click(timeout=LONG)
    await row(page, "twice").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.nb.twice")
    await form.get_by_label("x").fill("21")
    other = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("fabric_nb is not loaded")
    await expect(page.locator("#jp-main-statusbar")).not_to_contain_text("Fabric:")
    await connected(other, "second")
    words = panel.get_by_label("Filter services")
    await expect(words).to_have_value("")
    await expect(form).to_have_count(0)
    await show(empty)
    await expect(words).to_have_value("notebook")
    await expect(form.get_by_label("x")).to_have_value("21")
    await expect(row(page, "twice")).to_have_attribute("aria-selected", "true")
    head = panel.locator(".fabric-head")
    await expect(head).to_contain_text("first")
    await expect(head).not_to_contain_text("second")
    await show(other)
    await expect(head).to_contain_text("second")
    await other.close()
    await expect(head).to_contain_text("first")


@pytest.mark.skipif(
    tuple(map(int, version("jupyterlab").split(".")[:2])) < (4, 4),
    reason="before 4.4 JupyterLab has no subshells, so requests wait for the running cell",
)
async def test_it_stays_alive_while_a_cell_blocks(crowded: LabNotebook, page: Page) -> None:
    """While a cell sleeps, services come and the form calls; the panel says that it is busy."""
    panel = panel_of(page)
    await page.evaluate(
        """() => {
          const { content } = jupyterapp.shell.currentWidget;
          content.activeCell.model.sharedModel.setSource("import time\\ntime.sleep(60)");
          void jupyterapp.commands.execute("notebook:run-cell");
        }"""
    )
    await expect(panel.get_by_text("busy", exact=True).first).to_be_visible(timeout=LONG)
    await page.evaluate("() => jupyterapp.commands.execute('fabric-nb:start-demo')")
    await row(page, "monitor").click(timeout=LONG)
    await row(page, "top").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="host.monitor.top")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.get_by_role("status")).to_contain_text("memory_mb", timeout=LONG)
    await expect(panel.get_by_text("busy", exact=True).first).to_be_visible()
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    await expect(panel.locator(".fabric-head").get_by_text("busy")).to_have_count(0, timeout=LONG)


async def test_keyboard_and_screen_reader(crowded: LabNotebook, page: Page) -> None:
    """The tree is walked by keys alone, keeps the focus while it changes, and tells its parts."""
    await crowded.execute("await crowd(1000, methods={'add': '(x, y=2)'})")
    tree = panel_of(page).get_by_role("tree", name="Services")
    await only(page, "crowd many")
    await expect(row(page, "many")).to_be_visible(timeout=LONG)
    assert await tree.get_by_role("treeitem").count() < 80, "only rows in sight are there"
    await tree.focus()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    first = row(page, "s0000")
    await expect(first).to_have_attribute("aria-selected", "true")
    await expect(first).to_have_attribute("aria-level", "2")
    await expect(first).to_have_attribute("aria-setsize", "1000")
    await expect(first).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("ArrowRight")
    await expect(first).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("ArrowRight")
    await expect(row(page, "add")).to_have_attribute("aria-selected", "true")
    active = await tree.get_attribute("aria-activedescendant")
    assert active == await row(page, "add").get_attribute("id")
    # News must not take the focus away, nor move it.
    await crowded.execute("await crowd(1000, methods={'add': '(x, y=2)', 'about': '()'})")
    await expect(row(page, "about")).to_be_visible(timeout=LONG)
    await expect(tree).to_be_focused()
    await expect(row(page, "add")).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("End")
    await expect(row(page, "s0999")).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(active_cell(page)).to_contain_text("%fabric_call")
    assert await source(page) == "%fabric_call crowd.many.s0000.add x=..."
    # The filter leaves what matches.
    await only(page, "s0777")
    await expect(row(page, "s0777")).to_be_visible()
    await expect(tree.get_by_role("treeitem")).to_have_count(2)


async def test_a_wrong_domain_is_said(empty: LabNotebook, page: Page, screens: Path) -> None:
    """In a domain without other services, the panel names the domains that have some."""
    await connected(empty, "mistaken")
    await empty.execute(f"{CROWD}\nawait crowd(3)")
    hint = panel_of(page).locator(".fabric-hint").filter(has_text="Also on this broker")
    await expect(hint).to_contain_text(
        re.compile(
            r"No other service is in mistaken\. Also on this broker: "
            r".*crowd \([\d,]+\+? services\): --domain crowd"
        ),
        timeout=LONG,
    )
    await expect(hint.locator("code").get_by_text("--domain crowd")).to_be_visible()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"panel-wrong-domain-{theme.split()[1].lower()}.png")
    here = CROWD.replace('"crowd"', '"mistaken"')
    await empty.execute(f"{here}\nawait crowd(1)")
    await expect(hint).to_have_count(0)


async def switch_side(page: Page, side: str) -> None:
    """Move the panel to the side, as the menu of its tab does."""
    await page.get_by_role("tab", name="Fabric").click(button="right")
    await page.get_by_role("menuitem", name="Switch Sidebar Side").click()
    await expect(page.locator(f"#jp-{side}-stack").locator(panel_of(page))).to_be_visible()


async def test_the_other_side(empty: LabNotebook, page: Page, screens: Path) -> None:
    """On the other side the panel has its filters, what is open, its place and the focus."""
    await connected(empty, "moved")
    await empty.execute(f"{CROWD}\nawait crowd(1000, methods={{'add': '(x, y=2)'}})")
    panel = panel_of(page)
    tree = panel.get_by_role("tree", name="Services")
    await only(page, "crowd s0")
    await row(page, "s0007").click(timeout=LONG)
    await expect(row(page, "s0007")).to_have_attribute("aria-expanded", "true")
    await row(page, "add").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="many.s0007.add")
    await form.get_by_label("x").fill("42")
    logs = panel.locator(".fabric-live").filter(has=page.get_by_role("log", name="Logs"))
    await logs.get_by_label("Filter rows").fill("nothing")
    await logs.get_by_label("Level").select_option("ERROR")
    await logs.get_by_role("button", name="Pause").click()
    await tree.press("End")
    for _ in range(40):
        await page.keyboard.press("ArrowUp")
    place = await tree.evaluate("tree => tree.scrollTop")
    for side, part in (("right", tree), ("left", form.get_by_label("x"))):
        await part.focus()
        await switch_side(page, side)
        await expect(panel.get_by_label("Filter services")).to_have_value("crowd s0")
        await expect(part).to_be_focused()
        await expect(row(page, "s0959")).to_have_attribute("aria-selected", "true")
        await expect(row(page, "s0959")).to_be_in_viewport()
        assert await tree.evaluate("tree => tree.scrollTop") == place
        await expect(form.get_by_label("x")).to_have_value("42")
        await expect(logs.get_by_label("Filter rows")).to_have_value("nothing")
        await expect(logs.get_by_label("Level")).to_have_value("ERROR")
        await expect(logs.get_by_role("button", name="Pause")).to_have_attribute(
            "aria-pressed", "true"
        )
        await page.screenshot(path=screens / f"panel-on-the-{side}.png")
    await tree.press("Home")
    await expect(row(page, "s0007")).to_have_attribute("aria-expanded", "true")
    # It lives on there: what is new is shown.
    await empty.execute("await crowd(8, methods={'add': '(x, y=2)', 'about': '()'})")
    await expect(row(page, "about")).to_be_visible()
    await form.get_by_role("button", name="Close the form").click()


MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"


async def test_markup_stays_text(crowded: LabNotebook, page: Page) -> None:
    """Signatures, versions, log lines and results that are markup are shown as text."""
    await crowded.execute(
        f"bad = {MARKUP!r}\n"
        "await crowd(3, version=bad, methods={'m': '(x)' + bad, 'n': '(x={})'})"
    )
    panel = panel_of(page)
    await only(page, "s0002")
    await row(page, "s0002").click(timeout=LONG)
    await expect(row(page, "m(x)<img")).to_contain_text(MARKUP[:20])
    await expect(panel).to_contain_text(MARKUP[:20])
    await crowded.execute(
        f"%%fabric_serve --id evil\nimport logging\ndef m():\n    return {MARKUP!r}"
    )
    await crowded.execute(
        "from fabric_nb import AmqpHandler\nhandler = AmqpHandler()\n"
        "await fabric.init_logging_handler(handler)\n"
        "log = logging.getLogger('evil')\nlog.addHandler(handler)\n"
        f"log.error({MARKUP!r})"
    )
    line = panel.get_by_role("log", name="Logs").locator("tr.row").filter(has_text="<img")
    await expect(line).to_contain_text("<script>", timeout=LONG)
    await line.click()
    await only(page, "evil")
    await row(page, "evil").click()
    await row(page, re.compile(r"^m\(\)")).click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="notebook.evil.m")
    await form.get_by_role("button", name="Call", exact=True).click()
    await expect(form.get_by_role("status")).to_contain_text("<script>", timeout=LONG)
    assert await panel.locator("img, script").count() == 0
    assert await page.evaluate("() => window.hacked") is None


def is_read_again(response: Response) -> bool:
    """Whether it brings the panel's settings."""
    return "settings/fabric-nb" in response.url and response.request.method == "GET"


async def test_settings_menu_and_palette(crowded: LabNotebook, page: Page) -> None:
    """Calls are inserted as Python when that is set; the menu copies; the palette has commands."""
    await crowded.execute("await crowd(2, methods={'add': '(x, y)'})")
    await only(page, "s0001")
    await row(page, "s0001").click(timeout=LONG)
    await page.evaluate(
        "() => jupyterapp.commands.execute('settingeditor:open', { query: 'Fabric' })"
    )
    # It is saved, and then read again for all who follow it.
    async with page.expect_response(is_read_again):
        await page.locator("select[id$=insertStyle]").select_option("python")
    await show(crowded)
    await row(page, "add").click()
    await expect(active_cell(page)).to_contain_text("await")
    assert await source(page) == 'await fabric.call("crowd.many.s0001.add", x=..., y=...)'
    await row(page, "add").click(button="right")
    await page.get_by_role("menuitem", name="Copy the Address").click()
    await only(page, "")
    await panel_of(page).get_by_label("Filter services").focus()
    await page.keyboard.press("Control+V")
    await expect(panel_of(page).get_by_label("Filter services")).to_have_value(
        "crowd.many.s0001.add"
    )
    await only(page, "")
    await page.evaluate(
        """() => jupyterapp.commands.execute("apputils:activate-command-palette")"""
    )
    await (
        page.get_by_role("combobox", name="Command Palette Section")
        .or_(page.locator(".lm-CommandPalette-input"))
        .first.fill("Fabric")
    )
    await expect(page.locator(".lm-CommandPalette")).to_contain_text("Show the Fabric Panel")
    await page.keyboard.press("Escape")


async def test_reload_restores_it(empty: LabNotebook, page: Page) -> None:
    """After a reload of the page the panel is where it was and shows the same notebook."""
    await connected(empty, "reloaded")
    await page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    await page.reload()
    await page.wait_for_function("() => window.jupyterapp !== undefined")
    await page.evaluate("() => jupyterapp.restored")
    await expect(panel_of(page)).to_be_visible(timeout=LONG)
    await expect(panel_of(page)).to_contain_text("reloaded", timeout=LONG)


async def test_notebook_7_has_it_too(
    page: Page, panel_built: None, tmp_path: Path, screens: Path
) -> None:
    """In Notebook 7 the panel opens beside the notebook and does the same, without a status bar."""
    assert page.context.browser is not None
    async with await Lab.start(tmp_path / "notebook", "notebook") as lab:
        alone = await page.context.browser.new_page(viewport={"width": 1200, "height": 900})
        problems: list[str] = []
        alone.on("pageerror", lambda error: problems.append(error.stack or ""))
        path = LabNotebook.write(lab)
        await alone.goto(f"{lab.url}/notebooks/{path.name}")
        await alone.wait_for_function("() => window.jupyterapp !== undefined")
        await alone.evaluate(
            """async () => {
              await jupyterapp.restored;
              await jupyterapp.shell.currentWidget?.sessionContext.ready;
            }"""
        )
        await show_panel(alone)
        panel = panel_of(alone)
        await panel.get_by_role("button", name="Load and connect").click(timeout=LONG)
        await expect(panel.locator(".fabric-head")).to_contain_text("1 up", timeout=LONG)
        await panel.get_by_role("button", name="Start demo services").click()
        await row(alone, "monitor").click(timeout=LONG)
        await row(alone, "top").click()
        await expect(active_cell(alone)).to_contain_text("%fabric_call host.monitor.top")
        await alone.screenshot(path=screens / "panel-notebook7.png")
        await alone.close()
        assert [problem for problem in problems if "fabric-nb" in problem] == []
