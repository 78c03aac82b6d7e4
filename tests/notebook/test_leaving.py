"""Disconnecting: orderly and announced, or by a crash that other members detect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import KEEP_ALIVE, Notebook, state_of, until
from tests.support.peers import DOMAIN, Peer
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook


RARE = 60
"""Seconds between keep-alives; its silence would show after three times as long."""


async def joined(
    start_notebook: StartNotebook,
    uri: str,
    watcher: AmqBrokerConnector,
    id: str,  # noqa: A002
    *,
    keep_alive: float = RARE,
) -> Notebook:
    """Start a notebook that serves, streams and receives logs, and is known to other members."""
    notebook = await start_notebook()
    await notebook.run(f"%config FabricMagics.keep_alive_seconds = {keep_alive}")
    await notebook.connect(uri, id=id)
    await notebook.run(f"%%fabric_serve --id {id}-api\ndef f(): return 1")
    await notebook.run("s = %fabric_stream a=b\nl = %fabric_logs")
    for one in (id, f"{id}-api"):
        await until(watcher, lambda one=one: state_of(watcher, one) == "up")  # type: ignore[misc]
    return notebook


async def left(watcher: AmqBrokerConnector, id: str) -> None:  # noqa: A002
    """Wait until other members see that the notebook is gone."""
    for one in (id, f"{id}-api"):
        await until(watcher, lambda one=one: state_of(watcher, one) == "gone")  # type: ignore[misc]


async def nothing_is_left(rabbitmq: RabbitMq, place: str, id: str, timeout: float = 60) -> None:  # noqa: A002
    """Wait until the broker has no queue of the notebook."""
    async with asyncio.timeout(timeout):
        while True:
            names = await asyncio.to_thread(
                lambda: [queue["name"] for queue in rabbitmq.list_queues(place)]
            )
            if not [name for name in names if f".{id}" in name]:
                return
            await asyncio.sleep(0.1)


async def restart(notebook: Notebook) -> None:
    await notebook.restart()


async def shutdown(notebook: Notebook) -> None:
    await notebook.shutdown()


async def unload(notebook: Notebook) -> None:
    await notebook.run("%unload_ext fabric_nb")


async def disconnect(notebook: Notebook) -> None:
    await notebook.run("%fabric_disconnect")


async def leave_by_exit(notebook: Notebook) -> None:
    notebook.execute_no_wait("exit()")
    await notebook.exited()


@pytest.mark.parametrize("leave", [restart, shutdown, unload, disconnect, leave_by_exit])
async def test_orderly_disconnection(
    start_notebook: StartNotebook,
    uri: str,
    watcher: AmqBrokerConnector,
    rabbitmq: RabbitMq,
    place: str,
    calc: Peer,
    leave: Callable[[Notebook], Coroutine[None, None, None]],
) -> None:
    """After restart, shutdown, unload and disconnect other members see it without delay."""
    id = f"leave-{leave.__name__}"  # noqa: A001
    notebook = await joined(start_notebook, uri, watcher, id)
    leaving = asyncio.create_task(leave(notebook))
    await left(watcher, id)
    await leaving
    await nothing_is_left(rabbitmq, place, id)
    if leave in (restart, unload):  # and it can connect again
        await notebook.load()
        await notebook.connect(uri, id=id)
        await until(watcher, lambda: state_of(watcher, id) == "up")
        assert await notebook.value("%fabric_call calc.calc1.multiply x=2 y=3") == "6"


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: pass"])
async def test_restart_of_a_blocked_notebook(
    start_notebook: StartNotebook, uri: str, watcher: AmqBrokerConnector, code: str
) -> None:
    """A notebook with a blocking cell sends a goodbye when it is restarted."""
    id = f"blocked-{len(code)}"  # noqa: A001
    notebook = await joined(start_notebook, uri, watcher, id)
    cell = notebook.execute_no_wait(f"print('on')\n{code}")
    await cell.until(lambda cell: cell.stdout)
    restarting = asyncio.create_task(notebook.restart())
    await left(watcher, id)
    await restarting


async def test_restart_while_a_call_waits(
    start_notebook: StartNotebook, uri: str, watcher: AmqBrokerConnector
) -> None:
    """A notebook that waits for a call sends a goodbye when it is restarted."""
    notebook = await joined(start_notebook, uri, watcher, "waits")
    never = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await never.wait()

    begun = asyncio.Event()
    server = await watcher.serve({"hang": hang}, type="never", id="never1")
    notebook.execute_no_wait("%fabric_call never.never1.hang --timeout 60")
    await begun.wait()
    restarting = asyncio.create_task(notebook.restart())
    await left(watcher, "waits")
    await restarting
    never.set()
    await server.close()


async def test_killed_kernel_is_gone_after_its_interval(
    start_notebook: StartNotebook,
    uri: str,
    watcher: AmqBrokerConnector,
    rabbitmq: RabbitMq,
    place: str,
) -> None:
    """A killed kernel is late and then gone for other members, by its own interval."""
    notebook = await joined(start_notebook, uri, watcher, "killed", keep_alive=KEEP_ALIVE)
    notebook.kill()
    seen = set()
    async with asyncio.timeout(60):
        while (state := state_of(watcher, "killed")) != "gone":
            seen.add(str(state))
            await watcher.registry.changed()
    assert seen == {"up", "late"}
    await nothing_is_left(rabbitmq, place, "killed")
    assert f"{DOMAIN}.notebook.killed" not in {
        service.name.fqn for service in watcher.registry.services()
    }
