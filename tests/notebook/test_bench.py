"""Benchmarks in cells: the magic, its live figures, its result, and interrupts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, error_text, shown_error
from tests.support.cells import Cell
from tests.support.pages import PageReader
from tests.support.peers import DOMAIN


class Shop:
    """Functions of ``shop.store``."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()

    def quote(self, sku: str = "tea") -> str:
        self.calls += 1
        return sku

    async def wait(self, free: int) -> None:
        """Wait until the gate is open; the first `free` calls do not wait."""
        self.calls += 1
        self.changed.set()
        if self.calls > free:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                self.changed.set()
                raise

    def fail(self) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            raise ValueError("<b>even</b>")

    async def reached(self, *, calls: int = 0, cancelled: int = 0) -> None:
        """Wait for calls of `wait`, and for cancellations."""
        async with asyncio.timeout(30):
            while self.calls < calls or self.cancelled < cancelled:
                self.changed.clear()
                await self.changed.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(uri: str) -> AsyncIterator[Shop]:
    """Serve them on fabric_nb, 100 calls of each at the same time."""
    async with AmqBrokerConnector(uri, DOMAIN, "test", "bencher", keep_alive_seconds=0.5) as fabric:
        shop = Shop()
        functions = {"quote": shop.quote, "wait": shop.wait, "fail": shop.fail}
        await fabric.serve(functions, type="shop", id="store", prefetch=100)
        yield shop


@pytest.fixture
def shop(served: Shop) -> Shop:
    """The functions, not called yet."""
    served.calls = served.cancelled = 0
    served.gate.clear()
    return served


async def test_the_value_is_the_result(notebook: Notebook, shop: Shop) -> None:
    """`%fabric_bench` returns the result, which is shown as a histogram and as text."""
    cell = await notebook.run('%fabric_bench store.quote sku="mate" --calls 200 --yes')
    assert shop.calls == 201
    assert cell.outputs[-1].kind == "execute_result"
    reader = PageReader(cell.outputs[-1].html)
    assert "svg" in reader.elements
    assert reader.cells[0] == ["min", "mean", "p50", "p90", "p95", "p99", "max"]
    assert all(re.fullmatch(r"[\d,.]+ ms", text) for text in reader.cells[1])
    assert f"Benchmark of {DOMAIN}.shop.store.quote" in reader.texts
    text = cell.outputs[-1].text
    assert text.startswith(f"{DOMAIN}.shop.store.quote · done · ")
    assert "█" in text
    # The live figures are gone: the output has the result only.
    assert all(not output.text and not output.html for output in cell.outputs[:-1])
    await notebook.run("r = %fabric_bench store.quote --calls 100 --in-flight 4 -y")
    assert await notebook.value("r.calls, r.options.in_flight, r.df.calls.sum()") == (
        "(100, 4, np.int64(100))"
    )
    assert await notebook.value("fabric.last_bench.calls, len(r.instances)") == "(100, 1)"


async def test_live_figures(notebook: Notebook, shop: Shop) -> None:
    """While it is under way its figures are shown with a bar, also of one that Python awaits."""
    for code in (
        "r = %fabric_bench store.wait free=50 --calls 60 --yes",
        "r = await fabric.bench('store.wait', free=50, calls=60, repeatable=True)",
    ):
        shop.calls = 0
        shop.gate.clear()
        cell = notebook.execute_no_wait(code)
        await cell.until(lambda cell: any("49 calls in" in output.text for output in cell.outputs))
        html = cell.outputs[0].html
        assert '<progress max="1" value="0.817">' in html
        assert "p95" in html
        shop.gate.set()
        await cell.wait()
        assert not cell.outputs[0].html
        assert await notebook.value("r.calls, r.state") == "(60, 'done')"


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("", "UsageError", "required: call"),
        ("store.quote", "InvalidArgument", "would be called for 10 s, 16 calls at a time"),
        ("store.quote --calls 5", "InvalidArgument", "called 6 times, with all its effects"),
        ("store.quote -y --in-flight 0", "UsageError", "'0' is not a number from 1 upward"),
        ("store.quote -y --in-flight 99999", "InvalidArgument", "to 10,000"),
        ("store.quote -y --seconds nan", "UsageError", "'nan' is not a time in seconds"),
        ("store.quote -y --seconds -1", "UsageError", "--seconds"),
        ("store.quote -y --seconds inf", "UsageError", "'inf' is not a time in seconds"),
        ("store.quote -y --seconds 1e9", "InvalidArgument", "at most 86,400"),
        ("store.quote -y --rate 0", "UsageError", "'0' is not a number per second"),
        ("store.quote -y --rate 1e9", "InvalidArgument", "at most 1e+06"),
        ("store.quote -y --calls 5 --warmup 1", "InvalidArgument", "leave it out"),
        ("store.quote -y sku=nothing", "BadArgument", "nothing"),
        ("store.quote -y sku={1}", "NotSerializable", "sku"),
        ("store.quotes -y", "MethodNotFound", "did you mean quote"),
        ("stor.quote -y", "UnknownService", "did you mean"),
        ("store@*.quote -y", "InvalidName", "leave out @"),
        ("store.quote sku='x' -y", "UsageError", "-y behind a value may be an option"),
    ],
)
@pytest.mark.usefixtures("shop")
async def test_lines_that_cannot_be_run(
    notebook: Notebook, line: str, error: str, text: str
) -> None:
    """A line that cannot be run is one sentence that says why, and nothing is measured."""
    assert text in error_text(await notebook.execute(f"%fabric_bench {line}"), error)


async def test_health_check_needs_no_consent(notebook: Notebook, shop: Shop) -> None:
    """`health_check` is measured without `--yes`."""
    await notebook.run("r = %fabric_bench store.health_check -n 10")
    assert await notebook.value("r.calls") == "10"
    assert shop.calls == 0


async def test_errors(notebook: Notebook, shop: Shop) -> None:
    """Calls that fail are counted by type, and their text is shown as text."""
    cell = await notebook.run("%fabric_bench store.fail --calls 40 --in-flight 1 --yes")
    reader = PageReader(cell.html)
    assert "20 failed" in reader.texts
    assert reader.cells[3][:2] == ["RemoteError (ValueError)", "20"]
    assert "<b>even</b>" in reader.cells[3][2]
    assert shop.calls == 41


async def interrupted(notebook: Notebook, shop: Shop, code: str, calls: int) -> Cell:
    """Run a cell, and interrupt it after this many calls."""
    cell = notebook.execute_no_wait(code)
    await shop.reached(calls=calls)
    await notebook.interrupt()
    return await cell.wait()


async def test_interrupt(notebook: Notebook, shop: Shop) -> None:
    """An interrupt ends it with the result so far, and cancels the calls under way."""
    line = "%fabric_bench store.wait free=30 --in-flight 3 --seconds 600 --warmup 0 --yes"
    cell = await interrupted(notebook, shop, line, 33)
    assert cell.error is None
    assert "interrupted" in PageReader(cell.html).texts
    assert "3 calls were under way at the end and were cancelled." in cell.text
    await shop.reached(cancelled=3)
    shop.calls = 0
    await interrupted(notebook, shop, f"r = {line}", 33)
    assert await notebook.value("r.state, r.calls, r.cancelled") == "('interrupted', 29, 3)"
    assert await notebook.value("fabric.last_bench.calls") == "29"


async def test_interrupt_of_an_awaited_benchmark(notebook: Notebook, shop: Shop) -> None:
    """An interrupted `await fabric.bench(...)` says where its result is."""
    code = (
        "await fabric.bench('store.wait', free=30, in_flight=3, seconds=600, warmup=0,"
        " repeatable=True)"
    )
    cell = await interrupted(notebook, shop, code, 33)
    assert cell.error is not None
    assert "fabric.last_bench has the result so far" in cell.error.traceback
    assert await notebook.value("fabric.last_bench.state") == "'interrupted'"


async def test_interrupt_of_the_first_call(notebook: Notebook, shop: Shop) -> None:
    """Before anything is measured there is no result, and the interrupt is an interrupt."""
    cell = await interrupted(notebook, shop, "%fabric_bench store.wait free=0 --yes", 1)
    assert shown_error(cell, "KeyboardInterrupt")


async def test_completion(notebook: Notebook, shop: Shop) -> None:
    """Methods, keywords and options are completed."""
    await notebook.run("%fabric_bench store.quote --calls 1 --yes")
    for line, offered in (
        ("%fabric_bench store.quo", ["store.quote"]),
        ("x = %fabric_bench store.quote sk", ["sku="]),
        ("%fabric_bench --in", ["--in-flight"]),
    ):
        assert (await notebook.complete(line)).matches == offered
