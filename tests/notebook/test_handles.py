"""Long calls: progress, handles, results, item streams, and arguments from the cell's body."""

from __future__ import annotations

from tests.notebook.notebooks import Notebook, call, error_text, shown_error
from tests.support.peers import Peer

SLOW = "%fabric_call calc1.slow seconds={0} --progress-after {1}"


async def test_progress_line_of_a_long_call(notebook: Notebook) -> None:
    """The progress line has the call, the elapsed time and the state of the service."""
    cell = notebook.execute_no_wait(SLOW.format(2, 0.2))
    await cell.until(lambda cell: "calc1 is up" in "".join(output.text for output in cell.displays))
    assert "Waiting for my_project.calc1.slow" in cell.displays[0].text
    await cell.wait()
    assert cell.status == "ok"
    assert all("Waiting" not in output.text + output.html for output in cell.displays)


async def test_a_short_call_shows_nothing_but_its_value(notebook: Notebook) -> None:
    """A call with an earlier reply shows only its value."""
    cell = await notebook.run("%fabric_call calc1.multiply x=2 y=3")
    assert [output.text for output in cell.outputs] == ["6"]


async def test_a_handle_of_a_background_call(notebook: Notebook) -> None:
    """`-a` returns at once a handle with the state and the result."""
    await notebook.run("h = %fabric_call -a calc1.slow seconds=1")
    assert await notebook.value("h.done(), 'running' in repr(h)") == "(False, True)"
    assert await notebook.value("h.result(timeout=60)") == await notebook.value("await h")
    assert await notebook.value("h.done(), h.elapsed >= 1") == "(True, True)"


async def test_a_handle_raises_the_error_of_the_call(notebook: Notebook) -> None:
    """The error of a call is raised when the result is requested, and not shown before."""
    cell = await notebook.run("h = %fabric_call -a calc1.divide x=1 y=0")
    assert cell.outputs == []
    failed = await notebook.execute("h.result()")
    assert failed.error is not None
    assert "ZeroDivisionError" in failed.error.value
    assert "failed" in await notebook.value("h")


async def test_timeout_and_cancellation_of_a_handle(notebook: Notebook) -> None:
    """Waiting for a handle can have a timeout, and the call can be cancelled."""
    await notebook.run("h = %fabric_call -a calc1.slow seconds=3")
    late = await notebook.execute("h.result(timeout=0.2)")
    assert late.error is not None
    assert "the call continues" in late.error.value
    assert await notebook.value("h.done(), h.cancel()") == "(False, True)"
    await notebook.run("import asyncio; await asyncio.sleep(0)")
    assert "cancelled" in await notebook.value("h")


async def test_several_results_share_one_bar(notebook: Notebook) -> None:
    """`%fabric_result` waits for several calls with one progress bar, and returns a list."""
    await notebook.run(
        "a = %fabric_call -a calc1.slow seconds=1.5\n"
        "b = %fabric_call -a calc1.multiply x=3 y=4\n"
        "c = %fabric_call -a calc1.echo value='x'"
    )
    cell = await notebook.run("%fabric_result a b")
    assert cell.text.endswith(", 12]")
    bars = [message for message in cell.messages if "of 2 calls" in repr(message)]
    assert bars
    assert await notebook.value("%fabric_result") == "['x']"
    wrong = await notebook.execute("%fabric_result nothing")
    assert "nothing is no call" in error_text(wrong, "BadArgument")


async def test_results_with_a_failed_call(notebook: Notebook) -> None:
    """A failed call among several is reported with the results of others; alone it raises."""
    await notebook.run(
        "a = %fabric_call -a calc1.echo value=1\n"
        "b = %fabric_call -a calc1.divide x=1 y=0\n"
        "c = %fabric_call -a calc1.echo value=3\n"
        "d = %fabric_call -a calc1.slow seconds=5\nd.cancel()"
    )
    cell = await notebook.run(
        "found = %fabric_result a b c d\n[type(one).__name__ for one in found]"
    )
    assert cell.text == "['int', 'RemoteZeroDivisionError', 'int', 'CancelledError']"
    assert "RemoteZeroDivisionError: my_project.calc.calc1.divide: ZeroDiv" in cell.stderr
    assert await notebook.value("found[0], found[2]") == "(1, 3)"
    alone = await notebook.execute("%fabric_result b")
    assert shown_error(alone, "RemoteZeroDivisionError").startswith("RemoteError: my_project.calc")
    await notebook.run(
        "e = %fabric_call -a calc1.divide x=1 y=0\nf = %fabric_call -a calc1.echo value=6"
    )
    assert "6]" in (await notebook.run("%fabric_result")).text


async def test_keywords_from_the_cells_body(notebook: Notebook) -> None:
    """`%%fabric_call` sends variables of the cell, except for names with an underscore."""
    await notebook.run("n = 3")
    cell = await notebook.run(
        "%%fabric_call calc1.echo\n_parts = [n * i for i in range(3)]\nvalue = {'parts': _parts}"
    )
    assert cell.text == "{'parts': [0, 3, 6]}"
    assert await notebook.value("'value' in globals()") == "False"
    wrong = await notebook.execute("%%fabric_call calc1.echo\nvalue = = 3")
    assert "line 1" in error_text(wrong)


ROWS = """%%fabric_serve --id rows
import asyncio
closed = []
async def rows(n=None):
    try:
        i = 0
        while n is None or i < n:
            yield {'row': i}
            i += 1
            await asyncio.sleep(0.002)
    finally:
        closed.append(i)
def fails():
    yield 1
    raise KeyError('second')
def products(n):
    for i in range(n):
        product = %fabric_call calc1.multiply x=i y=2
        yield product
"""


async def test_items_are_shown_as_they_come(notebook: Notebook, caller: Peer) -> None:
    """`--stream` shows the newest items while they arrive, and returns the list."""
    await notebook.run(ROWS)
    cell = notebook.execute_no_wait("items = %fabric_call --stream notebook.rows.rows n=300")
    await cell.until(lambda cell: "{'row': " in "".join(output.text for output in cell.displays))
    await cell.wait()
    assert "my_project.notebook.rows.rows · all · 300 items" in cell.displays[0].text
    assert "{'row'" not in cell.displays[0].text
    assert await notebook.value("items == [{'row': i} for i in range(300)]") == "True"
    products = await notebook.run("%fabric_call --stream notebook.rows.products n=3")
    assert products.text == "[0, 2, 4]"
    some = await notebook.run("%fabric_call --stream notebook.rows.rows --count 2")
    assert some.text == "[{'row': 0}, {'row': 1}]"
    assert await notebook.value("%fabric_call notebook.rows.rows n=1") == "[{'row': 0}]"
    assert await call(caller, "rows", "rows", n=2) == [{"row": 0}, {"row": 1}]
    await notebook.run("%fabric_stop rows")


async def test_item_streams_that_are_cancelled_or_fail(notebook: Notebook) -> None:
    """Interrupting closes the generator; an error is raised after the items are counted."""
    await notebook.run(ROWS)
    cell = notebook.execute_no_wait("%fabric_call --stream notebook.rows.rows")
    await cell.until(lambda cell: "{'row': " in "".join(output.text for output in cell.displays))
    await notebook.interrupt()
    await cell.wait()
    assert cell.error is not None
    assert cell.error.name == "KeyboardInterrupt"
    assert "incomplete" in cell.displays[0].text
    await notebook.run("while not closed: await asyncio.sleep(0.01)")
    failed = await notebook.execute("%fabric_call --stream notebook.rows.fails")
    assert failed.error is not None
    assert "KeyError('second')" in failed.error.value
    assert "incomplete · 1 item " in failed.displays[0].text
    await notebook.run("%fabric_stop rows")


async def test_streams_in_the_background_and_in_a_loop(notebook: Notebook) -> None:
    """With `-a` a handle returns the list; leaving an `async for` closes the item stream."""
    await notebook.run(ROWS)
    await notebook.run("h = %fabric_call -a --stream notebook.rows.rows n=3")
    assert await notebook.value("h.result(timeout=60)") == "[{'row': 0}, {'row': 1}, {'row': 2}]"
    cell = await notebook.run(
        "closed.clear()\n"
        "async for item in fabric.call_stream('notebook.rows.rows'):\n"
        "    if item['row'] == 5: break\n"
        "while not closed: await asyncio.sleep(0.01)\n"
        "item"
    )
    assert cell.text == "{'row': 5}"
    wrong = await notebook.execute("%fabric_call notebook.rows.rows n=1 --count 3")
    assert "--count is for --stream" in error_text(wrong)
    await notebook.run("%fabric_stop rows")
