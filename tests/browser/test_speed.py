"""What a flowing table costs; the figures are printed (`pytest -s`), not asserted."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.lab import LabNotebook
from tests.browser.test_table import ROWS, show

SECONDS = 5

WATCH = """(seconds) => new Promise((resolve) => {
  const tasks = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) tasks.push(entry.duration);
  });
  observer.observe({ entryTypes: ["longtask"] });
  let frames = 0;
  const started = performance.now();
  const count = (now) => {
    frames += 1;
    if (now - started < seconds * 1000) return requestAnimationFrame(count);
    observer.disconnect();
    const rate = frames / (now - started) * 1000;
    resolve({ frames: rate, longest: Math.max(0, ...tasks), long: tasks.length });
  };
  requestAnimationFrame(count);
})"""


async def test_a_thousand_rows_ten_times_a_second(notebook: LabNotebook) -> None:
    """A thousand rows of five columns, all changing ten times a second, all arrive in the end."""
    table = await show(notebook, "numbers()")
    page = notebook.page
    await table.locator(ROWS).first.scroll_into_view_if_needed()
    await notebook.execute(
        f"import asyncio\nflowing = asyncio.ensure_future(scenes.flow(table, {SECONDS}))"
    )
    seen = await page.evaluate(WATCH, SECONDS - 0.5)
    await notebook.execute("putting, sending, updates = await flowing")
    putting, sending = (
        float(await notebook.value("putting")),
        float(await notebook.value("sending")),
    )
    updates = int(await notebook.value("updates"))
    last = (await notebook.value("table.model.rows[3].cells[0]")).strip("'")
    await expect(table.locator('tr[aria-rowindex="5"]')).to_contain_text(last)
    size = int(await notebook.value("scenes.size_of_change(table.model)"))
    print(
        f"\n1000 rows x 5, {updates / SECONDS:.1f} updates/s of {size / 1000:.0f} kB: kernel "
        f"{putting:.1f} ms to put + {sending:.1f} ms to send; "
        f"browser {seen['frames']:.0f} frames/s, "
        f"{seen['long']} tasks over 50 ms, longest {seen['longest']:.0f} ms"
    )
