"""Background output appears under its own cell, and in saved notebooks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, SlowCall, call, password_of
from tests.support.cells import Cell, Output
from tests.support.kernels import unix_sockets
from tests.support.peers import DOMAIN, Peer, PeerError
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartPeer


def everything(cell: Cell) -> str:
    """Return all text under a cell."""
    return "\n".join(output.text for output in cell.outputs)


def display(cell: Cell) -> Output:
    """Return the only display under a cell."""
    (shown,) = cell.displays
    return shown


async def all_kinds(notebook: Notebook, mark: str) -> dict[str, Cell]:
    """Run a cell for each kind of background output."""
    return {
        "services": await notebook.run(f"%fabric_services --type {mark}"),
        "stream": await notebook.run(f"s_{mark} = %fabric_stream mark={mark}"),
        "logs": await notebook.run(f"l_{mark} = %fabric_logs"),
        "serving": await notebook.run(
            f"%%fabric_serve --id {mark}\n"
            "import asyncio\n"
            "def say(text): print('said', text)\n"
            "async def fail(text): raise ValueError(text)\n"
            "async def later(text):\n"
            "    await asyncio.sleep(0)\n"
            "    print('later', text)"
        ),
        "threads": await notebook.run(
            f"%%fabric_serve --id {mark}-threads --thread\ndef work(text): print('worked', text)"
        ),
    }


async def cause_all(
    mark: str, word: str, start_peer: StartPeer, uri: str, watcher: AmqBrokerConnector, caller: Peer
) -> None:
    """Cause output of each kind."""
    await start_peer("calc_service", uri, type=mark, id=f"{mark}-{word}", keep_alive=0.3)
    logger = await start_peer("log_publisher", uri, id=mark)
    await watcher.publish_data({"word": f"row {word}"}, {"mark": mark})
    await logger.ask("log", level="ERROR", message=f"logged {word}")
    served = (
        call(caller, mark, "say", text=word),
        call(caller, mark, "later", text=word),
        call(caller, f"{mark}-threads", "work", text=word),
        call(caller, mark, "fail", text=f"failed {word}"),
    )
    *_, failed = await asyncio.gather(*served, return_exceptions=True)
    assert isinstance(failed, PeerError), failed


def expected(mark: str, word: str) -> dict[str, list[str]]:
    """Return the texts that each cell shows."""
    return {
        "services": [f"{mark}-{word}"],
        "stream": [f"row {word}"],
        "logs": [f"logged {word}"],
        "threads": [f"worked {word}"],
        "serving": [f"said {word}", f"later {word}", f"failed {word}"],
    }


async def all_seen(cells: dict[str, Cell], mark: str, word: str) -> None:
    """Wait until each cell shows its own texts, and check that it shows no others."""
    wanted = expected(mark, word)
    for kind, cell in cells.items():
        for text in wanted[kind]:
            await cell.until(lambda cell, text=text: text in everything(cell), 15)  # type: ignore[misc]
    for kind, cell in cells.items():
        for other in wanted:
            for text in wanted[other]:
                assert (text in everything(cell)) == (other == kind), (kind, text)


async def test_output_lands_under_its_own_cell(
    notebook: Notebook, start_peer: StartPeer, uri: str, watcher: AmqBrokerConnector, caller: Peer
) -> None:
    """Background output appears under its own cell, also while another cell runs."""
    cells = await all_kinds(notebook, "own")
    await cause_all("own", "rest", start_peer, uri, watcher, caller)
    await all_seen(cells, "own", "rest")

    await notebook.run("go = asyncio.Event()")
    await notebook.run("%%fabric_serve --id go\ndef end(): go.set()")
    other = notebook.execute_no_wait("print('begins'); await go.wait(); print('ends')")
    await other.until(lambda cell: cell.stdout)
    await cause_all("own", "awaiting", start_peer, uri, watcher, caller)
    await all_seen(cells, "own", "awaiting")
    await call(caller, "go", "end")
    await other.wait()
    assert everything(other) == "begins\nends\n"


async def test_output_lands_under_its_cell_while_another_waits_for_a_call(
    notebook: Notebook,
    start_peer: StartPeer,
    uri: str,
    watcher: AmqBrokerConnector,
    caller: Peer,
    calc: Peer,
) -> None:
    """While a cell waits for a call, background output appears under its own cells."""
    cells = await all_kinds(notebook, "call")
    slow = SlowCall(calc, 4)
    other = notebook.execute_no_wait(f"%fabric_call {slow.line} --progress-after -1")
    await slow.began()
    await cause_all("call", "waiting", start_peer, uri, watcher, caller)
    await all_seen(cells, "call", "waiting")
    await other.wait()
    assert [output.kind for output in other.outputs] == ["execute_result"]


async def test_output_lands_under_its_cell_after_a_reconnect(
    notebook: Notebook,
    start_peer: StartPeer,
    rabbitmq: RabbitMq,
    watcher: AmqBrokerConnector,
    tmp_path: Path,
) -> None:
    """After a reconnection background output appears under its own cells."""
    with rabbitmq.private_vhost() as vhost:
        uri = rabbitmq.uri_for(vhost=vhost)
        async with await Notebook.start(tmp_path) as own:
            connecting = await own.connect(uri, id="back")
            cells = await all_kinds(own, "back")
            badges = [cells["stream"], cells["serving"]]
            await asyncio.to_thread(rabbitmq.close_connections, vhost)
            await own.run(
                "while not fabric.member.connection.reconnects: await asyncio.sleep(0.01)",
                timeout=60,
            )
            caller = await start_peer("caller", uri)
            async with AmqBrokerConnector(uri, DOMAIN, "test", "w", 0.5, True) as there:
                other = await own.run("'another cell'")
                await cause_all("back", "again", start_peer, uri, there, caller)
                await all_seen(cells, "back", "again")
            for cell in (*badges, connecting):
                await cell.until(lambda cell: "reconnecting" not in everything(cell))
            assert [output.kind for output in other.outputs] == ["execute_result"]
            own.check_secret(uri)


async def test_prints_of_a_cell_and_of_functions_do_not_mix(
    notebook: Notebook, caller: Peer
) -> None:
    """Output of a cell and of served functions appears completely, each under its own cell."""
    serving = await notebook.run("%%fabric_serve --id mixing\ndef say(n): print('function', n)")
    printing = notebook.execute_no_wait(
        "import asyncio\nfor n in range(40):\n    print('cell', n)\n    await asyncio.sleep(0.02)"
    )
    await printing.until(lambda cell: "cell 0\n" in cell.stdout)
    for n in range(15):
        await call(caller, "mixing", "say", n=n)
    await printing.wait()
    assert printing.stdout == "".join(f"cell {n}\n" for n in range(40))
    await serving.until(lambda cell: "function 14" in everything(cell))
    assert all(f"function {n}" in everything(serving) for n in range(15))
    assert {output.kind for output in serving.outputs} == {"display_data"}
    await notebook.run("%fabric_stop mixing")


async def test_running_a_cell_again_leaves_one_live_view(
    notebook: Notebook, watcher: AmqBrokerConnector, caller: Peer
) -> None:
    """When a cell is run again, its old view is closed, and only the new one is updated."""
    codes = {
        "services": "%fabric_services",
        "stream": "s = %fabric_stream mark=again",
        "logs": "l = %fabric_logs --level ERROR",
        "serving": "%%fabric_serve --id again\ndef say(text): print('said', text)",
    }
    first, second = [
        {kind: await notebook.run(code, cell_id=f"again-{kind}") for kind, code in codes.items()}
        for _ in range(2)
    ]
    before, made = [
        {kind: len(notebook.updates(display_id(cell))) for kind, cell in cells.items()}
        for cells in (first, second)
    ]
    await watcher.publish_data({"n": 1}, {"mark": "again"})
    await call(caller, "again", "say", text="it")
    for kind in ("services", "stream", "serving"):
        await notebook.until(
            lambda kind=kind: len(notebook.updates(display_id(second[kind]))) > made[kind]  # type: ignore[misc]
        )
    await second["serving"].until(lambda cell: "said it" in everything(cell))
    after = {kind: len(notebook.updates(display_id(cell))) for kind, cell in first.items()}
    assert after == before


def display_id(cell: Cell) -> str:
    """Return the id of the only display under a cell."""
    found = display(cell).display_id
    assert found is not None
    return found


# Headless


def notebook_of(*cells: str) -> Any:
    """Return a notebook with cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


@pytest.fixture
def headless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Isolated settings for a headless run."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def outputs_of(cell: Any) -> str:
    """Return all text under a cell of a saved notebook."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


async def test_headless_run_records_the_background(
    headless: Path, start_peer: StartPeer, uri: str, calc: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook executed by nbclient contains background output under its own cells."""
    publisher = await start_peer("data_publisher", uri)
    logger = await start_peer("log_publisher", uri, id="headless-logger")
    monkeypatch.setenv("AMQP_URL", uri)
    saved = notebook_of(
        "%load_ext fabric_nb\n%config FabricMagics.keep_alive_seconds = 0.5\n%fabric",
        f"%fabric_connect --domain {DOMAIN} --id headless",
        "%fabric",
        "%fabric_services",
        "s = %fabric_stream mark=headless",
        "logs = %fabric_logs --level WARNING --service headless-logger",
        "%%fabric_serve --id served\n"
        "import asyncio\n"
        "def say(text):\n    print('said', text)\n    return 1\n"
        "async def later(text):\n    await asyncio.sleep(0.01); print('later', text)\n"
        "def wrong(): raise ValueError('no good')",
        "%fabric_publish mark=ready -- 1",
        "await s.wait(2, timeout=60); await logs.wait(1, timeout=60)",
        "%fabric_call served.say text='hello'",
        "await fabric.call('served.later', text='world')",
        "try:\n    %fabric_call served.wrong\nexcept ValueError: print('caught')",
        "await asyncio.sleep(0.6)",
        "%fabric_disconnect",
    )
    ready = await start_peer("data_subscriber", uri, headers={"mark": "ready"})
    client = NotebookClient(
        saved, config=unix_sockets(), timeout=60, resources={"metadata": {"path": str(headless)}}
    )
    running = asyncio.create_task(client.async_execute())
    await ready.event("data", timeout=60)
    for n in range(2):
        await publisher.ask("publish", headers={"mark": "headless"}, data={"n": f"row {n}"})
    await logger.ask("log", level="ERROR", message="it was logged")
    await running

    first, connected, everything, services, stream, logs, serving, *_, caught, _, _ = saved.cells
    assert "not connected" in outputs_of(first)
    for part in ("calc1", "3 made", "3 served", "wrong()", "mark=headless", "it was logged"):
        assert part in outputs_of(everything), part
    assert "notebook.headless" in outputs_of(connected)
    assert "calc1" in outputs_of(services)
    assert "2 rows" in outputs_of(stream)
    assert "row 1" in outputs_of(stream)
    assert "it was logged" in outputs_of(logs)
    for text in ("said hello", "later world", "ValueError: no good", "Last failure: wrong()"):
        assert text in outputs_of(serving)
    assert "caught" in outputs_of(caught)
    for cell in saved.cells:
        if cell is not serving:
            assert "said hello" not in outputs_of(cell)
            assert "later world" not in outputs_of(cell)
    written = nbformat.writes(saved)
    assert password_of(uri) not in written
    for cell in (connected, everything, services, stream, logs, serving):
        assert (
            "disconnected" in outputs_of(cell)
            or "closed" in outputs_of(cell)
            or "stopped" in (outputs_of(cell))
        )


async def test_headless_run_records_the_last_calls(
    headless: Path, uri: str, calc: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Effects of the last cell of a headless run are stored."""
    monkeypatch.setenv("AMQP_URL", uri)
    saved = notebook_of(
        f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN} --id last-calls",
        "%fabric_calls",
        "%%fabric_serve --id last\ndef say(text):\n    print('said', text)\n    return 1",
        "s = %fabric_stream mark=last",
        "%fabric_publish mark=last -- {'n': 'the row'}\nawait s.wait(1)\n"
        "for n in range(3): _ = await fabric.call('last.say', text=n)",
    )
    client = NotebookClient(
        saved, config=unix_sockets(), timeout=60, resources={"metadata": {"path": str(headless)}}
    )
    await client.async_execute()
    _, calls, serving, stream, last = saved.cells
    assert "3 made" in outputs_of(calls)
    assert "said 0\nsaid 1\nsaid 2" in outputs_of(serving)
    assert "say(text)      3" in outputs_of(serving)
    assert "the row" in outputs_of(stream)
    assert outputs_of(last) == "Published to at least one queue.\n"


def pictures(cell: Cell) -> int:
    """Return the number of pictures under a cell."""
    return sum("image/png" in output.data for output in cell.outputs)


async def test_figures_of_served_functions(notebook: Notebook, caller: Peer) -> None:
    """Figures of served functions and of cells are shown, each under its own cell."""
    pytest.importorskip("matplotlib")
    await notebook.run("%matplotlib inline\nimport asyncio\nimport matplotlib.pyplot as plt")
    serving = await notebook.run(
        "%%fabric_serve --id drawing --prefetch 4\n"
        "def draw(n):\n    plt.figure()\n    plt.plot([1, n])\n    return n\n"
        "async def later(n):\n"
        "    figure, axes = plt.subplots()\n"
        "    begun.set()\n"
        "    await ended.wait()\n"
        "    axes.plot([1, n])\n"
        "    return n\n"
        "def closes(n):\n    plt.close(plt.figure())\n"
        "def items(n):\n    for x in range(n):\n        plt.plot([1, x])\n        yield x"
    )
    await notebook.run("begun, ended = asyncio.Event(), asyncio.Event()")
    assert await call(caller, "drawing", "closes", n=1) is None
    assert pictures(serving) == 0
    for n in range(3):
        assert await call(caller, "drawing", "draw", n=n) == n
    assert pictures(await notebook.run("1 + 1")) == 0
    assert pictures(serving) == 1

    streamed = await notebook.run("%fabric_call --stream drawing.items n=3")
    assert streamed.text == "[0, 1, 2]"
    assert pictures(streamed) == 0

    # With a figure of the cell itself, created while a served function draws.
    own = await notebook.run(
        "waiting = %fabric_call -a drawing.later n=5\nawait begun.wait()\n"
        "figure, axes = plt.subplots()\n"
        "n = %fabric_call drawing.draw n=2\n"
        "ended.set()\nawait waiting\naxes.plot([1, n]);"
    )
    assert pictures(own) == 1
    assert pictures(serving) == 1
    assert await notebook.value("plt.get_fignums()") == "[]"
    await notebook.run("%fabric_stop drawing")
