"""Blocking calls: queued cells, interrupts, and calls from any kind of code."""

from __future__ import annotations

import asyncio

import ipykernel
import pytest

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, SlowCall, call, state_of, until
from tests.support.cells import Cell
from tests.support.peers import Peer


async def test_cells_queued_behind_a_waiting_call_all_run(notebook: Notebook, calc: Peer) -> None:
    """Run All: cells that are queued during a call are run afterwards, all and in order."""
    await notebook.run("order = []")
    slow = SlowCall(calc, 1)
    waiting = notebook.execute_no_wait(f"%fabric_call {slow.line}\norder.append('call')")
    await slow.began()
    queued = [
        notebook.execute_no_wait(code)
        for code in (
            "order.append(1)",
            "%fabric_call calc1.slow seconds=0.1\norder.append(2)",
            "await fabric.call('calc1.slow', seconds=0.1); order.append(3)",
            "order.append(4)",
            "order",
        )
    ]
    await queued[-1].wait()
    assert [cell.status for cell in (waiting, *queued)] == ["ok"] * 6
    assert queued[-1].text == "['call', 1, 2, 3, 4]"


async def interrupted(notebook: Notebook, calc: Peer, code: str) -> Cell:
    """Run a cell with the call SLOW, and interrupt it."""
    slow = SlowCall(calc, 1.2)
    cell = notebook.execute_no_wait(code.replace("SLOW", slow.line))
    await slow.began()
    await notebook.interrupt()
    await cell.wait(5)
    assert cell.error is not None, cell
    assert cell.error.name == "KeyboardInterrupt", cell.error
    return cell


async def test_interrupt_cancels_only_the_call(
    notebook: Notebook, calc: Peer, caller: Peer, watcher: AmqBrokerConnector
) -> None:
    """The interrupt button cancels the waiting call; background work continues."""
    own = (await notebook.value("fabric.name.id")).strip("'")
    await notebook.run("s = %fabric_stream kind=interrupt")
    await notebook.run(
        "import asyncio, itertools\n"
        "beats = 0\n"
        "async def beat():\n"
        "    global beats\n"
        "    while True:\n"
        "        beats += 1\n"
        "        await asyncio.sleep(0.01)\n"
        "beating = asyncio.ensure_future(beat())"
    )
    await notebook.run("%%fabric_serve\ndef still_here(): return 'yes'")
    tasks = "sorted(t.get_name() for t in asyncio.all_tasks() if 'fabric' in t.get_name() "
    tasks += "or ':' in t.get_name())"
    before = await notebook.value(tasks)

    for code in (
        "%fabric_call SLOW",
        "x = 1\ny = %fabric_call SLOW",
        "await asyncio.sleep(0)\n%fabric_call SLOW",
        "def f():\n    return get_ipython().run_line_magic('fabric_call', 'SLOW')\nf()",
    ):
        await interrupted(notebook, calc, code)
        assert await notebook.value("%fabric_call calc1.multiply x=2 y=3") == "6"

    # The service runs one `slow` at a time, so that all late replies have arrived after this one.
    assert await notebook.value("%fabric_call calc1.slow seconds=0") == str(calc.pid)
    assert await notebook.value(tasks) == before
    assert await notebook.value("beating.done()") == "False"
    assert await call(caller, own, "still_here") == "yes"
    await watcher.publish_data({"n": 1}, {"kind": "interrupt"})
    assert await notebook.value("await s.wait(timeout=60); len(s.df)") == "1"
    await until(watcher, lambda: state_of(watcher, own) == "up")
    await notebook.run("beating.cancel()\n%fabric_stop s")


async def test_interrupt_of_an_await_cell(notebook: Notebook, calc: Peer) -> None:
    """Interrupting `await fabric.call(...)` cancels the cell, and says so; later calls work."""
    slow = SlowCall(calc, 1.2)
    cell = notebook.execute_no_wait(f"await fabric.call('calc1.slow', seconds={slow.seconds})")
    await slow.began()
    await notebook.interrupt()
    await cell.wait(5)
    assert cell.status == "error"
    assert cell.error is not None
    said, line = cell.error.traceback.splitlines()
    assert said.startswith(
        "CancelledError: my_project.calc.calc1.slow was cancelled, and it is not known whether it"
        " was stopped: plain functions on an event loop, and services on amqp-fabric, run"
    )
    assert line.startswith("  cell, line 1, in ")
    assert await notebook.value("%fabric_call calc1.multiply x=2 y=3") == "6"


async def test_second_interrupt_works_as_the_first(notebook: Notebook, calc: Peer) -> None:
    """After an interrupted call other cells can be interrupted too."""
    await interrupted(notebook, calc, "%fabric_call SLOW")
    cell = notebook.execute_no_wait("import time; print('on'); time.sleep(60)")
    await cell.until(lambda cell: cell.stdout)
    await notebook.interrupt()
    await cell.wait(5)
    assert cell.error is not None
    assert cell.error.name == "KeyboardInterrupt"


async def test_served_function_may_call(notebook: Notebook, caller: Peer) -> None:
    """Served functions can make calls: with a magic in a plain one, with await in an async one."""
    await notebook.run(
        "%%fabric_serve --id relay\n"
        "def twice(x):\n"
        "    y = %fabric_call calc1.multiply x=x y=2\n"
        "    return y\n"
        "def by_shell(x):\n"
        "    return get_ipython().run_line_magic('fabric_call', f'calc1.multiply x={x} y=2')\n"
        "async def thrice(x):\n"
        "    return await fabric.call('calc1.multiply', x=x, y=3)\n"
        "async def both(x):\n"
        "    two = await fabric.call('relay.twice', x=x)\n"
        "    return two + await fabric.call('relay.thrice', x=x)\n"
        "def nested(x):\n"
        "    y = %fabric_call relay.twice x=x\n"
        "    return y + 1\n"
    )
    assert await call(caller, "relay", "twice", x=5) == 10
    assert await call(caller, "relay", "by_shell", x=5) == 10
    assert await call(caller, "relay", "thrice", x=5) == 15
    assert await call(caller, "relay", "both", x=5) == 25
    assert await call(caller, "relay", "nested", x=5) == 11
    # While a cell waits for them, and concurrently.
    assert await notebook.value("%fabric_call relay.nested x=1") == "3"
    methods = ("twice", "nested", "both")
    many = await asyncio.gather(
        *(call(caller, "relay", method, x=x) for x in range(10) for method in methods)
    )
    assert many == [value for x in range(10) for value in (2 * x, 2 * x + 1, 5 * x)]
    await notebook.run("%fabric_stop relay")


async def test_functions_served_in_threads_call_others(notebook: Notebook, caller: Peer) -> None:
    """Functions served in threads can make calls too."""
    await notebook.run(
        "%%fabric_serve --id threads --thread --prefetch 2\n"
        "def twice(x):\n"
        "    y = %fabric_call calc1.multiply x=x y=2\n"
        "    return y\n"
        "def later(x):\n"
        "    handle = %fabric_call -a threads.twice x=x\n"
        "    return handle.result(timeout=60)\n"
    )
    methods = ("twice", "later")
    many = await asyncio.gather(
        *(call(caller, "threads", method, x=x) for x in range(5) for method in methods)
    )
    assert many == [2 * x for x in range(5) for _ in methods]
    await notebook.run("%fabric_stop threads")


async def test_many_served_functions_wait_at_once(notebook: Notebook, caller: Peer) -> None:
    """Served functions that wait for calls do not block each other (`--prefetch`)."""
    await notebook.run(
        "%%fabric_serve --id crowd --prefetch 5\n"
        "def wait(i):\n"
        "    y = %fabric_call calc1.multiply x=i y=10\n"
        "    return y\n"
        "together = asyncio.Barrier(5)\n"
        "async def pause(i):\n"
        "    await together.wait()\n"
        "    return i"
    )
    assert await asyncio.gather(*(call(caller, "crowd", "wait", i=i) for i in range(20))) == [
        10 * i for i in range(20)
    ]
    assert await asyncio.gather(*(call(caller, "crowd", "pause", i=i) for i in range(5))) == [
        0,
        1,
        2,
        3,
        4,
    ]
    await notebook.run("%fabric_stop crowd")


@pytest.mark.skipif(
    ipykernel.version_info < (7,), reason="ipykernel 6 handles no message while a cell awaits"
)
async def test_widget_callback_may_call(notebook: Notebook) -> None:
    """A widget's callback can make a call, while the kernel is idle and while a cell awaits."""
    cell = await notebook.run(
        "import ipywidgets\n"
        "def clicked(button):\n"
        "    y = %fabric_call calc1.multiply x=6 y=7\n"
        "    print(y); answers.append(y)\n"
        "answers = []\n"
        "button = ipywidgets.Button(); button.on_click(clicked)\n"
        "button.model_id"
    )
    model = cell.text.strip("'")
    click = {"method": "custom", "content": {"event": "click"}}
    assert (await notebook.send_comm(model, click).wait()).stdout == "42\n"

    await notebook.run("async def some(n):\n    while len(answers) < n: await asyncio.sleep(0.01)")
    waiting = notebook.execute_no_wait("await some(3)")
    clicks = [notebook.send_comm(model, click) for _ in range(2)]
    await waiting.wait()
    assert waiting.status == "ok"
    for one in clicks:
        await one.until(lambda one: one.stdout == "42\n")


async def test_widget_click_during_a_waiting_call_is_not_lost(
    notebook: Notebook, calc: Peer
) -> None:
    """A click during a blocking call is handled, after the cell at the latest."""
    cell = await notebook.run(
        "import ipywidgets\n"
        "clicks = []\n"
        "counter = ipywidgets.Button(); counter.on_click(lambda _: clicks.append(1))\n"
        "counter.model_id"
    )
    model = cell.text.strip("'")
    slow = SlowCall(calc, 0.7)
    waiting = notebook.execute_no_wait(f"%fabric_call {slow.line}")
    await slow.began()
    click = notebook.send_comm(model, {"method": "custom", "content": {"event": "click"}})
    await waiting.wait()
    await click.wait()
    assert await notebook.value("len(clicks)") == "1"


async def test_background_task_may_call(notebook: Notebook) -> None:
    """A task of the user that uses the magic or awaits continues while cells run."""
    await notebook.run(
        "async def work():\n"
        "    a = get_ipython().run_line_magic('fabric_call', 'calc1.multiply x=2 y=3')\n"
        "    return a, await fabric.call('calc1.multiply', x=3, y=3)\n"
        "tasks = [asyncio.ensure_future(work()) for _ in range(5)]"
    )
    assert await notebook.value("%fabric_call calc1.multiply x=1 y=1") == "1"
    assert await notebook.value("set(await asyncio.gather(*tasks))") == "{(6, 9)}"


@pytest.mark.parametrize(
    "waiting",
    [
        "with ThreadPoolExecutor(2) as pool:\n    list(pool.map(ask, range(4)))",
        "thread = threading.Thread(target=ask, args=(1,))\nthread.start()\nthread.join()",
        "threading.Thread(target=keep, args=(1,)).start()\nraise found.get()",
    ],
)
async def test_threads_that_the_cell_waits_for(notebook: Notebook, waiting: str) -> None:
    """Threads that wait for calls while their cell waits for them raise an error with advice."""
    await notebook.run(
        "import asyncio, queue, threading\nfound = queue.Queue()\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "raised = []\n"
        "def ask(n):\n"
        "    try:\n"
        "        return get_ipython().run_line_magic('fabric_call', f'calc1.echo value={n}')\n"
        "    except Exception as error:\n        raised.append(error)\n        raise\n"
        "def keep(n):\n"
        "    try:\n        ask(n)\n    except Exception as error:\n        found.put(error)"
    )
    await notebook.execute(waiting)
    assert await notebook.value("{type(one).__name__ for one in raised}") == "{'LoopBlocked'}"
    assert "await asyncio.to_thread" in await notebook.value("str(raised[0])")
    awaited = "await asyncio.gather(*(asyncio.to_thread(ask, n) for n in range(4)))"
    assert await notebook.value(awaited) == "[0, 1, 2, 3]"


async def test_interrupt_shows_the_users_lines(notebook: Notebook, calc: Peer) -> None:
    """The traceback of an interrupt has the user's own lines only."""
    for code, line in (
        ("%fabric_call {}", None),
        (
            "def ask():\n    return get_ipython().run_line_magic('fabric_call', '{}')\nask()",
            "ask()",
        ),
        ("h = %fabric_call -a {}\nh.result()", "h.result()"),
    ):
        cell = await interrupted(notebook, calc, code.replace("{}", "SLOW"))
        assert cell.error is not None
        assert cell.error.name == "KeyboardInterrupt"
        first, *lines = cell.error.traceback.splitlines()
        outcome = "continues" if "-a" in code else "was cancelled"
        assert first.startswith(f"KeyboardInterrupt: my_project.calc1.slow {outcome}")
        assert [one.strip() for one in lines] == (
            [] if line is None else [f"cell, line {len(code.splitlines())}, in <module>: {line}"]
        )
