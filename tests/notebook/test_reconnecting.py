"""Crash of the broker: every output shows it within a second, and so it does the reconnection.

Times are of the kernel's clock: of the change of the connector's state, and of the messages to the
front end. Seconds between them are counted in steps of the kernel's loop, which are longer on a
busy machine.
"""

from __future__ import annotations

import ast
import asyncio
import json
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.faults.brokers import RestartableEmbedded
from tests.notebook.notebooks import Notebook
from tests.notebook.test_panel import PanelClient
from tests.support.kernels import KernelTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cells import Cell, Message

WITHIN = 1.0
"""Maximum seconds until a change is shown."""
STEP = 0.05
"""Seconds."""
STATES = f"""\
import asyncio, time
states, steps = [], []
fabric.on_state(lambda state: states.append((time.time(), str(state))))
async def count():
    while True:
        steps.append(time.time())
        await asyncio.sleep({STEP})
counting = asyncio.create_task(count())
"""
SERVED = """\
%%fabric_serve --id shown --prefetch 2
import asyncio
begun = []
async def ready():
    begun.append(1)
    print(f"it was called {len(begun)} times")
    await asyncio.sleep(60 if len(begun) == 1 else 0)
"""
WAITING = "%fabric_call shown.ready --idempotent --timeout 50 --progress-after 0"
CELLS = {
    "services": "%fabric_services",
    "calls": "%fabric_calls",
    "logs": "l = %fabric_logs",
    "serving": SERVED,
    "stream": "s = %fabric_stream mark=shown",
    "chart": "chart = s.plot('n')",
    "dashboard": "%fabric",
}
TABLES_OF_DASHBOARD = 5


@dataclass(frozen=True)
class Place:
    """An output that shows the connection state, in `times` places.

    `sight` returns the text that a message makes it show; None if the message is not for it.
    """

    name: str
    sight: Callable[[Message], str | None]
    times: int = 1

    def counts(self, messages: Sequence[Message]) -> list[tuple[float, int]]:
        """Return times of changes, with the number of places that show the state from then on."""
        seen = ((message.time, self.sight(message)) for message in messages)
        return [(time, text.count("reconnecting")) for time, text in seen if text is not None]

    def shows(self, messages: Sequence[Message], times: int) -> bool:
        """Return whether a number of places show the state after these messages."""
        counts = self.counts(messages)
        return bool(counts) and counts[-1][1] == times

    def span(self, messages: Sequence[Message]) -> tuple[float, float]:
        """Return the times at which the state appeared and disappeared."""
        counts = self.counts(messages)
        shown = [time for time, count in counts if count == self.times]
        return shown[0], next(time for time, count in counts if time > shown[-1] and not count)


def written(name: str, cell: Cell, times: int = 1) -> Place:
    """Return a cell's static output."""
    (display,) = cell.displays

    def sight(message: Message) -> str | None:
        if message.display_id != display.display_id:
            return None
        return str(message.content["data"].get("text/plain", ""))

    return Place(name, sight, times)


def live(name: str, comm_id: str) -> Place:
    """Return a live table, chart or page."""

    def sight(message: Message) -> str | None:
        if message.type != "comm_msg" or message.content["comm_id"] != comm_id:
            return None
        parts = [json.loads(bytes(buffer)) for buffer in message.buffers]
        heads = [part if "lines" in part or "html" in part else part.get("head") for part in parts]
        return json.dumps(heads) if any(heads) else None

    return Place(name, sight)


def pushed(panel: PanelClient) -> Place:
    """Return the connection in the panel."""

    def sight(message: Message) -> str | None:
        facts = message.content.get("data", {}).get("facts", {})
        return json.dumps(facts["connection"]["badges"]) if "connection" in facts else None

    assert panel.state["facts"]["connection"]["badges"] == []
    return Place("panel", sight)


async def in_a_browser(notebook: Notebook, cells: dict[str, Cell]) -> list[Place]:
    """Return the widgets under the cells, after the first message of a browser."""
    found = []
    for name, cell in cells.items():
        for message in cell.messages:
            state: dict[str, Any] = message.content.get("data", {}).get("state", {})
            if message.type != "comm_open" or "_whole" not in state:
                continue
            is_chart = "lines" in json.loads(state["_whole"])
            size = {"columns": 300} if is_chart else {"revision": -1}
            hello = {"method": "custom", "content": {"type": "hello", "hides": True, **size}}
            comm_id = message.content["comm_id"]
            await notebook.send_comm(comm_id, hello).wait()
            found.append(live(f"{name} in a browser", comm_id))
    return found


def has_sent(notebook: Notebook, text: bytes) -> bool:
    """Return whether a message of a widget to the browser had a text."""
    return any(text in bytes(buffer) for message in notebook.messages for buffer in message.buffers)


async def all_show(notebook: Notebook, places: Sequence[Place], begins: int, *, lost: bool) -> None:
    """Wait until each output shows that the connection is lost, or no longer shows it."""

    def others() -> list[str]:
        seen = notebook.messages[begins:]
        return [place.name for place in places if not place.shows(seen, place.times if lost else 0)]

    try:
        await notebook.until(lambda: not others())
    except KernelTimeout:
        raise AssertionError(f"not as they should be: {others()}\n{notebook.log}") from None


async def lose_and_find(
    notebook: Notebook, broker: RestartableEmbedded, places: Sequence[Place]
) -> dict[str, tuple[float, float]]:
    """Kill and restart the broker, and run no cell until all outputs have shown both.

    Returns the seconds until each output has shown each change.
    """
    begins = len(notebook.messages)
    await asyncio.to_thread(broker.kill)
    await all_show(notebook, places, begins, lost=True)
    await asyncio.to_thread(broker.restart)
    await all_show(notebook, places, begins, lost=False)
    seen = notebook.messages[begins:]
    states = ast.literal_eval(await notebook.value("states[:], states.clear()"))[0]
    assert (states[0][1], states[-1][1]) == ("reconnecting", "connected")
    steps = ast.literal_eval(await notebook.value("steps[:], steps.clear()"))[0]

    def seconds(begin: float, end: float) -> float:
        return STEP * (bisect(steps, end) - bisect(steps, begin))

    (lost, _), *_, (back, _) = states
    spans = {place.name: place.span(seen) for place in places}
    return {
        name: (seconds(lost, shown), seconds(back, removed))
        for name, (shown, removed) in spans.items()
    }


def late(delays: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return the outputs that were late."""
    return {name: delay for name, delay in delays.items() if max(delay) > WITHIN}


async def test_every_view_shows_a_lost_connection(tmp_path: Path) -> None:
    """Every output shows `reconnecting` within a second, and removes it within a second."""
    with RestartableEmbedded() as broker:
        async with await Notebook.start(tmp_path) as notebook:
            cells = {"card": await notebook.connect(broker.uri, id="shown")}
            for name, code in CELLS.items():
                cells[name] = await notebook.run(code)
            await notebook.run(STATES)
            panel = await PanelClient.open(notebook)
            panel_output = pushed(panel)

            # Idle and without a browser, as a headless run is saved.
            times = {"dashboard": TABLES_OF_DASHBOARD}
            saved = [written(name, cell, times.get(name, 1)) for name, cell in cells.items()]
            assert not late(await lose_and_find(notebook, broker, [*saved, panel_output]))

            # In a browser, while a cell waits for a reply.
            shown = await in_a_browser(notebook, cells)
            assert len(shown) == len(CELLS) + TABLES_OF_DASHBOARD
            waiting = notebook.execute_no_wait(WAITING)
            await notebook.until(lambda: has_sent(notebook, b"it was called 1 times"))
            places = [panel_output, *shown, written("waiting", waiting)]
            assert not late(await lose_and_find(notebook, broker, places))
            assert (await waiting.wait()).status == "ok"
