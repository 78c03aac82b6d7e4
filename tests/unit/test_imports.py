"""Libraries are imported when they are needed; one that fails is named in one sentence."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fabric_nb import AmqBrokerConnector, RemoteError
from tests.broker.process import BrokerProcess

ROOT = Path(__file__).parents[2]
HEAVY = ("pandas", "numpy", "pyarrow", "IPython", "nbformat", "jsonschema")


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """Yield the URI of an embedded broker."""
    with BrokerProcess() as broker:
        yield broker.uri


def python(
    program: str, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in another interpreter; modules in `path` hide the installed ones."""
    paths = [str(folder) for folder in (path, ROOT) if folder is not None]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


STEPS = """
    import asyncio, dataclasses, json, logging, sys
    from datetime import datetime
    from fabric_nb import AmqBrokerConnector, AmqpHandler

    loaded = {}

    def after(step):
        loaded[step] = [name for name in sys.argv[2].split() if name in sys.modules]

    @dataclasses.dataclass
    class Point:
        x: float
        at: datetime

    def numbers(count):
        yield from range(count)

    async def main():
        after("import")
        fabric = AmqBrokerConnector(
            sys.argv[1], "light", "app", "one", keep_alive_seconds=1, keep_alive_listen=True
        )
        async with fabric:
            after("open")
            functions = {"echo": lambda value: value, "numbers": numbers}
            await fabric.serve(functions, type="calc", id="c1")
            after("serve")
            assert await fabric.call("calc.c1.echo", value=[1, "two", None]) == [1, "two", None]
            # Values that plain JSON does not have.
            await fabric.call("calc.c1.echo", value=[Point(float("nan"), datetime.now()), 2**70])
            try:
                await fabric.call("calc.c1.echo", value={1, 2})
            except TypeError:
                after("call")
            assert [item async for item in fabric.call_stream("calc.c1.numbers", count=2)] == [0, 1]
            after("item stream")
            rows = [{"value": n} for n in range(3)]
            results = [result async for _, result in fabric.map_stream("calc.c1.echo", rows)]
            assert sorted(results) == [0, 1, 2]
            handle = fabric.map("calc.c1.echo", value=[1, 2])
            while not handle.done():
                await asyncio.sleep(0.01)
            assert handle.progress.done == 2
            after("map")
            for form in (None, "json", "json-columns"):
                await fabric.publish_data([{"n": 1}, {"n": 2}], {"kind": "row"}, format=form)
            after("publish")
            feed = await fabric.logs()
            handler = AmqpHandler()
            await fabric.init_logging_handler(handler)
            logging.getLogger("light").addHandler(handler)
            logging.getLogger("light").warning("hello")
            await feed.wait(1, timeout=10)
            after("logs")
            while not fabric.registry.find("calc.c1", domain="light"):
                await fabric.registry.changed()
            assert fabric.list_services(), fabric.calls.records
            repr(fabric.registry), repr(fabric.calls), repr(fabric.logs)
            after("registry")
            print(await fabric.diagnose(seconds=0.1))
            after("doctor")
            assert len(fabric.registry.df)
            after("df")
        print(json.dumps(loaded))

    asyncio.run(main())
"""


def test_a_plain_service_imports_no_heavy_library(uri: str) -> None:
    """A service without DataFrames imports neither numpy nor pandas nor Jupyter; `df` does."""
    done = python(STEPS, uri, " ".join(HEAVY))
    assert done.returncode == 0, done.stderr
    loaded: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    with_frame = loaded.pop("df")
    assert {"pandas", "numpy"} <= set(with_frame)
    assert {step: names for step, names in loaded.items() if names} == {}
    assert len(loaded) == 10


SERVICE = """
    import asyncio, sys
    from fabric_nb import AmqBrokerConnector

    async def main():
        async with AmqBrokerConnector(sys.argv[1], "light", "app", "two") as fabric:
            functions = {"echo": lambda value: value, "loaded": lambda: "pandas" in sys.modules}
            await fabric.serve(functions, type="calc", id="c2")
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""


async def call_service(
    uri: str, *calls: tuple[str, dict[str, Any]], path: Path | None
) -> list[Any]:
    """Run the service in another interpreter, and return the results of calls to it, or errors."""
    paths = [str(folder) for folder in (path, ROOT) if folder is not None]
    pipe = asyncio.subprocess.PIPE
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(SERVICE), uri),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert service.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await service.stdout.readline() == b"ready\n"
        async with AmqBrokerConnector(uri, "light", "test", "t") as fabric:
            results = []
            for method, keywords in calls:
                try:
                    results.append(await fabric.call(f"calc.c2.{method}", **keywords))
                except RemoteError as error:
                    results.append(error)
            return results
    finally:
        await service.communicate(b"")


async def test_a_served_dataframe_imports_pandas(uri: str) -> None:
    """A service that receives a DataFrame gets it as one, and imports pandas then."""
    frame = pd.DataFrame({"n": [1, 2]})
    before, echoed, after = await call_service(
        uri, ("loaded", {}), ("echo", {"value": frame}), ("loaded", {}), path=None
    )
    assert (before, after) == (False, True)
    pd.testing.assert_frame_equal(echoed, frame)


# -- libraries that cannot be imported


def broken(folder: Path, library: str, error: str, version: str = "") -> Path:
    """Put a library that cannot be imported into a folder."""
    (folder / library).mkdir()
    (folder / library / "__init__.py").write_text(f"raise {error}")
    if version:
        metadata = folder / f"{library}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {library}\nVersion: {version}\n"
        )
    return folder


FAILING = """
    import asyncio, sys
    from fabric_nb import AmqBrokerConnector, FabricError

    async def main():
        async with AmqBrokerConnector(sys.argv[1], "light", "app", "three") as fabric:
            assert await fabric.call("calc.c3.plain") == 5
            for attempt in (lambda: fabric.call("calc.c3.table"), lambda: fabric.stream()):
                try:
                    await attempt()
                except FabricError as error:
                    print(type(error).__name__, error)
            try:
                fabric.calls.df
            except ImportError as error:
                print(type(error).__name__, error)

    asyncio.run(main())
"""


REINSTALL = "install it again with pip install --force-reinstall pandas."
SUPPORTED = "and fabric_nb supports pandas<4,>=2.2: run pip install 'pandas<4,>=2.2'."


@pytest.mark.parametrize(
    ("error", "version", "sentence"),
    [
        (
            "ImportError('numpy is broken.\\n\\nRead this.')",
            "",
            f"pandas cannot be imported (ImportError: numpy is broken. Read this): {REINSTALL}",
        ),
        (
            "ValueError('numpy.dtype size changed')",
            "",
            f"pandas cannot be imported (ValueError: numpy.dtype size changed): {REINSTALL}",
        ),
        ("AttributeError('no such thing')", "1.5.3", f"pandas 1.5.3 is installed, {SUPPORTED}"),
    ],
)
async def test_a_broken_library_is_named(
    uri: str, tmp_path: Path, error: str, version: str, sentence: str
) -> None:
    """Calls without a DataFrame work without pandas; what needs it names it, in one sentence."""
    path = broken(tmp_path, "pandas", error, version)
    async with AmqBrokerConnector(uri, "light", "test", "t") as fabric:
        functions = {"plain": lambda: 5, "table": lambda: pd.DataFrame({"n": [1]})}
        await fabric.serve(functions, type="calc", id="c3")
        done = await asyncio.to_thread(python, FAILING, uri, path=path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"UnusableLibrary {sentence}"] * 3


async def test_a_service_with_a_broken_library_answers(uri: str, tmp_path: Path) -> None:
    """A service without a working pandas answers a call with a DataFrame: with the reason."""
    path = broken(tmp_path, "pandas", "ImportError('its binary is broken')")
    refused, plain = await call_service(
        uri, ("echo", {"value": pd.DataFrame({"n": [1]})}), ("echo", {"value": 5}), path=path
    )
    assert isinstance(refused, RemoteError)
    assert refused.type == "fabric_nb.errors.UnusableLibrary"
    assert "pandas cannot be imported (ImportError: its binary is broken)" in str(refused)
    assert plain == 5


def test_an_old_interpreter_is_refused() -> None:
    """An unsupported version of Python is named, with those that are supported."""
    done = python("import sys; sys.version_info = (3, 9, 2); import fabric_nb")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: fabric_nb needs Python 3.11 or newer, and this is Python 3.9.2."
    )


LIBRARY = """
    from fabric_nb import FabricError
    try:
        from fabric_nb import AmqBrokerConnector
    except FabricError as error:
        print(type(error).__name__, error)
"""
COMMAND = "import sys; from fabric_nb.cli import main; sys.exit(main(['call', 'a.b', '--uri', 'amqp://h']))"


@pytest.mark.parametrize(
    ("library", "version", "sentence"),
    [
        (
            "orjson",
            "",
            "orjson cannot be imported (ImportError: broken): install it again with pip",
        ),
        ("aiormq", "6.8.0", "aiormq 6.8.0 is installed, and fabric_nb supports aiormq<8,>=7.2.4:"),
    ],
)
def test_a_broken_library_of_the_connector(
    tmp_path: Path, library: str, version: str, sentence: str
) -> None:
    """A library without which there is no connector is named, also on the command line."""
    path = broken(tmp_path, library, f"ImportError('broken', name={library!r})", version)
    program = python(LIBRARY, path=path)
    assert program.stdout.startswith(f"UnusableLibrary {sentence}")
    command = python(COMMAND, path=path)
    assert command.returncode == 1
    assert command.stderr.startswith(f"fabric-nb: {sentence}")
    assert len(command.stderr.splitlines()) == 1
