"""Values computed from the reports of a call."""

from __future__ import annotations

import time

import pytest

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.call_report import CallReport, Silence
from fabric_nb.fabric.rpc.cancellation import cancellation, cancellation_of_rows
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


def test_outcome_of_a_cancellation_without_an_answer() -> None:
    """A call is still running if it has begun, or if the instances that may have it are silent."""
    report = CallReport("progress")
    report.sent = True
    assert "it is not known whether it was stopped" in cancellation("a.b", "a", report)
    report.silence = Silence(frozenset({"7f3a"}), time.monotonic() - 8)
    assert (
        "still running as far as is known, because a 7f3a has not answered for 8 s"
        in cancellation("a.b", "a", report)
    )
    report.silence = Silence(frozenset({"7f3a", "11ab"}), time.monotonic() - 8)
    assert "because 2 instances of a have not answered for 8 s" in cancellation("a.b", "a", report)
    report.count_ahead(3)
    assert "was cancelled in its queue" in cancellation("a.b", "a", report)
    report.begin("7f3a", 1)
    assert "but is still running on a 7f3a: a plain" in cancellation("a.b", "a", report)


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ("sss", "The 3 rows under way were stopped."),
        ("u", "The 1 row under way may run on, as plain functions and services on amqp-fabric do."),
        ("b", "Of the 1 row under way, 1 is still running as far as is known."),
        (
            "sstbbu",
            (
                "Of the 6 rows under way, 2 were stopped, 1 runs on in threads, 2 are still running"
                " as far as is known and 1 will not begin, unless they had begun already."
            ),
        ),
    ],
)
def test_outcome_of_the_rows_of_a_map(outcomes: str, sentence: str) -> None:
    """The sentence counts the rows of each outcome, and leaves out those that do not occur."""
    reports = []
    for outcome in outcomes:
        report = CallReport("progress")
        report.stopped = {"s": True, "t": False}.get(outcome)
        if outcome == "b":
            report.begin("7f3a", 1)
        reports.append(report)
    assert cancellation_of_rows(reports) == sentence
