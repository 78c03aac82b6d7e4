"""Brokers that a test may kill and start again at the same place."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

from tests.broker.process import BrokerProcess
from tests.support.rabbitmq_supervisor import free_port

if TYPE_CHECKING:
    from typing import Self

    from tests.support.rabbitmq import RabbitMq


class Mortal(Protocol):
    """A broker that can be killed and started again; both block."""

    uri: str

    def kill(self) -> None:
        """End it at once (SIGKILL)."""

    def restart(self) -> None:
        """Start it again on the same port; returns when it takes connections."""

    @property
    def queues(self) -> list[str]:
        """The names of the queues that are there."""


class MortalRabbitMq:
    """The session's RabbitMQ node, seen from one virtual host."""

    def __init__(self, node: RabbitMq, vhost: str) -> None:
        self._node = node
        self._vhost = vhost
        self.uri = node.uri_for(vhost=vhost)

    def kill(self) -> None:
        self._node.kill()

    def restart(self) -> None:
        self._node.restart_node()

    @property
    def queues(self) -> list[str]:
        return [queue["name"] for queue in self._node.list_queues(self._vhost)]


class MortalEmbedded:
    """An embedded broker on a port of its own; ends with the `with` block."""

    def __init__(self) -> None:
        self._port = str(free_port())
        self._process = BrokerProcess("--port", self._port)
        self.uri = self._process.uri

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.__exit__(None, None, None)

    def restart(self) -> None:
        self._process = BrokerProcess("--port", self._port)

    @property
    def queues(self) -> list[str]:
        return []  # it has no tool that tells; what it keeps is tested with the broker
