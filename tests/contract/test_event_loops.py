"""Connectors used in other event loops, threads and processes, or opened repeatedly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import BrokerUnavailable, LoginRefused, NotConnected, WrongLoop
from fabric_nb.fabric.amqp import consumer_connection
from fabric_nb.fabric.amqp.cluster import Nodes
from tests.support.fabric import Members, wait_for_service
from tests.support.rabbitmq_supervisor import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.any_broker  # loops are of the member


def in_a_thread(work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Future[Any]:
    """Run a coroutine in the event loop of another thread."""
    return asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(work())))


async def test_calls_from_the_event_loop_of_another_thread(members: Members) -> None:
    """A call can be made from another thread's event loop, such as that of a subshell."""
    member, caller = await members.join("calc"), await members.join("caller")
    await member.serve({"twice": lambda x: 2 * x})
    await wait_for_service(caller, "calc", methods=1)
    assert await in_a_thread(lambda: caller.call("calc.twice", x=4, timeout=60)) == 8
    assert await in_a_thread(lambda: caller.service("calc").twice(x=5)) == 10


@pytest.mark.parametrize("what", ["serve", "stream", "logs", "publish", "call_stream"])
async def test_operations_of_the_own_event_loop(members: Members, what: str) -> None:
    """Services, streams and feeds are refused in another event loop, with advice."""
    one = await members.join("one")

    async def use() -> None:
        match what:
            case "serve":
                await one.serve({"f": lambda: 1})
            case "stream":
                await one.stream()
            case "logs":
                await one.logs()
            case "publish":
                await one.publish_data({"n": 1})
            case "call_stream":
                await anext(one.call_stream("one.items"))

    with pytest.raises(WrongLoop, match="another event loop"):
        await in_a_thread(use)
    assert one.state == "connected"


def test_a_second_event_loop(broker_uri: str) -> None:
    """The error for a connector whose event loop has ended is raised at once."""
    connector = AmqBrokerConnector(broker_uri, "d", "app", "one", keep_alive_listen=True)

    async def close() -> None:
        await connector.close()
        await asyncio.sleep(0.05)  # as asyncio closes sockets

    async def call() -> None:
        await connector.call("d.app.two.f", timeout=60)

    with asyncio.Runner() as first:
        first.run(connector.open())
        with pytest.raises(WrongLoop, match="does not run any more"), asyncio.Runner() as second:
            second.run(call())
        first.run(close())


async def test_opened_several_times(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an open connector keeps its connection."""
    connections = 0

    async def connect(nodes: Nodes, *args: Any, proceed: Any = Nodes.connect) -> Any:
        nonlocal connections
        connections += 1
        return await proceed(nodes, *args)

    monkeypatch.setattr(Nodes, "connect", connect)
    one = members.connector("one")
    await asyncio.gather(*(members.open(one) for _ in range(3)))
    assert await one.open() is one
    assert connections == 1
    names = [task.get_name() for task in asyncio.all_tasks() if "supervise" in task.get_name()]
    assert len(names) == 1


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 15, 25, 40])
async def test_closed_while_it_is_being_opened(members: Members, milliseconds: int) -> None:
    """A connector that is closed while it is opened is closed, and can be opened again."""
    one = members.connector("one")
    opening = asyncio.ensure_future(one.open())
    await asyncio.sleep(milliseconds / 1000)
    was_open = opening.done()
    async with asyncio.timeout(60):
        await one.close()
        if was_open:
            assert await opening is one
        else:
            with pytest.raises(NotConnected, match="while it was being opened"):
                await opening
    assert one.state == "closed"
    assert one.member.connection.open_channels == 0
    await members.open(one)
    await one.publish_data({"n": 1})


async def test_a_broker_that_is_started_later() -> None:
    """`open` with a timeout waits until the broker is available, at most for that time."""
    port = free_port()
    connector = AmqBrokerConnector(f"amqp://guest:secret@127.0.0.1:{port}/", "d", "app", "one")
    with pytest.raises(BrokerUnavailable, match="nothing listens"):
        await connector.open()
    with pytest.raises(BrokerUnavailable, match="nothing listens"):
        await connector.open(timeout=2)
    opening = asyncio.ensure_future(connector.open(timeout=60))
    await asyncio.sleep(0)
    arguments = ("--port", str(port), "--user", "guest", "--password", "secret")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fabric_nb.broker", *arguments, stdout=subprocess.DEVNULL
    )
    try:
        assert await opening is connector
        await connector.close()
        wrong = AmqBrokerConnector(f"amqp://guest:wrong@127.0.0.1:{port}/", "d", "app", "one")
        with pytest.raises(LoginRefused):
            await asyncio.wait_for(wrong.open(timeout=60), 60)
    finally:
        process.terminate()
        await process.wait()


async def test_a_stream_opened_while_its_connection_closes(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream can be opened while the connection of the last one is being closed."""
    monkeypatch.setattr(consumer_connection, "LINGER", 0.0)
    one = await members.join("one")
    for turns in range(40):
        async with await one.stream():
            pass
        for _ in range(turns):
            await asyncio.sleep(0)
    async with await one.stream() as stream:
        await one.publish_data({"n": 1})
        await stream.wait(1, timeout=60)


FORKING = """
import asyncio, os, sys, time
from fabric_nb import AmqBrokerConnector

async def main():
    connector = AmqBrokerConnector(sys.argv[1], "test", "app", "forking", keep_alive_seconds=0.2)
    await connector.open()
    await connector.serve({"pid": os.getpid})
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        time.sleep(60)
        os._exit(0)
    print(os.getpid(), child, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_keeps_no_connection(members: Members, broker_uri: str) -> None:
    """A killed service is gone at once, also if a child that it has forked is still running."""
    caller = await members.join("caller")
    code = FORKING.replace('"test"', repr(caller.domain))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, broker_uri, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid, child = map(int, (await process.stdout.readline()).split())
    try:
        await wait_for_service(caller, "forking", methods=1)
        assert await caller.call("forking.pid", timeout=60) == pid
        os.kill(pid, signal.SIGKILL)
        await process.wait()
        async with caller.member.connection.channel() as channel:
            queue = f"{caller.domain}.api.app.forking::pid"
            async with asyncio.timeout(60):
                while await channel.topology.has_queue(queue):  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0.05)
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


USED_IN_CHILD = """
import asyncio, os, sys, threading
from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import WrongLoop

USES = ("call", "stream", "close")

async def attempt(connector, what):
    try:
        await getattr(connector, what)(*(["d.app.two.f"] if what == "call" else []))
    except WrongLoop as error:
        return "fork" in str(error) or "another event loop" in str(error)

async def main():
    connector = AmqBrokerConnector(sys.argv[1], "d", "app", "forking")
    async with connector:
        child = os.fork()
        if child == 0:
            def use():
                output = [asyncio.run(attempt(connector, what)) for what in USES]
                os._exit(0 if output == [True] * 3 else 1)
            threading.Thread(target=use).start()
            threading.Event().wait(10)
            os._exit(2)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_that_uses_its_parents_connector(broker_uri: str) -> None:
    """The error for a forked child that uses its parent's connector is raised at once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USED_IN_CHILD, broker_uri, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert output.strip() == b"0"


@pytest.mark.parametrize("version", [1.2, None, 3, b"1"])
async def test_a_version_is_text(members: Members, version: Any) -> None:
    """A version that is not text is refused."""
    with pytest.raises(TypeError, match="A version is text"):
        members.connector("one", service_version=version)
    one = await members.join("one")
    with pytest.raises(TypeError, match="A version is text"):
        await one.serve({"f": lambda: 1}, id="two", version=version)
