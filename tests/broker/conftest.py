"""Fixtures of the embedded broker's tests."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.process import BrokerProcess
from tests.broker.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def broker() -> Iterator[BrokerProcess]:
    """Start a broker for the session; it must exit without errors in its log."""
    with BrokerProcess() as process:
        yield process
        code, errors = process.stop()
        assert (code, errors) == (0, "")


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[RawClient]:
    """Open a connection with the channels 1 and 2."""
    with RawClient(broker.uri) as client:
        yield client.open(
            channels=2, capabilities={"consumer_cancel_notify": True, "connection.blocked": True}
        )


@pytest.fixture
def name() -> str:
    """Return a unique name."""
    return f"test-{uuid.uuid4().hex[:12]}"
