"""The account of `make soak`: it finds what was lost, came twice, failed or has grown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.message_accounting import CONFIRMED, FAILED, UNACKNOWLEDGED, UNSETTLED, Flow, Used

MADE = 3 * UNACKNOWLEDGED
LATE = 2 * UNACKNOWLEDGED
"""A message of the outage, which begins with it and is over ten later."""


def flow(*unheard: int, kept: bool = False, repeats: bool = False) -> Flow:
    """Messages that all are confirmed and, but for these, heard; with one outage."""
    one = Flow("it", kept=kept, repeats=repeats)
    for number in range(MADE):
        if number == LATE:
            one.begin_outage()
        if number == LATE + 10:
            one.end_outage()
        one.fates.append(CONFIRMED)
        if number not in unheard:
            one.hear(number)
    return one


def test_all_that_came_once_is_right() -> None:
    """Nothing is wrong where each message was confirmed and came once."""
    assert flow().complaints() == []
    assert flow(kept=True, repeats=True).complaints() == []


def test_a_loss_is_allowed_in_an_outage_only() -> None:
    """What is at most once may be lost while the connection is, and not before or after it."""
    one = flow(LATE, LATE + 9)
    assert one.complaints() == []
    assert f"{MADE:,} sent = {MADE - 2:,} received + 2 lost in 1 outages" in one.balance
    for number in (0, LATE - 2, LATE + 10, MADE - 1):
        (complaint,) = flow(number).complaints()
        assert complaint.startswith("it: 1 were confirmed and lost without an outage")
        assert str([number]) in complaint


def test_what_is_kept_is_never_lost() -> None:
    """A durable stream loses nothing that was confirmed, also in an outage."""
    (complaint,) = flow(LATE + 1, kept=True).complaints()
    assert "1 were confirmed and lost, the first of them [2001]" in complaint


def test_an_outage_begins_with_what_is_under_way() -> None:
    """What was sent and not heard, or not confirmed, when the connection went may be lost."""
    one = Flow("it", fates=bytearray([CONFIRMED] * 5), heard=bytearray([1, 1, 1]))
    one.begin_outage()
    one.begin_outage()  # of another member
    one.fates += bytes([CONFIRMED] * 2)
    one.end_outage()
    assert one.outages == [range(3, 7)]
    one = Flow("it", fates=bytearray([CONFIRMED, UNSETTLED, CONFIRMED]), heard=bytearray(b"\1" * 3))
    one.begin_outage()
    one.end_outage()
    assert one.outages == [range(1, 3)]


@pytest.mark.parametrize(
    ("repeats", "number", "allowed"),
    [
        (False, LATE, False),
        (True, LATE, True),
        (True, LATE - UNACKNOWLEDGED, True),
        (True, LATE - UNACKNOWLEDGED - 1, False),
        (True, LATE + 10, False),
    ],
)
def test_coming_twice(repeats: bool, number: int, allowed: bool) -> None:
    """What is at least once may come twice around an outage, what is at most once never."""
    one = flow(repeats=repeats)
    one.hear(number)
    assert bool(one.complaints()) is not allowed


def test_every_message_ends() -> None:
    """A message that fails without an outage, or has no end, is complained of."""
    one = flow()
    one.fates[LATE] = FAILED
    assert one.complaints() == []
    one.fates[7] = FAILED
    one.fates[8] = UNSETTLED
    assert one.complaints() == [
        "it: 1 are neither confirmed nor failed, the first of them [8]",
        "it: 1 failed without an outage, the first of them [7]",
    ]


def test_what_the_sender_has_dropped_is_accounted_for() -> None:
    """What the sender counts as lost need not come; one more is complained of."""
    one = flow(3, 4)
    one.dropped = 2
    assert one.complaints() == []
    one.dropped = 1
    assert "[3, 4]" in one.complaints()[0]


def test_growth() -> None:
    """Each number that has grown is named, and memory when it grew by more than it may."""
    idle = Used(memory=100, tasks=9, threads=2, files=30, channels=12, queues=5)
    assert replace(idle, memory=900, tasks=8).more_than(idle) == []
    for name in ("tasks", "threads", "files", "channels", "queues"):
        was = getattr(idle, name)
        grown = replace(idle, **{name: was + 1})
        assert grown.more_than(idle) == [f"{name} grew from {was} to {was + 1}"]
    assert replace(idle, memory=140).grown_from(idle) == []
    assert replace(idle, memory=141).grown_from(idle) == ["memory grew from 100 to 141 MB"]
