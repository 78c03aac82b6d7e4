"""Members on the broker of the peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fabric import Members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def members(rabbitmq_uri: str) -> AsyncIterator[Members]:
    """Yield a factory of connectors, which are closed after the test."""
    async with Members(rabbitmq_uri) as members:
        yield members
