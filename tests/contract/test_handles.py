"""Handles of calls: progress, output, result and cancellation, in a program."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

import fabric_nb
from fabric_nb import AmqBrokerConnector, RemoteError
from fabric_nb.errors import NotInNotebook, WrongLoop
from tests.support.fabric import until, wait_for_service

if TYPE_CHECKING:
    from tests.support.fabric import Members

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


class Work:
    """Methods that run until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.thread_gate = threading.Event()

    async def train(self, fail: bool = False) -> str:
        print("begun")
        for done in fabric_nb.track([0, 60, 120], "training"):
            print("done", done)
            await asyncio.sleep(0.1)
        await self.gate.wait()
        if fail:
            raise ValueError("it failed")
        return "trained"

    def in_thread(self) -> None:
        self.thread_gate.wait(60)


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def caller(members: Members, work: Work) -> AmqBrokerConnector:
    server, threads = await members.join("server"), await members.join("threads")
    await server.serve({"train": work.train}, prefetch=1)
    await threads.serve({"block": work.in_thread}, threads=True)
    caller = await members.join("caller")
    await wait_for_service(caller, "server", methods=2)
    return caller


async def test_a_handle_has_progress_output_and_result(caller, work):
    """`fabric.start` returns at once; the handle has what the call reports, and its result."""
    handle = caller.start("app.server.train", output=True)
    assert not handle.done()
    assert handle.progress is None
    await until(lambda: handle.progress is not None and handle.progress.fraction == 1)
    assert handle.facts[:3] == ["training", "3 of 3", "100 %"]
    assert handle.facts[-1] == f"on server {handle.report.instance}"
    assert "running" in repr(handle)
    with pytest.raises(NotInNotebook, match="write `await handle`"):
        handle.result()
    work.gate.set()
    assert await handle == "trained"
    assert handle.result() == "trained"
    assert [line.text for line in handle.report.lines] == ["begun", "done 0", "done 60", "done 120"]


async def test_a_call_without_output(caller, work):
    """Lines are not sent to a handle that does not ask for them; progress is."""
    handle = caller.start("app.server.train")
    await until(lambda: handle.progress is not None)
    work.gate.set()
    await handle
    assert not handle.report.lines


async def test_an_error_has_the_last_output(caller, work):
    """The error of a handle's call has the last lines of its output."""
    work.gate.set()
    with pytest.raises(RemoteError) as caught:
        await caller.start("app.server.train", output=True, fail=True)
    assert list(caught.value.output) == ["begun", "done 0", "done 60", "done 120"]


async def test_a_handle_stops_its_call(caller, work):
    """`stop` returns whether the function was stopped, or runs on in a thread."""
    handle = caller.start("app.server.train")
    await until(lambda: handle.progress is not None)
    assert await handle.stop(60) is True
    assert handle.cancellation.endswith(f"it was stopped on server {handle.report.instance}.")
    handle = caller.start("app.threads.block")
    await until(lambda: handle.report.began)
    assert await handle.stop(60) is False
    assert "it runs on in a thread of threads" in handle.cancellation
    work.thread_gate.set()
    assert await handle.stop() is False
    with pytest.raises(asyncio.CancelledError):
        await handle


async def test_a_flood_of_reports_does_not_hide_the_outcome(caller, work):
    """Reports that arrive after the cancellation do not stand in for its answer."""
    for _ in range(10):
        handle = caller.start("app.server.train", output=True)
        await until(lambda handle=handle: handle.report.began)
        await asyncio.sleep(0.05)
        assert await handle.stop(60) is True


async def test_a_queued_call_is_cancelled(caller, work):
    """A call that is cancelled in its queue says so; one that was not sent, too."""
    first = caller.start("app.server.train")
    queued = [caller.start("app.server.train") for _ in range(3)]
    await until(lambda: queued[-1].report.ahead is not None)
    assert queued[-1].facts[0].startswith("waiting for a free instance")
    assert await queued[-1].stop(0.1) is None
    assert "cancelled in its queue" in queued[-1].cancellation
    unsent = caller.start("app.nowhere.train")
    await asyncio.sleep(0)
    assert await unsent.stop() is None
    assert unsent.cancellation.endswith("was cancelled before it was sent.")
    work.gate.set()
    assert await asyncio.gather(first, *queued[:2]) == ["trained"] * 3


async def test_progress_of_a_call_with_a_handle_is_forwarded(members, caller, work):
    """A served function that makes a call with a handle passes its progress on."""
    between = await members.join("between")

    async def outer() -> str:
        return str(await between.start("app.server.train"))

    await between.serve({"outer": outer})
    handle = caller.start("app.between.outer")
    await until(lambda: handle.progress is not None and handle.progress.text == "training")
    work.gate.set()
    assert await handle == "trained"


def test_a_handle_needs_a_loop():
    """`fabric.start` in plain code of a program raises an error with advice."""
    fabric = AmqBrokerConnector("amqp://localhost/", "d", "t", "i")
    with pytest.raises(WrongLoop, match="no event loop is running"):
        fabric.start("a.b")
