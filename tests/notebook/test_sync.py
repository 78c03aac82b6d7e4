"""Calls in plain code: `sync`, and the hint at calls that were not awaited."""

from __future__ import annotations

import asyncio

import pytest

from tests.notebook.notebooks import Notebook, SlowCall, call, shown_error
from tests.support.peers import Peer

CALC = "import pandas as pd\ncalc = fabric.service('calc1')\ndf = pd.DataFrame({'x': [1, 2, 3]})"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (
            "df.apply(lambda row: calc.multiply.sync(x=int(row.x), y=2), axis=1).tolist()",
            "[2, 4, 6]",
        ),
        ("[calc.multiply.sync(x=x, y=x) for x in df.x.tolist()]", "[1, 4, 9]"),
        ("sorted([3, 1, 2], key=lambda x: calc.multiply.sync(x=x, y=-1))", "[3, 2, 1]"),
        ("await asyncio.to_thread(lambda: calc.multiply.sync(x=6, y=7))", "42"),
        ("await asyncio.gather(*(calc.multiply(x=x, y=2) for x in (1, 2)))", "[2, 4]"),
        ("await asyncio.create_task(fabric.call('calc1.multiply', x=6, y=7))", "42"),
        ("(await calc.divide.map(x=[4, 2], y=2)).result.tolist()", "[2.0, 1.0]"),
    ],
)
async def test_calls_in_plain_code(notebook: Notebook, calc: Peer, code: str, value: str) -> None:
    """`sync` returns the result wherever a cell runs plain code; `await` works as before."""
    await notebook.run(f"import asyncio\n{CALC}")
    assert await notebook.value(code) == value


async def test_sync_in_served_functions(notebook: Notebook, calc: Peer, caller: Peer) -> None:
    """Plain functions that are served may wait at the same time, and for each other."""
    await notebook.run(CALC)
    await notebook.run(
        "%%fabric_serve --id plain --prefetch 5\n"
        "def half(x):\n    return calc.divide.sync(x=x, y=2)\n"
        "def quarter(x):\n    return fabric.service('plain').half.sync(x=half(x))"
    )
    found = await asyncio.gather(*(call(caller, "plain", "quarter", x=4 * x) for x in range(5)))
    assert found == [0, 1, 2, 3, 4]
    await notebook.run("%fabric_stop plain")


async def test_errors_and_interrupts(notebook: Notebook, calc: Peer) -> None:
    """An error of the call is raised, and an interrupt cancels it, as for the magic."""
    await notebook.run(CALC)
    failed = await notebook.execute("calc.divide.sync(x=1, y=0)")
    assert shown_error(failed, "RemoteZeroDivisionError").startswith("RemoteError: my_project.calc")
    slow = SlowCall(calc, 1.2)
    cell = notebook.execute_no_wait(f"calc.slow.sync(seconds={slow.seconds})")
    await slow.began()
    await notebook.interrupt()
    await cell.wait()
    shown = shown_error(cell, "KeyboardInterrupt")
    assert shown.startswith("KeyboardInterrupt: my_project.calc.calc1.slow was cancelled, and it")


async def test_hint_at_calls_that_are_not_awaited(notebook: Notebook, calc: Peer) -> None:
    """The `repr` of a coroutine, and the warning that it was not awaited, say how to wait."""
    await notebook.run(CALC)
    hint = (
        "my_project.calc1.echo (`await` it, or in plain code call"
        " fabric.service('my_project.calc1').echo.sync)"
    )
    shown = await notebook.run("c = calc.echo(value=1)\nc")
    assert shown.text.startswith(f"<coroutine object {hint} at ")
    column = await notebook.value(
        "made = df.apply(lambda row: fabric.call('calc1.echo', value=1), axis=1)\nrepr(made[0])"
    )
    assert "coroutine object calc1.echo (`await` it, or in plain code" in column
    dropped = await notebook.run("for x in df.x: calc.echo(value=x)")
    assert f"RuntimeWarning: coroutine '{hint}' was never awaited" in dropped.stderr
    assert dropped.stderr.count("never awaited") == 1
    await notebook.run("c.close()\nfor c in made: c.close()")


async def test_without_the_extension(notebook: Notebook, uri: str) -> None:
    """After `%unload_ext` plain code cannot wait, and the error says what it needs."""
    await notebook.run("calc = fabric.service('calc1')\n%unload_ext fabric_nb")
    failed = await notebook.execute("calc.echo.sync(value=1)")
    await notebook.load()
    await notebook.connect(uri, id="sync")
    assert failed.error is not None
    assert failed.error.name == "NotInNotebook"
    assert "echo.sync(...) waits in a notebook, after `%load_ext fabric_nb`" in failed.error.value
