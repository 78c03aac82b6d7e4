"""Brokers that a test may kill and restart on the same port."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

from tests.broker.process import BrokerProcess
from tests.support.rabbitmq_supervisor import free_port

if TYPE_CHECKING:
    from typing import Self

    from tests.support.rabbitmq import RabbitMq


class RestartableBroker(Protocol):
    """A broker that can be killed and restarted; both methods block."""

    uri: str

    def kill(self) -> None:
        """Kill it (SIGKILL)."""

    def restart(self) -> None:
        """Start it again on the same port, and wait until it accepts connections."""

    @property
    def queues(self) -> list[str]:
        """Names of the queues."""


class RestartableRabbitMq:
    """A virtual host of the session's RabbitMQ node."""

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


class RestartableEmbedded:
    """An embedded broker; a context manager that ends it."""

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
        return []  # it has no management API; its queues are tested with the broker
