"""Errors of magics are one sentence, without traceback and without password."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, error_text
from tests.support.peers import Peer
from tests.support.rabbitmq import RabbitMq
from tests.support.rabbitmq_supervisor import free_port

SECRET = "s3cret-pw"


@pytest.mark.parametrize(
    ("broker", "error", "text"),
    [
        ("http://me:SECRET@HOST/", "InvalidUri", "http://me:***@"),
        ("me:SECRET@HOST", "InvalidUri", "amqp://"),
        ("amqp://me:SECRET@HOST:notaport/", "InvalidUri", "port"),
        ("amqp://me:SECRET@:PORT/", "InvalidUri", "host"),
        ("amqp://me:SECRET@127.0.0.1:FREE/", "BrokerUnavailable", "nothing listens"),
        ("amqp://me:SECRET@no-such-host.invalid/", "BrokerUnavailable", "no-such-host.invalid"),
        ("amqp://me:SECRET@HOST/", "LoginRefused", "me:***@"),
        ("amqps://me:SECRET@HOST/", "TlsFailed", "TLS"),
        ("'amqp://me:SECRET@HOST/'", "LoginRefused", "me:***@"),
    ],
)
async def test_broker_that_cannot_be_had(
    notebook: Notebook, rabbitmq: RabbitMq, broker: str, error: str, text: str
) -> None:
    """An error of the broker is one sentence with the masked URI and the cause."""
    host = f"127.0.0.1:{rabbitmq.port}"
    for mark, value in (("SECRET", SECRET), ("HOST", host), ("FREE", free_port())):
        broker = broker.replace(mark, str(value))
    cell = await notebook.execute(f"%fabric_connect {broker} --domain my_project --timeout 5")
    sentence = error_text(cell, error)
    assert text in sentence
    assert "\n" not in sentence
    notebook.check_secret(f"amqp://me:{SECRET}@host/")


async def test_refused_login_and_missing_vhost(
    notebook: Notebook, rabbitmq: RabbitMq, uri: str
) -> None:
    """A wrong password and a missing virtual host have different errors."""
    wrong = f"amqp://me:{SECRET}@127.0.0.1:{rabbitmq.port}/"
    assert "refuse" in error_text(
        await notebook.execute(f"%fabric_connect {wrong}"), "LoginRefused"
    )
    missing = uri.rpartition("/")[0] + "/no-such-vhost"
    sentence = error_text(
        await notebook.execute(f"%fabric_connect {missing}"), "VirtualHostRefused"
    )
    assert "no-such-vhost" in sentence
    assert "virtual host" in sentence


async def test_silent_broker_is_given_up_in_time(notebook: Notebook) -> None:
    """Connecting to a server that does not respond fails after the timeout."""
    over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cell = await notebook.execute(
        f"%fabric_connect amqp://me:{SECRET}@127.0.0.1:{port}/ --timeout 1"
    )
    over.set()
    server.close()
    assert "me:***@" in error_text(cell, "BrokerUnavailable")
    assert "1 s" in error_text(cell, "BrokerUnavailable")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("fabric_connect URI --timeout soon", "'soon' is not a time in seconds"),
        ("fabric_connect URI --timeout -1", "time"),
        ("fabric_connect URI --nix", "--nix"),
        ("fabric_connect URI another", "another"),
        ("fabric_connect URI --domain", "expected one argument"),
        ("fabric_disconnect now then", "then"),
        ("fabric_doctor --wait never", "'never' is not a time in seconds"),
        ("fabric_services --nix", "--nix"),
        ("fabric_services calc", "calc"),
        ("fabric_call", "call"),
        ("fabric_call calc1.multiply 5", "'5' is not of the form name=expression"),
        ("fabric_call calc1.multiply x", "'x' is not of the form name=expression"),
        ("fabric_call calc1.multiply x=", "x= has no value"),
        ("fabric_call calc1.multiply x=1 x=2", "x is given twice"),
        ("fabric_call calc1.multiply x=1 +", "x=1 + is not a Python expression"),
        ("fabric_call calc1.multiply x=[1, 2", "cannot be read"),
        ("fabric_call calc1.multiply x='open", "'open"),
        ("fabric_call calc1.multiply x=1 --nix", "--nix"),
        ("fabric_call calc1.multiply x=1 --timeout 0", "'0' is not a time in seconds"),
        ("fabric_stop", "target"),
        ("fabric_stream kind", "'kind' is not of the form name=value"),
        ("fabric_stream =A", "'=A' is not of the form name=value"),
        ("fabric_stream --max-rows 0", "'0' is not a number from 1 upward"),
        ("fabric_stream --max-rows many", "'many' is not a number"),
        ("fabric_publish", "two dashes"),
        ("fabric_publish kind=A", "two dashes"),
        ("fabric_publish kind=A -- ", "two dashes"),
        ("fabric_publish kind -- 1", "'kind' is not of the form name=value"),
        ("fabric_publish kind=A -- {broken", "{broken"),
        ("fabric_logs calc", "calc"),
        ("fabric_call calc1.echo value=1 -i", "-i behind a value"),
        ("fabric_call calc1.echo value=1 --idempotent + 1", "'+' behind --idempotent"),
        ("fabric_call calc1.echo value=1 --idem", "--idem"),
        ("fabric_stream kind=A -n shared", "-n behind a value"),
        ("fabric_stream kind=A kind=B", "kind is given twice"),
        ("fabric_publish kind=A kind=B -- {}", "kind is given twice"),
    ],
)
async def test_line_that_is_wrong(notebook: Notebook, uri: str, line: str, text: str) -> None:
    """An invalid line is a usage error with the syntax of the magic."""
    cell = await notebook.execute("%" + line.replace("URI", uri))
    assert text in error_text(cell)
    assert await notebook.value("fabric.state.value") == "'connected'"


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("fabric_connect URI --domain my.project", "InvalidName", "domain"),
        ("fabric_connect URI --type 'a b'", "InvalidName", "type"),
        ("fabric_connect URI --id ü", "InvalidName", "id"),
        (f"fabric_connect URI --id {'x' * 64}", "InvalidName", "63"),
        ("fabric_doctor http://u:p@h/", "InvalidUri", "not AMQP"),
        ("fabric_call calc1", "InvalidName", "id.method"),
        ("fabric_call .", "InvalidName", "cannot be a service"),
        ("fabric_call a.b.c.d.e x=1", "InvalidName", "domain.type.id.method"),
        ("fabric_call calc1.mult-iply x=1", "InvalidName", "'mult-iply' cannot be a method"),
        ("fabric_call cälc.multiply x=1", "InvalidName", "cannot be a service"),
        (
            "fabric_call calc1.multiply x=nix y=1",
            "BadArgument",
            "x=nix raised NameError: name 'nix'",
        ),
        ("fabric_call calc1.multiply x=1/0", "BadArgument", "x=1/0 raised ZeroDivisionError"),
        (
            "fabric_call calc1.multiply x=1 --version 2.x.y",
            "InvalidName",
            "'2.x.y' is not a version requirement",
        ),
        ("fabric_call calc1.echo value=object()", "NotSerializable", "value"),
        ("fabric_call calc1.echo value={1, 2, object()}", "NotSerializable", "value"),
        ("fabric_stop a.b.c.d", "InvalidName", "'a.b.c.d' is not a service"),
        ("fabric_stop nix", "NotServed", "serves no 'nix'"),
        ("fabric_stream --domain a.b kind=A", "InvalidName", "domain"),
        ("fabric_publish kind=A -- nix", "BadArgument", "nix"),
        ("fabric_publish kind=A -- object()", "NotSerializable", "object"),
        ("fabric_logs --level LOUD", "UnknownLevel", "'LOUD' is not a log level"),
        ("fabric_logs --service a.b.c.d", "InvalidName", "'a.b.c.d' is not a service"),
        ("fabric_logs --domain a.b", "InvalidName", "domain"),
        ("fabric_connect {nix}", "BadArgument", "raised NameError: name 'nix' is not defined"),
        ("fabric_publish kind=$nix -- 1", "BadArgument", "raised NameError: name 'nix'"),
        ("fabric_stream kind={1 / 0}", "BadArgument", "raised ZeroDivisionError"),
        ("fabric_result nix", "BadArgument", "nix is no call"),
    ],
)
async def test_line_that_cannot_be_done(
    notebook: Notebook, uri: str, line: str, error: str, text: str
) -> None:
    """A valid line that fails raises an error, shown as one sentence."""
    cell = await notebook.execute("%" + line.replace("URI", uri))
    assert text in error_text(cell, error)
    assert await notebook.value("fabric.state.value") == "'connected'"


@pytest.mark.parametrize(
    ("line", "body", "error", "text"),
    [
        ("--id a.b", "def f(): pass", "InvalidName", "id"),
        ("--type 'a b'", "def f(): pass", "InvalidName", "type"),
        ("--nix", "def f(): pass", "UsageError", "--nix"),
        ("--prefetch 0", "def f(): pass", "UsageError", "'0' is not a number from 1 upward"),
        ("--only g", "def f(): pass", "NotServed", "--only names g"),
        ("--only _f", "def _f(): pass", "NotServed", "_f starts with an underscore"),
        ("", "x = 1", "NotServed", "defines no function to serve"),
        ("", "def _f(): pass", "NotServed", "defines no function to serve"),
        ("", "class A:\n    def f(self): pass", "NotServed", "defines no function to serve"),
    ],
)
async def test_serving_cell_that_is_wrong(
    notebook: Notebook, line: str, body: str, error: str, text: str
) -> None:
    """A serving cell with an invalid line, or without functions, fails with one sentence."""
    cell = await notebook.execute(f"%%fabric_serve {line}\n{body}")
    assert text in error_text(cell, error)
    assert cell.displays == []


@pytest.mark.parametrize(
    "line",
    [
        "%fabric_services",
        "%fabric_call calc1.multiply x=1 y=2",
        "%%fabric_serve\ndef f(): pass\nran = True",
        "%fabric_stop f",
        "%fabric_stream kind=A",
        "%fabric_publish kind=A -- 1",
        "%fabric_logs",
        "%fabric_calls",
    ],
)
async def test_everything_needs_a_connection(notebook: Notebook, uri: str, line: str) -> None:
    """Without a connection each magic advises to connect, and serving cells do not run."""
    await notebook.run("ran = False\n%fabric_disconnect")
    try:
        assert "run %fabric_connect first" in error_text(
            await notebook.execute(line), "NotConnected"
        )
        assert await notebook.value("ran") == "False"
    finally:
        await notebook.connect(uri, id="bad_input")


async def test_bad_messages_stop_nothing(
    notebook: Notebook, calc: Peer, watcher: AmqBrokerConnector
) -> None:
    """Unreadable messages are counted and shown; the stream continues."""
    cell = await notebook.run("s = %fabric_stream kind=bad")
    for body in (b"not json", b"\xff\xfe", b"", b"[[[", b"7"):
        await watcher.publish_data(body, {"kind": "bad"})
    await watcher.publish_data({"n": 1}, {"kind": "bad"})
    await cell.until(lambda cell: "unreadable" in cell.displays[0].text)
    assert await notebook.value("(await s.wait(timeout=60)) or s.df.n.dropna().tolist()") == "[1]"
    assert await notebook.value("%fabric_call calc1.multiply x=2 y=3") == "6"
    await notebook.run("%fabric_stop s")
