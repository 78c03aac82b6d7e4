"""Tests of the test support: RabbitMQ nodes, peers and kernels."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aio_pika
import aiormq
import psutil
import pytest

import tests
from tests.support import rabbitmq_supervisor
from tests.support.kernels import KernelDied, KernelTimeout
from tests.support.peers import PeerGone
from tests.support.rabbitmq import RabbitMq, RabbitMqError

REPOSITORY = Path(tests.__file__).parent.parent

# RabbitMQ


def _closing(connection: aio_pika.abc.AbstractConnection) -> asyncio.Future[BaseException | None]:
    """Return a future of the reason of the connection's close."""
    closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    connection.close_callbacks.add(
        lambda _, reason=None: None if closed.done() else closed.set_result(reason)
    )
    return closed


def test_node_ends_with_its_killed_owner():
    """A node whose owner is killed ends with its port mapper, and its data is removed."""
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.support.rabbitmq"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with owner:
        assert owner.stdout.readline().startswith("amqp://")
        [supervisor] = psutil.Process(owner.pid).children()
        [home] = {Path(p.cwd()) for p in supervisor.children() if "beam" in p.name()}
        processes = [supervisor, *supervisor.children(recursive=True)]
        assert {"epmd", "beam.smp"} <= {p.name() for p in processes}

        owner.kill()
        _, alive = psutil.wait_procs(processes, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not home.exists()


async def test_killed_node_restarts_with_its_data(rabbitmq, vhost, rabbitmq_uri):
    """A node that is killed and restarted keeps its address, users and durable messages."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")
        # A node that is killed within moments of a declaration may not have written it yet.
        await asyncio.to_thread(rabbitmq.control, "eval", "catch mnesia:sync_log().")
        pid = rabbitmq.pid
        closed = _closing(connection)
        rabbitmq.kill()
        await asyncio.wait_for(closed, 60)

    with pytest.raises(ConnectionError):
        await aio_pika.connect(rabbitmq_uri)

    await asyncio.to_thread(rabbitmq.restart_node)
    assert rabbitmq.pid != pid
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("kept")
        assert (await queue.get(no_ack=True)).body == b"kept"


async def test_management_of_a_broker(rabbitmq, vhost, rabbitmq_uri):
    """Queues, exchanges, bindings and connections can be listed, and connections closed."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("x", aio_pika.ExchangeType.HEADERS)
        queue = await channel.declare_queue("q", durable=True, auto_delete=True)
        await queue.bind(exchange, arguments={"x-match": "all", "a": 1})
        await channel.default_exchange.publish(aio_pika.Message(b""), "q")

        [listed] = rabbitmq.list_queues(vhost)
        assert (listed["name"], listed["messages_ready"]) == ("q", 1)
        assert [e["name"] for e in rabbitmq.list_exchanges(vhost)] == ["x"]
        [binding] = rabbitmq.list_bindings(vhost)
        assert (binding["source"], binding["arguments"]["a"]) == ("x", 1)
        assert [c["vhost"] for c in rabbitmq.list_connections(vhost)] == [vhost]

        closed = _closing(connection)
        assert rabbitmq.close_connections(vhost) == 1
        assert "CONNECTION_FORCED" in str(await asyncio.wait_for(closed, 60))


async def test_user_has_only_the_given_permissions(rabbitmq, vhost):
    """A user with limited permissions can log in, and other operations are refused."""
    uri = rabbitmq.add_user("reader@home", "p:/@ß", vhost=vhost, configure="^$")
    async with await aio_pika.connect(uri) as connection:
        channel = await connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await channel.declare_queue("q", durable=True)


def test_missing_rabbitmq_is_reported(monkeypatch, tmp_path):
    """If RabbitMQ is not installed, the error says what to install."""
    monkeypatch.setenv("RABBITMQ_HOME", str(tmp_path))
    with pytest.raises(RabbitMqError, match="apt-get install rabbitmq-server"):
        RabbitMq.start()


def test_failed_start_of_a_node_is_reported(monkeypatch, tmp_path):
    """The error of a failed start contains exit code and log."""
    server = tmp_path / "sbin" / "rabbitmq-server"
    server.parent.mkdir()
    server.write_text("#!/bin/sh\necho no luck today\nexit 3\n")
    server.chmod(0o700)
    monkeypatch.setenv("RABBITMQ_HOME", str(tmp_path))
    with pytest.raises(RabbitMqError, match=r"ended with 3:\nno luck today"):
        RabbitMq.start()


def test_newest_rabbitmq_is_used():
    """The newest of several installed versions is used."""
    homes = [Path(f"/x/rabbitmq_server-{v}/sbin/rabbitmq-server") for v in ("3.9.27", "3.10.8")]
    assert max(homes, key=rabbitmq_supervisor.version_of) == homes[1]


# Peers


async def test_failed_start_of_a_peer_is_reported(start_peer):
    """The error of a failed start contains the output of the peer."""
    with pytest.raises(
        PeerGone, match=r"calc_service .* send `ready`[\s\S]*ConnectionRefusedError"
    ):
        await start_peer("calc_service", "amqp://127.0.0.1:1/", timeout=15)


async def test_killed_peer_ends_waits(start_peer, rabbitmq_uri):
    """Waiting for a killed peer fails immediately."""
    peer = await start_peer("listener", rabbitmq_uri)
    pending = asyncio.create_task(peer.event("never"))
    peer.kill()
    with pytest.raises(PeerGone, match="ended before it could send `never`"):
        await pending
    assert await peer.exited() == -signal.SIGKILL


# Kernels


async def test_cell_has_value_streams_and_displays(kernel):
    """The value, streams, displays and HTML of a cell are separate."""
    cell = await kernel.execute(
        "import sys\n"
        "from IPython.display import HTML, display\n"
        "print('out'); print('err', file=sys.stderr)\n"
        "handle = display(HTML('<b>1</b>'), display_id='d')\n"
        "6 * 7"
    )
    assert (cell.status, cell.text, cell.error) == ("ok", "42", None)
    assert (cell.stdout, cell.stderr, cell.html) == ("out\n", "err\n", "<b>1</b>")
    assert [d.display_id for d in cell.displays] == ["d"]

    update = await kernel.execute("handle.update(HTML('<b>2</b>'))")
    assert cell.html == "<b>2</b>"
    assert [m.parent_id for m in kernel.updates("d")] == [cell.id, update.id]


async def test_error_of_a_cell_aborts_queued_cells(kernel):
    """The error of a cell is readable, and queued cells are aborted."""
    failing, queued = kernel.execute_no_wait("1 / 0"), kernel.execute_no_wait("2")
    await queued.wait()
    assert failing.error is not None
    assert (failing.error.name, failing.error.value) == ("ZeroDivisionError", "division by zero")
    assert "1 / 0" in failing.error.traceback
    assert queued.status == "aborted"


async def test_output_of_background_tasks_belongs_to_their_cell(kernel):
    """Output of a task after the end of its cell belongs to that cell."""
    cell = await kernel.run(
        "import asyncio\n"
        "async def later():\n"
        "    await go.wait(); print('later')\n"
        "go = asyncio.Event(); task = asyncio.ensure_future(later())"
    )
    assert cell.stdout == ""
    other = await kernel.run("go.set(); await task")
    await cell.until(lambda cell: cell.stdout == "later\n")
    assert other.stdout == ""


async def test_interrupt_ends_a_cell(kernel):
    """An interrupt ends the running cell with KeyboardInterrupt."""
    cell = kernel.execute_no_wait("import time; print('on'); time.sleep(60)")
    await cell.until(lambda cell: cell.stdout)
    await kernel.interrupt()
    await cell.wait()
    assert cell.error is not None
    assert cell.error.name == "KeyboardInterrupt"


async def test_restart_creates_a_new_process(kernel):
    """A restarted kernel has no variables, and waits for the old one fail."""
    await kernel.run("x = 1")
    pid = kernel.pid
    pending = asyncio.create_task(kernel.execute("import asyncio; await asyncio.sleep(60)"))
    await kernel.until(lambda: "asyncio.sleep" in str(kernel.messages[-1].content))
    await kernel.restart()
    with pytest.raises(KernelDied, match="restarted"):
        await pending
    assert kernel.pid != pid
    assert (await kernel.execute("x")).error.name == "NameError"


async def test_dead_or_silent_kernel_is_reported(kernel):
    """Waiting fails with the received output after a timeout, and immediately for a dead kernel."""
    with pytest.raises(KernelTimeout, match=r"time\.sleep[\s\S]*begun"):
        await kernel.execute("import time; print('begun'); time.sleep(60)", timeout=1)
    waiting = kernel.execute_no_wait("1")
    kernel.kill()
    await kernel.exited()
    with pytest.raises(KernelDied):
        await waiting.wait()


async def test_completion_and_help(kernel):
    """Tab and Shift-Tab work as in a notebook."""
    await kernel.run("def my_function():\n    'What it does.'")
    completion = await kernel.complete("y = my_fun")
    assert completion.matches == ["my_function"]
    assert "y = my_fun"[completion.start : completion.end] == "my_fun"
    assert "What it does." in await kernel.inspect("my_function(")


async def test_widget_can_be_clicked(kernel):
    """A message to a widget is handled, and the output of its handler is captured."""
    cell = await kernel.run(
        "import ipywidgets\n"
        "button = ipywidgets.Button(); button.on_click(lambda _: print('clicked'))\n"
        "button.model_id"
    )
    content = {"event": "click"}
    click = await kernel.send_comm(
        cell.text.strip("'"), {"method": "custom", "content": content}
    ).wait()
    assert click.stdout == "clicked\n"


async def test_kernel_has_only_the_given_environment(start_kernel, monkeypatch):
    """A kernel has the given environment variables, without the user's settings."""
    monkeypatch.setenv("SERVICE_ID", "of-the-user")
    kernel = await start_kernel(env={"AMQP_URL": "amqp://given/"})
    await kernel.run("from os import environ")
    cell = await kernel.execute("[environ.get(name) for name in ('AMQP_URL', 'SERVICE_ID')]")
    assert cell.text == "['amqp://given/', None]"
