"""`%fabric_rerun`: failed calls of a cell's functions, run again in the notebook."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.notebook.notebooks import Notebook, call, error_text
from tests.support.cells import plain
from tests.support.peers import Peer, PeerError

MEAN = """
def mean(values):
    values.append(0)
    total = sum(values) - len(values) + 1
    return total / (len(values) - 1)
"""
LATER = """
import asyncio
async def later(x):
    half = x / 2
    await asyncio.sleep(0)
    return half / (x - 3)
"""
CELL = f"%%fabric_serve --id rerun\n{MEAN}{LATER}"


async def fails(caller: Peer, method: str, **kwargs: object) -> None:
    """Call a method, which must fail, from amqp-fabric."""
    with pytest.raises(PeerError):
        await call(caller, "rerun", method, **kwargs)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _failed_calls(notebook: Notebook, caller: Peer) -> None:
    """Serve functions, and make a failing call of each."""
    await notebook.run(CELL)
    await fails(caller, "later", x=3)
    await fails(caller, "mean", values=[])


async def test_the_last_failed_call_is_run_again(notebook: Notebook, caller: Peer) -> None:
    """By default the last failed call is run, with its arguments, on the current code."""
    again = await notebook.execute("%fabric_rerun")
    assert again.error is not None
    assert again.error.name == "ZeroDivisionError"
    assert "return total / (len(values) - 1)" in again.error.traceback
    assert "fabric_nb" not in again.error.traceback.partition("def mean")[2]
    assert "rerun.mean of" in again.stdout
    await notebook.run(CELL.replace("(len(values) - 1)", "len(values)"))
    assert await notebook.value("%fabric_rerun") == "0.0"
    await fails(caller, "mean", wrong=1)
    wrong = await notebook.execute("%fabric_rerun mean")
    assert wrong.error is not None
    assert "unexpected keyword argument 'wrong'" in wrong.error.value


async def test_the_current_definition_is_run(notebook: Notebook) -> None:
    """The function is the current one, also if a plain cell has redefined it."""
    await notebook.run(MEAN.replace("(len(values) - 1)", "1"))
    assert await notebook.value("again = %fabric_rerun mean\nagain") == "0.0"
    await notebook.run("%fabric_stop rerun")
    assert await notebook.value("again = %fabric_rerun mean\nagain") == "0.0"
    await notebook.run("del mean")
    assert "there is no function mean" in error_text(
        await notebook.execute("%fabric_rerun mean"), "NotRerun"
    )


async def test_async_functions_are_awaited(notebook: Notebook) -> None:
    """An async function is awaited; the traceback has its own lines."""
    again = await notebook.execute("%fabric_rerun later")
    assert again.error is not None
    assert "return half / (x - 3)" in again.error.traceback
    assert "asyncio/" not in again.error.traceback
    assert "fabric_nb" not in again.error.traceback.partition("async def later")[2]
    await notebook.run(CELL.replace("(x - 3)", "2"))
    assert await notebook.value("again = %fabric_rerun rerun.later\nagain") == "0.75"


async def test_kept_calls_are_listed_and_numbered(notebook: Notebook, caller: Peer) -> None:
    """`--list` shows the last twenty failed calls; a number selects one."""
    for n in range(20):
        await fails(caller, "mean", values=[], n=n)
    shown = (await notebook.run("%fabric_rerun --list")).displays[0].text
    assert shown.count("rerun.mean") == 20
    assert "later" not in shown
    assert "mean(values=[], n=19)" in shown.splitlines()[2]
    number = int(shown.splitlines()[2].split()[0])
    wrong = await notebook.execute(f"%fabric_rerun {number}")
    assert wrong.error is not None
    assert "'n'" in wrong.error.value
    for nothing in ("0", str(number + 1), "nothing", "other.rerun.mean"):
        cell = await notebook.execute(f"%fabric_rerun {nothing}")
        assert f"There is no failed call '{nothing}'" in error_text(cell, "NotRerun")


async def test_debugger_stops_at_the_failing_line(notebook: Notebook) -> None:
    """`--debug` opens the debugger at the failing line, with the function's variables."""
    cell = await notebook.execute_no_wait(
        "%fabric_rerun mean --debug", answers=["p ('values', values, 'total', total)", "q"]
    ).wait()
    assert cell.status == "ok"
    shown = plain(cell.stdout)
    assert "ZeroDivisionError: division by zero" in shown
    assert "return total / (len(values) - 1)" in shown
    assert "('values', [0], 'total', 0)" in shown
    cell = await notebook.execute_no_wait(
        "%fabric_rerun later --debug", answers=["p half", "q"]
    ).wait()
    assert "1.5" in cell.stdout
    # The notebook works as before.
    await notebook.run(CELL.replace("(len(values) - 1)", "len(values)"))
    fixed = await notebook.run("%fabric_rerun mean --debug")
    assert "The call no longer fails." in fixed.stdout
    assert fixed.text == "0.0"


async def test_debugger_needs_a_front_end_with_input(notebook: Notebook) -> None:
    """Without support for input the debugger raises an error, and the kernel continues."""
    cell = await notebook.execute("%fabric_rerun mean --debug")
    assert "does not support" in error_text(cell, "NotRerun")
    assert await notebook.value("1 + 1") == "2"


async def test_nothing_has_failed(start_notebook, uri: str) -> None:  # type: ignore[no-untyped-def]
    """Without failed calls, and without a connection, errors say so."""
    notebook = await start_notebook()
    assert "not connected" in error_text(await notebook.execute("%fabric_rerun"), "NotConnected")
    await notebook.connect(uri, id="nothing-failed")
    assert "has failed yet" in error_text(await notebook.execute("%fabric_rerun"), "NotRerun")
    assert "none yet" in (await notebook.run("%fabric_rerun --list")).displays[0].text
