"""The broker in the foreground: options, output and exit."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from pamqp.commands import Connection, Queue

from tests.broker.process import ROOT, BrokerProcess
from tests.broker.rawclient import RawClient


def test_it_prints_a_banner_and_listens_on_the_loopback_interface_only() -> None:
    """The banner mentions development; other addresses refuse connections."""
    with BrokerProcess() as broker:
        assert "development" in broker.banner
        assert "Nothing is kept" in broker.banner
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((_other_address(), broker.port), 2)


def _other_address() -> str:
    """Return an address of this machine other than 127.0.0.1."""
    return "127.0.0.2"


def test_sigterm_closes_connections_and_ends_the_process() -> None:
    """Clients receive 320, and the exit code is 0."""
    with BrokerProcess() as broker, RawClient(broker.uri).open() as client:
        broker.terminate()
        _, close = client.receive()
        assert (close.name, close.reply_code) == ("Connection.Close", 320)
        client.send(0, Connection.CloseOk())
        assert broker.stop() == (0, "")


def test_a_port_in_use_is_an_error() -> None:
    """The program exits with an error that names the port."""
    with BrokerProcess() as broker:
        done = subprocess.run(
            [sys.executable, "-m", "fabric_nb.broker", "--port", str(broker.port)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode != 0
        assert str(broker.port) in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, 541),
        ({"auto_delete": True}, 541),
        ({"durable": True}, None),
        ({"durable": True, "auto_delete": True}, None),
        ({"exclusive": True}, None),
    ],
)
def test_denied_transient_nonexclusive_queues_fail_as_in_rabbitmq_4_3(
    options: dict[str, bool], code: int | None, name: str
) -> None:
    """The connection is closed with 541; durable or exclusive queues are accepted."""
    with (
        BrokerProcess("--deny", "transient_nonexcl_queues") as broker,
        RawClient(broker.uri).open() as client,
    ):
        answer = client.call(1, Queue.Declare(queue=name, **options))
        if code is None:
            assert isinstance(answer, Queue.DeclareOk)
        else:
            assert (answer.name, answer.reply_code) == ("Connection.Close", code)
            assert "transient_nonexcl_queues" in answer.reply_text
