"""Time and memory of programs and commands that start, do one thing, and end.

Each is a process of its own. Bytecode is compiled in the warm-up round, as after an installation.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Progress, rounds
from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess

FABRIC_NB, AMQP_FABRIC, KERNEL = "fabric_nb", "amqp-fabric", "a bare kernel"
IMPORT, SERVICE, CALL, SERVE = "import", "service", "call", "serve until ready"
HELP = ("--help", "--version", "call --help", "serve --help", "completion of an option")
ROW, SERVICES = "services until a row", "services"
DOMAIN = "my_project"

_IMPORTS = {
    FABRIC_NB: "from fabric_nb import AmqBrokerConnector, AbstractServiceApi",
    AMQP_FABRIC: (
        "from amqp_fabric.amq_broker_connector import AmqBrokerConnector\n"
        "from amqp_fabric.abstract_service_api import AbstractServiceApi"
    ),
}
_OPEN = """
import asyncio, sys
async def main():
    connector = AmqBrokerConnector(sys.argv[1], "my_project", "calc", "c2", 5, True)
    await connector.open()
{body}
    await connector.close()
asyncio.run(main())
"""
_SERVICE = """
    class Api(AbstractServiceApi):
        def multiply(self, x, y):
            return x * y
    await connector.rpc_register(Api())
    proxy = await connector.rpc_proxy("my_project", "c2", "calc")
    assert await proxy.multiply(x=6, y=7) == 42
    connector.publish_data(b'{"n": 1}', {"kind": "A"})
    connector.list_services()
"""
_CALL = """
    proxy = await connector.rpc_proxy("my_project", "c1", "calc")
    print(await proxy.multiply(x=6, y=7))
"""
_KERNEL = """
import asyncio
from jupyter_client.manager import start_new_async_kernel
async def main():
    manager, client = await start_new_async_kernel(
        60, "python3", extra_arguments=["--IPKernelApp.log_level=ERROR"]
    )
    print("ready", flush=True)
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
asyncio.run(main())
"""
_CELLS = (
    "%load_ext fabric_nb",
    f"%fabric_connect --domain {DOMAIN}",
    "%%fabric_serve --type an --id svc\ndef ping():\n    return 'pong'",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program.

    Attributes:
        kind: library or program.
        load: what it does.
        seconds: from its start to its end, or to the awaited line of its output.
        cpu: CPU time in seconds; of a notebook that is served, with that of its kernel.
        megabytes: peak of the resident memory, likewise.
    """

    kind: str
    load: str
    round: int
    seconds: float
    cpu: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class _Program:
    kind: str
    load: str
    command: Sequence[str]
    until: str = ""
    environment: tuple[tuple[str, str], ...] = ()


def _programs(uri: str, notebook: Path) -> Iterator[_Program]:
    python = (sys.executable, "-c")
    command = (sys.executable, "-m", "fabric_nb.cli")
    for kind, imports in _IMPORTS.items():
        yield _Program(kind, IMPORT, (*python, imports))
        yield _Program(kind, SERVICE, (*python, imports + _OPEN.format(body=_SERVICE), uri))
    for line in HELP[:-1]:
        yield _Program(FABRIC_NB, line, (*command, *line.split()))
    words = "fabric-nb call --ti"
    completing = {"_ARGCOMPLETE": "1", "COMP_LINE": words, "COMP_POINT": str(len(words))}
    completing["_ARGCOMPLETE_STDOUT_FILENAME"] = os.devnull
    yield _Program(FABRIC_NB, HELP[-1], command, environment=tuple(completing.items()))
    call = "call", "c1.multiply", "x=6", "y=7"
    yield _Program(FABRIC_NB, CALL, (*command, *call))
    script = _IMPORTS[AMQP_FABRIC] + _OPEN.format(body=_CALL)
    yield _Program(AMQP_FABRIC, CALL, (*python, script.replace(", 5, True", ""), uri))
    yield _Program(FABRIC_NB, ROW, (*command, "services"), until=DOMAIN)
    yield _Program(FABRIC_NB, SERVICES, (*command, "services"))
    yield _Program(KERNEL, SERVE, (*python, _KERNEL), until="ready")
    yield _Program(FABRIC_NB, SERVE, (*command, "serve", str(notebook)), until="ready")


async def measure(*, count: int, progress: Progress) -> list[Run]:
    """Run each program once in each round, beside a service on an embedded broker."""
    runs = []
    with BrokerProcess() as broker, tempfile.TemporaryDirectory() as folder, _stopwatch() as watch:
        notebook = Path(folder) / "service.ipynb"
        _write_notebook(notebook)
        environment = {**os.environ, "AMQP_URL": broker.uri}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        async with AmqBrokerConnector(broker.uri, DOMAIN, "calc", "c1", 60, True) as connector:
            await connector.serve({"multiply": lambda x, y: x * y})
            for number in rounds(count, progress, "start"):
                for program in _programs(broker.uri, notebook):
                    found = await asyncio.to_thread(
                        watch,
                        command=program.command,
                        until=program.until,
                        environment={**environment, **dict(program.environment)},
                    )
                    _check(program, found)
                    if number:
                        figures = found["seconds"], found["cpu"], found["megabytes"]
                        runs.append(Run(program.kind, program.load, number, *figures))
    return runs


def _check(program: _Program, found: dict[str, Any]) -> None:
    if found["code"] != 0 and not program.until:
        raise RuntimeError(f"{program.kind}, {program.load}: exit code {found['code']}")
    if program.load == CALL:
        assert found["output"].strip() == "42", found["output"]
    if program.until:
        assert program.until in found["output"], found["output"]


def _write_notebook(path: Path) -> None:
    cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in _CELLS]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}), encoding="utf-8")


@contextmanager
def _stopwatch() -> Iterator[Any]:
    """Yield a function that measures a program; see `benchmarks.stopwatch`."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stopwatch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def measured(**request: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
            return found

        yield measured
        process.stdin.close()
