"""Members on a broker that is about to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fabric import Members
from tests.support.rabbitmq_cluster import RabbitMqCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def members(rabbitmq_uri: str) -> AsyncIterator[Members]:
    """Opens connectors that end with the test."""
    async with Members(rabbitmq_uri) as members:
        yield members


@pytest.fixture(scope="session")
def cluster() -> Iterator[RabbitMqCluster]:
    """A private RabbitMQ cluster, started when the first test asks for it."""
    with RabbitMqCluster.start() as cluster:
        yield cluster
