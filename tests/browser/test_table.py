"""The live table in a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from tests.browser.lab import Lab, LabNotebook, set_theme, wait_for_lab
from tests.browser.looks import POOR_CONTRAST

ROWS = "tbody tr.row"


async def show(notebook: LabNotebook, scene: str) -> Locator:
    """Show a scene as `table` in the notebook; returns the live table."""
    await notebook.run(
        "from tests.browser import scenes\n\n"
        "if 'table' in globals():\n    table.close()\n"
        f"table = scenes.{scene}\ntable.show()"
    )
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(ROWS).first).to_be_visible()
    return table


async def column(table: Locator, index: int) -> list[str]:
    """The texts of a column, from the top, of the rows in the document."""
    return await table.locator(f"{ROWS} td:nth-child({index})").all_inner_texts()


async def test_only_rows_in_sight_are_in_the_document(notebook: LabNotebook) -> None:
    """A table of a thousand rows is a `<table>` of a few dozen, and says how many there are."""
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
    assert abs(box["y"] - top) <= 2, "the header stays in sight"


async def test_a_heading_sorts_by_click_and_by_key(notebook: LabNotebook) -> None:
    """A click or Enter on a heading sorts up, then down, then not at all."""
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
    """Typing words leaves the rows that hold them all; Escape shows everything again."""
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
    """The mark before a row, or Enter on it, opens its detail with its line breaks."""
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


async def test_keys_move_through_the_rows_and_leave_the_notebook_alone(
    notebook: LabNotebook,
) -> None:
    """Arrows, Page, Home and End go through all rows; the notebook's own keys do nothing."""
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
    """Whatever changes, comes or goes around it, a row keeps focus, and text its selection."""
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


async def test_rows_follow_the_kernel(notebook: LabNotebook) -> None:
    """Changed, added, removed and reordered rows, and other columns, come to the page."""
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


async def test_lost_messages_are_made_up_for(notebook: LabNotebook) -> None:
    """A page that missed a change asks for everything, at most once a second."""
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


async def test_a_page_that_is_loaded_anew_shows_the_table(notebook: LabNotebook) -> None:
    """After a reload the table is there as it is now, and lives."""
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


async def test_a_log_stays_at_its_newest_line(notebook: LabNotebook) -> None:
    """A log shows its end as it grows, unless someone reads further up: then nothing moves."""
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


async def test_buttons_and_choices_come_back_with_an_answer(notebook: LabNotebook) -> None:
    """A button's effect shows; an error is shown as text, and the choice goes back."""
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


async def test_a_long_call_says_how_long_and_can_be_cancelled(notebook: LabNotebook) -> None:
    """With the kernel idle it is at work, not waiting; Cancel ends it, and it can be made anew."""
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


async def test_nothing_to_show_is_readable(notebook: LabNotebook) -> None:
    """Before the first row of a stream, which has no columns, the reason can be read."""
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
    """The last line of a long traceback is in sight when it opens, the first of a signature too."""
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


async def test_the_head_hides_rows_when_the_kernel_is_gone(notebook: LabNotebook) -> None:
    """Rows that scroll under the sticky head do not show through it, in either theme."""
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
    """Whatever a peer sends is shown as text, cut, and free of characters that act on it."""
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


async def test_the_saved_form_says_what_the_live_one_says(notebook: LabNotebook) -> None:
    """Numbers, times and texts look the same with a browser and without."""
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


async def test_one_form_at_a_time_is_seen(notebook: LabNotebook) -> None:
    """The live table hides its last state; frozen, only that is left."""
    table = await show(notebook, "numbers()")
    last = notebook.panel.locator(".fabric-table-last")
    await expect(last).to_be_hidden()
    await notebook.execute("table.model.put(0, ['the last word', 0, 0, 0, 0]); table.freeze()")
    await expect(table).to_have_count(0)
    await expect(last).to_contain_text("the last word")
    await expect(last).to_contain_text("… and 950 more rows.")
    await expect(notebook.panel.locator(".jp-OutputArea-child:visible")).to_have_count(1)


async def test_a_saved_notebook_shows_the_last_rows(page: Page, lab: Lab) -> None:
    """A notebook that was saved while its table was live shows its last rows to a new kernel."""
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
    await expect(error).to_have_count(1)  # JupyterLab looks for two seconds first
    await expect(error).to_be_hidden()
    await expect(again.panel.locator(".jp-OutputArea-child:visible")).to_have_count(1)
    await again.close()


async def test_it_looks_right_in_both_themes(
    notebook: LabNotebook, page: Page, screens: Path
) -> None:
    """Colours follow JupyterLab's theme, and text stays readable on them."""
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
    """How long ago something was goes on counting while the kernel sends nothing."""
    await notebook.run("ages = scenes.services()\nages.show()")
    age = notebook.panel.locator(
        ".fabric-table tbody td", has_text=re.compile(r"^\d+ s ago$")
    ).first
    seen = await age.inner_text()
    await expect(age).not_to_have_text(seen)
    assert int((await age.inner_text()).split()[0]) > int(seen.split()[0])
    await notebook.execute("ages.close()")


GROUND = """(root) => {
  // The ground of the table, and what the theme has for that.
  const probe = document.createElement("div");
  probe.style.background = "var(--jp-layout-color1)";
  root.append(probe);
  const wanted = getComputedStyle(probe).backgroundColor;
  probe.remove();
  return [getComputedStyle(root.querySelector(".filter")).backgroundColor, wanted];
}"""
