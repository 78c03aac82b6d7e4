"""`%%fabric_serve` and `%fabric_stop`: a cell's functions as a service for amqp-fabric."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, call, error_text, state_of, until
from tests.support.peers import DOMAIN, Peer, PeerError, needs_amqp_fabric


async def test_cell_becomes_a_service(
    notebook: Notebook, caller: Peer, watcher: AmqBrokerConnector
) -> None:
    """A cell's functions can be called by other members, with its type, id and version."""
    cell = await notebook.run(
        "%%fabric_serve --type analytics --id mynb --version 1.2\n"
        "import asyncio\n"
        "word = !echo shell\n"
        "await asyncio.sleep(0)\n"
        "def mean(values: list) -> float:\n"
        "    'The mean of the values.'\n"
        "    return sum(values) / len(values)\n"
        "async def later(x, y=2): return x * y + offset\n"
        "def text(): return word[0]\n"
        "def _private(): return 1\n"
        "offset = 100"
    )
    (view,) = cell.displays
    for shown in (view.text, view.html):
        for fact in (
            "analytics.mynb",
            "version 1.2",
            "serving",
            "mean(values: list)",
            "later(x, y=2)",
        ):
            assert fact in shown.replace("&gt;", ">")
        assert "_private" not in shown
    assert await call(caller, "analytics.mynb", "mean", values=[1, 2, 6]) == 3
    assert await call(caller, "analytics.mynb", "later", x=5) == 110
    assert await call(caller, "analytics.mynb", "text") == "shell"
    assert await call(caller, "analytics.mynb", "health_check") is True
    # The functions run in the notebook's namespace.
    await notebook.run("offset = 200")
    assert await call(caller, "analytics.mynb", "later", x=5) == 210
    assert await notebook.value("mean([2, 4])") == "3.0"

    await until(watcher, lambda: state_of(watcher, "mynb", "analytics") == "up")
    service = watcher.registry.find("analytics.mynb", domain=DOMAIN)[0]
    assert service.versions(watcher.registry.now) == ["1.2"]
    assert service.methods["mean"] == "(values: list) -> float"
    assert "_private" not in service.methods
    described = await watcher.service("analytics.mynb").load()
    assert described.mean.__doc__ == "The mean of the values."

    # The row of each method has calls, errors and durations.
    with pytest.raises(PeerError):
        await call(caller, "analytics.mynb", "mean", values=[])
    await cell.until(lambda cell: "division by zero" in cell.displays[0].text)
    (line,) = [row for row in cell.displays[0].text.splitlines() if row.startswith("mean(")]
    assert line.split()[4:7] == ["2", "1", "0"]  # calls, errors, running
    assert "ZeroDivisionError" in line

    stopped = await notebook.run("%fabric_stop mynb")
    assert stopped.stdout == f"Stopped {DOMAIN}.analytics.mynb\n"
    assert "stopped" in cell.displays[0].text
    await until(watcher, lambda: state_of(watcher, "mynb", "analytics") == "gone")


async def test_notebook_s_own_name_is_the_default(notebook: Notebook, caller: Peer) -> None:
    """Without --type and --id the service has the notebook's own name."""
    own = (await notebook.value("fabric.name.id")).strip("'")
    await notebook.run("%%fabric_serve\ndef hello(): return 'hi'")
    assert await call(caller, own, "hello") == "hi"
    await notebook.run(f"%fabric_stop notebook.{own}")


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        ("", ["one", "two"], ["_three"]),
        ("--only two", ["two"], ["one", "_three"]),
        ("--only 'one, two'", ["one", "two"], ["_three"]),
        ("--only elsewhere,one", ["elsewhere", "one"], ["two"]),
    ],
)
async def test_only_named_functions_are_served(
    notebook: Notebook,
    watcher: AmqBrokerConnector,
    options: str,
    there: list[str],
    not_there: list[str],
) -> None:
    """`--only` selects functions; names with an underscore are never served."""
    name = f"only-{'-'.join(there)}-{len(options)}"
    await notebook.run("elsewhere = lambda: 'elsewhere'")
    await notebook.run(
        f"%%fabric_serve --id {name} {options}\n"
        "def one(): return 'one'\n"
        "def two(): return 'two'\n"
        "def _three(): return 'three'"
    )
    await until(watcher, lambda: state_of(watcher, name) == "up")
    try:
        for method in there:
            assert await watcher.call(f"notebook.{name}.{method}") == method
        for method in not_there:
            with pytest.raises(AttributeError):
                await watcher.call(f"notebook.{name}.{method}")
    finally:
        await notebook.run(f"%fabric_stop {name}")


async def test_plain_functions_in_threads(notebook: Notebook, caller: Peer) -> None:
    """`--thread` runs plain functions in threads, so that cells and other calls continue."""
    await notebook.run(
        "%%fabric_serve --id threads --thread --prefetch 4\n"
        "import threading\n"
        "barrier = threading.Barrier(4, timeout=60)\n"
        "def meet(): return barrier.wait() >= 0 and threading.current_thread().name\n"
        "async def where(): return threading.current_thread().name"
    )
    names = await asyncio.gather(*(call(caller, "threads", "meet") for _ in range(4)))
    assert len(set(names)) == 4
    assert "MainThread" not in names
    assert await call(caller, "threads", "where") == "MainThread"
    # Running the cell again without the option runs them on the loop again.
    await notebook.run(
        "%%fabric_serve --id threads --prefetch 4\n"
        "def meet(): return threading.current_thread().name"
    )
    assert await call(caller, "threads", "meet") == "MainThread"
    await notebook.run("%fabric_stop threads")


async def test_prefetch_is_the_number_of_concurrent_calls(notebook: Notebook, caller: Peer) -> None:
    """One call of a method runs at a time by default, or as many as `--prefetch`."""
    cell = (
        "%%fabric_serve --id many OPTIONS\n"
        "running = most = 0\n"
        "async def work():\n"
        "    global running, most\n"
        "    running += 1; most = max(most, running)\n"
        "    await asyncio.sleep(0.02)\n"
        "    running -= 1\n"
    )
    for options, most in (("", 1), ("--prefetch 3", 3)):
        await notebook.run(cell.replace("OPTIONS", options))
        await asyncio.gather(*(call(caller, "many", "work") for _ in range(12)))
        assert await notebook.value("most") == str(most)
    await notebook.run("%fabric_stop many")


@contextlib.asynccontextmanager
async def callers(caller: Peer, target: str, method: str) -> AsyncIterator[list[object]]:
    """Call continuously, four at a time; no call may fail."""
    answers: list[object] = []
    going = True

    async def go() -> None:
        while going:
            answers.append(await call(caller, target, method))

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(go())
        yield answers
        going = False


async def some_more(answers: list[object], value: object) -> None:
    """Wait until twenty more replies are `value`."""
    target = answers.count(value) + 20
    async with asyncio.timeout(60):
        while answers.count(value) < target:  # noqa: ASYNC110 - the calls are the event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("options", ["", "--prefetch {version}"], ids=["same", "other prefetch"])
async def test_running_the_cell_again_loses_no_call(
    notebook: Notebook, caller: Peer, options: str
) -> None:
    """Running a serving cell again replaces the functions during calls, and all get replies."""

    def cell(version: int) -> str:
        return (
            f"%%fabric_serve --id swap --version {version} {options.format(version=version)}\n"
            f"async def which():\n    await asyncio.sleep(0.005)\n    return {version}\n"
            f"def extra{version}(): pass"
        )

    await notebook.run("import asyncio")
    await notebook.run(cell(1))
    async with callers(caller, "swap", "which") as answers:
        for version in range(1, 6):
            await notebook.run(cell(version))
            await some_more(answers, version)
    if not options:  # with another prefetch, queued calls run the former functions
        assert answers == sorted(answers, key=str)
    assert set(answers) == set(range(1, 6))
    assert await notebook.value("sorted(fabric.servers[-1].functions)") == (
        "['extra5', 'health_check', 'which']"
    )
    await notebook.run("%fabric_stop swap")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def which(): return 2\n1 / 0", "ZeroDivisionError"),
        ("def which(: return 2", "SyntaxError"),
        ("await asyncio.sleep(0)\ndef which(): return 2\nraise KeyError('x')", "KeyError"),
        ("which_else = 2", "NotServed"),
    ],
)
async def test_failing_cell_changes_nothing(
    notebook: Notebook, caller: Peer, code: str, error: str
) -> None:
    """A cell that fails when run again does not replace the served functions."""
    await notebook.run("import asyncio")
    good = await notebook.run("%%fabric_serve --id keep\ndef which(): return 1")
    bad = await notebook.execute(f"%%fabric_serve --id keep\n{code}")
    assert bad.error is not None
    assert bad.error.name == error
    if error != "SyntaxError":  # IPython shows how it came to compile a cell magic's text
        assert "fabric_nb" not in bad.error.traceback
        assert "asyncio" not in bad.error.traceback.replace("await asyncio.sleep(0)", "")
    assert bad.displays == []
    assert await call(caller, "keep", "which") == 1
    assert "serving" in good.displays[0].text
    await notebook.run("%fabric_stop keep")


async def test_error_of_a_cell_shows_the_cell_s_own_lines(notebook: Notebook) -> None:
    """An error of a serving cell is shown once, with the line of the cell."""
    bad = await notebook.execute("%%fabric_serve --id bad\ndef f():\n    return 1 / 0\nf()")
    assert bad.error is not None
    assert "return 1 / 0" in bad.error.traceback
    assert bad.error.traceback.count("ZeroDivisionError: division by zero") == 1
    assert len([output for output in bad.outputs if output.kind == "error"]) == 1


RAISING = (
    "%%fabric_serve --id raising --prefetch 2 OPTIONS\n"
    "import sys\n"
    "def value_error(x): raise ValueError('wrong', x)\n"
    "def leave(): sys.exit(3)\n"
    "def interrupt(): raise KeyboardInterrupt\n"
    "def cancelled(): raise asyncio.CancelledError\n"
    "async def leave_later(): await asyncio.sleep(0); raise SystemExit\n"
    "async def interrupt_later(): await asyncio.sleep(0); raise KeyboardInterrupt\n"
    "async def cancel_later(): await asyncio.sleep(0); raise asyncio.CancelledError\n"
    "async def cancel_itself():\n"
    "    asyncio.current_task().cancel(); await asyncio.sleep(1)\n"
    "def strange(): return object()\n"
    "def fine(): return 'fine'"
)


@needs_amqp_fabric
@pytest.mark.parametrize("options", ["", "--thread"])
async def test_no_error_of_a_function_stops_the_service(
    notebook: Notebook, caller: Peer, options: str
) -> None:
    """Any error of a function is sent to the caller and shown; service and kernel continue."""
    cell = await notebook.run(RAISING.replace("OPTIONS", options))
    with pytest.raises(PeerError) as raised:
        await call(caller, "raising", "value_error", x=7)
    assert raised.value.type == "builtins.ValueError"
    assert raised.value.arguments == ["ValueError('wrong', 7)", ["wrong", 7]]
    await cell.until(lambda cell: "Last failure: value_error(x=7)" in cell.displays[0].text)
    shown = cell.displays[0].text
    assert "raise ValueError('wrong', x)" in shown
    assert "fabric_nb/" not in shown

    for method, name in (
        ("leave", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("cancelled", "CancelledError"),
        ("leave_later", "SystemExit"),
        ("interrupt_later", "KeyboardInterrupt"),
        ("cancel_later", "CancelledError"),
        ("strange", "NotSerializable"),
    ):
        for _ in range(3):
            with pytest.raises(PeerError):
                await call(caller, "raising", method)
        await cell.until(lambda cell, name=name: name in cell.displays[0].text)  # type: ignore[misc]
        assert await call(caller, "raising", "fine") == "fine"
    assert await notebook.value("%fabric_call notebook.raising.fine") == "'fine'"
    await notebook.run("%fabric_stop raising")


async def test_function_that_cancels_its_task(notebook: Notebook, caller: Peer) -> None:
    """A function that cancels its own task returns an error, and can be called again."""
    await notebook.run(RAISING.replace("OPTIONS", ""))
    for _ in range(3):
        with pytest.raises(PeerError):
            await call(caller, "raising", "cancel_itself")
    assert await call(caller, "raising", "fine") == "fine"
    await notebook.run("%fabric_stop raising")


async def test_stopping_waits_for_running_calls(notebook: Notebook, caller: Peer) -> None:
    """`%fabric_stop` waits a short time for running calls."""
    await notebook.run(
        "%%fabric_serve --id stopping\n"
        "import asyncio\n"
        "begun = asyncio.Event()\n"
        "async def slow(): begun.set(); await asyncio.sleep(0.5); return 'done'"
    )
    calling = asyncio.create_task(call(caller, "stopping", "slow"))
    await notebook.run("await begun.wait()")
    await notebook.run("%fabric_stop stopping")
    assert await calling == "done"


async def test_note_on_callables_that_are_not_served(notebook: Notebook, caller: Peer) -> None:
    """Functions of any `def` are served, other callables if named; a note lists the others."""
    cell = (
        "import functools, math\n"
        "if True:\n    def plain(n): return n\n"
        "try:\n    import nothing_at_all\n"
        "except ImportError:\n    async def tried(n): return n + 1\n"
        "class Scale:\n    def __call__(self, n): return 10 * n\n"
        "double, scale = (lambda n: 2 * n), Scale()\n"
        "power = functools.partial(pow, 2)\n"
        "_hidden, count, kind = (lambda: 1), 5, Scale"
    )
    shown = await notebook.run(f"%%fabric_serve --id left\n{cell}")
    text = shown.displays[-1].text
    assert "plain(n)" in text
    assert "tried(n)" in text
    assert "Not served, because `def` does not define it: `double`, `scale`, `power`." in text
    assert [await call(caller, "left", name, n=3) for name in ("plain", "tried")] == [3, 4]
    shown = await notebook.run(f"%%fabric_serve --id left --only double,scale,plain\n{cell}")
    assert "Not served" not in shown.displays[-1].text
    assert [await call(caller, "left", name, n=3) for name in ("plain", "double", "scale")] == [
        3,
        6,
        30,
    ]
    shown = await notebook.run("%%fabric_serve --id left --only size,plain\nsize = len")
    assert "calls pass arguments by name: `size`. Serve a `def`" in shown.displays[-1].text
    nothing = await notebook.execute("%%fabric_serve --id left\ndouble = lambda n: 2 * n")
    assert "or name others, as in --only double." in error_text(nothing, "NotServed")
    await notebook.run("%fabric_stop left")


async def test_stopping_an_unknown_service(notebook: Notebook) -> None:
    """Stopping an unknown name is an error that lists the services."""
    await notebook.run("%%fabric_serve --id there\ndef f(): pass")
    assert "it serves notebook.there" in error_text(
        await notebook.execute("%fabric_stop nix"), "NotServed"
    )
    await notebook.run("%fabric_stop notebook.there")
    assert "it serves nothing" in error_text(
        await notebook.execute("%fabric_stop there"), "NotServed"
    )
