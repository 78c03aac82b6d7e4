"""Fixtures of the fault tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fabric import Members
from tests.support.rabbitmq_cluster import RabbitMqCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def members(rabbitmq_uri: str) -> AsyncIterator[Members]:
    """Yield a factory of connectors, which are closed with the test."""
    async with Members(rabbitmq_uri) as members:
        yield members


@pytest.fixture
def cluster() -> Iterator[RabbitMqCluster]:
    """Start a private RabbitMQ cluster."""
    with RabbitMqCluster.start() as cluster:
        yield cluster
