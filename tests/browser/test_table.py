"""Live tables in a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.table import widget
from tests.browser.lab import Lab, LabNotebook, new_page, set_theme, wait_for_lab
from tests.browser.looks import POOR_CONTRAST

ROWS = "tbody tr.row"


async def show(notebook: LabNotebook, scene: str) -> Locator:
    """Show a scene as `table` in the notebook, and return the live table."""
    await notebook.run(
        "from tests.browser import scenes\n\n"
        "if 'table' in globals():\n    table.close()\n"
        f"table = scenes.{scene}\ntable.show()"
    )
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(ROWS).first).to_be_visible()
    return table


async def column(table: Locator, index: int) -> list[str]:
    """Return the texts of a column, of the rows in the document."""
    return await table.locator(f"{ROWS} td:nth-child({index})").all_inner_texts()


async def test_only_visible_rows_are_in_the_document(notebook: LabNotebook) -> None:
    """A table of a thousand rows has a few dozen in the document, and shows their number."""
    table = await show(notebook, "numbers()")
    grid = table.get_by_role("table", name="Numbers")
    await expect(grid).to_have_attribute("aria-rowcount", "1001")
    assert await table.locator(ROWS).count() < 40
    await expect(table.locator(".count")).to_have_text("1,000 rows")
    scroller = table.locator(".scroller")
    await scroller.evaluate("(node) => { node.scrollTop = 500 * 26; }")
    row = table.locator('tr[aria-rowindex="502"]')
    await expect(row).to_contain_text("row 500")
    await expect(row).to_be_visible()
    assert await table.locator(ROWS).count() < 40
    heading = table.get_by_role("columnheader", name="key")
    top = await scroller.evaluate("(node) => node.getBoundingClientRect().top")
    box = await heading.bounding_box()
    assert box is not None
    assert abs(box["y"] - top) <= 2, "the header is sticky"


async def test_a_heading_sorts_by_click_and_by_key(notebook: LabNotebook) -> None:
    """A click or Enter on a heading sorts ascending, then descending, then not at all."""
    table = await show(notebook, "services()")
    calls = table.get_by_role("columnheader", name="calls")
    before = await column(table, 5)
    await calls.get_by_role("button").click()
    await expect(calls).to_have_attribute("aria-sort", "ascending")
    await expect(table.locator(f"{ROWS} td:nth-child(5)").first).to_have_text("0")
    numbers = [int(text.replace(",", "")) for text in await column(table, 5)]
    assert numbers == sorted(numbers)
    await notebook.page.keyboard.press("Enter")
    await expect(calls).to_have_attribute("aria-sort", "descending")
    await expect(table.locator(f"{ROWS} td:nth-child(5)").first).to_have_text("3,151")
    await notebook.page.keyboard.press("Space")
    await expect(calls).to_have_attribute("aria-sort", "none")
    await expect(table.locator(f"{ROWS} td:nth-child(5)").first).to_have_text(before[0])


async def test_the_filter_keeps_rows_with_all_words(notebook: LabNotebook) -> None:
    """The filter shows rows that contain all words; Escape clears it."""
    table = await show(notebook, "services()")
    await table.get_by_label("Filter rows").fill("ORDERS 1.2")
    await expect(table.locator(ROWS)).to_have_count(1)
    await expect(table.locator(".count")).to_have_text("1 of 24 rows")
    await table.get_by_label("Filter rows").fill("no such thing")
    await expect(table.locator("tbody")).to_have_text("No row matches the filter.")
    await notebook.page.keyboard.press("Escape")
    await expect(table.locator(".count")).to_have_text("24 rows")
    await expect(table.get_by_label("Filter rows")).to_be_focused()


async def test_a_row_opens_to_its_detail(notebook: LabNotebook) -> None:
    """The button before a row, or Enter on it, opens its detail with line breaks."""
    table = await show(notebook, "services()")
    first = table.locator(ROWS).first
    await first.get_by_role("button", name="Details").click()
    detail = table.locator("tr.detail")
    await expect(detail).to_contain_text("Cancel an order that has not been sent.")
    await expect(first.locator(".expander")).to_have_attribute("aria-expanded", "true")
    await notebook.execute("table.model.put(0, table.model.rows[0].cells, 'other'); table.update()")
    await expect(detail).to_have_text("other")
    await notebook.page.keyboard.press("Enter")
    await expect(detail).to_have_count(0)


async def test_keyboard_navigation(notebook: LabNotebook) -> None:
    """Arrows, Page, Home and End move between rows; the notebook does not handle keys."""
    table = await show(notebook, "numbers()")
    press = notebook.page.keyboard.press
    await table.get_by_label("Filter rows").click()
    await press("ArrowDown")
    await expect(table.locator('tr[aria-rowindex="2"]')).to_be_focused()
    await press("End")
    await expect(table.locator('tr[aria-rowindex="1001"]')).to_be_focused()
    await expect(table.locator('tr[aria-rowindex="1001"]')).to_be_in_viewport()
    await press("ArrowUp")
    await expect(table.locator('tr[aria-rowindex="1000"]')).to_be_focused()
    for key in ("b", "Home", "ArrowDown", "x"):
        await press(key)
    await expect(table.locator('tr[aria-rowindex="3"]')).to_be_focused()
    await expect(notebook.panel.locator(".jp-CodeCell")).to_have_count(1)
    await press("/")
    await expect(table.get_by_label("Filter rows")).to_be_focused()


async def test_focus_and_selection_stay_while_rows_change(notebook: LabNotebook) -> None:
    """While rows change, appear and disappear, a row keeps the focus, and text its selection."""
    table = await show(notebook, "numbers()")
    await table.locator('tr[aria-rowindex="4"] td').first.click()
    focused = table.locator("tr.row:focus")
    await expect(focused).to_contain_text("row 2")
    await table.locator('tr[aria-rowindex="6"] td').first.select_text()
    await notebook.execute(
        "table.model.put(2, ['still here', 1, 2, 3, 4])\n"
        "table.model.put(4, ['row 4', 'other', 2, 3, 4])\n"
        "table.model.remove(0)\n"
        "table.update()"
    )
    await expect(focused).to_contain_text("still here")
    await expect(focused).to_have_attribute("aria-rowindex", "3")
    await expect(table.locator('tr[aria-rowindex="5"]')).to_contain_text("other")
    assert (await notebook.page.evaluate("() => getSelection().toString()")).strip() == "row 4"
    await table.locator(".scroller").evaluate("(node) => { node.scrollTop = 10000; }")
    await expect(table.locator('tr[aria-rowindex="390"]')).to_be_visible()
    await expect(focused).to_contain_text("still here")
    await expect(focused).to_have_attribute("aria-current", "true")
    # If the row disappears, the row in its place has the focus.
    await notebook.execute("table.model.remove(2)\ntable.update()")
    await expect(focused).to_contain_text("row 3")
    await expect(focused).to_have_attribute("aria-current", "true")


async def test_changes_of_the_model(notebook: LabNotebook) -> None:
    """Changed, added, removed and reordered rows, and other columns, are rendered."""
    table = await show(notebook, "numbers(5)")
    await notebook.execute(
        "model = table.model\n"
        "model.replace([(n, [f'r{n}', n, 0, 0, 0], '') for n in (4, 9, 0, 2)], more=7)\n"
        "table.update()"
    )
    await expect(table.locator(f"{ROWS} td:first-child")).to_have_text(["r4", "r9", "r0", "r2"])
    await expect(table.locator(".notes")).to_have_text("… and 7 more rows, not shown.")
    await notebook.execute(
        "from fabric_nb.notebook.table import Column\n"
        "model.columns = [Column('one')]\n"
        "model.put('a', ['only'])\n"
        "table.update()"
    )
    await expect(table.locator("tbody tr.row")).to_have_text(["only"])
    await expect(table.get_by_role("columnheader")).to_have_count(1)


async def test_lost_messages(notebook: LabNotebook) -> None:
    """A page that missed a change requests the complete table, at most once a second."""
    table = await show(notebook, "numbers(5)")
    await notebook.execute(
        "import asyncio\n"
        "table.model.put(0, ['lost', 0, 0, 0, 0])\n"
        "table.model.diff()\n"
        "for n in range(15):\n"
        "    table.model.put(1, [f'came {n}', 0, 0, 0, 0])\n"
        "    table.update()\n"
        "    await asyncio.sleep(0.1)"
    )
    await expect(table.locator("tbody")).to_contain_text("lost")
    await expect(table.locator("tbody")).to_contain_text("came 14")


async def test_reloading_the_page(notebook: LabNotebook) -> None:
    """After a reload the table shows its current state, and is live."""
    await show(notebook, "numbers(5)")
    await notebook.save()
    await notebook.execute("table.model.put(0, ['meanwhile', 0, 0, 0, 0])")
    await notebook.page.reload()
    await wait_for_lab(notebook.page)
    notebook = await LabNotebook.reopen(notebook.page, notebook.path)
    body = notebook.panel.locator(".fabric-table tbody")
    await expect(body).to_contain_text("meanwhile")
    await notebook.execute("table.model.put(0, ['afterwards', 0, 0, 0, 0]); table.update()")
    await expect(body).to_contain_text("afterwards")


async def test_a_log_follows_its_newest_row(notebook: LabNotebook) -> None:
    """A log is scrolled to its end as it grows, unless the user has scrolled up."""
    table = await show(notebook, "logs()")
    log = table.get_by_role("log", name="Logs")
    await expect(table.locator('tr[aria-rowindex="201"]')).to_be_in_viewport()
    more = "for n in range({0}, {0} + 50): table.model.put(n, [n, None, 's', 'more'])\n"
    await notebook.execute(more.format(200) + "table.update()")
    await expect(table.locator('tr[aria-rowindex="251"]')).to_be_in_viewport()
    await log.evaluate("(node) => { node.scrollTop = 100 * 26 + 7; }")
    await expect(table.locator('tr[aria-rowindex="102"]')).to_be_in_viewport()
    line = table.locator(ROWS).filter(has_text="Order 101 was taken")
    before = await line.bounding_box()
    await notebook.execute(more.format(250) + more.format(300) + "table.update()")
    await expect(table.locator(".count")).to_have_text("300 rows")
    await expect(table.locator(".notes")).to_have_text("… and 50 older rows, not shown.")
    assert await line.bounding_box() == before


async def test_answers_of_buttons_and_choices(notebook: LabNotebook) -> None:
    """The answer of a button is shown; an error is shown, and undoes the choice."""
    table = await show(notebook, "services()")
    pause = table.get_by_role("button", name="Pause")
    await pause.click()
    await expect(pause).to_have_attribute("aria-pressed", "true")
    await expect(table.locator(".answer")).to_have_text("Paused.")
    choice = table.get_by_label("State", exact=True)
    await choice.select_option("late")
    await expect(table.locator(".answer.error")).to_contain_text("'late' cannot be chosen <img")
    await expect(choice).to_have_value("all")
    await notebook.page.evaluate(
        """() => {
          const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
          kernel.requestExecute({ code: "import time; time.sleep(2)" });
        }"""
    )
    await pause.click()
    await expect(table.locator(".answer")).to_have_text("Waiting for the running cell.")
    await expect(table.locator(".answer")).to_have_text("Paused.")


async def test_a_long_action_can_be_cancelled(notebook: LabNotebook) -> None:
    """A long action shows its duration; it can be cancelled and started again."""
    table = await show(notebook, "endless()")
    go = table.get_by_role("button", name="Go")
    answer = table.locator(".answer")
    for _ in range(2):
        await go.click()
        await expect(answer).to_have_text("Running.")
        cancel = table.get_by_role("button", name="Cancel")
        await expect(cancel).to_have_text(re.compile(r"Cancel · [12] s"))
        await cancel.click()
        await expect(answer).to_have_text("Cancelled. The service may still finish the call.")
        await expect(cancel).to_have_count(0)
    await notebook.execute("assert scenes.ended == 2, scenes.ended")


async def test_placeholder_of_a_table_without_columns(notebook: LabNotebook) -> None:
    """Before the first row of a stream, which has no columns, the placeholder is readable."""
    await notebook.run(
        "from tests.browser import scenes\n\n"
        "if 'table' in globals():\n    table.close()\n"
        "table = scenes.nothing()\ntable.show()"
    )
    cell = notebook.panel.locator(".fabric-table tr.nothing > td")
    await expect(cell).to_have_text("No row received yet. Also on this broker: shop (3 services).")
    box = await cell.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] >= 26


async def test_a_traceback_opens_at_its_cause(notebook: LabNotebook) -> None:
    """A long traceback opens at its last line, signatures at the first."""
    table = await show(notebook, "deep()")
    for place in (0, 1):
        await table.locator(".expander").nth(place).click()
    texts = table.locator("tr.detail pre")
    await expect(texts).to_have_count(2)
    top, height, whole = await texts.nth(0).evaluate(
        "(node) => [node.scrollTop, node.clientHeight, node.scrollHeight]"
    )
    assert whole > height + 100
    assert abs(top + height - whole) <= 1
    assert await texts.nth(1).evaluate("(node) => node.scrollTop") == 0


async def test_sticky_header_is_opaque(notebook: LabNotebook) -> None:
    """Rows do not shine through the sticky header of a table without a kernel."""
    table = await show(notebook, "numbers()")
    await table.evaluate("(node) => node.classList.add('lost')")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(notebook.page, theme)
        heads = await table.locator("thead, thead tr, thead th").evaluate_all(
            """(nodes) => nodes.map((node) => {
              const { opacity, backgroundColor } = getComputedStyle(node);
              return [node.tagName, opacity, backgroundColor];
            })"""
        )
        assert {opacity for _, opacity, _ in heads} == {"1"}
        grounds = {ground for tag, _, ground in heads if tag == "TH"}
        assert not any("rgba" in ground or " / " in ground for ground in grounds), grounds


async def test_markup_stays_text(notebook: LabNotebook) -> None:
    """Remote text is shown as text, truncated, and without control characters."""
    table = await show(notebook, "hostile()")
    await table.locator(".expander").first.click()
    await expect(table.locator("tr.detail pre")).to_contain_text("<script>")
    for part in (".title", ".badges", ".facts", ".notes", ".tools", "th", "td"):
        await expect(table.locator(part).first).to_contain_text("<img src=x onerror=")
    assert await table.locator("img, script").count() == 0
    text = await table.inner_text()
    assert not re.search(r"[\x00-\x08\x1b\u202e\ud800]", text)
    assert "�" in text
    assert len(text) < 10_000
    await notebook.execute("table.freeze()")
    last = notebook.panel.locator(".fabric-table-last")
    await expect(last).to_be_visible()
    assert await last.locator("img, script").count() == 0
    assert await notebook.page.evaluate("() => window.hacked") is None


HIDE_FOR_A_MOMENT = """(table) => new Promise((resolve) => {
  const output = table.parentElement;
  requestAnimationFrame(() => { output.style.display = "none"; });
  table.querySelector(".filter").dispatchEvent(new Event("input")); // painted in the same frame
  requestAnimationFrame(() => {
    output.style.display = "";
    requestAnimationFrame(() => requestAnimationFrame(resolve));
  });
})"""
"""Function that hides a table while it is painted, and shows it again before the next layout."""


async def test_a_table_that_was_hidden_for_a_moment_is_still_wide(notebook: LabNotebook) -> None:
    """A table that is painted while JupyterLab hides its output keeps its layout and its rows."""
    table = await show(notebook, "services()")
    await expect(table.locator(ROWS)).to_have_count(24)
    rows = await table.locator(ROWS).count()
    assert not await table.evaluate("(table) => table.classList.contains('narrow')")
    await table.evaluate(HIDE_FOR_A_MOMENT)
    assert not await table.evaluate("(table) => table.classList.contains('narrow')")
    assert await table.locator(ROWS).count() == rows


async def test_static_copy_has_the_same_texts(notebook: LabNotebook) -> None:
    """Numbers, times and texts are the same in the live table and the static copy."""
    table = await show(notebook, "samples()")
    live = await table.locator(ROWS).evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    await notebook.execute("table.freeze()")
    last = notebook.panel.locator(".fabric-table-last")
    await expect(last).to_be_visible()
    saved = await last.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert live == saved


async def test_live_table_hides_the_static_copy(notebook: LabNotebook) -> None:
    """The live table hides the static copy, which replaces it when it is frozen."""
    table = await show(notebook, "numbers()")
    last = notebook.panel.locator(".fabric-table-last")
    await expect(last).to_be_hidden()
    await notebook.execute("table.model.put(0, ['the last word', 0, 0, 0, 0]); table.freeze()")
    await expect(table).to_have_count(0)
    await expect(last).to_contain_text("the last word")
    await expect(last).to_contain_text("… and 980 more rows.")
    await expect(notebook.panel.locator(".jp-OutputArea-child:visible")).to_have_count(1)


async def test_a_saved_notebook_shows_the_static_copy(page: Page, lab: Lab) -> None:
    """A notebook that was saved with a live table shows the static copy with a new kernel."""
    notebook = await LabNotebook.open(page, lab)
    await show(notebook, "numbers(5)")
    await notebook.execute("table.model.put(0, ['saved', 0, 0, 0, 0]); table.update()")
    await expect(notebook.panel.locator(".fabric-table-last")).to_contain_text("saved")
    await notebook.save()
    await notebook.close()
    again = await LabNotebook.reopen(page, notebook.path)
    last = again.panel.locator(".fabric-table-last")
    await expect(last).to_be_visible()
    await expect(last).to_contain_text("saved")
    error = again.panel.get_by_text("Error displaying widget")
    await expect(error).to_have_count(1)  # JupyterLab shows it after two seconds
    await expect(error).to_be_hidden()
    await expect(again.panel.locator(".jp-OutputArea-child:visible")).to_have_count(1)
    await again.close()


async def test_themes_of_tables(notebook: LabNotebook, page: Page, screens: Path) -> None:
    """Colours follow JupyterLab's theme, with sufficient contrast."""
    await notebook.run(
        "table.close()\ntable, log = scenes.services(), scenes.logs()\ntable.show()\nlog.show()"
    )
    tables = notebook.panel.locator(".fabric-table")
    await expect(tables).to_have_count(2)
    await tables.first.locator(".expander:visible").first.click()
    await tables.last.locator(".expander:visible").last.click()
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        await set_theme(page, theme)
        for table in await tables.all():
            assert await table.evaluate(POOR_CONTRAST) == [], theme
            ground, wanted = await table.evaluate(GROUND)
            assert ground == wanted, theme
        await page.screenshot(path=screens / f"table-{name}.png")
    await notebook.execute("table.freeze(), log.freeze()")
    await expect(tables).to_have_count(0)
    await page.screenshot(path=screens / "table-frozen.png")


async def test_ages_count_up(notebook: LabNotebook, page: Page) -> None:
    """Ages are updated in the browser, without messages of the kernel."""
    await notebook.run("ages = scenes.services()\nages.show()")
    age = notebook.panel.locator(
        ".fabric-table tbody td", has_text=re.compile(r"^\d+ s ago$")
    ).first
    seen = await age.inner_text()
    await expect(age).not_to_have_text(seen)
    assert int((await age.inner_text()).split()[0]) > int(seen.split()[0])
    await notebook.execute("ages.close()")


LATE_COLUMNS = """async () => {
  // A table with row tools, painted before its columns are known, as in the panel.
  const { Rows, TableView } = globalThis.parts;
  const rows = new Rows();
  const icon = () => document.createElement("i");
  const table = new TableView(rows, () => {}, () => [{ label: "Do it", icon, run: () => {} }]);
  table.attach(document.body);
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  const columns = ["a", "b"].map((label) => ({ label, kind: "text", digits: null }));
  rows.apply({ to: 1, columns, follow: false, add: [[0, ["x", "y"], ""]], now: 0 });
  table.updated();
  await frame();
  await frame();
}"""


async def test_columns_of_a_table_with_row_tools(page: Page) -> None:
    """Columns that arrive after the first paint are placed before the cell of the tools."""
    script = joined_script(Path(widget.__file__).with_name("widget.js"))
    assert page.context.browser is not None
    own = await new_page(page.context.browser)
    await own.add_script_tag(
        content=f"{script}\nglobalThis.parts = {{ Rows, TableView }};", type="module"
    )
    await own.wait_for_function("() => globalThis.parts !== undefined")
    await own.evaluate(LATE_COLUMNS)
    await expect(own.locator("th .label")).to_have_text(["a", "b"])
    await expect(own.locator("tr.row td")).to_have_count(3)
    await expect(own.get_by_role("button", name="Do it")).to_have_count(1)
    await own.close()


GROUND = """(root) => {
  // Background of the table, and that of the theme.
  const probe = document.createElement("div");
  probe.style.background = "var(--jp-layout-color1)";
  root.append(probe);
  const wanted = getComputedStyle(probe).backgroundColor;
  probe.remove();
  return [getComputedStyle(root.querySelector(".filter")).backgroundColor, wanted];
}"""
