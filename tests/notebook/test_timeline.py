"""`%fabric_timeline`: the lanes and events under a cell, and what is saved of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.notebook.notebooks import Notebook, error_text
from tests.support.cells import plain

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook


async def test_timeline_of_calls(notebook: Notebook) -> None:
    """The cell shows calls, and its saved form has the picture, the events and the same as text."""
    await notebook.run("%fabric_call calc1.multiply x=2 y=3")
    cell = await notebook.run("%fabric_timeline 1h")
    text = plain(cell.displays[0].text)
    assert " · 1 call" in text
    assert "calc.calc1" in text
    assert "multiply" in text
    assert "fabric-timeline-picture" in str(cell.displays)
    made = "fabric.timeline('1h').df.query(\"kind == 'made'\")"
    assert "multiply" in await notebook.value(f"set({made}.method)")


async def test_it_is_updated(notebook: Notebook) -> None:
    """Events that come after the cell are added to it, also in a run without a browser."""
    cell = await notebook.run("%fabric_timeline 10min")
    await notebook.run("%fabric_call calc1.divide x=2 y=3")
    await cell.until(lambda cell: "divide" in cell.displays[0].text)


async def test_bad_lines(notebook: Notebook) -> None:
    """A length that is none is one sentence."""
    for last in ("0s", "5 fortnights", "-1", "1y", "nan"):
        failed = await notebook.execute(f"%fabric_timeline '{last}'")
        assert "write '30s', '5min', '1h'" in error_text(failed, "InvalidArgument")
    error_text(await notebook.execute("%fabric_timeline 1 2"))


async def test_without_a_connection(start_notebook: StartNotebook) -> None:
    """Without a connection the magic says how to connect."""
    alone = await start_notebook()
    assert "%fabric_connect" in error_text(await alone.execute("%fabric_timeline"), "NotConnected")
