"""A notebook's kernel is interrupted, suspended, restarted or killed.

It is suspended for some seconds; `FABRIC_NB_SUSPEND=60` for the guaranteed time.
"""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fabric_nb.errors import CallTimeout, ServiceLost, UnknownService
from fabric_nb.fabric.discovery.services import CONFIRMED_SILENCE, ServiceState
from tests.notebook.notebooks import Notebook
from tests.support.fabric import until
from tests.support.peers import DOMAIN
from tests.support.processes import pause

SUSPENDED = float(os.environ.get("FABRIC_NB_SUSPEND", "4"))
"""Seconds; longer than the expiry of its keep-alives."""
RAN = f"{DOMAIN}.notebook.mortal.ran"
SERVE = """\
%%fabric_serve --id mortal
calls = []
def ran(n: int):
    calls.append(n)
    return list(calls)
"""


@pytest.fixture
async def notebook(tmp_path, rabbitmq_uri):
    """Start a notebook that serves, with an open stream and log feed."""
    async with await Notebook.start(tmp_path) as notebook:
        await join(notebook, rabbitmq_uri)
        yield notebook


async def join(notebook, uri):
    await notebook.connect(uri, id="mortal")
    await notebook.run(SERVE)
    await notebook.run("rows = %fabric_stream kind=A\nfeed = %fabric_logs")


@pytest.fixture
async def watcher(members, rabbitmq, vhost):
    """Open a member with discovery, and wait until it has its two queues."""
    watcher = await members.join("watcher")
    await until(lambda: len(rabbitmq.list_queues(vhost)) == 2)
    return watcher


def state(watcher):
    services = [
        service for service in watcher.registry.services(gone=True) if service.name.id == "mortal"
    ]
    return watcher.registry.state(services[0]) if services else None


async def assert_gone(watcher, rabbitmq, vhost):
    """Check that the notebook is gone from the registry, the broker, and for callers."""
    await until(lambda: state(watcher) is ServiceState.GONE)
    await until(
        lambda: len(rabbitmq.list_queues(vhost)) == 2,
        description="only the queues of the watcher are left",
    )
    await until(lambda: len(rabbitmq.list_connections(vhost)) == 1)
    with pytest.raises(UnknownService):
        await watcher.call(RAN, n=0, timeout=10)


@pytest.mark.timeout(600 + SUSPENDED)
async def test_interrupted_and_suspended(watcher, notebook):
    """An interrupt ends only a cell.

    A suspended notebook is late, like a blocked one, then gone, and up after it resumes.
    """
    assert await watcher.call(RAN, n=1, timeout=60) == [1]
    waiting = notebook.execute_no_wait("import time\nprint('on')\nwhile True: time.sleep(0.1)")
    await waiting.until(lambda cell: "on" in cell.stdout)
    await until(lambda: state(watcher) is ServiceState.BUSY)
    await notebook.interrupt()
    await waiting.wait()
    assert await watcher.call(RAN, n=2, timeout=60) == [1, 2]
    await until(lambda: state(watcher) is ServiceState.UP)

    pause(notebook.pid)
    try:
        await until(lambda: state(watcher) is ServiceState.LATE)
        await until(lambda: state(watcher) is ServiceState.GONE, timeout=CONFIRMED_SILENCE + 60)
        with pytest.raises((CallTimeout, ServiceLost, UnknownService)):
            await watcher.call(RAN, n=3, timeout=1)
        await asyncio.sleep(SUSPENDED)
        assert state(watcher) is ServiceState.GONE
    finally:
        os.kill(notebook.pid, signal.SIGCONT)
    await until(lambda: state(watcher) is ServiceState.UP)
    # An expired call that was still queued at the broker is not run afterwards.
    assert (await watcher.call(RAN, n=4, timeout=60))[-1] == 4
    await notebook.run("assert not rows.closed and not feed.closed")


async def test_restarted_and_killed(watcher, notebook, rabbitmq, rabbitmq_uri, vhost):
    """A restarted or killed kernel leaves no service and no queue."""
    assert await watcher.call(RAN, n=1, timeout=60) == [1]
    await until(lambda: state(watcher) is ServiceState.UP)
    await notebook.restart()
    await assert_gone(watcher, rabbitmq, vhost)
    await notebook.load()
    await join(notebook, rabbitmq_uri)
    assert await watcher.call(RAN, n=1, timeout=60) == [1]
    await until(lambda: state(watcher) is ServiceState.UP)
    pause(notebook.pid)  # so that it cannot close its connection
    os.kill(notebook.pid, signal.SIGKILL)
    await assert_gone(watcher, rabbitmq, vhost)
