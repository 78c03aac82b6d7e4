"""Members of the fabric over each kind of broker, and a raw channel beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aio_pika
import pytest

from tests.support.fabric import Members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def members(broker_uri: str) -> AsyncIterator[Members]:
    """Yield a factory of connectors, which are closed after the test."""
    async with Members(broker_uri) as members:
        yield members


@pytest.fixture
async def raw(broker_uri: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Yield a channel of aio_pika, without code of fabric_nb."""
    async with await aio_pika.connect(broker_uri) as connection:
        yield await connection.channel()
