"""Maps in cells: the magic, its bar, and interrupts, with a service in the process of the tests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import pytest_asyncio

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, SlowCall, error_text, shown_error
from tests.support.cells import Cell
from tests.support.fabric import until
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook

PRICES = {"beer": 2.5, "wine": 7.0, "milk": 1.25}
ORDERS = (
    "df = pd.DataFrame({'sku': ['beer', 'wine', 'milk'], 'amount': [2, 1, 4]}, index=list('xyz'))"
)


class Pricing:
    """Functions of ``shop.pricing``; some wait until the test opens the gate."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()

    def quote(self, sku: str, amount: int = 1, country: str = "DE") -> dict[str, object]:
        self.calls[sku] += 1
        return {"total": PRICES[sku] * amount, "country": country}

    async def square(self, n: int, first: int = 0) -> int:
        """Return the square; all but the `first` rows wait."""
        self.calls[str(n)] += 1
        self.changed.set()
        if n >= first:
            await self.gate.wait()
        if n == 13:
            raise ValueError("13 brings bad luck")
        return n * n

    async def called(self, rows: int) -> None:
        """Wait until `square` was called for this many rows."""
        async with asyncio.timeout(30):
            while self.calls.total() < rows:
                self.changed.clear()
                await self.changed.wait()

    def reset(self) -> None:
        """Begin to count anew, and close the gate."""
        self.calls.clear()
        self.gate.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(uri: str) -> AsyncIterator[Pricing]:
    """Serve them on fabric_nb, 100 calls of each at the same time."""
    async with AmqBrokerConnector(uri, DOMAIN, "test", "shop", keep_alive_seconds=0.5) as fabric:
        pricing = Pricing()
        functions = {"quote": pricing.quote, "square": pricing.square}
        await fabric.serve(functions, type="shop", id="pricing", prefetch=100)
        yield pricing


@pytest_asyncio.fixture(loop_scope="session")
async def pricing(shop: Pricing, notebook: Notebook) -> Pricing:
    """The functions, not called yet; their waits end with the test."""
    shop.reset()
    await notebook.run(
        "import pandas as pd\n"
        "%config FabricMagics.progress_after = 2\n"
        "%config FabricMagics.timeout = 30",
        cell_id="map",  # an interrupted map of an earlier test is not continued after this
    )
    return shop


# -- the magic


async def test_the_value_is_a_dataframe(notebook: Notebook, pricing: Pricing) -> None:
    """`%fabric_map` returns the results with the index of the rows, to be assigned and joined."""
    await notebook.run(ORDERS)
    cell = await notebook.run(
        'prices = %fabric_map pricing.quote df[["sku", "amount"]] country="AT" --in-flight 2\n'
        "df.join(prices[['total', 'country', 'error']])"
    )
    assert [line.split() for line in cell.text.splitlines()[1:]] == [
        ["x", "beer", "2", "5.0", "AT", "None"],
        ["y", "wine", "1", "7.0", "AT", "None"],
        ["z", "milk", "4", "5.0", "AT", "None"],
    ]
    assert len(cell.outputs) == 1
    shown = await notebook.run("%fabric_map pricing.quote df[df.amount > 1] --no-spread")
    assert "<th>result</th>" in shown.html
    assert list(pricing.calls.values()) == [2, 1, 2]


@pytest.mark.parametrize(
    ("line", "total"),
    [
        ("pricing.quote sku=df.sku amount=df.amount", "[5.0, 7.0, 5.0]"),
        ("pricing.quote sku=['beer', 'milk'] amount=4", "[10.0, 5.0]"),
        ("-t 5 pricing.quote [{'sku': 'beer'}] amount = 2 + 1 --idempotent", "[7.5]"),
        ("{service}.quote [{'sku': sku} for sku in df.sku] --retries 1 -i", "[2.5, 7.0, 1.25]"),
        ("pricing.quote ({'sku': sku} for sku in df.sku) --on-error raise", "[2.5, 7.0, 1.25]"),
        ("pricing.quote df.head(1) amount=2 --idempotent --retries 2", "[5.0]"),
    ],
)
@pytest.mark.usefixtures("pricing")
async def test_rows_and_options(notebook: Notebook, line: str, total: str) -> None:
    """Rows are an expression in brackets or columns by name; options may be anywhere."""
    await notebook.run(f"{ORDERS}\nservice = 'shop.pricing'")
    cell = await notebook.run(f"prices = %fabric_map {line}\nprices.total.tolist()")
    assert cell.text == total


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("", "UsageError", "required: call"),
        ("pricing.quote", "InvalidArgument", "A map needs rows"),
        ("pricing.quote nothing", "BadArgument", "rows=nothing raised NameError"),
        ("pricing.quote df df", "UsageError", "'df' is not of the form name=expression"),
        ("pricing.quote df.sku", "InvalidArgumentType", "rows is a Series"),
        ("pricing.quote df.rename(columns={'sku': 's k'})", "InvalidArgument", "'s k'"),
        ("pricing.quote df x=1 -a", "UsageError", "-a behind a value may be an option"),
        ("pricing.quote df --in-flight 0", "UsageError", "'0' is not a number from 1 upward"),
        ("pricing.quote df --in-flight 99999", "InvalidArgument", "to 10,000"),
        ("pricing.quote df --retries 2", "InvalidArgument", "--idempotent"),
        ("pricing.quote df --on-error stop", "UsageError", "invalid choice: 'stop'"),
        ("pricing.quotes df", "MapStopped", "did you mean quote"),
        ("prices.quote df", "MapStopped", "UnknownService"),
        ("pricing.quote (1 / 0 for _ in [1])", "MapStopped", "ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("pricing")
async def test_lines_that_cannot_be_run(
    notebook: Notebook, line: str, error: str, text: str
) -> None:
    """A line that cannot be run is one sentence that says why."""
    await notebook.run(f"{ORDERS}\n%config FabricMagics.timeout = 5")
    assert text in error_text(await notebook.execute(f"%fabric_map {line}"), error)


async def test_rows_that_fail_are_in_the_results(notebook: Notebook, pricing: Pricing) -> None:
    """Rows with missing, surplus or unsendable keywords, NaN and doubled labels fail alone."""
    await notebook.run(
        "rows = pd.DataFrame({'sku': ['beer', 'rum', 'milk'], 'amount': [1.0, 1.0, float('nan')]},"
        " index=[7, 7, 8])"
    )
    cell = await notebook.run(
        "prices = %fabric_map pricing.quote rows\n"
        "[str(error)[:60] for error in prices.error], prices.index.tolist(), str(prices.total[8])"
    )
    assert "KeyError('rum')" in cell.text
    assert cell.text.endswith("[7, 7, 8],\n 'nan')")
    wrong = await notebook.run(
        "prices = %fabric_map pricing.quote [{}, {'sku': 'beer', 'size': 1}, {'sku': {1}}, 5,"
        " {'sku': 'beer'}]\n[type(error).__name__ for error in prices.error], str(prices.total[4])"
    )
    assert " ".join(wrong.text.split()) == (
        "(['RemoteTypeError', 'RemoteTypeError', 'NotSerializable', 'InvalidArgumentType',"
        " 'NoneType'], '2.5')"
    )
    empty = await notebook.run("none = %fabric_map pricing.quote rows[:0]\nlen(none)")
    assert empty.text == "0"
    assert pricing.calls["beer"] == 2


async def test_results_that_are_tables(notebook: Notebook, uri: str) -> None:
    """A DataFrame of each row stays one value; results may be missing without an error."""
    tables = {"table": lambda n: pd.DataFrame({"a": [n]}), "nothing": lambda n: None}
    async with AmqBrokerConnector(uri, DOMAIN, "test", "tabler", keep_alive_seconds=0.5) as fabric:
        await fabric.serve(tables, type="shop", id="tables")
        cell = await notebook.run(
            "x = %fabric_map my_project.shop.tables.table n=[5, 6]\n"
            "y = %fabric_map my_project.shop.tables.nothing n=[5, 6]\n"
            "[int(table.a[0]) for table in x.result], y.result.isna().all(), y.error.tolist()"
        )
    assert cell.text == "([5, 6], np.True_, [None, None])"


async def test_a_service_that_disappears(notebook: Notebook, uri: str, pricing: Pricing) -> None:
    """A map whose service leaves stops, keeps its results, and continues when it is back."""

    async def serve() -> AmqBrokerConnector:
        fabric = AmqBrokerConnector(uri, DOMAIN, "test", "leaver", keep_alive_seconds=0.5)
        await fabric.open()
        await fabric.serve({"square": pricing.square}, type="shop", id="leaving", prefetch=100)
        return fabric

    fabric = await serve()
    cell = notebook.execute_no_wait(
        "x = %fabric_map my_project.shop.leaving.square n=range(10) first=5 --in-flight 2"
        " --timeout 3 --idempotent"
    )
    await pricing.called(7)
    await fabric.close(0)
    sentence = error_text(await cell.wait(), "MapStopped")
    assert "has stopped after 5 of 10 rows, because of UnknownService" in sentence
    fabric = await serve()
    pricing.gate.set()
    assert await notebook.value("len(fabric.last_map.results)") == "5"
    assert await notebook.value("int((await fabric.last_map.resume()).result.sum())") == "285"
    await fabric.close()


async def test_a_handle(notebook: Notebook, pricing: Pricing) -> None:
    """`-a` returns the handle at once; `%fabric_result` waits for it."""
    await notebook.run("h = %fabric_map -a pricing.square [{'n': n} for n in range(4)] first=2")
    await pricing.called(4)
    await notebook.run("import asyncio\nwhile h.progress.done < 2: await asyncio.sleep(0.01)")
    assert await notebook.value("h.done(), fabric.last_map is h") == "(False, True)"
    waiting = notebook.execute_no_wait("results = %fabric_result h\nresults.result.tolist()")
    pricing.gate.set()
    assert (await waiting.wait()).text == "[0, 1, 4, 9]"
    assert await notebook.value("h.result().equals(await h)") == "True"


@pytest.mark.parametrize("line", ["%fabric_result h", "h.result()"])
async def test_an_interrupted_wait_for_a_handle(
    notebook: Notebook, pricing: Pricing, line: str
) -> None:
    """An interrupted wait for the result of a handle ends, and the map continues."""
    await notebook.run("h = %fabric_map -a pricing.square [{'n': n} for n in range(4)] first=2")
    waiting = notebook.execute_no_wait(f"print('waits')\nx = {line}")
    await waiting.until(lambda cell: "waits" in cell.stdout)
    await pricing.called(4)
    await notebook.interrupt()
    await waiting.wait()
    assert await notebook.value("h.state") == "'running'"
    late = await notebook.execute("h.result(timeout=0.01)")
    assert "has not ended within 0.01 s; it continues" in error_text(late, "CallTimeout")
    pricing.gate.set()
    assert await notebook.value("h.result().result.tolist()") == "[0, 1, 4, 9]"


async def test_completion(notebook: Notebook, pricing: Pricing) -> None:
    """Methods, keywords and options are completed."""
    await notebook.run("%fabric_map pricing.quote sku=['beer']")
    for line, offered in (
        ("%fabric_map pricing.qu", ["pricing.quote"]),
        ("x = %fabric_map pricing.quote df cou", ["country="]),
        ("%fabric_map --no-s", ["--no-spread"]),
    ):
        assert (await notebook.complete(line)).matches == offered


# -- interrupts


async def interrupted(notebook: Notebook, pricing: Pricing, code: str, rows: int) -> Cell:
    """Run a cell, and interrupt it when this many rows were called."""
    cell = notebook.execute_no_wait(code, cell_id="map")
    await pricing.called(rows)
    await notebook.interrupt()
    return await cell.wait()


MAP = "squares = %fabric_map pricing.square numbers first=3 --in-flight 4 --idempotent"
NUMBERS = "numbers = pd.DataFrame({'n': range(10)})"


async def test_a_cell_continues_its_interrupted_map(notebook: Notebook, pricing: Pricing) -> None:
    """The results of an interrupted cell are kept; it continues if it is run again unchanged."""
    await notebook.run(NUMBERS)
    cell = await interrupted(notebook, pricing, MAP, 7)
    assert shown_error(cell, "KeyboardInterrupt").startswith(
        "KeyboardInterrupt: The map of my_project.pricing.square was interrupted: 3 of 10 rows are"
        " done, and 7 are missing; run this cell again, unchanged, to continue with the missing"
        " rows. fabric.last_map has the results so far. The 4 rows under way were stopped."
    )
    kept = await notebook.value("fabric.last_map.results.result.tolist(), fabric.last_map.state")
    assert kept == "([0, 1, 4], 'cancelled')"
    pricing.reset()
    pricing.gate.set()
    await notebook.run(NUMBERS)  # an equal DataFrame
    await notebook.run(MAP, cell_id="map")
    assert await notebook.value("squares.result.sum(), len(squares)") == "(np.int64(285), 10)"
    assert sorted(pricing.calls) == [str(n) for n in range(3, 10)]
    pricing.reset()
    pricing.gate.set()
    await notebook.run(MAP, cell_id="map")  # it had ended
    assert pricing.calls.total() == 10


@pytest.mark.parametrize(
    "change",
    [
        "numbers.loc[0, 'n'] = 2",
        "numbers.index = numbers.index + 1",
        "numbers = numbers.iloc[::-1]",
        "numbers['n'] = numbers.n.astype(float)",
        "# the constant",
        "# an option",
        "# the cell",
    ],
)
async def test_a_changed_map_starts_anew(notebook: Notebook, pricing: Pricing, change: str) -> None:
    """Other rows, also of a frame that was changed in place, constants or options start anew."""
    await notebook.run(NUMBERS)
    await interrupted(notebook, pricing, MAP, 7)
    pricing.reset()
    pricing.gate.set()
    await notebook.run(change)
    line = MAP
    if change == "# the constant":
        line = MAP.replace("first=3", "first=4")
    elif change == "# an option":
        line = MAP.replace("in-flight 4", "in-flight 5")
    await notebook.run(line, cell_id="another" if change == "# the cell" else "map")
    assert pricing.calls.total() == 10


async def test_an_interrupted_map_is_continued_by_the_next_run_only(
    notebook: Notebook, pricing: Pricing
) -> None:
    """A cell that was run with a change does not continue its earlier map, but another map does."""
    await notebook.run(NUMBERS)
    await interrupted(notebook, pricing, f"first = %fabric_map calc1.echo value=[1]\n{MAP}", 7)
    pricing.reset()
    pricing.gate.set()
    await notebook.run(f"first = %fabric_map calc1.echo value=[1]\n{MAP}", cell_id="map")
    assert pricing.calls.total() == 7
    pricing.reset()
    await interrupted(notebook, pricing, MAP, 7)
    pricing.reset()
    pricing.gate.set()
    await notebook.run("1", cell_id="map")
    await notebook.run(MAP, cell_id="map")
    assert pricing.calls.total() == 10


async def test_an_iterator_is_continued_if_it_is_the_same(
    notebook: Notebook, pricing: Pricing
) -> None:
    """Rows that can be read once are continued where they were interrupted, and none is lost."""
    await notebook.run("numbers = ({'n': n} for n in range(10))")
    cell = await interrupted(notebook, pricing, MAP, 7)
    assert "await fabric.last_map.resume() to continue" in shown_error(cell, "KeyboardInterrupt")
    pricing.reset()
    pricing.gate.set()
    await notebook.run(MAP, cell_id="map")
    assert await notebook.value("squares.result.sum(), len(squares)") == "(np.int64(285), 10)"
    assert pricing.calls.total() == 7


async def test_rows_under_way_that_are_not_idempotent(notebook: Notebook, pricing: Pricing) -> None:
    """Rows that were under way at the interrupt count as failed, unless they are idempotent."""
    await notebook.run(NUMBERS)
    line = MAP.replace(" --idempotent", "")
    cell = await interrupted(notebook, pricing, line, 7)
    assert "7 of 10 rows are done, 4 of them failed, and 3 are missing; run this" in (
        shown_error(cell, "KeyboardInterrupt")
    )
    pricing.reset()
    pricing.gate.set()
    await notebook.run(line, cell_id="map")
    assert sorted(pricing.calls) == ["7", "8", "9"]
    counts = "squares.error.map(type).map(lambda kind: kind.__name__).value_counts().to_dict()"
    assert await notebook.value(counts) == "{'NoneType': 6, 'CallCancelled': 4}"
    assert await notebook.value("(await fabric.last_map.retry_failed()).result.sum()") == (
        "np.int64(285)"
    )


STREAM = (
    "import asyncio\nsums = []\n"
    "async for row, n in fabric.map_stream('pricing.square', numbers, first=3, in_flight=4):\n"
    "    sums.append(n)"
)


async def test_interrupt_of_a_map_stream(notebook: Notebook, pricing: Pricing) -> None:
    """An interrupted loop over `fabric.map_stream` tells what is done, and what was stopped."""
    await notebook.run(NUMBERS)
    cell = await interrupted(notebook, pricing, STREAM, 7)
    assert shown_error(cell, "CancelledError").startswith(
        "CancelledError: The map of my_project.pricing.square was cancelled: 3 of 10 rows are done,"
        " and 7 are missing. The 4 rows under way were stopped."
    )
    assert await notebook.value("sums") == "[0, 1, 4]"


async def test_interrupt_of_an_awaited_map(notebook: Notebook, pricing: Pricing) -> None:
    """An interrupted `await fabric.map(...)` tells what is done, and can be resumed."""
    code = "await fabric.map('pricing.square', numbers, first=3, in_flight=4, idempotent=True)"
    await notebook.run(NUMBERS)
    cell = await interrupted(notebook, pricing, code, 7)
    assert cell.error is not None
    assert (
        "The map of my_project.pricing.square was cancelled: 3 of 10 rows are done, and 7 are"
        " missing. fabric.last_map has the results so far, and its resume() calls the missing rows."
        " The 4 rows under way were stopped."
    ) in cell.error.traceback
    pricing.gate.set()
    assert await notebook.value("len(await fabric.last_map.resume())") == "10"


async def test_a_restarted_kernel_starts_anew(start_notebook: StartNotebook, uri: str) -> None:
    """After a restart of the kernel nothing is left of an interrupted map: it starts anew."""
    async with AmqBrokerConnector(uri, DOMAIN, "test", "shop2", keep_alive_seconds=0.5) as fabric:
        pricing = Pricing()
        await fabric.serve({"square": pricing.square}, type="shop", id="again", prefetch=100)
        notebook = await start_notebook()
        line = MAP.replace("pricing.", f"{DOMAIN}.shop.again.")
        for _ in range(2):
            await notebook.connect(uri, id="restarted")
            await notebook.run(f"import pandas as pd\n{NUMBERS}")
            assert await notebook.value("fabric.last_map is None") == "True"
            await interrupted(notebook, pricing, line, 7)
            pricing.reset()
            await notebook.restart()
            await notebook.load()


async def test_a_kernel_that_is_restarted_during_a_map(
    start_notebook: StartNotebook, uri: str
) -> None:
    """Its rows under way are cancelled at the service, its bar stays, and it can be run again."""
    async with AmqBrokerConnector(uri, DOMAIN, "test", "shop3", keep_alive_seconds=0.5) as fabric:
        pricing = Pricing()
        functions = {"square": pricing.square}
        server = await fabric.serve(functions, type="shop", id="restart", prefetch=100)
        notebook = await start_notebook()

        async def begin() -> Cell:
            await notebook.connect(uri, id="restarting")
            await notebook.run(
                f"import pandas as pd\n{NUMBERS}\n%config FabricMagics.progress_after = 0"
            )
            line = MAP.replace("pricing.", f"{DOMAIN}.shop.restart.")
            cell = notebook.execute_no_wait(line, cell_id="map")
            await pricing.called(7)
            await cell.until(lambda cell: any("3 of 10 rows" in text for text in bars(cell)))
            return cell

        old = await begin()
        await notebook.restart()
        await until(lambda: server.stats["square"].running == 0)
        assert server.stats["square"].cancelled == 4
        assert "3 of 10 rows" in bars(old)[0]
        pricing.reset()
        await notebook.load()
        new = await begin()
        assert pricing.calls.total() == 7
        pricing.gate.set()
        await new.wait()
        assert await notebook.value("squares.result.sum(), len(squares)") == "(np.int64(285), 10)"


# -- the bar


def bars(cell: Cell) -> list[str]:
    """Return the texts of the live outputs of a cell."""
    return [output.text for output in cell.displays]


@pytest.mark.parametrize(
    "code",
    [
        "%fabric_map pricing.square n=range(20) first=5",
        "await fabric.map('pricing.square', n=range(20), first=5)",
        "await fabric.service('pricing').square.map(n=range(20), first=5)",
        "h = %fabric_map -a pricing.square n=range(20) first=5\nawait h",
    ],
)
async def test_a_long_map_has_a_bar(notebook: Notebook, pricing: Pricing, code: str) -> None:
    """Under the cell stand rows, rate, time and instances; a failed row opens to its error."""
    await notebook.run("%config FabricMagics.progress_after = 0.1")
    cell = notebook.execute_no_wait(code)
    await cell.until(lambda cell: any("5 of 20 rows" in text for text in bars(cell)))
    (running,) = bars(cell)
    assert running.startswith("Map of my_project.pricing.square · running · 5 of 20 rows · ")
    assert " rows/s" in running
    assert 'class="fabric-nb"' in cell.displays[0].html
    assert '<progress max="1" value="0.250">' in cell.displays[0].html
    pricing.gate.set()
    await cell.wait()
    await cell.until(lambda cell: "20 of 20 rows" in bars(cell)[0])
    (ended,) = bars(cell)
    assert ended.startswith("Map of my_project.pricing.square · done · 1 failed · 20 of 20 rows · ")
    assert re.search(r" · [0-9a-f]{8}: 20 · ", ended)
    assert "13 brings bad luck" in ended
    assert "in square" in ended  # the remote traceback
    assert "<details><summary>Details of 13 · n=13 · " in cell.displays[0].html


async def test_a_map_stream_has_a_bar(notebook: Notebook, pricing: Pricing) -> None:
    """While a cell iterates `fabric.map_stream` it has the bar of a map; one it leaves is ended."""
    await notebook.run(f"%config FabricMagics.progress_after = 0.1\n{NUMBERS}")
    code = STREAM.replace("numbers", "n=range(20)").replace("first=3", "first=5")
    cell = notebook.execute_no_wait(code)
    await cell.until(lambda cell: any("5 of 20 rows" in text for text in bars(cell)))
    (running,) = bars(cell)
    assert running.startswith("Map of my_project.pricing.square · running · 5 of 20 rows · ")
    pricing.gate.set()
    await cell.wait()
    await cell.until(lambda cell: "20 of 20 rows" in bars(cell)[0])
    (ended,) = bars(cell)
    assert ended.startswith("Map of my_project.pricing.square · done · 1 failed · 20 of 20 rows · ")
    assert "13 brings bad luck" in ended
    await notebook.run("%config FabricMagics.progress_after = 0")
    left = await notebook.run(f"{STREAM}\n    await asyncio.sleep(0.5)\n    break")
    await left.until(lambda cell: bars(cell)[0].startswith("Map of my_project.pricing.square · ca"))
    short = await notebook.run(
        "%config FabricMagics.progress_after = 20\n"
        "[n async for _, n in fabric.map_stream('pricing.square', n=[1, 2], first=5)]"
    )
    assert bars(short) == []


async def test_short_and_silent_maps_have_no_bar(notebook: Notebook, pricing: Pricing) -> None:
    """A map that ends soon without a failure shows only its value; a negative time hides bars."""
    await notebook.run("%config FabricMagics.progress_after = 20")
    short = await notebook.run("await fabric.map('pricing.square', n=[1], first=5)")
    assert bars(short) == []
    failing = await notebook.run("x = %fabric_map pricing.square n=[13] first=50")
    assert "13 brings bad luck" in bars(failing)[0]
    await notebook.run("%config FabricMagics.progress_after = -1")
    silent = await notebook.run("x = %fabric_map pricing.square n=[13] first=50")
    assert bars(silent) == []


async def test_a_handle_is_displayed_as_a_bar(
    notebook: Notebook, uri: str, pricing: Pricing
) -> None:
    """A handle that is displayed is a live bar, and an unbounded map has one without a total."""
    await notebook.run("%config FabricMagics.progress_after = 0.1")
    await notebook.run(
        "import itertools\n"
        "async def endless():\n    for n in itertools.count(0, 20): yield {'n': n}\n"
        "h = fabric.map('pricing.square', endless(), first=100, in_flight=4)"
    )
    cell = await notebook.run("h")
    await cell.until(lambda cell: "running · 5 rows · " in bars(cell)[0])
    assert "<progress" not in cell.displays[0].html
    assert len(cell.displays) == 1
    await notebook.run("h.cancel()")
    await cell.until(lambda cell: "cancelled · 4 failed · 9 rows · " in bars(cell)[0])
    await notebook.run("%fabric_disconnect")
    again = await notebook.run("h")
    await notebook.connect(uri, id="maps")
    assert "cancelled · 4 failed · 9 rows · " in bars(again)[0]


async def test_maps_of_served_functions_have_no_bar(
    notebook: Notebook, pricing: Pricing, caller: Peer
) -> None:
    """A map in a served function shows nothing under the cell that serves it."""
    await notebook.run("%config FabricMagics.progress_after = 0")
    serving = await notebook.run(
        "%%fabric_serve --id mapper\n"
        "async def total(count):\n"
        "    frame = await fabric.map('pricing.square', n=range(count), first=50)\n"
        "    return int(frame.result.sum())"
    )
    result = await caller.ask(
        "call", type="notebook", target="mapper", method="total", kwargs={"count": 5}, timeout=60
    )
    assert result == 30
    assert len(serving.displays) == 1
    await notebook.run("%fabric_stop mapper")


async def test_an_interrupted_map_over_amqp_fabric(notebook: Notebook, calc: Peer) -> None:
    """An interrupted map over amqp-fabric reports that the rows under way may run on."""
    slow = SlowCall(calc, 1.2)
    cell = notebook.execute_no_wait(
        f"x = %fabric_map calc1.slow seconds=[0, {slow.seconds}] --in-flight 1"
    )
    await slow.began()
    await notebook.interrupt()
    await cell.wait()
    assert "The 1 row under way may run on, as plain functions and services on amqp-fabric do." in (
        shown_error(cell, "KeyboardInterrupt")
    )


async def test_a_map_over_amqp_fabric(notebook: Notebook) -> None:
    """A service of amqp-fabric is mapped in the same way; only its instances are not known."""
    cell = await notebook.run(
        "x = %fabric_map calc1.divide x=[1, 2, 3] y=[1, 0, 2]\n"
        "x.result.tolist(), x.instance.tolist()"
    )
    assert cell.text == "([1.0, nan, 1.5], ['', '', ''])"
    assert "1 failed · 3 of 3 rows" in bars(cell)[0]
