"""Message accounting of `make soak`: losses, duplicates, failures and growth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.message_accounting import (
    CONFIRMED,
    FAILED,
    PENDING,
    UNACKNOWLEDGED,
    Flow,
    ResourceUsage,
)

TOTAL = 3 * UNACKNOWLEDGED
OUTAGE_START = 2 * UNACKNOWLEDGED
"""First message of the outage, which affects ten messages."""


def flow(*missing: int, guaranteed: bool = False, may_repeat: bool = False) -> Flow:
    """Return confirmed messages with one outage, all received except `missing`."""
    messages = Flow("flow", guaranteed=guaranteed, may_repeat=may_repeat)
    for number in range(TOTAL):
        if number == OUTAGE_START:
            messages.begin_outage()
        if number == OUTAGE_START + 10:
            messages.end_outage()
        messages.statuses.append(CONFIRMED)
        if number not in missing:
            messages.receive(number)
    return messages


def test_messages_received_once_are_valid() -> None:
    """There are no violations if each message was confirmed and received once."""
    assert flow().violations() == []
    assert flow(guaranteed=True, may_repeat=True).violations() == []


def test_a_loss_is_allowed_in_an_outage_only() -> None:
    """An at-most-once message may be lost during an outage, but not before or after."""
    messages = flow(OUTAGE_START, OUTAGE_START + 9)
    assert messages.violations() == []
    assert f"{TOTAL:,} sent = {TOTAL - 2:,} received + 2 lost in 1 outages" in messages.balance
    for number in (0, OUTAGE_START - 2, OUTAGE_START + 10, TOTAL - 1):
        (violation,) = flow(number).violations()
        assert violation.startswith("flow: 1 were confirmed and lost without an outage")
        assert str([number]) in violation


def test_guaranteed_messages_must_not_be_lost() -> None:
    """A durable stream must not lose confirmed messages, even in an outage."""
    (violation,) = flow(OUTAGE_START + 1, guaranteed=True).violations()
    assert "1 were confirmed and lost, the first of them [2001]" in violation


def test_an_outage_includes_messages_in_flight() -> None:
    """Messages that were not received or not confirmed at the disconnection may be lost."""
    messages = Flow("flow", statuses=bytearray([CONFIRMED] * 5), received=bytearray([1, 1, 1]))
    messages.begin_outage()
    messages.begin_outage()  # of another member
    messages.statuses += bytes([CONFIRMED] * 2)
    messages.end_outage()
    assert messages.outages == [range(3, 7)]
    messages = Flow(
        "it", statuses=bytearray([CONFIRMED, PENDING, CONFIRMED]), received=bytearray(b"\1" * 3)
    )
    messages.begin_outage()
    messages.end_outage()
    assert messages.outages == [range(1, 3)]


@pytest.mark.parametrize(
    ("may_repeat", "number", "allowed"),
    [
        (False, OUTAGE_START, False),
        (True, OUTAGE_START, True),
        (True, OUTAGE_START - UNACKNOWLEDGED, True),
        (True, OUTAGE_START - UNACKNOWLEDGED - 1, False),
        (True, OUTAGE_START + 10, False),
    ],
)
def test_duplicates(may_repeat: bool, number: int, allowed: bool) -> None:
    """An at-least-once message may be duplicated around an outage, an at-most-once one never."""
    messages = flow(may_repeat=may_repeat)
    messages.receive(number)
    assert bool(messages.violations()) is not allowed


def test_every_message_must_have_an_outcome() -> None:
    """A failure without an outage, or a missing outcome, is a violation."""
    messages = flow()
    messages.statuses[OUTAGE_START] = FAILED
    assert messages.violations() == []
    messages.statuses[7] = FAILED
    messages.statuses[8] = PENDING
    assert messages.violations() == [
        "flow: 1 are neither confirmed nor failed, the first of them [8]",
        "flow: 1 failed without an outage, the first of them [7]",
    ]


def test_messages_dropped_by_the_sender_may_be_missing() -> None:
    """As many messages may be missing as the sender has counted as dropped."""
    messages = flow(3, 4)
    messages.dropped = 2
    assert messages.violations() == []
    messages.dropped = 1
    assert "[3, 4]" in messages.violations()[0]


def test_growth() -> None:
    """Each count that has grown is reported, and memory if it has grown beyond the limit."""
    idle = ResourceUsage(memory=100, tasks=9, threads=2, files=30, channels=12, queues=5)
    assert replace(idle, memory=900, tasks=8).growth_since(idle) == []
    for name in ("tasks", "threads", "files", "channels", "queues"):
        was = getattr(idle, name)
        grown = replace(idle, **{name: was + 1})
        assert grown.growth_since(idle) == [f"{name} grew from {was} to {was + 1}"]
    assert replace(idle, memory=140).memory_growth_since(idle) == []
    assert replace(idle, memory=141).memory_growth_since(idle) == ["memory grew from 100 to 141 MB"]
