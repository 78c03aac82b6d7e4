"""Values computed from the reports of a call."""

from __future__ import annotations

import pytest

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.reports import Progress, progress_message


def receive(report: CallReport, *progress: Progress) -> None:
    for one in progress:
        message = progress_message(one, "id")
        report.receive(Delivery(message.body, type=message.type))


def test_time_left() -> None:
    """The time left is known from the second progress on, and 0 at the end."""
    report = CallReport("progress")
    assert report.remaining is None
    receive(report, Progress(0, 100, "loading"))
    assert report.remaining is None
    receive(report, Progress(50, 100, "loading"))
    assert report.remaining is not None
    receive(report, Progress(100, 100, "loading"))
    assert report.remaining == 0


@pytest.mark.parametrize(
    "following",
    [Progress(60, 100, "training"), Progress(60, 200, "loading"), Progress(10, 100, "loading")],
    ids=["another text", "another total", "less is done"],
)
def test_time_left_of_further_work(following: Progress) -> None:
    """The rate of one work says nothing about the next one."""
    report = CallReport("progress")
    receive(report, Progress(0, 100, "loading"), Progress(50, 100, "loading"), following)
    assert report.progress == following
    assert report.remaining is None


def test_time_left_without_a_total() -> None:
    """Without a total the time left is not known."""
    report = CallReport("progress")
    receive(report, Progress(1), Progress(2))
    assert report.remaining is None
