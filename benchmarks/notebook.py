"""Costs and limits of a notebook: magics, two minutes with a live view, the browser, completion.

    python -m benchmarks.notebook [--seconds 60] [--kernels 5] [--only load,call,…]

- load: `%load_ext fabric_nb` in fresh kernels, once pandas is imported.
- call: the first `%fabric_call` on a fresh connection, over the median of plain calls after it.
- map: CPU time of the kernel for the bar of a map, with a failed row every second: the difference
  between maps of 300 rows a second with and without it, as a share of their duration.
- timeline: CPU time of the kernel for a timeline of five minutes in a browser, with 1,000 calls and
  9,000 log records: the difference between waiting with and without it.
- flow: 2,000 messages per second, then 200,000 rows per second in batches, with the stream's view
  and a chart shown: losses, stalls of the event loop, latency of queued cells, memory.
- browser: a table of a thousand rows ten times a second, charts of a million rows, the table of a
  stream of a million rows, filtered and sorted, the statistics of a thousand services without and
  with the panel, and the panel with a thousand services beside 2,000 messages per second, in
  JupyterLab in Chromium.
- tab: latency of Tab in a kernel that has discovered a thousand services of ten methods each.
- registry: memory and CPU usage of their discovery, with statistics that change each time.

Run it manually on an idle machine, because the figures are times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, many_services
from benchmarks.figures import Spread
from benchmarks.payloads import arrow_body, row_body, shifted
from benchmarks.producer import ARROW, JSON, Producer, produce
from benchmarks.report import print_verdicts
from benchmarks.targets import Verdict
from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook
from tests.support.peers import DOMAIN
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from tests.browser.lab import LabNotebook

PARTS = ("load", "call", "map", "timeline", "flow", "browser", "tab", "registry")
SPANS = 10_000
MAX_ROWS = {"messages": 50_000, "batches": 1_000_000}

WATCH = """
import asyncio, time
class LoopMonitor:
    def __init__(self):
        self.longest, self.busiest, self.stalls = 0.0, 0.0, 0
        self.task = asyncio.ensure_future(self.run())
    async def run(self):
        while True:
            before, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            stall, used = time.perf_counter() - before - 0.001, time.thread_time() - used
            self.longest, self.stalls = max(self.longest, stall), self.stalls + (stall > 0.05)
            self.busiest = max(self.busiest, used)
monitor = LoopMonitor()
"""
"""Longest stall of the event loop, and the CPU time used meanwhile, which does not depend on other
processes; sampled 1,000 times a second."""

SPIN = """
async def spin(seconds):
    longest, before, ends = 0.0, time.perf_counter(), time.perf_counter() + seconds
    while before < ends:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest * 1000
await spin(3)
"""


@asynccontextmanager
async def kernel(*, load: bool = True) -> AsyncIterator[Notebook]:
    with tempfile.TemporaryDirectory() as folder:
        async with await Notebook.start(Path(folder), load=load) as notebook:
            yield notebook


async def measure_load(kernels: int, uri: str) -> list[Verdict]:
    durations = []
    for _ in range(kernels):
        async with kernel(load=False) as notebook:
            await notebook.run("import pandas, time")
            await notebook.run(
                "t = time.perf_counter()\n%load_ext fabric_nb\nt = time.perf_counter() - t"
            )
            durations.append(1000 * float(await notebook.value("t")))
    return [Verdict("%load_ext fabric_nb, ms", "at most", 150, Spread.of(durations))]


async def measure_call(kernels: int, uri: str) -> list[Verdict]:
    overheads, plain = [], []
    async with AmqBrokerConnector(uri, DOMAIN, "calc", "c1", 1.0) as service:
        await service.serve({"double": lambda x: 2 * x})
        for _ in range(kernels):
            async with kernel() as notebook:
                await notebook.connect(uri, id="caller")
                await notebook.run(
                    "import time, statistics\nt = time.perf_counter()\n"
                    "%fabric_call calc.c1.double x=21\nfirst = time.perf_counter() - t"
                )
                await notebook.run(
                    "durations = []\nfor n in range(100):\n    t = time.perf_counter()\n"
                    "    await fabric.call('calc.c1.double', x=n)\n"
                    "    durations.append(time.perf_counter() - t)\n"
                    "plain = statistics.median(durations)"
                )
                overheads.append(1000 * float(await notebook.value("first - plain")))
                plain.append(1000 * float(await notebook.value("plain")))
    print(f"plain calls from a cell: {statistics.median(plain):.2f} ms")
    return [
        Verdict("first %fabric_call, ms over a plain call", "at most", 30, Spread.of(overheads))
    ]


MAP = """
%config FabricMagics.progress_after = {after}
used, began = time.process_time(), time.perf_counter()
results = %fabric_map calc.c1.rest n=range({rows}) --in-flight 15
used, took = time.process_time() - used, time.perf_counter() - began
"""


async def measure_map(seconds: float, uri: str) -> list[Verdict]:
    async def rest(n: int) -> int:
        await asyncio.sleep(0.05)
        if n % 300 == 299:
            raise ValueError(n)
        return n

    shares = []
    async with AmqBrokerConnector(uri, DOMAIN, "calc", "c1", 1.0) as service:
        await service.serve({"rest": rest}, prefetch=100)
        async with kernel() as notebook:
            await notebook.connect(uri, id="caller")
            await notebook.run("import time")
            for round_number in range(6):
                used = {}
                # In turn, because the CPU time of the same work varies with other processes.
                for after in (0, -1) if round_number % 2 else (-1, 0):
                    cell = MAP.format(after=after, rows=int(300 * seconds))
                    await notebook.run(cell, 60 + 4 * seconds)
                    used[after] = float(await notebook.value("used"))
                took = float(await notebook.value("took"))
                print(
                    f"map of {took:.1f} s: {used[0]:.2f} s with the bar, {used[-1]:.2f} s without"
                )
                if round_number:
                    shares.append(100 * (used[0] - used[-1]) / took)
    return [Verdict("bar of a map, % of the kernel's time", "at most", 2, Spread.of(shares))]


RECORDS = """
import asyncio, gc, random, time
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.wire.logs import LogRecord
feed, now = await fabric.logs(), time.time()
for ago in range(1000, 0, -1):
    service = f"my_project.app.s{ago % 30}"
    fabric.calls.add(CallRecord(now - ago / 4, "made", service, "method", 40.0, "ok"))
for ago in range(9000, 0, -1):
    moment = now - ago / 40
    feed.records.append(LogRecord(moment, "INFO", "app", "s1", f"record {ago}", arrived=moment))
    feed.changes += 1
"""
TIMELINE = """
{show}
from fabric_nb.notebook.table import TableWidget
from fabric_nb.notebook.timeline.widget import TimelineWidget
lanes = [one for one in gc.get_objects() if isinstance(one, TimelineWidget) and one.live]
tables = [one for one in gc.get_objects() if isinstance(one, TableWidget) and one.live]
for one in lanes:  # as a browser does
    one.on_message({{"type": "hello", "columns": 800, "hides": True}})
for one in tables:
    one.on_message({{"type": "hello", "revision": 0, "hides": True}})
await asyncio.sleep(2)
used, began = time.process_time(), time.perf_counter()
await asyncio.sleep({seconds})
used, took = time.process_time() - used, time.perf_counter() - began
for one in lanes + tables:
    one.close()
"""


async def measure_timeline(seconds: float, uri: str) -> list[Verdict]:
    shares = []
    async with kernel() as notebook:
        await notebook.connect(uri, id="watcher")
        await notebook.run(RECORDS)
        for round_number in range(5):
            used = {}
            for show in ("pass", "%fabric_timeline"):
                cell = TIMELINE.format(show=show, seconds=seconds)
                await notebook.run(cell, 60 + seconds)
                used[show] = float(await notebook.value("100 * used / took"))
            without, shown = used.values()
            print(f"timeline: {shown:.2f} % of a core, {without:.2f} % without")
            if round_number:
                shares.append(shown - without)
    return [
        Verdict(
            "timeline of 10,000 events, % of the kernel's time", "at most", 6, Spread.of(shares)
        )
    ]


# -- a live view -----------------------------------------------------------------------------------


class Pace:
    """Publishes at a constant rate, and counts rows."""

    def __init__(self, producer: Producer, kind: str) -> None:
        self.rows = 0
        self._producer = producer
        self._headers = {"flow": kind}
        self._batch = arrow_body(0, 1000) if kind == "batches" else b""

    async def run(self, seconds: float) -> None:
        began, step = time.monotonic(), 0
        while step * 0.01 < seconds:
            await asyncio.sleep(began + step * 0.01 - time.monotonic())
            if self._batch:  # 2,000 rows per 10 ms
                bodies = [shifted(self._batch, self.rows + n) for n in (0, 1000)]
                await self._producer.send(self._headers, bodies, ARROW)
                self.rows += 2000
            else:
                rows = map(row_body, range(self.rows, self.rows + 20))
                await self._producer.send(self._headers, rows, JSON)
                self.rows += 20
            step += 1


async def measure_flow(kind: str, uri: str, seconds: float) -> list[Verdict]:
    async with kernel() as notebook, produce(uri) as producer:
        await notebook.connect(uri, id="flow")
        limit = MAX_ROWS[kind]
        await notebook.run(f"s = %fabric_stream --domain bench flow={kind} --max-rows {limit}")
        await notebook.run("chart = s.plot('value', window='1min')")
        await notebook.run(WATCH)
        pace = Pace(producer, kind)
        memory: list[tuple[int, float]] = []
        starts: list[float] = []
        publishing = asyncio.create_task(pace.run(seconds))
        while not publishing.done():
            await asyncio.sleep(0.5)
            began = time.perf_counter()
            cell = await notebook.run("s.rows")
            starts.append(1000 * (time.perf_counter() - began))
            memory.append((int(cell.text), _resident(notebook.pid)))
        await publishing
        sent = pace.rows
        await notebook.run(f"await s.wait({sent}, timeout=30)", timeout=40)
        seen = json.loads(
            await notebook.value(
                "[s.rows, len(s), s.dropped, s.rejected,"
                " monitor.longest, monitor.busiest, monitor.stalls]"
            )
        )
        await notebook.run("monitor.task.cancel()")
        again = asyncio.create_task(pace.run(4))
        spun = float(await notebook.value(SPIN))
        await again
    rows, kept, dropped, rejected, stall, cpu, stalls = seen
    full = [size for count, size in memory if count > 1.2 * limit]
    half = len(full) // 2
    growth = Spread.of([max(full[half:]) / max(full[:half])] if half else [])
    print(
        f"{kind}: {sent / seconds:,.0f} rows/s sent, {rows:,} received, {kept:,} kept,"
        f" {dropped:,} dropped, {rejected} rejected; resident {memory[0][1]:.0f} to"
        f" {max(size for _, size in memory):.0f} MB; {stalls} stalls of the loop over 50 ms"
    )
    name = "2,000 messages/s" if kind == "messages" else "200,000 rows/s in batches"
    return [
        Verdict(f"{name}: rows lost", "at most", 0, _single(sent - rows)),
        Verdict(
            f"{name}: kept or dropped, of received rows",
            "at least",
            1,
            _single((kept + dropped) / rows),
        ),
        Verdict(f"{name}: longest stall of the loop, ms", "at most", 50, _single(1000 * stall)),
        Verdict(f"{name}: longest CPU time of a stall, ms", "at most", 50, _single(1000 * cpu)),
        Verdict(f"{name}: stall of a cell's sleep(0) loop, ms", "at most", 50, _single(spun)),
        Verdict(f"{name}: latency of a queued cell, ms", "at most", 100, Spread.of(starts)),
        Verdict(f"{name}: memory once full, second half to first", "at most", 1.1, growth),
    ]


def _single(value: float) -> Spread | None:
    return Spread.of([value])


def _resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


# -- in the browser --------------------------------------------------------------------------------


async def measure_browser(seconds: float, uri: str) -> list[Verdict]:
    from tests.browser.lab import Lab, LabNotebook, new_page, open_browser, wait_for_lab
    from tests.browser.test_speed import WATCH as FRAMES

    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        async with await Lab.start(Path(folder)) as lab, open_browser() as browser:
            page = await new_page(browser)
            await page.goto(f"{lab.url}/lab?reset")
            await wait_for_lab(page)
            notebook = await LabNotebook.open(page, lab)
            for name, scene, flow, duration in (
                ("table of 1,000 rows", "scenes.numbers()", "scenes.flow", "sum(done[:2])"),
                (
                    "chart of 1,000,000 rows",
                    "charts.chart(999_000, y=['price', 'offer'])",
                    "charts.flow",
                    "done[0]",
                ),
                (
                    "bars of 1,000,000 rows by category",
                    "charts.chart(999_000, y='load', every='1min', by='sensor', kind='bar')",
                    "charts.flow",
                    "done[0]",
                ),
            ):
                await notebook.run(
                    "import asyncio\nfrom tests.browser import charts, scenes\n"
                    f"shown = {scene}\nshown.show()"
                )
                await page.wait_for_timeout(2000)
                await notebook.execute(f"flowing = asyncio.ensure_future({flow}(shown, {seconds}))")
                seen = await page.evaluate(FRAMES, seconds - 0.5)
                await notebook.execute("done = await flowing")
                update_ms = float(await notebook.value(duration))
                rate = int(await notebook.value("done[-1]")) / seconds
                await notebook.execute("shown.close()")
                verdicts += [
                    Verdict(f"{name}: kernel ms an update", "at most", 10, _single(update_ms)),
                    Verdict(f"{name}: updates/s", "at most", 10.5, _single(rate)),
                    Verdict(f"{name}: frames/s", "at least", 50, _single(seen["frames"])),
                    Verdict(f"{name}: longest task, ms", "at most", 100, _single(seen["longest"])),
                ]
            verdicts += await _measure_selection(notebook, seconds)
            verdicts += await _measure_statistics(notebook, seconds, uri)
            verdicts += await _measure_waterfall(notebook, seconds, uri)
            verdicts += await _measure_panel(notebook, seconds, uri)
            await notebook.close()
            await browser.close()
    return verdicts


ROWS_ARRIVE = """
import gc
gc.freeze()  # a collection of a million nested values blocks the loop, with or without a table
async def arrive(seconds):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        scenes.add_orders(stream, 200)
        await asyncio.sleep(0.1)
"""


async def _measure_selection(notebook: LabNotebook, seconds: float) -> list[Verdict]:
    """Measure the table of a stream of a million rows, to which 2,000 a second are added."""
    from playwright.async_api import expect

    from tests.browser.test_speed import WATCH as FRAMES

    page, verdicts = notebook.page, []
    await notebook.run("from tests.browser import scenes\nstream = scenes.orders(1_000_000)")
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(".count")).to_have_text("1,000,000 rows")
    await notebook.execute(WATCH + ROWS_ARRIVE)
    words = table.get_by_label("Filter rows")
    heading = table.get_by_role("columnheader", name="price").get_by_role("button")
    for name, act in (
        ("newest rows", None),
        ("filtered", lambda: words.fill("green o12")),
        ("filtered and sorted", heading.click),
        ("sorted", lambda: words.fill("")),
    ):
        await notebook.execute("monitor.busiest = 0.0; used = time.process_time()")
        await notebook.execute(f"arriving = asyncio.ensure_future(arrive({seconds}))")
        if act is not None:
            await act()
        seen = await page.evaluate(FRAMES, seconds - 0.5)
        await notebook.execute("await arriving; used = time.process_time() - used")
        stall = 1000 * float(await notebook.value("monitor.busiest"))
        share = 100 * float(await notebook.value("used")) / seconds
        print(f"stream of a million rows, {name}: {share:.0f} % of a core in the kernel")
        verdicts += [
            Verdict(f"stream, {name}: frames/s", "at least", 50, _single(seen["frames"])),
            Verdict(f"stream, {name}: CPU time of a stall, ms", "at most", 50, _single(stall)),
        ]
    await notebook.execute("monitor.task.cancel(); gc.unfreeze()")
    return verdicts


async def _measure_statistics(notebook: LabNotebook, seconds: float, uri: str) -> list[Verdict]:
    from playwright.async_api import expect

    from tests.browser.panels import panel_of, show_panel
    from tests.browser.test_speed import WATCH as FRAMES

    page, verdicts = notebook.page, []
    await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect {uri} --domain {DOMAIN}")
    async with many_services.announced_services(uri):
        await notebook.run("%fabric_services --stats")
        table = notebook.panel.locator(".fabric-table")
        count = f"{many_services.SERVICES:,} rows"
        await expect(table.locator(".count")).to_have_text(count, timeout=60_000)
        await expect(table.locator("td.spark path").nth(3)).to_have_attribute(
            "d", re.compile("L"), timeout=60_000
        )
        for shown in ("", " and the panel"):
            if shown:
                await show_panel(page)
                up = f"{many_services.SERVICES + 1} up"
                await expect(panel_of(page)).to_contain_text(up, timeout=60_000)
                await page.wait_for_timeout(5000)
            shares = []
            for _ in range(3):
                await notebook.execute("import time; used = time.process_time()")
                seen = await page.evaluate(FRAMES, seconds)
                used = float(await notebook.value("time.process_time() - used"))
                shares.append(100 * used / seconds)
            name = f"%fabric_services --stats{shown}, {many_services.SERVICES:,} services"
            verdicts += [
                Verdict(f"{name}: % of a core", "at most", 5, Spread.of(shares)),
                Verdict(f"{name}: frames/s", "at least", 50, _single(seen["frames"])),
                Verdict(f"{name}: longest task, ms", "at most", 100, _single(seen["longest"])),
            ]
    await notebook.execute("%fabric_disconnect")
    return verdicts


WATERFALL = f"""
import random
import time

from fabric_nb.fabric.rpc.traced_call import TracedCall
from fabric_nb.fabric.tracing.traces import Trace
from fabric_nb.fabric.wire.spans import Span
from fabric_nb.notebook.views.traces import TraceView

drawn = random.Random(7)
trace = Trace("a" * 32)
for n in range({SPANS}):
    call, served = f"{{n + 1:016x}}", f"{{n + 1 + {SPANS}:016x}}"
    parent = f"{{drawn.randrange(n) + 1 + {SPANS}:016x}}" if n else ""
    start = 1.7e9 + n / 1e4
    for span, within, kind in ((call, parent, "client"), (served, call, "server")):
        trace.spans[span] = Span(
            trace.id, span, within, kind, f"d.t.s{{n % 20}}", "m", "d.t.s.7f3a", start, 9.5
        )
traced = TracedCall("s.m")
traced.trace, traced.done = trace, True
traced.succeed(None)

from fabric_nb.notebook import extension

screen = extension._loaded.session.screen
"""


async def _measure_waterfall(notebook: LabNotebook, seconds: float, uri: str) -> list[Verdict]:
    from playwright.async_api import expect

    from tests.browser.test_speed import WATCH as FRAMES

    await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect {uri} --domain {DOMAIN}")
    await notebook.execute(WATERFALL)
    began = time.perf_counter()
    await notebook.run("screen.show(TraceView(fabric.member, traced))")
    table = notebook.panel.locator(".fabric-table")
    await expect(table.locator(".count")).to_have_text(f"{SPANS:,} rows", timeout=60_000)
    opened = time.perf_counter() - began
    await notebook.page.evaluate(SCROLL.replace("SELECTOR", ".fabric-table .scroller"), seconds)
    seen = await notebook.page.evaluate(FRAMES, seconds - 0.5)
    await notebook.execute("%fabric_disconnect")
    name = f"waterfall of {SPANS:,} calls"
    return [
        Verdict(f"{name}: seconds until it is open", "at most", 1, _single(opened)),
        Verdict(f"{name}, scrolled: frames/s", "at least", 50, _single(seen["frames"])),
        Verdict(f"{name}, scrolled: longest task, ms", "at most", 100, _single(seen["longest"])),
    ]


SCROLL = """(seconds) => {
  const tree = document.querySelector("SELECTOR");
  const timer = setInterval(() => {
    tree.scrollTop = (tree.scrollTop + 100) % (tree.scrollHeight - tree.clientHeight);
  }, 33);
  setTimeout(() => clearInterval(timer), seconds * 1000);
}"""


async def _measure_panel(notebook: LabNotebook, seconds: float, uri: str) -> list[Verdict]:
    from playwright.async_api import expect

    from tests.browser.panels import panel_of, show_panel
    from tests.browser.test_speed import WATCH as FRAMES

    page = notebook.page
    await show_panel(page)
    await notebook.execute(f"%load_ext fabric_nb\n%fabric_connect {uri} --domain {DOMAIN}")
    async with many_services.announced_services(uri), produce(uri) as producer:
        up = f"{many_services.SERVICES + 1} up"
        await expect(panel_of(page)).to_contain_text(up, timeout=60_000)
        limit = MAX_ROWS["messages"]
        await notebook.execute(
            f"s = %fabric_stream --domain bench flow=messages --max-rows {limit}"
        )
        publishing = asyncio.create_task(Pace(producer, "messages").run(2 * seconds + 2))
        await page.wait_for_timeout(1000)
        verdicts = []
        for scrolled in ("", ", scrolled"):
            if scrolled:
                await page.evaluate(SCROLL.replace("SELECTOR", ".fabric-services"), seconds)
            seen = await page.evaluate(FRAMES, seconds - 0.5)
            name = f"panel of {many_services.SERVICES:,} services, 2,000 messages/s{scrolled}"
            verdicts += [
                Verdict(f"{name}: frames/s", "at least", 50, _single(seen["frames"])),
                Verdict(f"{name}: longest task, ms", "at most", 100, _single(seen["longest"])),
            ]
        await publishing
    return verdicts


@contextmanager
def broker(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    with RabbitMq.start() as rabbitmq:
        yield rabbitmq.uri


async def measure(options: argparse.Namespace, uri: str) -> list[Verdict]:
    parts: dict[str, Callable[[], Awaitable[list[Verdict]]]] = {
        "load": lambda: measure_load(options.kernels, uri),
        "call": lambda: measure_call(options.kernels, uri),
        "map": lambda: measure_map(min(10, options.seconds), uri),
        "timeline": lambda: measure_timeline(min(10, options.seconds), uri),
        "flow": lambda: _both(uri, options.seconds),
        "browser": lambda: measure_browser(min(10, options.seconds), uri),
        "tab": lambda: many_services.measure_tab(uri),
        "registry": lambda: many_services.measure_registry(uri, options.seconds / 2),
    }
    return [verdict for part in options.only.split(",") for verdict in await parts[part]()]


async def _both(uri: str, seconds: float) -> list[Verdict]:
    return [
        *await measure_flow("messages", uri, seconds),
        *await measure_flow("batches", uri, seconds),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notebook")
    parser.add_argument("--seconds", type=float, default=60, help="duration of each flow")
    parser.add_argument("--kernels", type=int, default=5, help="fresh kernels for load and call")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--uri", help="a running broker; otherwise a private RabbitMQ is started")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    about: dict[str, Any] = machine.facts()
    with broker(options.uri) as uri:
        verdicts = asyncio.run(measure(options, uri))
    about["load_after"] = machine.load()
    print_verdicts(about, verdicts, options.json)


if __name__ == "__main__":
    main()
