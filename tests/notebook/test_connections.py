"""Named connections: several fabrics in one notebook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import call, error_text, until
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook

STAGING = "other_domain"
CONNECT = f"%fabric_connect --as staging --domain {STAGING} --id beside"
RERUN = """\
%%fabric_serve --id served_{0}
def domain():
    answer = %fabric_call where.w1.domain
    return answer
def half(x):
    return x / 0"""


class Where:
    """A service that returns its domain."""

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def domain(self, *, upper: bool = False) -> str:
        """Return the domain."""
        return self._domain.upper() if upper else self._domain


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def places(uri: str) -> AsyncIterator[None]:
    """`where.w1` in two domains."""
    async with (
        AmqBrokerConnector(uri, DOMAIN, "where", "w1", keep_alive_seconds=0.5) as own,
        AmqBrokerConnector(uri, STAGING, "where", "w1", keep_alive_seconds=0.5) as staging,
    ):
        await own.rpc_register(Where(DOMAIN))
        await staging.rpc_register(Where(STAGING))
        yield


async def test_a_second_connection_leaves_the_first_open(
    start_notebook: StartNotebook, uri: str, caller: Peer
) -> None:
    """`--as` leaves the first connection open; magics use the newest, or the one that is named."""
    notebook = await start_notebook({"AMQP_URL": uri})
    first = await notebook.run(f"%fabric_connect --domain {DOMAIN} --id first")
    await notebook.run("one = fabric\ns = %fabric_stream kind=A")
    await notebook.run(RERUN.format("one"))
    second = await notebook.run(CONNECT)
    for fact in ("connection", "staging", STAGING, "`fabric` is this connection", "default"):
        assert fact in second.displays[0].text
    assert "disconnected" not in first.displays[0].text

    where = "%fabric_call where.w1.domain"
    assert await notebook.value(where) == f"'{STAGING}'"
    assert await notebook.value("%fabric_call default/where.w1.domain") == f"'{DOMAIN}'"
    assert await notebook.value("fabric.domain, one.state.value, s.closed") == (
        f"('{STAGING}', 'connected', False)"
    )
    mapped = '%fabric_map default/where.w1.domain [{"upper": True}]'
    assert DOMAIN.upper() in (await notebook.run(mapped)).text
    assert (
        "where.w1" in (await notebook.run("t = %fabric_trace default/w1.domain")).displays[0].text
    )
    assert await notebook.value("t.result") == f"'{DOMAIN}'"
    assert len((await notebook.run("%fabric_ping default/w1")).text.splitlines()) == 2

    # A served function calls others by the connection that serves it.
    assert await call(caller, "notebook.served_one", "domain") == DOMAIN

    await notebook.run("%fabric_use default")
    assert await notebook.value(where) == f"'{DOMAIN}'"
    assert await notebook.value("fabric is one") == "True"
    table = (await notebook.run("%fabric_connections")).displays[0]
    for shown in (table.text, table.html):
        for fact in ("default", "in use", "staging", STAGING, "notebook.served_one"):
            assert fact in shown

    # The same connection again, with its name, is kept; the other one is not in its way.
    await notebook.run(f"%fabric_use staging\nbefore = fabric\n{CONNECT}")
    assert await notebook.value("fabric is before") == "True"
    left = await notebook.run("%fabric_disconnect")
    assert "disconnected" in second.displays[0].text
    assert "disconnected" not in first.displays[0].text
    assert left.outputs == []
    none = error_text(await notebook.execute(where), "NotConnected")
    assert none.startswith("No connection is in use: choose one of default with %fabric_use, or")
    assert "Choose one of default" in (await notebook.run("%fabric")).displays[0].text
    assert await notebook.value("%fabric_call default/where.w1.domain") == f"'{DOMAIN}'"
    gone = error_text(await notebook.execute("%fabric_use staging"), "NotConnected")
    assert "no connection 'staging'; it has default: %fabric_connect --as staging" in gone
    await notebook.run("%fabric_disconnect default")
    assert await notebook.value("one.state.value, s.closed") == "('closed', True)"


async def test_rerun_finds_the_last_failed_call(
    start_notebook: StartNotebook, uri: str, watcher: AmqBrokerConnector
) -> None:
    """`%fabric_rerun` runs the last failed call of all connections, or that of a named one."""
    notebook = await start_notebook({"AMQP_URL": uri})
    await notebook.run(f"%fabric_connect --domain {DOMAIN} --id first")
    await notebook.run(RERUN.format("two"))
    await until(watcher, lambda: watcher.registry.find("served_two", domain=DOMAIN))
    await notebook.execute("%fabric_call served_two.half x=1")
    await notebook.run(CONNECT)
    for line in ("%fabric_rerun", "%fabric_rerun default/half", "%fabric_rerun default/"):
        again = await notebook.execute(line)
        assert again.error is not None
        assert again.error.name == "ZeroDivisionError"
    listed = (await notebook.run("%fabric_rerun default/ --list")).displays[0].text
    assert "half" in listed
    await notebook.run("%fabric_stop default/served_two")
    none = error_text(await notebook.execute("%fabric_rerun staging/half"), "NotRerun")
    assert "No call to a function of this notebook has failed yet" in none


async def test_names_are_completed_and_checked(start_notebook: StartNotebook, uri: str) -> None:
    """Tab completes connections, and the services behind the `/`; a name has few characters."""
    notebook = await start_notebook({"AMQP_URL": uri})
    await notebook.run(f"%fabric_connect --domain {DOMAIN} --id first\none = fabric")
    await notebook.run(CONNECT)
    await notebook.run(
        "import asyncio\n"
        "while 'w1' not in [each.name.id for each in one.registry.services(domain=one.domain)]:\n"
        "    await one.registry.changed()"
    )

    async def offered(line: str) -> list[str]:
        return (await notebook.complete(line)).matches

    assert await offered("%fabric_use ") == ["default", "staging"]
    assert await offered("%fabric_disconnect st") == ["staging"]
    assert await offered("%fabric_call sta") == ["staging/"]
    assert "default/w1.domain" in await offered("%fabric_call default/w1.")
    assert await offered("%fabric_call default/w1.domain ") == ["upper="]
    assert await offered("%fabric_ping default/w1") == ["default/w1"]
    assert await offered("%fabric_call nothing/w") == []
    help_text = await notebook.inspect("%fabric_call default/where.w1.domain")
    assert "Return the domain." in help_text

    for bad in ("a/b", "<b>", "x" * 64, "''"):
        refused = error_text(await notebook.execute(f"%fabric_connect --as {bad}"))
        assert "cannot be the name of a connection: use 1 to 63 letters" in refused
    unknown = error_text(await notebook.execute("%fabric_call nowhere/a.b"), "NotConnected")
    assert "no connection 'nowhere'; it has default, staging" in unknown


async def test_recent_brokers_are_offered(
    start_notebook: StartNotebook, uri: str, tmp_path: Path
) -> None:
    """A form with the recent brokers follows the card if no broker is named; it is not saved."""
    notebook = await start_notebook({"FABRIC_NB_RUNTIME_DIR": str(tmp_path / "run")})
    alone = await notebook.run("%fabric_connect --id one")
    await notebook.run(f"%fabric_connect {uri} --domain {DOMAIN} --id two")
    offered = await notebook.run("%fabric_connect --id one")
    assert len(offered.displays) > len(alone.displays)
    assert "is this connection" in offered.displays[0].text
    shown = [output.data for output in (await notebook.run("%fabric_connect --form")).outputs]
    assert DOMAIN not in repr(shown)
    refused = error_text(await notebook.execute(f"%fabric_connect {uri} --form"))
    assert "--form is for a line without a URI" in refused


async def test_unloading_ends_all(start_notebook: StartNotebook, uri: str) -> None:
    """Unloading the extension closes all connections, and prints what ends with each."""
    notebook = await start_notebook({"AMQP_URL": uri})
    await notebook.run(f"%fabric_connect --domain {DOMAIN} --id first\none = fabric")
    await notebook.run(f"{CONNECT}\ntwo = fabric")
    left = await notebook.run("%unload_ext fabric_nb")
    assert left.stdout.count("has ended") == 2
    assert await notebook.value("one.state.value, two.state.value") == "('closed', 'closed')"
