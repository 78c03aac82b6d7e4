"""Loading, `%fabric_connect`, `%fabric_disconnect`, and the sources of their settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.notebook.magics import FabricMagics
from tests.notebook.notebooks import (
    Notebook,
    call,
    error_text,
    password_of,
    shown_error,
    state_of,
    until,
)
from tests.support.cells import plain
from tests.support.peers import DOMAIN, Peer
from tests.support.rabbitmq_supervisor import free_port

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook, StartPeer

MAGICS = {
    "fabric_connect": "%fabric_connect amqp://guest:guest@localhost/ --domain my_project",
    "fabric_use": "%fabric_use staging",
    "fabric_connections": "%fabric_connections",
    "fabric_disconnect": "%fabric_disconnect",
    "fabric_doctor": "%fabric_doctor",
    "fabric_services": "%fabric_services --type calc",
    "fabric_call": "%fabric_call my_app.multiply x=5 y=a+1",
    "%fabric_serve": "%%fabric_serve --type analytics --id mynb --version 1.2",
    "fabric_stop": "%fabric_stop mynb",
    "fabric_stream": "tx = %fabric_stream msg_type=CUSTOMER_TRANSACTIONS currency=USD",
    "fabric_publish": '%fabric_publish msg_type=ALERT -- {"text": "hello"',
    "fabric_logs": "logs = %fabric_logs --level WARNING --service my_app",
    "fabric": "%fabric",
    "fabric_report": "%fabric_report",
    "fabric_calls": "%fabric_calls --failed",
    "fabric_map": 'prices = %fabric_map pricing.quote sku=df.sku country="DE"',
    "fabric_bench": "%fabric_bench my_app.health_check",
    "fabric_trace": "traced = %fabric_trace my_app.report day=1",
    "fabric_ping": "%fabric_ping my_app",
    "fabric_graph": "%fabric_graph",
    "fabric_timeline": "%fabric_timeline",
    "fabric_result": "%fabric_result a b",
    "fabric_rerun": "%fabric_rerun",
}


async def test_every_magic_has_an_example() -> None:
    """The test of help covers every magic."""
    names = {name for kind in FabricMagics.magics.values() for name in kind}
    assert {name.removeprefix("%") for name in MAGICS} == names


@pytest.mark.parametrize("magic", MAGICS)
async def test_help_shows_an_example(notebook: Notebook, magic: str) -> None:
    """`?` after a magic shows description, options and an example."""
    cell = await notebook.run(f"%{magic}?")
    (page,) = (page["data"]["text/plain"] for page in cell.reply["payload"])
    assert f"]: {MAGICS[magic]}" in plain(page)
    for option in (await notebook.run(f"%{magic}?")).reply["payload"]:
        assert f"%{magic}" in option["data"]["text/plain"]
    if magic == "fabric_call":
        assert "--timeout" in page
        assert "Seconds that the call may take." in page
        assert "name=expression" in page
    if magic != "fabric":  # Shift-Tab shows the variable with this name
        assert MAGICS[magic] in await notebook.inspect(f"%{magic}")


async def test_settings_are_listed(notebook: Notebook) -> None:
    """`%config FabricMagics` lists the settings with descriptions."""
    shown = (await notebook.run("%config FabricMagics")).stdout
    for name in ("uri", "domain", "timeout", "connect_timeout", "keep_alive_seconds", "max_rows"):
        assert f"FabricMagics.{name}=" in shown
    assert "Seconds that a call may take." in shown


async def test_connecting_shows_the_card(
    start_notebook: StartNotebook, uri: str, calc: Peer, watcher: AmqBrokerConnector
) -> None:
    """The card has broker, domain, this notebook and other services, with a masked password."""
    notebook = await start_notebook()
    await notebook.run("%config FabricMagics.keep_alive_seconds = 60")  # silence would show later
    cell = await notebook.run(f"%fabric_connect {uri} --domain {DOMAIN} --type lab --id mine")
    (card,) = cell.displays
    masked = uri.replace(password_of(uri), "***")
    for shown in (card.text, card.html):
        for fact in (masked, "RabbitMQ", DOMAIN, "lab.mine", "connected", "is this connection."):
            assert fact in shown
    await cell.until(lambda cell: "calc1" in cell.displays[0].text)
    assert "calc1" in cell.displays[0].html
    assert await notebook.value("fabric.fqn") == f"'{DOMAIN}.lab.mine'"
    assert password_of(uri) not in await notebook.value("fabric")
    await until(watcher, lambda: state_of(watcher, "mine", "lab") == "up")

    # Connecting again closes the first connection, and its card shows that.
    again = await notebook.run(f"%fabric_connect '{uri}' -d {DOMAIN} --id other --timeout 5")
    assert "notebook.other" in again.displays[0].text
    await until(watcher, lambda: state_of(watcher, "mine", "lab") == "gone")
    await until(watcher, lambda: state_of(watcher, "other") == "up")
    assert "disconnected" in cell.displays[0].text
    assert "disconnected" in cell.displays[0].html

    # A failed attempt does not change the existing connection.
    assert "cannot be reached" in error_text(
        await notebook.execute("%fabric_connect amqp://u:p@127.0.0.1:1/"), "BrokerUnavailable"
    )
    assert await notebook.value("%fabric_call calc.calc1.multiply x=2 y=3") == "6"

    left = await notebook.run("%fabric_disconnect")
    assert left.outputs == []
    await until(watcher, lambda: state_of(watcher, "other") == "gone")
    assert "disconnected" in again.displays[0].text
    assert "%fabric_connect" in error_text(
        await notebook.execute("%fabric_call calc1.count"), "NotConnected"
    )
    await notebook.run("%fabric_disconnect")  # a second time has no effect


async def test_connecting_again(
    start_notebook: StartNotebook, uri: str, watcher: AmqBrokerConnector, caller: Peer
) -> None:
    """The same broker and names keep the connection; others close it, with a list of what ends."""
    notebook = await start_notebook()
    line = f"%fabric_connect {uri} --domain {DOMAIN} --type lab"
    await notebook.run(line)
    await notebook.run("first = fabric\ns = %fabric_stream kind=again\nlogs = %fabric_logs")
    await notebook.run("%%fabric_serve --id again\ndef one(): return 1")
    await notebook.run("%config FabricMagics.timeout = 7")
    card = await notebook.run(line)
    assert "connected" in card.displays[0].text
    assert "has ended" not in card.displays[0].text
    assert await notebook.value("fabric is first, s.closed, logs.closed, fabric.timeout") == (
        "(True, False, False, 7.0)"
    )
    assert await call(caller, "lab.again", "one") == 1
    await watcher.publish_data({"n": 1}, {"kind": "again"})
    assert await notebook.value("(await s.wait(1)) or list(s.df.n)") == "[1]"

    other = await notebook.run(f"{line} --id other")
    ended = "has ended, and with it the service lab.again, the stream s, the log feed logs."
    assert ended in other.displays[0].text
    assert await notebook.value("fabric is first, first.state.value, s.closed, list(s.df.n)") == (
        "(False, 'closed', True, [1])"
    )
    last = await notebook.run("%config FabricMagics.heartbeat = 60\n" + f"{line} --id other")
    assert f"The earlier connection, as {DOMAIN}.lab.other, has ended." in last.displays[0].text


async def test_a_wrong_domain(
    start_notebook: StartNotebook, uri: str, calc: Peer, watcher: AmqBrokerConnector
) -> None:
    """In an empty domain, the card, streams, logs and errors name other domains."""
    there = re.compile(rf"Also on this broker: .*{DOMAIN} \(\d+ services?\): `?--domain {DOMAIN}`?")
    notebook = await start_notebook()
    card = await notebook.run(f"%fabric_connect {uri} --domain nowhere --id lost")
    await card.until(lambda cell: there.search(cell.displays[0].text))
    stream = await notebook.run("s = %fabric_stream kind=lost")
    logs = await notebook.run("%fabric_logs;")
    for cell in (stream, logs):
        assert there.search(cell.displays[-1].text)
        assert there.search(re.sub(r"<[^>]*>", "", cell.displays[-1].html))
    wrong = await notebook.execute("%fabric_call calc1.count")
    assert there.search(shown_error(wrong, "UnknownService"))
    await notebook.run("%fabric_publish kind=lost -- {'n': 1}\nawait s.wait(1)")
    await stream.until(lambda cell: not there.search(cell.displays[-1].text))


async def test_several_nodes(
    start_notebook: StartNotebook, uri: str, watcher: AmqBrokerConnector
) -> None:
    """Of several nodes in a URI the first reachable one is used, and the card shows it."""
    login, _, rest = uri.partition("@")
    live, _, vhost = rest.partition("/")
    dead = f"127.0.0.1:{free_port()}"
    notebook = await start_notebook()
    several = f"{login}@{dead},{live},{dead}/{vhost}"
    cell = await notebook.run(f"%fabric_connect {several} --domain {DOMAIN} --id nodes")
    (card,) = cell.displays
    masked = uri.replace(password_of(uri), "***")
    for shown in (card.text, card.html):
        assert masked in shown
        assert "connected" in shown
        assert dead not in shown
    await until(watcher, lambda: state_of(watcher, "nodes") == "up")
    refused = error_text(
        await notebook.execute(f"%fabric_connect {login}@{dead},{dead}/{vhost}"),
        "BrokerUnavailable",
    )
    assert "None of 2 brokers" in refused
    assert refused.count(f"nothing listens on {dead}") == 2
    assert await notebook.value("fabric.uri") == f"'{masked}'"


async def test_names_are_the_notebook_s(start_notebook: StartNotebook, uri: str) -> None:
    """The default id is the name of the file; an existing variable `fabric` is not replaced."""
    notebook = await start_notebook({"JPY_SESSION_NAME": "/home/me/My analysis (2).ipynb"})
    await notebook.run("fabric = 'silk'")
    cell = await notebook.run(f"%fabric_connect {uri} --domain {DOMAIN}")
    assert "was left alone" in cell.displays[0].text
    assert "notebook.My-analysis-2" in cell.displays[0].text
    assert await notebook.value("fabric") == "'silk'"


async def test_settings_from_the_environment(
    start_notebook: StartNotebook, start_peer: StartPeer, uri: str
) -> None:
    """The six environment variables of amqp-fabric have the same meaning."""
    exchanges = {"DATA_EXCHANGE_NAME": "facts", "DISCOVERY_EXCHANGE_NAME": "my.discovery"}
    subscriber = await start_peer("data_subscriber", uri, domain="env_domain", env=exchanges)
    listener = await start_peer("listener", uri, domain="env_domain", env=exchanges)
    names = {"SERVICE_DOMAIN": "env_domain", "SERVICE_TYPE": "env_type", "SERVICE_ID": "env_id"}
    notebook = await start_notebook({"AMQP_URL": uri, **names, **exchanges})
    cell = await notebook.run("%fabric_connect")
    assert "env_type.env_id" in cell.displays[0].text
    received = await listener.event("alive")
    assert received["headers"]["service_domain"] == "env_domain"
    assert received["headers"]["service_id"] == "env_id"
    await notebook.run("%fabric_publish kind=A -- {'n': 1}")
    assert (await subscriber.event("data"))["body"] == '{"n":1}'

    # Options take precedence over %config, and that over the environment.
    await notebook.run(
        "%config FabricMagics.service_type = 'config_type'\n"
        "%config FabricMagics.service_id = 'config_id'\n"
        "%fabric_connect --id own_id"
    )
    assert await notebook.value("fabric.fqn") == "'env_domain.config_type.own_id'"


async def test_settings_from_ipython_s_config_file(
    start_notebook: StartNotebook, uri: str, tmp_path: Path, watcher: AmqBrokerConnector
) -> None:
    """IPython's config file can load the extension and set all settings of `%config`."""
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(
        "c.InteractiveShellApp.extensions = ['fabric_nb']\n"
        f"c.FabricMagics.uri = {uri!r}\n"
        f"c.FabricMagics.domain = {DOMAIN!r}\n"
        "c.FabricMagics.service_id = 'from_file'\n"
        "c.FabricMagics.keep_alive_seconds = 0.5\n"
        "c.FabricMagics.timeout = 7\n"
    )
    notebook = await start_notebook(folder=tmp_path, load=False)
    await notebook.run("%fabric_connect")
    assert await notebook.value("fabric.fqn, fabric.timeout") == (
        f"('{DOMAIN}.notebook.from_file', 7.0)"
    )
    await until(watcher, lambda: state_of(watcher, "from_file") == "up")
    assert await notebook.value("%fabric_call calc.calc1.multiply x=2 y=3") == "6"


async def test_loading_again_is_harmless(start_notebook: StartNotebook, uri: str) -> None:
    """Loading twice, reloading, and unloading twice have no side effects."""
    notebook = await start_notebook()
    await notebook.connect(uri, id="again")
    again = await notebook.run("%load_ext fabric_nb")
    assert "already loaded" in again.stdout
    await notebook.run(
        "import fabric_nb\nfabric_nb.load_ipython_extension(get_ipython())\n"
        "mine = [c for c in get_ipython().configurables if type(c).__name__ == 'FabricMagics']"
    )
    assert await notebook.value("len(mine)") == "1"
    assert await notebook.value("%fabric_call calc.calc1.multiply x=2 y=3") == "6"
    await notebook.run("%unload_ext fabric_nb")
    await notebook.run("fabric_nb.unload_ipython_extension(get_ipython())")
    gone = await notebook.execute("%fabric_call calc.calc1.multiply x=2 y=3")
    assert "not found" in error_text(gone)
    assert "FabricMagics" not in (await notebook.run("%config")).stdout
    await notebook.run("%load_ext fabric_nb")
    await notebook.run("%reload_ext fabric_nb")
    await notebook.connect(uri, id="again")
    assert await notebook.value("%fabric_call calc.calc1.multiply x=2 y=3") == "6"


async def test_loading_warns_of_the_older_nest_asyncio(start_notebook: StartNotebook) -> None:
    """If nest_asyncio 1.6 was applied before, loading warns, with the risk and the advice."""
    notebook = await start_notebook(load=False)
    await notebook.run("import asyncio; asyncio._nest_patched = True")
    shown = (await notebook.run("%load_ext fabric_nb")).stderr
    assert "restart the kernel and load fabric_nb first" in shown
    assert "nest_asyncio2" in shown
    assert "ipykernel 7.1" in shown
