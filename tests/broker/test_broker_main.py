"""The broker in the foreground: its options, its words, and how it ends."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from pamqp.commands import Connection, Queue

from tests.broker.process import ROOT, BrokerProcess
from tests.broker.rawclient import RawClient


def test_it_says_what_it_is_and_listens_on_the_loopback_interface_only() -> None:
    """For development, nothing kept; not to be reached from another machine."""
    with BrokerProcess() as broker:
        assert "development" in broker.banner
        assert "Nothing is kept" in broker.banner
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((_other_address(), broker.port), 2)


def _other_address() -> str:
    """An address of this machine that is not 127.0.0.1."""
    return "127.0.0.2"


def test_it_ends_on_sigterm_and_tells_its_clients() -> None:
    """With 320, and exit code 0."""
    with BrokerProcess() as broker, RawClient(broker.uri).open() as client:
        broker.terminate()
        _, told = client.receive()
        assert (told.name, told.reply_code) == ("Connection.Close", 320)
        client.send(0, Connection.CloseOk())
        assert broker.stop() == (0, "")


def test_a_port_that_is_taken_is_an_error() -> None:
    """The program ends, and says which port."""
    with BrokerProcess() as broker:
        done = subprocess.run(
            [sys.executable, "-m", "fabric_nb.broker", "--port", str(broker.port)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=20,
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
def test_denying_transient_nonexclusive_queues_is_what_rabbitmq_4_3_does(
    options: dict[str, bool], code: int | None, name: str
) -> None:
    """The connection is closed with 541; durable or exclusive queues are as always."""
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
