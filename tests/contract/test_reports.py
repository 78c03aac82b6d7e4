"""Reports of calls: queue position, beginning, progress, output and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import pytest

import fabric_nb
from fabric_nb import AmqpHandler
from fabric_nb.errors import CallTimeout, InvalidArgument, RemoteError
from fabric_nb.fabric.rpc.call_report import MAX_LINES, CallReport
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.fabric.wire.reports import OutputLine, Progress
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


log = logging.getLogger("work")


@pytest.fixture
async def server(members: Members) -> AmqBrokerConnector:
    return await members.join("server")


@pytest.fixture
async def caller(members: Members) -> AmqBrokerConnector:
    return await members.join("caller")


class Watched(CallReport):
    """A report that keeps all progress that it has received."""

    def __init__(self, level: str = "output") -> None:
        self.seen: list[Progress] = []
        super().__init__(level, self._keep)

    def _keep(self) -> None:
        if self.progress is not None and self.progress not in self.seen[-1:]:
            self.seen.append(self.progress)


async def call(
    caller: AmqBrokerConnector, target: str, report: CallReport | None = None, **kwargs: Any
) -> Any:
    pattern, method = parse_call(target, domain=DOMAIN)
    return await caller.member.rpc.call(pattern, method, kwargs, timeout=60, report=report)


@pytest.mark.every_broker
@pytest.mark.parametrize("single_active", [False, True], ids=["clique", "leader"])
async def test_a_call_is_queued_and_runs(server, caller, single_active):
    """A caller learns how many calls are queued before its own, when it begins, and where."""
    gate = asyncio.Semaphore(0)

    async def work() -> None:
        await gate.acquire()

    await server.serve({"work": work}, prefetch=1, single_active=single_active)
    await wait_for_service(caller, "server", methods=2)
    reports = [CallReport("progress") for _ in range(4)]
    calls = []
    for number, report in enumerate(reports, 1):
        calls.append(asyncio.create_task(call(caller, "server.work", report)))
        await until(lambda n=number: caller.member.rpc.pending == n)
    await until(lambda: reports[0].began is not None)
    await until(lambda: reports[3].ahead == 2)
    assert reports[0].instance == server.instance
    assert [report.began for report in reports[1:]] == [None] * 3
    for n in range(4):
        gate.release()
        await calls[n]
    assert all(report.instance == server.instance for report in reports)


async def test_a_short_call_reports_only_its_instance(server, caller):
    """A call of a method whose calls are answered at once sends nothing but its reply."""
    await server.serve({"work": lambda: 5})
    first, report = Watched(), Watched()
    assert await call(caller, "app.server.work", first) == 5
    assert first.began is not None
    assert await call(caller, "app.server.work", report) == 5
    assert (report.instance, report.began, report.seen) == (server.instance, None, [])


def steps(n: int) -> int:
    for _ in fabric_nb.track(range(n), "steps"):
        time.sleep(0.05)
    return n


async def async_steps(n: int) -> int:
    async def numbers():
        for number in range(n):
            yield number

    async for _ in fabric_nb.track(numbers(), "steps", total=n):
        await asyncio.sleep(0.05)
    return n


@pytest.mark.every_broker
@pytest.mark.parametrize(
    ("function", "threads"),
    [(steps, False), (steps, True), (async_steps, False)],
    ids=["plain function", "in a thread", "coroutine"],
)
async def test_progress(server, caller, function: Callable[..., Any], threads: bool):
    """Progress arrives while the function runs, in order, at most ten times a second."""
    await server.serve({"work": function}, threads=threads)
    report = Watched("progress")
    began = time.monotonic()
    assert await call(caller, "app.server.work", report, n=20) == 20
    seconds = time.monotonic() - began
    assert report.began is not None
    assert report.seen
    assert all(one.total == 20 and one.text == "steps" for one in report.seen)
    done = [one.done for one in report.seen]
    assert done == sorted(done)
    assert len(done) <= 10 * seconds + 2


async def test_a_loop_of_many_steps_sends_few_reports(server, caller):
    """A hundred thousand steps are as few messages as any other call of that duration."""
    await server.serve({"work": lambda: sum(fabric_nb.track(range(100_000)))}, threads=True)
    report = Watched("progress")
    began = time.monotonic()
    assert await call(caller, "app.server.work", report) == sum(range(100_000))
    assert len(report.seen) <= 10 * (time.monotonic() - began) + 2


async def test_progress_of_a_nested_call(members, server, caller):
    """The progress of a call that a function makes is that of the function, if it has none."""
    between = await members.join("between")

    async def outer(own: bool) -> int:
        if own:
            fabric_nb.progress(1, 2, "own")
        return await between.call("app.server.work", n=10)

    await server.serve({"work": async_steps})
    await between.serve({"outer": outer})
    report = Watched("progress")
    assert await call(caller, "app.between.outer", report, own=False) == 10
    assert report.seen
    assert {one.text for one in report.seen} == {"steps"}
    report = Watched("progress")
    assert await call(caller, "app.between.outer", report, own=True) == 10
    assert {one.text for one in report.seen} == {"own"}


async def test_progress_that_is_no_number(server, caller):
    """A progress that is no number from 0 raises in the function."""

    def work(done: float) -> None:
        fabric_nb.progress(done)

    await server.serve({"work": work})
    for done in (-1, float("inf"), float("nan")):
        with pytest.raises(RemoteError, match="is no progress"):
            await call(caller, "app.server.work", Watched(), done=done)
    assert await call(caller, "app.server.work", done=3) is None


def test_progress_outside_of_a_call():
    """The functions for served functions do nothing special outside of one."""
    fabric_nb.progress(1, 2)
    fabric_nb.sleep(0)
    assert fabric_nb.caller() is None
    assert list(fabric_nb.track("abc")) == ["a", "b", "c"]
    with pytest.raises(InvalidArgument):
        fabric_nb.sleep(-1)


def speak() -> None:
    """Print, warn and log, also in another thread, and in one that this starts."""
    print("out")
    print("part", end="")
    print("ial", file=sys.stdout)
    print("err", file=sys.stderr)
    log.warning("logged %d", 5)
    warnings.warn("careful", stacklevel=1)
    run_thread(lambda: run_thread(lambda: print("in a thread of a thread")))
    print("unfinished", end="")


def run_thread(target: Callable[[], object]) -> None:
    """Run a function in a thread of its own."""
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


@pytest.mark.every_broker
async def test_output(server, caller, capsys):
    """A caller that asks for it receives what its call printed and logged, before the result."""

    async def work() -> None:
        speak()
        await asyncio.create_task(asyncio.to_thread(print, "from a thread"))

    async def other() -> None:
        print("of another call")
        await asyncio.sleep(0)

    await server.serve({"work": work, "other": other})
    report = Watched()
    with pytest.warns(UserWarning, match="careful"):
        await asyncio.gather(
            call(caller, "app.server.work", report), call(caller, "app.server.other")
        )
    lines = list(report.lines)
    assert [line.text for line in lines if line.stream == "stdout"] == [
        "out",
        "partial",
        "in a thread of a thread",
        "unfinishedfrom a thread",
    ]
    assert OutputLine("stderr", "err") in lines
    assert OutputLine("log", "WARNING work: logged 5") in lines
    assert report.omitted == 0
    assert "of another call" in capsys.readouterr().out
    await server.close()
    assert "write" not in vars(sys.stdout)


async def test_progress_of_a_thread(server, caller):
    """A thread of a function reports progress, is cancelled with it, and logs with its id."""
    handler = AmqpHandler()
    await server.init_logging_handler(handler)
    feed = await caller.logs()
    cancelled = threading.Event()

    class Worker(threading.Thread):
        def run(self) -> None:
            fabric_nb.progress(1, 2, "in a thread")
            log.warning("in a thread")
            with contextlib.suppress(asyncio.CancelledError):
                fabric_nb.sleep(600)
            cancelled.set()

    async def work() -> None:
        Worker().start()
        await asyncio.Event().wait()

    await server.serve({"work": work})
    log.addHandler(handler)
    try:
        handle = caller.start("app.server.work")
        await until(lambda: handle.progress == Progress(1, 2, "in a thread"))
        await feed.wait(1)
        assert await handle.stop(60) is True
        assert await asyncio.to_thread(cancelled.wait, 60)
    finally:
        log.removeHandler(handler)
    assert [one.call for one in feed.records] == [record.call for record in caller.calls.records]


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ThreadPool])
async def test_threads_of_pools_belong_to_no_call(server, caller, pool, capsys):
    """The call that starts the thread of a pool does not receive what that prints for others."""
    began, gate, printed = asyncio.Event(), asyncio.Event(), threading.Event()
    with pool(1) as workers:
        run = workers.submit if pool is ThreadPoolExecutor else workers.apply_async

        async def first() -> None:
            run(partial(print, "in a pool"))
            run(partial(copy_context().run, print, "with the context"))
            began.set()
            await gate.wait()

        async def second() -> None:
            run(partial(print, "of another call"))
            run(partial(copy_context().run, print, "of another call"))

        await server.serve({"first": first, "second": second})
        report = Watched()
        calling = asyncio.create_task(call(caller, "app.server.first", report))
        await began.wait()
        await call(caller, "app.server.second", Watched())
        run(printed.set)
        assert await asyncio.to_thread(printed.wait, 60)
        gate.set()
        await calling
    assert [line.text for line in report.lines] == ["with the context"]
    assert capsys.readouterr().out.count("of another call") == 2


async def test_programs_that_serve_nothing_are_left_as_they_are(server, caller):
    """Nothing of Python's is replaced but the start of threads, and that while a program serves."""
    start, write = threading.Thread.start, vars(sys.stdout).get("write")
    seen: list[bool] = []

    def work() -> None:
        seen.append(vars(sys.stdout).get("write") == write)

    assert "fabric_nb" not in start.__module__
    service = await server.serve({"work": work})
    assert threading.Thread.start is not start
    await call(caller, "app.server.work")
    await call(caller, "app.server.work", CallReport("instance"))
    await call(caller, "app.server.work", CallReport("output"))
    assert seen == [True, True, False]
    await service.close()
    assert threading.Thread.start is start
    assert vars(sys.stdout).get("write") == write


async def test_a_thread_inherits_the_call_and_nothing_else(server, caller):
    """A thread of a call knows its caller, also after the call, and has a context of its own."""
    variable: ContextVar[str] = ContextVar("variable", default="fresh")
    gate = threading.Event()
    seen: list[tuple[str, str]] = []

    def look() -> None:
        gate.wait(60)
        who = fabric_nb.caller()
        seen.append((variable.get(), who.service if who is not None else "no caller"))

    def work() -> None:
        variable.set("changed")
        threads.append(threading.Thread(target=look))
        threads[-1].start()

    threads: list[threading.Thread] = []
    await server.serve({"work": work})
    await caller.call("app.server.work")
    gate.set()
    await asyncio.to_thread(threads[0].join, 60)
    value = "changed" if getattr(sys.flags, "thread_inherit_context", False) else "fresh"
    assert seen == [(value, f"{DOMAIN}.app.caller")]
    await asyncio.to_thread(run_thread, look)
    assert seen[-1] == ("fresh", "no caller")


async def test_another_library_that_replaces_the_start_of_threads(
    server, caller, monkeypatch: pytest.MonkeyPatch
):
    """A library that has wrapped the start of threads meanwhile keeps working."""
    started: list[str] = []
    service = await server.serve({"work": lambda: run_thread(lambda: print("printed"))})
    await call(caller, "app.server.work", Watched())
    start = threading.Thread.start

    def wrapper(self: threading.Thread) -> None:
        started.append(self.name)
        start(self)

    with monkeypatch.context() as patching:
        patching.setattr(threading.Thread, "start", wrapper)
        await service.close()
        run_thread(lambda: None)
        assert len(started) == 1
        await server.serve({"work": lambda: run_thread(lambda: print("printed"))})
        report = Watched()
        await call(caller, "app.server.work", report)
        assert [line.text for line in report.lines] == ["printed"]
        assert len(started) == 2


async def test_output_of_a_failed_call(server, caller):
    """The output of a call that fails arrives before its error."""

    def work() -> None:
        print("about to fail")
        raise ValueError

    await server.serve({"work": work})
    report = Watched()
    with pytest.raises(RemoteError):
        await call(caller, "app.server.work", report)
    assert [line.text for line in report.lines] == ["about to fail"]


async def test_output_without_end(server, caller):
    """Of a flood of output the caller receives a thousand lines, and the number of all others."""

    async def work() -> None:
        for n in range(5000):
            print("x" * 100_000 if n == 5 else n)
            if not n % 50:
                await asyncio.sleep(0.02)

    await server.serve({"work": work})
    report = Watched()
    await call(caller, "app.server.work", report)
    assert len(report.lines) + report.omitted == 5000
    assert 100 <= len(report.lines) <= MAX_LINES
    assert max(len(line.text) for line in report.lines) <= 2000


async def test_output_of_bars(server, caller):
    """Of a line that is written again and again, as tqdm does, the last state is received."""

    def work() -> None:
        for percent in (10, 20, 30):
            sys.stderr.write(f"\r{percent}%")
        sys.stderr.write("\n")
        for _ in range(1000):
            sys.stdout.write("x" * 1000)
        sys.stdout.write("\r\nline\r\n40%\r50%\r")

    await server.serve({"work": work})
    report = Watched()
    await call(caller, "app.server.work", report)
    assert [line.text for line in report.lines if line.stream == "stderr"] == ["30%"]
    long, *others = (line.text for line in report.lines if line.stream == "stdout")
    assert len(long) <= 2000
    assert others == ["line", "50%"]


async def test_output_is_not_sent_unasked(server, caller, raw):
    """A call that does not ask for output or progress receives its reply, and nothing else."""

    async def work() -> str:
        speak()
        fabric_nb.progress(1, 2)
        await asyncio.sleep(0.3)
        return "done"

    await server.serve({"work": work})
    with pytest.warns(UserWarning, match="careful"):
        assert await call(caller, "app.server.work") == "done"
    assert not caller.rejected.counts


async def test_records_of_a_call(members, server, caller):
    """Both ends record a call with the same id and the caller its output; others have their own."""

    async def work() -> None:
        for text in "rstuvwxyz":
            print(text * 2000)

    await server.serve({"work": work})
    await call(caller, "app.server.work", CallReport("output"))
    await caller.call("app.server.work")
    made, served = caller.calls.records, server.calls.records
    assert [record.call for record in made] == [record.call for record in served]
    assert len({record.call for record in made}) == 2
    assert made[0].output.splitlines() == ["(5 lines are omitted)", *(c * 2000 for c in "wxyz")]
    assert made[1].output == served[0].output == ""
    frame = caller.calls.df
    assert frame.call.tolist() == [record.call for record in made]


async def test_log_records_of_a_call(members, server, caller):
    """Log records of a call have its id, also those of its tasks and threads; others have none.

    So it is for calls that ask for no report.
    """
    handler = AmqpHandler()
    await server.init_logging_handler(handler)
    feed = await caller.logs()

    async def work() -> None:
        log.warning("in the function")
        await asyncio.create_task(asyncio.to_thread(log.warning, "in a worker"))
        run_thread(lambda: run_thread(lambda: log.warning("in a thread")))

    await server.serve({"work": work})
    log.addHandler(handler)
    try:
        await caller.call("app.server.work")
        log.warning("outside")
        await feed.wait(4)
    finally:
        log.removeHandler(handler)
    (record,) = caller.calls.records
    calls = {one.message: one.call for one in feed.records}
    inside = ("in the function", "in a worker", "in a thread")
    assert calls == {**dict.fromkeys(inside, record.call), "outside": ""}
    assert set(feed.df.call) == {record.call, ""}


# -- cancellation and deadlines


@pytest.mark.every_broker
async def test_a_cancelled_call_is_confirmed(server, caller):
    """A caller learns whether its cancelled call was stopped, or runs on in a thread."""
    gate, began = threading.Event(), []

    async def coroutine() -> None:
        began.append(1)
        await asyncio.Event().wait()

    def plain() -> None:
        began.append(1)
        gate.wait(60)

    await server.serve({"coroutine": coroutine, "plain": plain}, threads=True)
    for method, stopped in (("coroutine", True), ("plain", False)):
        began.clear()
        report = CallReport("progress")
        calling = asyncio.create_task(call(caller, f"app.server.{method}", report))
        await until(lambda: began)
        calling.cancel()
        assert await report.wait_stopped(60) is stopped
    gate.set()


@pytest.mark.parametrize("way", ["progress", "sleep", "cancelled"])
async def test_a_thread_that_looks_at_its_caller(server, caller, way):
    """A function in a thread ends at its next progress or sleep after it was cancelled."""
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        who = fabric_nb.caller()
        assert who is not None
        began.set()
        try:
            while way != "cancelled" or not who.cancelled:
                if way == "progress":
                    fabric_nb.progress(1)
                    time.sleep(0.01)
                elif way == "sleep":
                    fabric_nb.sleep(600)
        finally:
            ended.set()

    await server.serve({"work": work}, threads=True)
    calling = asyncio.create_task(call(caller, "app.server.work"))
    assert await asyncio.to_thread(began.wait, 60)
    calling.cancel()
    assert await asyncio.to_thread(ended.wait, 60)
    await until(lambda: server.servers[0].stats["work"].cancelled == 1)


async def test_deadlines_are_inherited(members, server, caller):
    """A nested call has at most the time that its caller's caller waits."""
    between = await members.join("between")
    left: list[float] = []

    async def outer() -> float:
        who = fabric_nb.caller()
        assert who is not None
        left.append(who.remaining)
        return await between.call("app.server.work", timeout=600)

    async def work() -> float:
        who = fabric_nb.caller()
        assert who is not None
        return who.remaining

    await server.serve({"work": work})
    await between.serve({"outer": outer})
    inner = await caller.call("app.between.outer", timeout=60)
    assert 0 < inner <= left[0] <= 60
    assert await caller.call("app.between.outer", timeout=float("inf")) == pytest.approx(600, abs=1)
    assert left[1] == float("inf")


async def test_a_nested_call_without_time_is_not_made(members, server, caller):
    """A function whose caller does not wait any more cannot call; what it leaves running can."""
    between = await members.join("between")
    errors: list[BaseException] = []
    answers: list[int] = []

    async def outer() -> None:
        async def later() -> None:
            await until(lambda: errors)
            answers.append(await between.call("app.server.work"))

        tasks.append(asyncio.create_task(later()))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await between.call("app.server.work")
        except CallTimeout as error:
            errors.append(error)

    tasks: list[asyncio.Task[None]] = []
    await server.serve({"work": lambda: 5})
    await between.serve({"outer": outer})
    with pytest.raises(CallTimeout):
        await caller.call("app.between.outer", timeout=0.3)
    await until(lambda: errors)
    assert "has no time left" in str(errors[0])
    await until(lambda: answers == [5])


async def test_progress_of_a_map(server, caller):
    """The progress of a map includes that of its calls under way, once they take long."""
    go = asyncio.Event()

    async def work(n: int) -> int:
        fabric_nb.progress(1, 2)
        await go.wait()
        return n

    await server.serve({"work": work}, prefetch=4)
    handle = caller.map("app.server.work", [{"n": n} for n in range(4)])
    await until(lambda: handle.progress.fraction == 0.5)
    assert (handle.progress.done, handle.progress.under_way) == (0, 2.0)
    go.set()
    await handle
    assert (handle.progress.fraction, handle.progress.under_way) == (1.0, 0.0)
