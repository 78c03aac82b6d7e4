"""Running calls under their cell: queue, instance, progress, output and cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

import fabric_nb
from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, SlowCall, error_text, shown_error
from tests.support.fabric import until, wait_for_service
from tests.support.peers import Peer

if TYPE_CHECKING:
    from fabric_nb import Server
    from tests.notebook.notebooks import StartPeer
    from tests.support.cells import Cell


class Work:
    """Methods that run until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.thread_gate = threading.Event()
        self.running = 0

    async def train(self, fail: bool = False) -> str:
        self.running += 1
        fabric_nb.progress(30, 120, "training")
        for number in range(30):
            print("line", number)
        await self.gate.wait()
        self.gate.clear()
        self.running -= 1
        if fail:
            raise ValueError("it failed")
        return "trained"

    async def silent(self) -> str:
        await self.gate.wait()
        self.gate.clear()
        return "done"

    def fail(self) -> None:
        print("about to fail")
        raise ValueError("it failed")

    def in_thread(self) -> None:
        self.running += 1
        self.thread_gate.wait(60)
        self.running -= 1


@pytest.fixture(scope="module")
def work() -> Work:
    return Work()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(watcher: AmqBrokerConnector, work: Work) -> AsyncIterator[Server]:
    """Serve `pricing.p1` and, in threads, `pricing.p2`, on fabric_nb."""
    functions = {"train": work.train, "silent": work.silent, "fail": work.fail}
    server = await watcher.serve(functions, type="pricing", id="p1")
    threads = await watcher.serve({"block": work.in_thread}, type="pricing", id="p2", threads=True)
    yield server
    work.thread_gate.set()
    await threads.close(10)
    await server.close()


def shown(cell: Cell) -> str:
    return "\n".join(output.text for output in cell.displays)


async def test_progress_of_a_call(
    notebook: Notebook, server: Server, work: Work, watcher: AmqBrokerConnector
) -> None:
    """A call that reports progress has a bar, with its work, percentage and instance."""
    cell = notebook.execute_no_wait("%fabric_call pricing.p1.train --progress-after 0.1")
    await cell.until(lambda cell: "30 of 120" in shown(cell))
    assert "my_project.pricing.p1.train · p1 is up · training · 30 of 120 · 25 %" in shown(cell)
    assert f"on p1 {watcher.instance}" in shown(cell)
    assert 'value="0.250"' in cell.displays[0].html
    work.gate.set()
    await cell.wait()
    assert cell.text == "'trained'"
    assert not shown(cell).strip()


async def test_a_running_and_a_queued_call(
    notebook: Notebook, server: Server, work: Work, watcher: AmqBrokerConnector
) -> None:
    """A call shows where it runs, and a queued one how many calls are ahead."""
    await notebook.run("first = %fabric_call -a pricing.p1.silent")
    await until(lambda: server.stats["silent"].running == 1)
    await notebook.run("second = %fabric_call -a pricing.p1.silent --timeout 60")
    cell = notebook.execute_no_wait("%fabric_call pricing.p1.silent --progress-after 0.1")
    await cell.until(lambda cell: "waiting for a free instance, 1 call ahead" in shown(cell))
    for _ in range(2):
        work.gate.set()
        await until(lambda: not work.gate.is_set())
    await cell.until(lambda cell: f"running on p1 {watcher.instance} for " in shown(cell))
    work.gate.set()
    await cell.wait()
    assert cell.text == "'done'"
    assert await notebook.value("await first, second.report.instance == first.report.instance") == (
        "('done', True)"
    )


async def test_output_of_a_long_call(notebook: Notebook, server: Server, work: Work) -> None:
    """After two seconds the last lines are shown, and afterwards all remain under the cell."""
    cell = notebook.execute_no_wait("x = %fabric_call pricing.p1.train")
    await cell.until(lambda cell: "30 lines" in shown(cell))
    lines = shown(cell).splitlines()
    assert lines[-20:] == [f"line {number}" for number in range(10, 30)]
    work.gate.set()
    await cell.wait()
    assert "Output of my_project.pricing.p1.train · 30 lines" in shown(cell)
    assert "line 0" in shown(cell)
    assert "<details>" in cell.displays[0].html


async def test_output_that_is_asked_for(notebook: Notebook, server: Server, work: Work) -> None:
    """`--output` shows the output of a short call too, and `--no-output` never."""
    work.gate.set()
    cell = await notebook.run("%fabric_call pricing.p1.train --output")
    assert "Output of my_project.pricing.p1.train · 30 lines" in shown(cell)
    assert cell.text.endswith("'trained'")
    work.gate.set()
    cell = await notebook.run("%fabric_call pricing.p1.train")
    assert not cell.displays
    cell = notebook.execute_no_wait("%fabric_call pricing.p1.train --no-output")
    await cell.until(lambda cell: "30 of 120" in shown(cell))
    work.gate.set()
    await cell.wait()
    assert not shown(cell).strip()
    assert "line 0" not in repr(cell.messages)
    refused = await notebook.execute("%fabric_call pricing.p1.train --stream --output")
    assert "are not for --stream" in error_text(refused)


async def test_output_of_a_failed_call(notebook: Notebook, server: Server, work: Work) -> None:
    """The last twenty lines stand under the error, however short the call is."""
    cell = await notebook.execute("%fabric_call pricing.p1.fail")
    error = shown_error(cell, "RemoteValueError")
    assert error.rstrip().endswith("Output of the call:\n  about to fail")
    work.gate.set()
    cell = await notebook.execute("h = %fabric_call -a pricing.p1.train fail=True\nh.result()")
    lines = shown_error(cell, "RemoteValueError").rstrip().splitlines()
    assert lines[-21:] == ["Output of the call:", *(f"  line {n}" for n in range(10, 30))]


async def interrupted(
    notebook: Notebook,
    line: str,
    began: Callable[[], Awaitable[None]],
    *,
    error: str = "KeyboardInterrupt",
    displays: bool = True,
) -> str:
    """Interrupt a cell with a call that has begun, and return the sentence that is shown."""
    cell = notebook.execute_no_wait(line)
    await began()
    if displays:
        await cell.until(lambda cell: cell.displays)
    await notebook.interrupt()
    await cell.wait()
    assert not shown(cell).strip()
    return shown_error(cell, error).splitlines()[0]


async def test_an_interrupted_call_is_stopped(
    notebook: Notebook, server: Server, work: Work, watcher: AmqBrokerConnector
) -> None:
    """Interrupting a cell cancels the call at its service, and says so."""
    cancelled = server.stats["silent"].cancelled
    stats = server.stats["silent"]
    sentence = await interrupted(
        notebook,
        "%fabric_call pricing.p1.silent --progress-after 0",
        lambda: until(lambda: stats.running == 1),
    )
    assert sentence == (
        "KeyboardInterrupt: my_project.pricing.p1.silent was cancelled: it was stopped."
    ) or sentence.endswith(f"it was stopped on p1 {watcher.instance}.")
    await until(lambda: stats.cancelled == cancelled + 1)


async def test_an_interrupted_call_that_runs_on(
    notebook: Notebook, server: Server, work: Work, watcher: AmqBrokerConnector
) -> None:
    """A function in a thread runs on, and the sentence says so."""
    sentence = await interrupted(
        notebook,
        "%fabric_call pricing.p2.block --progress-after 0.3",
        lambda: until(lambda: work.running),
    )
    assert sentence.endswith(
        f"but it runs on in a thread of p2 {watcher.instance}, which cannot be stopped."
    )
    work.thread_gate.set()
    await until(lambda: not work.running)
    work.thread_gate.clear()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("await fabric.call('{}')", "CancelledError"),
        ("x = [await fabric.call('{}') for _ in range(2)]", "CancelledError"),
        ("await asyncio.gather(fabric.call('{}'))", "CancelledError"),
        ("fabric.service('{0[0]}').{0[1]}.sync()", "KeyboardInterrupt"),
    ],
    ids=["awaited", "in a comprehension", "gathered", "sync"],
)
async def test_an_interrupted_call_of_python_code(
    notebook: Notebook, server: Server, work: Work, code: str, error: str
) -> None:
    """An interrupted `await fabric.call(...)` says, as a magic does, whether the call runs on."""
    await notebook.run("import asyncio")
    stats = server.stats["silent"]

    async def line(call: str, began: Callable[[], Awaitable[None]]) -> str:
        target = call.rsplit(".", 1) if "{0" in code else call
        return await interrupted(notebook, code.format(target), began, error=error, displays=False)

    said = await line("pricing.p1.silent", lambda: until(lambda: stats.running == 1))
    assert said.startswith(f"{error}: my_project.pricing.p1.silent was cancelled: it was stopped")
    said = await line("pricing.p2.block", lambda: until(lambda: work.running))
    assert "pricing.p2.block was cancelled, but it runs on in a thread" in said
    work.thread_gate.set()
    await until(lambda: not work.running)
    work.thread_gate.clear()


@pytest.mark.parametrize("method", ["steps", "block"])
async def test_a_cancelled_call_of_a_plain_function(
    notebook: Notebook, watcher: AmqBrokerConnector, method: str
) -> None:
    """A plain function on a notebook's loop is still running, also if it reports nothing."""
    await notebook.run(
        "%%fabric_serve --id plain\nimport time, fabric_nb\n"
        "def steps():\n    for _ in fabric_nb.track(range(20), 'steps'):\n        time.sleep(0.1)\n"
        "def block():\n    time.sleep(2)"
    )
    handle = watcher.start(f"my_project.notebook.plain.{method}")
    await until(lambda: handle.report.began is not None)
    assert await handle.stop() is None
    assert handle.cancellation == (
        f"my_project.notebook.plain.{method} was cancelled, but is still running on plain"
        f" {handle.report.instance}: a plain function on an event loop runs to its end."
    )
    await notebook.run("%fabric_stop plain")


async def test_an_interrupted_call_that_blocks_its_service(
    notebook: Notebook, start_peer: StartPeer, uri: str, watcher: AmqBrokerConnector
) -> None:
    """The message on an interrupted call whose function blocks its process says "still running"."""
    peer = await start_peer("fabric_calc", uri, id="blocked", keep_alive=0.5)
    (instance,) = (await wait_for_service(watcher, "blocked")).instances
    call = "calc.blocked.block"

    async def began() -> None:
        await peer.event("block_began")

    sentence = await interrupted(notebook, f"%fabric_call {call} seconds=3", began, displays=False)
    assert sentence.endswith(
        f"was cancelled, but is still running on blocked {instance}: a plain function on an event"
        " loop runs to its end."
    )
    assert await notebook.value("%fabric_call calc.blocked.multiply x=2 y=3") == "6"
    await notebook.run(
        "import asyncio\n"
        "async def polled(polls):\n"
        "    while fabric.member.rpc.requester.liveness.polls < polls:\n"
        "        await asyncio.sleep(0.05)\n"
        "    print('polled')"
    )
    cell = notebook.execute_no_wait(
        "polling = asyncio.create_task(polled(fabric.member.rpc.requester.liveness.polls + 3))\n"
        f"await fabric.call('{call}', seconds=5)"
    )
    await cell.until(lambda cell: "polled" in cell.stdout)
    await notebook.interrupt()
    await cell.wait()
    said = shown_error(cell, "CancelledError").splitlines()[0]
    assert "was cancelled, but is still running as far as is known, because blocked" in said
    assert f"blocked {instance} has not answered for " in said


async def test_a_call_that_continues_after_its_timeout(
    notebook: Notebook, server: Server, work: Work, watcher: AmqBrokerConnector
) -> None:
    """With `--no-cancel`, calls and the rows of a map continue after the timeout, which says so."""
    continues = f"the call continues on p1 {watcher.instance}."
    calls = server.stats["silent"].calls
    line = "%fabric_call pricing.p1.silent --timeout 0.5 --no-cancel"
    assert continues in error_text(await notebook.execute(line), "CallTimeout")
    work.gate.set()
    await until(lambda: server.stats["silent"].calls == calls + 1)
    line = "rows = %fabric_map pricing.p1.silent [{}] --timeout 0.5 --no-cancel\nrows.error[0]"
    assert continues in (await notebook.run(line)).text
    work.gate.set()
    await until(lambda: server.stats["silent"].calls == calls + 2)
    refused = await notebook.execute("%fabric_call pricing.p1.silent --stream --no-cancel")
    assert "--no-cancel is not for --stream" in error_text(refused)


async def test_an_interrupted_wait_for_a_handle(
    notebook: Notebook, server: Server, work: Work
) -> None:
    """A call with a handle continues if the cell that waits for it is interrupted, and says so."""
    await notebook.run("h = %fabric_call -a pricing.p1.silent")
    for line, error in (("await h", "CancelledError"), ("h.result()", "KeyboardInterrupt")):
        cell = notebook.execute_no_wait(f"print('waits')\n{line}")
        await cell.until(lambda cell: "waits" in cell.stdout)
        await notebook.interrupt()
        await cell.wait()
        said = shown_error(cell, error).splitlines()[0]
        assert said == (
            f"{error}: my_project.pricing.p1.silent continues; its handle's cancel() cancels it."
        )
    work.gate.set()
    assert await notebook.value("await h") == "'done'"


async def test_an_interrupted_call_of_amqp_fabric(notebook: Notebook, calc: Peer) -> None:
    """Of a call to amqp-fabric it is not known whether it was stopped."""
    await notebook.run("%fabric_call calc1.slow seconds=0")  # earlier calls are not ahead
    slow = SlowCall(calc, 1)
    line = f"%fabric_call {slow.line} --progress-after 0"
    sentence = await interrupted(notebook, line, slow.began)
    assert "it is not known whether it was stopped" in sentence


async def test_a_call_that_its_handle_cancels(
    notebook: Notebook, server: Server, work: Work
) -> None:
    """`handle.cancel()` says under its cell what became of the call, in the background."""
    await notebook.run("h = %fabric_call -a pricing.p1.silent")
    await until(lambda: server.stats["silent"].running == 1)
    cell = await notebook.run("h.cancel()")
    assert cell.text.endswith("True")
    await cell.until(lambda cell: "was cancelled: it was stopped" in shown(cell))
    assert await notebook.value("h") != ""
    cell = await notebook.run("h.cancel()")
    assert not cell.displays


async def test_progress_of_several_handles(notebook: Notebook, server: Server, work: Work) -> None:
    """A handle has the progress of its call; the bar of several calls is their sum."""
    await notebook.run(
        "a = %fabric_call -a pricing.p1.train\nb = %fabric_call -a calc1.echo value=1"
    )
    cell = notebook.execute_no_wait("%fabric_result a b")
    await cell.until(lambda cell: "1 of 2 calls · 62 %" in shown(cell))
    work.gate.set()
    await cell.wait()
    assert cell.text.endswith("['trained', 1]")
    assert await notebook.value("a.progress") == (
        "Progress(done=30.0, total=120.0, text='training')"
    )
    assert await notebook.value("len(a.report.lines), a.report.omitted") == "(30, 0)"


async def test_output_can_be_switched_off(notebook: Notebook, server: Server, work: Work) -> None:
    """With `%config FabricMagics.show_output = False`, no call asks for its output."""
    await notebook.run("%config FabricMagics.show_output = False")
    try:
        cell = await notebook.execute("%fabric_call pricing.p1.fail")
        assert "about to fail" not in shown_error(cell, "RemoteValueError")
    finally:
        await notebook.run("%config FabricMagics.show_output = True")
