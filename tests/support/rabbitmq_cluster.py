"""Private RabbitMQ cluster of three nodes for tests.

with RabbitMqCluster.start() as cluster:
connect(cluster.uri_for())
cluster.node_at(port).kill()
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.support.rabbitmq import RabbitMq
from tests.support.rabbitmq_supervisor import free_port

if TYPE_CHECKING:
    from typing import Self

NAMES = ("first", "second", "third")


class RabbitMqCluster:
    """A cluster of three nodes; all methods block."""

    def __init__(self, nodes: list[RabbitMq], start_seconds: float) -> None:
        self.nodes = nodes
        self.start_seconds = start_seconds

    @classmethod
    def start(cls, **settings: Any) -> Self:
        """Start the nodes together and wait until all accept connections.

        The settings are those of `RabbitMq.start`, the same for each.
        """
        began = time.monotonic()
        secret, epmd_port = secrets.token_hex(16), free_port()

        def start(name: str) -> RabbitMq:
            return RabbitMq.start(
                name=name, cluster=NAMES, secret=secret, epmd_port=epmd_port, **settings
            )

        with ExitStack() as started, ThreadPoolExecutor(len(NAMES)) as pool:
            starting = [pool.submit(start, name) for name in NAMES]
            nodes = [started.enter_context(future.result()) for future in starting]
            started.pop_all()
        return cls(nodes, time.monotonic() - began)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    def uri_for(self, vhost: str = "/") -> str:
        """Return a URI with all nodes."""
        login, _, _ = self.nodes[0].uri_for(vhost=vhost).rpartition("@")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"{login}@{hosts}/{'%2F' if vhost == '/' else vhost}"

    def node_at(self, port: int | None) -> RabbitMq:
        """Return the node that listens on this port."""
        return next(node for node in self.nodes if node.port == port)
