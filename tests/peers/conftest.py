"""Members on the broker of the peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fabric import Members
from tests.support.rabbitmq_supervisor import TRANSIENT_QUEUES_DENIED, transient_queues_denied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def amqp_fabric_can_run() -> None:
    """Skip where the broker refuses the queues of amqp-fabric."""
    if transient_queues_denied():
        pytest.skip(TRANSIENT_QUEUES_DENIED)


@pytest.fixture
async def members(rabbitmq_uri: str) -> AsyncIterator[Members]:
    """Yield a factory of connectors, which are closed after the test."""
    async with Members(rabbitmq_uri) as members:
        yield members
