"""Outcome of the cancellation of a call, as a sentence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from fabric_nb.errors import FabricError, render_briefly
from fabric_nb.fabric.core.waiting import wait_for
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.calls import INSTANCE

STOP_TIMEOUT = 0.3
"""Seconds within which an instance answers a cancellation."""


def cancellation(label: str, service: str, report: CallReport) -> str:
    """Return the outcome of a cancellation.

    Args:
        label: the call, as in ``reports.make``.
        service: short name of the service.
        report: report of the call, which has received the answer to the cancellation, if any.
    """
    cancelled, where = f"{label} was cancelled", report.where(service)
    if report.level == INSTANCE:
        return f"{cancelled}."
    if not report.sent:
        return f"{cancelled} before it was sent."
    if report.stopped:
        return f"{cancelled}: it was stopped{where}."
    if report.stopped is False:
        thread = f"a thread of {service} {report.instance}" if report.instance else "a thread"
        return f"{cancelled}, but it runs on in {thread}, which cannot be stopped."
    if report.began is not None:  # its event loop has not answered
        return (
            f"{cancelled}, but is still running{where}: a plain function on an event loop runs to"
            " its end."
        )
    if report.ahead is not None:
        return (
            f"{cancelled} in its queue: an instance on fabric_nb will not begin it, and one on"
            " amqp-fabric will."
        )
    if report.silence is not None:
        return (
            f"{cancelled}, but is still running as far as is known, because"
            f" {report.silence.text(service)}: a plain function on an event loop runs to its end."
        )
    return (
        f"{cancelled}, and it is not known whether it was stopped{where}: plain functions"
        " on an event loop, and services on amqp-fabric, run every call to its end."
    )


def cancellation_of_rows(reports: Sequence[CallReport]) -> str:
    """Return the outcome of the cancellation of a map's rows that were under way; empty for none.

    Args:
        reports: reports of these rows.
    """
    if not reports:
        return ""
    stopped = sum(report.stopped is True for report in reports)
    running = sum(report.stopped is False for report in reports)
    blocking = sum(report.is_blocking for report in reports)
    unknown = len(reports) - stopped - running - blocking
    rows = f"{'1 row' if len(reports) == 1 else f'{len(reports):,} rows'} under way"
    if stopped == len(reports):
        return f"The {rows} {'was' if stopped == 1 else 'were'} stopped."
    if unknown == len(reports):
        return f"The {rows} may run on, as plain functions and services on amqp-fabric do."
    parts = [
        f"{stopped:,} {'was' if stopped == 1 else 'were'} stopped" if stopped else "",
        f"{running:,} {'runs' if running == 1 else 'run'} on in threads" if running else "",
        f"{blocking:,} {'is' if blocking == 1 else 'are'} still running as far as is known"
        if blocking
        else "",
        f"{unknown:,} will not begin, unless they had begun already" if unknown else "",
    ]
    *first, last = (part for part in parts if part)
    return f"Of the {rows}, {', '.join(first)}{' and ' if first else ''}{last}."


async def wait_for_outcomes(reports: Sequence[CallReport], timeout: float = STOP_TIMEOUT) -> None:
    """Wait for the answers to cancellations, for at most `timeout` seconds."""
    await asyncio.gather(*(report.wait_stopped(timeout) for report in reports))


def explain_cancellation(
    error: asyncio.CancelledError, reports: Sequence[CallReport], sentence: Callable[[], str]
) -> None:
    """Make IPython show the outcome of a cancellation, which is awaited for that.

    Args:
        error: error with which the caller has ended.
        reports: reports of the calls, which receive the answers to the cancellation.
        sentence: returns the outcome, after the answers.
    """

    def outcome() -> str:
        with contextlib.suppress(FabricError):
            wait_for(lambda: wait_for_outcomes(reports), "the display of an error", "")
        return sentence()

    render_briefly(error, outcome)
