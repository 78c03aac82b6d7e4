"""Record of instances that come and go."""

from __future__ import annotations

import pytest

from fabric_nb.fabric.discovery import registry as registry_module
from fabric_nb.fabric.discovery.instance_events import MAX_EVENTS
from fabric_nb.fabric.wire.names import ServiceName
from tests.unit.test_registry import Receiver

NOON = 1_900_000_000.0


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Receiver of keep-alives, whose clock reads 1000 at noon."""
    receiver = Receiver()
    monkeypatch.setattr(registry_module.time, "time", lambda: NOON + receiver.clock.now - 1000)
    return receiver


def seen(receiver: Receiver) -> list[tuple[float, str, str]]:
    """Return seconds after noon, kind and instance of each event."""
    events = receiver.registry.instance_events()
    return [(round(event.time - NOON, 6), event.kind, event.instance) for event in events]


def test_came_and_left(receiver: Receiver) -> None:
    """The first keep-alive and the goodbye of an instance are events, other keep-alives are not."""
    receiver.receive()
    for _ in range(3):
        receiver.wait(5)
        receiver.receive()
    receiver.wait(5)
    receiver.receive(leaving=True)
    receiver.receive(leaving=True)
    assert seen(receiver) == [(0, "came", "i1"), (20, "left", "i1")]
    assert receiver.registry.instance_events()[0].service == "d.calc.c1"
    receiver.receive()
    assert seen(receiver)[2:] == [(20, "back", "i1")]


def test_gone_and_back(receiver: Receiver) -> None:
    """An instance is gone when its silence is too long, while it is and after it has come back."""
    receiver.receive()
    receiver.wait(16.4)
    assert seen(receiver) == [(0, "came", "i1")]
    receiver.wait(100)
    gone = [(0, "came", "i1"), (16.5, "gone", "i1")]
    assert seen(receiver) == gone
    receiver.receive(version="2")
    assert seen(receiver) == [*gone, (116.4, "back", "i1")]
    receiver.wait(5000)
    receiver.receive(ServiceName("d", "calc", "c2"))
    assert len(receiver.registry) == 1
    assert seen(receiver)[3:] == [(132.9, "gone", "i1"), (5116.4, "came", "i1")]


def test_times_before_and_after_an_outage(receiver: Receiver) -> None:
    """An outage moves no event that was before it, and is not counted as silence."""
    receiver.receive(instance="before")
    receiver.wait(20)
    receiver.receive(instance="after")
    receiver.registry.connection_lost()
    receiver.wait(500)
    receiver.registry.connection_made()
    receiver.wait(24)
    assert seen(receiver) == [
        (0, "came", "before"),
        (16.5, "gone", "before"),
        (20, "came", "after"),
    ]
    receiver.wait(2)
    assert seen(receiver)[3:] == [(520 + 8 + 16.5, "gone", "after")]


def test_busy(receiver: Receiver) -> None:
    """A blocked event loop is one event at its start and one at its end, not one a keep-alive."""
    receiver.receive()
    for busy in (1.0, 2.0, None, None):
        receiver.wait(5)
        receiver.receive(busy_since=busy)
    receiver.receive(instance="i2", busy_since=3.0)
    assert seen(receiver) == [
        (0, "came", "i1"),
        (5, "busy", "i1"),
        (15, "back", "i1"),
        (20, "came", "i2"),
        (20, "busy", "i2"),
    ]


def test_amqp_fabric(receiver: Receiver) -> None:
    """The instances of a service on amqp-fabric have no ids, and come and go together."""
    receiver.receive(instance=None)
    receiver.wait(40)
    assert seen(receiver) == [(0, "came", ""), (16.5, "gone", "")]


def test_bounded(receiver: Receiver) -> None:
    """The newest thousand events are kept, and the number of the others is known."""
    for number in range(MAX_EVENTS + 10):
        receiver.receive(ServiceName("d", "calc", f"c{number}"))
    events = receiver.registry.events
    assert (len(events), events.dropped, events.changes) == (MAX_EVENTS, 10, MAX_EVENTS + 10)
    assert next(iter(events)).service == "d.calc.c10"
