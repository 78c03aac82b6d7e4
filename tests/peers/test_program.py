"""Programs of amqp-fabric's README, with only the import lines changed."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from importlib.metadata import metadata

import pytest

IMPORTS = {
    "from amqp_fabric.amq_broker_connector import AmqBrokerConnector": (
        "from fabric_nb import AmqBrokerConnector"
    ),
    "from amqp_fabric.abstract_service_api import AbstractServiceApi": (
        "from fabric_nb import AbstractServiceApi"
    ),
}


def example(title):
    """Return the Python example under a heading of amqp-fabric's README."""
    about = metadata("amqp-fabric")
    # The backport of importlib.metadata, where something has imported it, makes it a header.
    readme = about.get_payload() or about["Description"]
    return re.search(rf"### {title}\s+```python\n(.*?)```", readme, re.DOTALL)[1]


def ported(program):
    """Return the program with its import lines changed."""
    for old, new in IMPORTS.items():
        program = program.replace(old, new)
    assert "amqp_fabric" not in program
    return program


@pytest.fixture
async def run(tmp_path, rabbitmq_uri):
    """Return a function that runs a program in a process, on the broker of the test."""
    processes = []

    async def start(name, program):
        assert "amqp://guest:guest@127.0.0.1/" in program
        script = tmp_path / f"{name}.py"
        script.write_text(program.replace("amqp://guest:guest@127.0.0.1/", rabbitmq_uri))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-Wignore:There is no current event loop",  # the program's own; Python 3.12 says so
            str(script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process):
    """Wait for a process; return its exit code, output and errors."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="the README of amqp-fabric calls asyncio.get_event_loop without a loop, which raises"
    " since Python 3.14",
)
@pytest.mark.parametrize(
    ("server", "client"),
    [("fabric_nb", "fabric_nb"), ("fabric_nb", "amqp-fabric"), ("amqp-fabric", "fabric_nb")],
)
async def test_readme_of_amqp_fabric_runs(run, rabbitmq, vhost, server, client):
    """Server and client of the README work on either library, in any combination."""
    programs = {
        "server": example("Server Side Example"),
        "client": example("Client Side Example"),
    }
    serving = await run(
        "server", ported(programs["server"]) if server == "fabric_nb" else programs["server"]
    )
    queue = "my_project.api.server_app.my_app::multiply"
    async with asyncio.timeout(60):
        while not [q for q in rabbitmq.list_queues(vhost) if q["name"] == queue]:
            assert serving.returncode is None, await ended(serving)
            await asyncio.sleep(0.05)

    calling = await run(
        "client", ported(programs["client"]) if client == "fabric_nb" else programs["client"]
    )
    assert await ended(calling) == (0, "result = 35\n", "")
    assert serving.returncode is None

    serving.send_signal(signal.SIGINT)
    code, _, errors = await ended(serving)
    assert (code, errors) == (0, "")
    assert rabbitmq.list_queues(vhost) == []
