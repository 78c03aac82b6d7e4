"""Background tasks with an owner, the record of their failures, and that of rejected messages."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import subprocess
import sys
from typing import Any, cast

import pytest

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp import rejected
from fabric_nb.fabric.amqp.rejected import KEPT, RejectedMessages
from fabric_nb.fabric.core import tasks
from fabric_nb.fabric.core.tasks import Background, Failures
from fabric_nb.fabric.discovery.announcer import Announcer
from fabric_nb.fabric.wire.keep_alives import Announcement
from fabric_nb.fabric.wire.names import ServiceName
from tests.unit.test_wire import arrived

# -- messages that cannot be read


class Clock:
    """Replacement for the module `time`."""

    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1_700_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rejected, "time", clock)
    return clock


def test_rejected_messages_are_counted_by_kind() -> None:
    """Rejected messages are counted by kind and in total."""
    log = RejectedMessages()
    assert (log.total, list(log.last)) == (0, [])
    for kind in ("log", "log", "call"):
        log.add(kind, MalformedMessage("why"), arrived(b"body"))
    assert (log.total, log.counts["log"], log.counts["call"], log.counts["data"]) == (3, 2, 1, 0)


def test_last_hundred_are_kept(clock: Clock) -> None:
    """The last hundred rejected messages are kept, with the reason."""
    log = RejectedMessages()
    for number in range(KEPT + 20):
        log.add("data", f"reason {number}", arrived(str(number).encode(), {"h": number}))
    assert (log.total, len(log.last)) == (KEPT + 20, KEPT)
    first, last = log.last[0], log.last[-1]
    assert (first.body, first.reason) == (b"20", "reason 20")
    assert (last.body, last.kind, last.headers) == (b"119", "data", {"h": 119})
    assert last.time == clock.time()


def test_kept_bodies_are_truncated() -> None:
    """10 kB of a large body are kept, and its size."""
    log = RejectedMessages()
    log.add("data", "r" * 10_000, arrived(b"x" * 20_000_000))
    assert (len(log.last[0].body), log.last[0].size) == (10_000, 20_000_000)
    assert len(log.last[0].reason) == 500


def test_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The first rejected message is logged at once, and then their number once a minute."""
    log = RejectedMessages()
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            log.add("data", "first reason", arrived())
        assert [record.getMessage() for record in caplog.records] == [
            "1 message(s) from the broker were rejected, the last one a data: first reason"
        ]
        clock.now += 59
        log.add("data", "early", arrived())
        clock.now += 1
        log.add("log", "last reason", arrived())
    assert [record.getMessage() for record in caplog.records][1:] == [
        "51 message(s) from the broker were rejected, the last one a log: last reason"
    ]


# -- background work


@pytest.fixture
async def background() -> Any:
    work = Background("worker")
    await work.open()
    yield work
    await work.aclose()


async def test_work_is_done(background: Background) -> None:
    """Work runs in the background, under a name that contains its owner's."""
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    task = background.spawn(work(), name="do")
    await asyncio.wait_for(done.wait(), 60)
    assert task.get_name() == "worker: do"


async def test_failures_are_contained(
    background: Background, caplog: pytest.LogCaptureFixture, failures: Failures
) -> None:
    """A failure is logged and counted; other work continues, and more can be started."""
    ends = asyncio.Event()

    async def fail() -> None:
        raise ValueError("no")

    async def go_on() -> str:
        await ends.wait()
        return "done"

    other = background.spawn(go_on(), name="other")
    await background.spawn(fail(), name="bad")
    assert not other.done()
    assert "worker: bad failed" in caplog.text
    assert "ValueError: no" in caplog.text
    assert failures.counts == {"worker: bad": 1}
    assert failures.last[-1].error == "ValueError: no"
    await asyncio.wait_for(background.spawn(asyncio.sleep(0), name="more"), 60)
    ends.set()
    await asyncio.wait_for(other, 60)


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), asyncio.CancelledError()])
async def test_kept_work_is_restarted(
    background: Background,
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """Work that must keep running is restarted after a failure of any kind."""
    monkeypatch.setattr(tasks, "RESTART_AFTER", 0.0)
    runs = []

    async def work() -> None:
        runs.append(True)
        if len(runs) < 4:
            raise error

    await asyncio.wait_for(background.keep(work, name="loop"), 60)
    assert len(runs) == 4
    assert failures.counts == {"worker: loop": 3}


async def test_record_of_failures_is_bounded(
    failures: Failures, caplog: pytest.LogCaptureFixture
) -> None:
    """The last hundred failures are kept, and each name is logged once a minute."""
    for number in range(500):
        failures.add("one place", ValueError(number))
        failures.add(f"place {number}", ValueError("x" * 10_000))
    assert failures.total == 1000
    assert failures.counts["one place"] == 500
    assert len(failures.last) == len(failures.counts) - 1 == 100
    assert caplog.text.count("one place failed") == 1


async def test_cancellation_is_contained(background: Background) -> None:
    """Cancelling one task does not affect the others."""
    other = background.spawn(asyncio.Event().wait(), name="other")
    task = background.spawn(asyncio.Event().wait(), name="cancelled")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(0)
    assert not other.done()


async def test_closing_ends_everything() -> None:
    """Closing cancels the running tasks and waits until they have ended."""
    background = Background("worker")
    await background.open()
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    tasks = [background.spawn(work(), name="w") for _ in range(3)]
    await asyncio.sleep(0)
    await background.aclose()
    assert len(ended) == 3
    assert all(task.cancelled() for task in tasks)
    await background.aclose()


async def test_opened_and_closed_in_different_tasks() -> None:
    """A group may be opened in one task and closed in another, like cells of a notebook."""
    background = Background("worker")
    await asyncio.create_task(background.open())
    task = background.spawn(asyncio.Event().wait(), name="w")
    await asyncio.sleep(0)
    await asyncio.create_task(background.aclose())
    assert task.cancelled()


async def test_work_without_an_owner_is_refused() -> None:
    """Work is refused before opening and after closing, and its coroutine is closed."""
    background = Background("worker")
    with pytest.raises(RuntimeError, match="worker is not open"):
        background.spawn(asyncio.sleep(0), name="early")
    await background.open()
    await background.aclose()
    with pytest.raises(RuntimeError, match="worker is not open"):
        background.spawn(asyncio.sleep(0), name="late")


async def test_work_in_a_context(background: Background) -> None:
    """Work may run in a given context, so that its output is attributed to its cell."""
    cell = contextvars.ContextVar("cell", default="none")
    context = contextvars.copy_context()
    context.run(cell.set, "mine")
    seen = []

    async def look() -> None:
        seen.append(cell.get())

    await background.spawn(look(), name="look", context=context)
    await background.spawn(look(), name="look")
    assert seen == ["mine", "none"]


async def test_a_swallowed_cancellation(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that continues after a swallowed cancellation is cancelled again."""
    monkeypatch.setattr(tasks, "CANCEL_EVERY", 0.01)

    async def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = background.spawn(work(), name="work")
    await asyncio.sleep(0)
    await background.aclose()
    assert task.cancelled()


def test_threads_of_a_fork() -> None:
    """Blocking work also runs in a forked child, which has none of its parent's threads."""
    script = """
import asyncio, os
from fabric_nb.fabric.core import tasks
assert asyncio.run(tasks.in_thread(int, "5")) == 5
if (child := os.fork()) == 0:
    os._exit(asyncio.run(asyncio.wait_for(tasks.in_thread(int, "7"), 5)))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


def test_a_failing_keep_alive_is_contained(failures: Failures) -> None:
    """A service whose keep-alive cannot be encoded is counted; all others are announced."""
    announcer = Announcer(lambda: cast(Any, None), "msc.discovery", 5.0, "loop")
    for id_, version in (("a", "1"), ("b", cast(Any, object())), ("c", "1")):
        announcer.announce(ServiceName("demo", "app", id_), Announcement(version=version))
    announced = [message.headers["service_id"] for message in announcer.next_messages(None)]
    assert announced == ["a", "c"]
    assert failures.counts == {"announcing demo.app.b": 1}
    announcer.withdraw(ServiceName("demo", "app", "b"))
    assert [message.headers["service_id"] for message in announcer.next_messages(None)][-1] != "b"
