"""The live timeline in a real JupyterLab, with a real service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Locator, expect

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.browser.lab import LabNotebook, set_theme
from tests.browser.looks import POOR_CONTRAST
from tests.browser.shop import log
from tests.browser.test_table import ROWS
from tests.support.peers import DOMAIN

HISTORY = """
import math, random, time
from fabric_nb.fabric.discovery.instance_events import InstanceEvent
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.wire.logs import LogRecord
chance = random.Random(4)
now = time.time()
for ago in sorted((chance.uniform(0, 280) for _ in range(400)), reverse=True):
    name = chance.choice(["pricing", "pricing", "stock", "orders", "warehouse", "report"])
    slow = chance.expovariate(1 / 1500) if name == "report" else chance.expovariate(1 / 40)
    failed = 100 < ago < 130 and name in ("stock", "warehouse") and chance.random() < 0.7
    outcome = "failed" if failed else "timeout" if slow > 5000 else "ok"
    fabric.calls.add(CallRecord(
        now - ago, chance.choice(["made", "made", "served"]) if name == "orders" else "made",
        f"my_project.shop.{name}", "quote", slow, outcome,
        "ValueError: 9 of <img src=x> are not in stock" if failed else "",
    ))
events = [(240, "came", "a1"), (200, "busy", "a1"), (190, "back", "a1"), (131, "gone", "a1"),
          (98, "back", "a1"), (40, "came", "b2"), (12, "left", "b2")]
for ago, kind, instance in events:
    fabric.registry.events.add(
        InstanceEvent(now - ago, kind, "my_project.shop.stock", instance)
    )
feed = await fabric.logs()
for ago in sorted((chance.uniform(0, 290) for _ in range(900)), reverse=True):
    level = "ERROR" if 100 < ago < 130 and chance.random() < 0.3 else chance.choice(
        ["DEBUG", "INFO", "INFO", "INFO", "INFO", "WARNING"])
    feed.records.append(LogRecord(
        now - ago, level, "shop", "stock", f"{level.lower()} in <b>stock</b>", arrived=now - ago))
    feed.changes += 1
ticking = iter(sorted(now - chance.uniform(0, 290) for _ in range(3000)))
stream = await fabric.stream(kind="ORDER")
stream._arrivals._clock = lambda: next(ticking)
for _ in range(3000):
    stream._arrivals.add(1 + int(20 * (1 + math.sin(_ / 200))))
stream._arrivals._clock = time.time
"""
"""Code that adds five minutes of records."""

FLOOD = """
for number in range(19_000):
    feed.records.append(LogRecord(0, "INFO", "shop", "stock", "m" * 60, arrived=0))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def connected(
    notebook: LabNotebook, broker: BrokerProcess, shop: AmqBrokerConnector
) -> AsyncIterator[LabNotebook]:
    """Notebook of the package, connected as `notebook.history`, with five minutes of records."""
    await notebook.run(
        f"%load_ext fabric_nb\n%fabric_connect {broker.uri} --domain {DOMAIN} --id history"
    )
    await notebook.execute(HISTORY)
    yield notebook
    await notebook.execute("%fabric_disconnect\n%unload_ext fabric_nb")
    await notebook.run("")


async def show(notebook: LabNotebook, code: str) -> Locator:
    """Run a cell that shows a timeline, and return the timeline."""
    await notebook.run(code)
    timeline = notebook.panel.locator(".fabric-timeline")
    await expect(timeline.locator("canvas").last).to_be_visible()
    return timeline


async def drag(timeline: Locator, start: float, end: float) -> None:
    """Select from one part of the width of the lanes to another, both from 0 to 1."""
    canvas = timeline.locator("canvas").last
    await canvas.scroll_into_view_if_needed()
    box = await canvas.bounding_box()
    assert box is not None
    left = min(200, round(box["width"] * 0.28))
    width = box["width"] - left - 56
    mouse, y = timeline.page.mouse, box["y"] + 30
    await mouse.move(box["x"] + left + width * start, y)
    await mouse.down()
    await mouse.move(box["x"] + left + width * end, y, steps=5)
    await mouse.up()


async def picture(notebook: LabNotebook, screens: Path, name: str, parts: list[Locator]) -> None:
    """Take pictures of the notebook in both themes, and check the contrast of some parts."""
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        await set_theme(notebook.page, theme)
        await notebook.page.wait_for_timeout(1500)  # a canvas looks at its colours every second
        for part in parts:  # a headless browser paints what is scrolled not always again
            await part.evaluate("(node) => node.querySelector('.scroller')?.scrollBy(0, -1)")
        await notebook.page.wait_for_timeout(200)
        await notebook.page.screenshot(path=screens / f"{name}-{theme.split()[1].lower()}.png")
        for part in parts:
            assert await part.evaluate(POOR_CONTRAST) == []


async def test_a_range_filters_the_table(connected: LabNotebook, screens: Path) -> None:
    """Lanes and events are live; a range that is dragged over filters the table below."""
    timeline = await show(connected, "%fabric_timeline")
    table = connected.panel.locator(".fabric-table")
    facts, events = timeline.locator(".facts"), table.locator(".facts")
    await expect(timeline.locator(".title")).to_have_text("Timeline, last 5 min")
    await expect(facts).to_contain_text("events of instances")
    lanes = re.compile(r"shop\.pricing \d+, .*instances \d+, .*kind=ORDER \d+, .*ERROR \d+")
    await expect(timeline.locator("canvas").last).to_have_attribute("aria-label", lanes)
    await picture(connected, screens, "timeline", [timeline, table])

    await drag(timeline, 0.52, 0.68)
    await expect(timeline.locator(".range")).to_contain_text("paused")
    await expect(events).to_contain_text(" to ")
    await expect(events).to_contain_text("failed")
    await expect(table.locator("tbody tr.row").last).to_be_in_viewport()
    await picture(connected, screens, "timeline-range", [timeline, table])
    await timeline.get_by_role("button", name="Show all").click()
    await expect(events).not_to_contain_text(" to ")


async def test_new_events_appear(
    connected: LabNotebook, shop: AmqBrokerConnector, screens: Path
) -> None:
    """A call and a log record appear within seconds; the mark at the pointer is named."""
    timeline = await show(connected, "%fabric_timeline 30s")
    table = connected.panel.locator(".fabric-table")
    await connected.execute("await fabric.call('orders.price', sku='a')")
    log.error("the printer is on fire")
    await expect(table.locator(ROWS).filter(has_text="the printer is on fire")).to_have_count(1)
    await expect(table.locator(ROWS).filter(has_text="price")).to_have_count(1)
    canvas, tip = timeline.locator("canvas").last, timeline.locator(".tip")
    await canvas.focus()
    await canvas.press("ArrowDown")
    await canvas.press("ArrowUp")
    await expect(tip).to_contain_text("shop.")
    await canvas.press("Enter")
    await expect(timeline.locator(".range")).to_contain_text("paused")
    await picture(connected, screens, "timeline-tip", [timeline, table])
    await canvas.press("Escape")
    await expect(timeline.locator(".range")).to_be_empty()


async def test_saved(connected: LabNotebook, screens: Path) -> None:
    """When the connection ends, the picture and the newest events remain."""
    await show(connected, "%fabric_timeline")
    await connected.execute("%fabric_disconnect")
    saved = connected.panel.locator(".fabric-timeline-picture")
    await expect(saved).to_be_visible()
    await expect(saved.locator("path.mark").nth(10)).to_be_attached()
    await expect(connected.panel.locator(".fabric-table-last table")).to_be_visible()
    await picture(connected, screens, "timeline-saved", [])
    await connected.run("fabric.timeline()")
    await expect(connected.panel.locator("img, svg.fabric-timeline-picture")).to_have_count(1)
    await picture(connected, screens, "timeline-value", [])
