"""Cells that block the event loop: the notebook stays present, and replies afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import CallTimeout
from fabric_nb.fabric.wire.names import ServiceName
from tests.notebook.notebooks import Notebook, call, state_of, until
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook, StartPeer
    from tests.support.rabbitmq import RabbitMq

BLOCKING = {
    "sleep": "time.sleep({seconds})",
    "loop": "end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass",
    "pandas": (
        "import pandas as pd\nframe = pd.DataFrame({{'x': range(200_000)}})\n"
        "end = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n"
        "    frame.sort_values('x', ascending=False).groupby(frame.x % 97).x.agg(['mean', 'std'])"
    ),
}


async def blocked(
    notebook: Notebook,
    watcher: AmqBrokerConnector,
    caller: Peer,
    listener: Peer,
    code: str,
    seconds: float,
    interval: float,
) -> None:
    """Block a notebook that serves `busy.f`, and check its state in other members."""
    own = (await notebook.value("fabric.name.id")).strip("'")
    await notebook.run("%%fabric_serve --id busy\ndef f(n): return n + 1")
    await notebook.run(
        "s = %fabric_stream mark=busy\nimport time\nlost = []\nfabric.on_state(lost.append)"
    )
    await until(watcher, lambda: state_of(watcher, "busy") == "up")
    name = ServiceName(DOMAIN, "notebook", own)
    states: list[str] = []

    cell = notebook.execute_no_wait(f"print('on')\n{code.format(seconds=seconds)}\nprint('off')")
    await cell.until(lambda cell: "on" in cell.stdout)
    calls = [asyncio.create_task(call(caller, "busy", "f", n=n)) for n in range(5)]
    for n in range(5):
        await watcher.publish_data({"n": n}, {"mark": "busy"})

    async def listen() -> None:
        while True:
            before = watcher.registry.get(name)
            last = before.last_seen if before else 0.0
            await watcher.registry.changed()
            now = watcher.registry.get(name)
            if now is not None and now.last_seen != last:
                states.append(str(watcher.registry.state(now)))

    listening = asyncio.create_task(listen())
    await cell.until(lambda cell: "off" in cell.stdout, seconds + 60)
    listening.cancel()
    assert len(states) >= seconds / interval / 3, "keep-alives continued"
    assert "busy" in states
    assert set(states) <= {"up", "busy"}
    assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]
    await until(watcher, lambda: state_of(watcher, own) == "up")
    assert await notebook.value("await s.wait(5, timeout=60); s.df.n.tolist(), lost") == (
        "([0, 1, 2, 3, 4], [])"
    )
    assert await notebook.value("%fabric_call calc1.multiply x=2 y=3") == "6"
    # amqp-fabric, which has no states, received keep-alives too.
    while (await listener.event("alive"))["headers"]["service_id"] != own:
        pass
    await notebook.run("%fabric_stop busy\n%fabric_stop s")


@pytest.mark.parametrize("how", BLOCKING)
async def test_blocking_cell_does_not_look_dead(
    notebook: Notebook,
    watcher: AmqBrokerConnector,
    caller: Peer,
    start_peer: StartPeer,
    uri: str,
    how: str,
) -> None:
    """While a cell computes, the notebook is busy; calls and rows are queued, and none is lost."""
    listener = await start_peer("listener", uri)
    await blocked(notebook, watcher, caller, listener, BLOCKING[how], 6, interval=0.5)


@pytest.mark.slow
async def test_blocking_for_twenty_seconds(
    start_notebook: StartNotebook,
    watcher: AmqBrokerConnector,
    caller: Peer,
    start_peer: StartPeer,
    uri: str,
    calc: Peer,
) -> None:
    """A loop that is blocked for 20 seconds, with defaults, loses no connection and no call."""
    notebook = await start_notebook()
    await notebook.run("%config FabricMagics.keep_alive_seconds = 5")
    await notebook.connect(uri, id="twenty")
    listener = await start_peer("listener", uri)
    await blocked(notebook, watcher, caller, listener, BLOCKING["sleep"], 20, interval=5)


async def test_without_the_thread_on_request(
    start_notebook: StartNotebook,
    watcher: AmqBrokerConnector,
    caller: Peer,
    uri: str,
    rabbitmq: RabbitMq,
    vhost: str,
) -> None:
    """With `presence = "loop"` a computing notebook sends no keep-alives; afterwards it is up.

    It keeps its connections, replies to queued calls in order, and does not execute expired
    calls.
    """
    notebook = await start_notebook()
    await notebook.run('%config FabricMagics.presence = "loop"')
    await notebook.connect(uri, id="threadless")
    await notebook.run(
        "%%fabric_serve --id threadless\nran = []\ndef f(n):\n    ran.append(n)\n    return n + 1\n"
    )
    threads = "import threading; [thread.name for thread in threading.enumerate()]"
    assert "presence" not in await notebook.value(threads)
    await until(watcher, lambda: state_of(watcher, "threadless") == "up")
    before = await connections(rabbitmq, vhost)
    cell = notebook.execute_no_wait("import time; print('on'); time.sleep(2.5)")
    await cell.until(lambda cell: "on" in cell.stdout)
    with pytest.raises(CallTimeout):
        await watcher.call("notebook.threadless.f", n=0, timeout=0.3)
    answers = []
    for n in range(1, 4):  # in order, because the caller sends one after the other
        answers.append(asyncio.create_task(call(caller, "threadless", "f", n=n)))
        await asyncio.sleep(0)
    await until(watcher, lambda: state_of(watcher, "threadless") == "late")
    await cell.wait(20)
    assert await asyncio.gather(*answers) == [2, 3, 4]
    assert await notebook.value("ran") == "[1, 2, 3]"
    assert await connections(rabbitmq, vhost) >= before
    await until(watcher, lambda: state_of(watcher, "threadless") == "up")


async def connections(rabbitmq: RabbitMq, vhost: str) -> set[str]:
    """Return the names of the broker's connections."""
    found = await asyncio.to_thread(rabbitmq.list_connections, vhost)
    return {str(connection["name"]) for connection in found}
