"""The panel in a real JupyterLab: the story of a newcomer, and what must not go wrong in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Locator, Page, Response, expect

from tests.browser.lab import Lab, LabNotebook, set_theme, wait_for_lab

LONG = 40_000
"""Milliseconds for what starts processes."""


CROWD = """
from fabric_nb.fabric.naming import ServiceName, discovery_exchange
from fabric_nb.fabric.wire import Announcement, keep_alive_message
async def crowd(count, **said):
    channel = await fabric._connection.channel().open()
    for n in range(count):
        told = Announcement(**{"instance": "i", "interval": 60.0, **said})
        message = keep_alive_message(ServiceName("crowd", "many", f"s{n:04}"), told)
        await channel.publish(discovery_exchange(), "", message)
    await channel.close()
"""
"""Announces services `crowd.many.s0000`, `s0001`, ... that say whatever they are told to say."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(page: Page, lab: Lab, errors: list[str]) -> AsyncIterator[Page]:
    """A JupyterLab of this module's own, with the panel beside its notebooks."""
    assert page.context.browser is not None
    own = await page.context.browser.new_page(viewport={"width": 1200, "height": 900})
    own.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    await own.goto(f"{lab.url}/lab/workspaces/panel?reset")
    await wait_for_lab(own)
    await show_panel(own)
    yield own
    await own.close()


@pytest_asyncio.fixture(loop_scope="session")
async def empty(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """A new notebook."""
    notebook = await LabNotebook.open(page, lab)
    yield notebook
    await show(notebook)
    await notebook.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(lab: Lab, page: Page) -> AsyncIterator[LabNotebook]:
    """A notebook in the domain `own`, that `crowd` can give neighbours."""
    notebook = await LabNotebook.open(page, lab)
    await connected(notebook, "own")
    await notebook.execute(CROWD)
    yield notebook
    await show(notebook)
    await notebook.close()


async def show(notebook: LabNotebook) -> None:
    """Make a notebook the current one again."""
    await notebook.page.evaluate(
        "async (path) => { await jupyterapp.commands.execute('docmanager:open', { path }); }",
        notebook.path.name,
    )


async def show_panel(page: Page) -> None:
    """Show the panel, as its command does."""
    await page.evaluate("() => jupyterapp.commands.execute('fabric-nb:show')")
    await expect(panel_of(page)).to_be_visible()


def panel_of(page: Page) -> Locator:
    return page.get_by_role("region", name="Fabric")


def row(page: Page, name: str | re.Pattern[str]) -> Locator:
    """A row of the services."""
    return panel_of(page).get_by_role("treeitem", name=name)


def active_cell(page: Page) -> Locator:
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active")


async def only(page: Page, words: str) -> None:
    """Leave the services that match."""
    await panel_of(page).get_by_label("Filter services").fill(words)


async def source(page: Page) -> str:
    """The text of the active cell."""
    text = "() => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.source"
    return str(await page.evaluate(text))


async def cell(notebook: LabNotebook, code: str) -> None:
    """Run code in a cell of its own at the end of the notebook."""
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


async def test_story_of_a_newcomer(empty: LabNotebook, page: Page, screens: Path) -> None:
    """From an empty notebook to called services, a stream, logs and a served cell, by clicks."""
    panel = panel_of(page)
    # Nothing is loaded: a button does it, in a cell that one can see.
    await expect(panel).to_contain_text("fabric_nb is not loaded in this notebook.")
    await page.screenshot(path=screens / "panel-empty.png")
    await panel.get_by_role("button", name="Load and connect").click()
    await expect(panel).to_contain_text("1 up", timeout=LONG)
    assert await source(page) == "%load_ext fabric_nb\n%fabric_connect"
    await expect(page.locator("#jp-main-statusbar")).to_contain_text("Fabric: my_project · 1 up")
    # Nobody is there: a button starts the demo's services.
    await panel.get_by_role("button", name="Start demo services").click()
    await expect(row(page, "monitor")).to_be_visible(timeout=LONG)
    await expect(panel.get_by_role("button", name="Start demo services")).to_have_count(0)
    await expect(page.locator("#jp-main-statusbar")).to_contain_text("3 up", timeout=LONG)
    # A click inserts the call, the first argument selected; it is not run.
    await row(page, "monitor").click()
    await row(page, "complain").click()
    await expect(active_cell(page).locator(".cm-selectionBackground")).to_be_visible()
    assert await source(page) == "%fabric_call host.monitor.complain text=..."
    await page.keyboard.type("'from a cell'")
    assert await source(page) == "%fabric_call host.monitor.complain text='from a cell'"
    await page.keyboard.press("Control+Enter")
    await expect(panel.get_by_role("option", name="from a cell")).to_be_visible(timeout=LONG)
    # The form calls at once.
    await row(page, "complain").click(button="right")
    await page.get_by_role("menuitem", name="Open the Form").click()
    form = panel.get_by_role("form", name="host.monitor.complain")
    await expect(form).to_contain_text("Write a warning to the fabric's logs.")
    await expect(form.get_by_label("text")).to_be_focused()
    await page.keyboard.type("no quotes")
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("status")).to_contain_text("text is not a value")
    await form.get_by_label("text").fill('"from the form"')
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("status")).to_have_text("True")
    await expect(panel.get_by_role("option", name="from the form")).to_be_visible(timeout=LONG)
    await page.keyboard.press("Escape")
    await expect(form).to_have_count(0)
    # A stream and what the notebook serves.
    await cell(empty, "tx = %fabric_stream msg_type=LOAD")
    streams = panel.get_by_role("list", name="Streams")
    await expect(streams).to_contain_text(re.compile(r"tx.*[1-9][\d.]* rows/s"), timeout=LONG)
    await streams.get_by_role("button", name="Pause tx").click()
    await expect(streams).to_contain_text("paused")
    await streams.get_by_role("button", name="Go on tx").click()
    await expect(streams).to_contain_text("rows/s")
    await streams.get_by_role("button", name="Insert df = tx.df").click()
    await expect(active_cell(page)).to_contain_text("df = tx.df")
    await cell(
        empty,
        "%%fabric_serve --id answers --version 1.2\n"
        "def twice(x: float) -> float:\n    return 2 * x",
    )
    await cell(empty, "%fabric_call answers.twice x=21")
    served = panel.get_by_role("table", name="notebook.answers")
    await expect(served.get_by_role("row", name=re.compile("^twice 1 0"))).to_be_visible()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        await set_theme(page, theme)
        await page.screenshot(path=screens / f"panel-{theme.split()[1].lower()}.png")
    await set_theme(page, "JupyterLab Light")
    await page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    # Restarting empties it, and running everything again brings it back.
    await page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    await expect(panel).to_contain_text("fabric_nb is not loaded in this notebook.", timeout=LONG)
    await panel.get_by_role("button", name="Load and connect").click()
    await expect(panel).to_contain_text("my_project", timeout=LONG)
    await expect(row(page, "notebook")).to_be_visible(timeout=LONG)


async def connected(notebook: LabNotebook, domain: str) -> None:
    """Connect a notebook without a cell, and open its services."""
    await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect --domain {domain} --id nb")
    await expect(panel_of(notebook.page)).to_contain_text(domain, timeout=LONG)


async def test_the_panel_follows_the_notebook(lab: Lab, empty: LabNotebook, page: Page) -> None:
    """Another notebook shows its own fabric; back in the first there is what was there."""
    panel = panel_of(page)
    await connected(empty, "first")
    other = await LabNotebook.open(page, lab)
    await expect(panel).to_contain_text("fabric_nb is not loaded")
    await expect(page.locator("#jp-main-statusbar")).not_to_contain_text("Fabric:")
    await connected(other, "second")
    await show(empty)
    head = panel.locator(".fabric-head")
    await expect(head).to_contain_text("first")
    await expect(head).not_to_contain_text("second")
    await show(other)
    await expect(head).to_contain_text("second")
    await other.close()
    await expect(head).to_contain_text("first")


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
    line = panel.get_by_role("option", name="<img")
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
