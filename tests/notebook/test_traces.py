"""`%fabric_trace`: the waterfall under a cell, and sampled calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.notebook.notebooks import Notebook, error_text
from tests.support.cells import Cell, plain
from tests.support.peers import needs_amqp_fabric

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook

SERVE = """%%fabric_serve --type shop --id desk
async def total(x, y):
    return await fabric.call("desk.double", x=x) + y
def double(x):
    print("doubling", x)
    if x < 0:
        raise ValueError("no")
    return 2 * x"""


def shown(cell: Cell) -> str:
    """Return the text of the waterfall that a cell shows."""
    return plain(cell.displays[0].text)


async def test_trace_of_a_call(notebook: Notebook) -> None:
    """The cell shows a waterfall, whose text is saved; its value has result, spans and table."""
    await notebook.run(SERVE)
    text = shown(await notebook.run("traced = %fabric_trace desk.total x=2 y=1"))
    assert "Trace of desk.total" in text
    assert "result 5" in text
    assert "desk.double" in text
    assert "█" in text
    assert await notebook.value("traced.result") == "5"
    assert await notebook.value("sorted(traced.df.kind)") == str(["client"] * 2 + ["server"] * 2)
    assert await notebook.value("len(fabric.traces)") == "1"
    assert "desk.double" in await notebook.value("traced.text")


async def test_trace_of_a_call_that_fails(notebook: Notebook) -> None:
    """A call that fails shows where, and raises when its result is read."""
    text = shown(await notebook.run("traced = %fabric_trace desk.total x=-2 y=1"))
    assert "ValueError" in text
    failed = await notebook.execute("traced.result")
    assert failed.error is not None
    assert failed.error.name == "RemoteValueError"


@needs_amqp_fabric
async def test_trace_of_an_amqp_fabric_service(notebook: Notebook) -> None:
    """A service on amqp-fabric has its caller's span in the waterfall, marked as not traced."""
    text = shown(await notebook.run("traced = %fabric_trace calc1.multiply x=2 y=3"))
    assert "not traced" in text
    assert await notebook.value("traced.result") == "6"


async def test_who_calls_whom(notebook: Notebook) -> None:
    """`%fabric_graph` has a row for each caller and method, and names services without counts."""
    shown_graph = await notebook.run("%fabric_graph")
    text = shown(shown_graph)
    assert "Who calls whom" in text
    assert re.search(r"notebook\.\w+ +shop\.desk +double", text)
    assert text.rstrip().endswith("without an answer: calc.calc1.")
    error_text(await notebook.execute("%fabric_graph --domain 'a b'"), "InvalidName")


async def test_bad_lines(notebook: Notebook) -> None:
    """A call that cannot be sent is one sentence, as for `%fabric_call`."""
    for line in ("", "desk.total x"):
        error_text(await notebook.execute(f"%fabric_trace {line}"))
    error_text(await notebook.execute("%fabric_trace desk"), "InvalidName")
    unknown = await notebook.execute("%fabric_trace nothing.there")
    error_text(unknown, "UnknownService")
    assert "failed" in shown(unknown)
    failed = await notebook.execute("%config FabricMagics.sample = 2")
    assert "should not be greater than 1.0" in failed.stderr


async def test_a_share_of_the_calls(start_notebook: StartNotebook, uri: str) -> None:
    """`%config FabricMagics.sample` traces the calls that cells make, as soon as it is set."""
    alone = await start_notebook()
    await alone.run(f"%fabric_connect {uri} --domain my_project --id sampled")
    await alone.run("%%fabric_serve --id own\ndef one():\n    return 1")
    await alone.run("%config FabricMagics.sample = 1.0")
    await alone.run("%fabric_call own.one")
    assert await alone.value("len(fabric.traces)") == "1"
    await alone.run("%config FabricMagics.sample = 0.0")
    await alone.run("%fabric_call own.one")
    assert await alone.value("sorted(fabric.traces.df.kind)") == "['client', 'server']"
