"""`%fabric_call`: syntax, results and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, error_text, shown_error, state_of, until
from tests.support.peers import Peer, needs_amqp_fabric

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartPeer


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("calc1.multiply x=5 y=7", "35"),
        ("calc.calc1.multiply x=5 y=7", "35"),
        ("my_project.calc.calc1.multiply x=5 y=7", "35"),
        ("calc1.multiply x=a+1 y=a", "12"),
        ("calc1.multiply x = a + 1 y = -2", "-8"),
        ("calc1.multiply x=5, y=7", "35"),
        ("calc1.multiply x=(a if a > 2 else 0) y=max(a, 7)", "21"),
        ("calc1.multiply x=5 y=7 --timeout 5", "35"),
        ("--timeout 5 calc1.multiply x=5 y=7", "35"),
        ("-t 5 calc1.multiply x=5 y=7", "35"),
        ("calc1.multiply --timeout 5 x=5 y=7", "35"),
        ("calc1.echo value='two  words'", "'two  words'"),
        ('calc1.echo value="it\'s --timeout 5"', '"it\'s --timeout 5"'),
        ("calc1.echo value=[1, 2, [3, a]]", "[1, 2, [3, 3]]"),
        ("calc1.echo value={'a': a, 'b c': None}", "{'a': 3, 'b c': None}"),
        ("calc1.echo value=dict(x=a, y=2)", "{'x': 3, 'y': 2}"),
        ("calc1.echo value=[i * a for i in range(3)]", "[0, 3, 6]"),
        ("calc1.echo value=a == 3", "True"),
        ("calc1.echo value='$a {a}'", "'$a {a}'"),
        ("calc1.echo value='ü€𝄞'", "'ü€𝄞'"),
        ("calc1.echo value=None", ""),
        ("calc1.health_check", "True"),
    ],
)
async def test_line_has_the_value_of_the_call(notebook: Notebook, line: str, value: str) -> None:
    """Arguments are Python expressions, with any spacing; the line's value is the result."""
    await notebook.run("a = 3")
    assert await notebook.value(f"%fabric_call {line}") == value


async def test_result_can_be_assigned(notebook: Notebook) -> None:
    """`x = %fabric_call ...` assigns the result and shows nothing."""
    cell = await notebook.run("x = %fabric_call calc1.multiply x=6 y=7")
    assert cell.outputs == []
    assert await notebook.value("x") == "42"


async def test_local_variables_of_a_function_can_be_used(notebook: Notebook) -> None:
    """In a function, expressions use its local variables before globals."""
    await notebook.run(
        "n = 1000\n"
        "def area(n):\n"
        "    height = n + 1\n"
        "    both = %fabric_call calc1.echo value=[n for _ in range(2)] + [height]\n"
        "    return both"
    )
    assert await notebook.value("area(2)") == "[2, 2, 3]"


async def test_calls_in_an_await_cell(notebook: Notebook) -> None:
    """`await fabric.call(...)` works in a cell, with the magic and concurrently."""
    cell = await notebook.run(
        "import asyncio\n"
        "first = await fabric.call('calc1.multiply', x=2, y=3)\n"
        "second = %fabric_call calc1.multiply x=first y=2\n"
        "many = await asyncio.gather(\n"
        "    *(fabric.call('calc1.multiply', x=i, y=2) for i in range(200)))\n"
        "first, second, many == [2 * i for i in range(200)]"
    )
    assert cell.text == "(6, 12, True)"


async def test_proxy_is_an_object_with_the_service_s_methods(notebook: Notebook) -> None:
    """`fabric.service(...)` returns an object with awaitable methods."""
    cell = await notebook.run("await fabric.service('calc1').multiply(x=4, y=5)")
    assert cell.text == "20"


async def test_data_frames_travel(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """Between fabric_nb peers a DataFrame stays a DataFrame, and is shown as a table."""
    seen = []

    def double(frame: object) -> object:
        seen.append(type(frame).__name__)
        return frame * 2  # type: ignore[operator]

    server = await watcher.serve({"double": double}, type="frames", id="frames1")
    try:
        await notebook.run(
            "import pandas as pd\n"
            "df = pd.DataFrame({'when': pd.to_datetime(['2026-01-01', '2026-01-02']).to_series()"
            ".index.strftime('%d'), 'n': [1, 2]})"
        )
        cell = await notebook.run("%fabric_call frames.frames1.double frame=df[['n']]")
    finally:
        await server.close()
    assert seen == ["DataFrame"]
    assert "<table" in cell.html
    assert cell.text.split() == ["n", "0", "2", "1", "4"]


@needs_amqp_fabric
async def test_remote_error_is_one_line(notebook: Notebook) -> None:
    """An error of the service is one line with the call and the built-in type."""
    cell = await notebook.execute("%fabric_call calc1.fail message='no such row'")
    assert shown_error(cell, "RemoteValueError") == (
        "RemoteError: my_project.calc.calc1.fail: ValueError('no such row')"
    )
    caught = await notebook.run(
        "try:\n"
        "    %fabric_call calc1.divide x=1 y=0\n"
        "except ZeroDivisionError as error:\n"
        "    print(error.type, error.remote_args)"
    )
    assert caught.stdout == "ZeroDivisionError ('division by zero',)\n"
    own = await notebook.execute("%fabric_call calc1.refuse reason='closed'")
    assert "CalcError('closed', 42)" in shown_error(own, "RemoteError")


async def test_remote_traceback_is_shown(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """The traceback of a fabric_nb service is shown, without frames of fabric_nb."""

    def lookup(key: str) -> object:
        return dict[str, object]()[key]

    server = await watcher.serve({"lookup": lookup}, type="store", id="store1")
    try:
        cell = await notebook.execute(
            "def ask(key):\n    return get_ipython().run_line_magic("
            "'fabric_call', f'store.store1.lookup key={key!r}')\nask('nix')"
        )
    finally:
        await server.close()
    own, _, remote = shown_error(cell, "RemoteKeyError").partition("Remote traceback:")
    assert "RemoteError: my_project.store.store1.lookup: KeyError('nix')" in own
    assert "ask('nix')" in own
    assert "in lookup" in remote
    assert "return dict[str, object]()[key]" in remote
    assert "fabric_nb" not in remote.replace("fabric_nb/../", "")


async def test_time_out_names_the_call(notebook: Notebook, calc: Peer) -> None:
    """A call without a reply fails after its timeout, with the call and the seconds."""
    await notebook.run("%fabric_call calc1.slow seconds=0")  # the service is known afterwards
    cell = await notebook.execute("%fabric_call calc1.slow seconds=1.5 --timeout 0.3")
    assert shown_error(cell, "CallTimeout") == (
        "CallTimeout: my_project.calc.calc1.slow gave no answer within 0.3 s."
    )
    assert await notebook.value("%fabric_call calc1.slow seconds=0") == str(calc.pid)


async def test_time_out_is_set_by_config(notebook: Notebook, calc: Peer) -> None:
    """`%config FabricMagics.timeout` applies to further magics and calls of `fabric.call`."""
    try:
        await notebook.run("%config FabricMagics.timeout = 0.3")
        cell = await notebook.execute("%fabric_call calc1.slow seconds=1")
        assert "within 0.3 s" in shown_error(cell, "CallTimeout")
        cell = await notebook.execute("await fabric.call('calc1.slow', seconds=0)")
        assert "within 0.3 s" in shown_error(cell, "CallTimeout")
    finally:
        await notebook.run("%config FabricMagics.timeout = 30")
    assert await notebook.value("%fabric_call calc1.slow seconds=0") == str(calc.pid)


async def test_unknown_service_and_method(notebook: Notebook) -> None:
    """An unknown service and an unknown method have different errors with suggestions."""
    cell = await notebook.execute("%fabric_call calc2.multiply x=1 y=2")
    assert "did you mean calc1?" in shown_error(cell, "UnknownService")
    cell = await notebook.execute("%fabric_call calc1.multiplied x=1 y=2")
    assert "calc1 has no method 'multiplied'" in shown_error(cell, "MethodNotFound")
    await notebook.run("%%fabric_serve --id own\ndef multiply(x, y): return x * y")
    try:
        await notebook.run("while not fabric.registry.find('own'): await fabric.registry.changed()")
        cell = await notebook.execute("%fabric_call own.multiplied x=1 y=2")
        assert "did you mean multiply?" in shown_error(cell, "MethodNotFound")
    finally:
        await notebook.run("%fabric_stop own")


async def test_version_can_be_required(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """`--version` rejects services of other versions, and the error names them."""
    server = await watcher.serve({"one": lambda: 1}, type="versioned", id="v1", version="1.4")
    try:
        await notebook.run("while not fabric.registry.find('v1'): await fabric.registry.changed()")
        for required in ("--version '>=1.2,<2'", '--version ">=1.2"', "-v >=1.2,<2"):
            assert await notebook.value(f"%fabric_call v1.one {required}") == "1"
        cell = await notebook.execute("%fabric_call v1.one --version >=2")
        assert "is 1.4, but >=2 is required" in shown_error(cell, "VersionMismatch")
    finally:
        await server.close()
    await until(watcher, lambda: state_of(watcher, "v1", "versioned") == "gone")


async def test_idempotent_call_is_made_again(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """`--idempotent`, or an idempotent proxy, retries a call whose service has crashed."""
    refused = await notebook.execute("%fabric_call -i --stream calc1.echo value=1")
    assert "--idempotent is not for --stream" in error_text(refused)
    peer = await start_peer("fabric_calc", uri, id="mortal")
    await notebook.run(
        "h = %fabric_call -a -i calc.mortal.slow seconds=1 --timeout 60\n"
        "import asyncio\nproxy = fabric.service('calc.mortal', timeout=60, idempotent=True)\n"
        "again = asyncio.ensure_future(proxy.slow(seconds=0))\n"
        "while fabric.member.rpc.requester.pending < 2: await asyncio.sleep(0.01)"
    )
    await peer.event("slow_began")
    peer.kill()
    # A service that is restarted between two polls of its caller is not missed.
    await notebook.run("while fabric.member.rpc.requester.pending: await asyncio.sleep(0.01)")
    successor = await start_peer("fabric_calc", uri, id="mortal")
    assert await notebook.value("await h, await again") == f"({successor.pid}, {successor.pid})"
