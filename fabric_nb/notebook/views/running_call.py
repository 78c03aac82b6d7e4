"""Pages of calls that are waited for, and of their output."""

from __future__ import annotations

from collections.abc import Sequence

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.mapping import MapHandle
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.notebook.pages import Badge, Page, counted
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.services import service_badge

MAX_LINES = 20
"""Lines of output that are shown while a call runs, and not collapsed afterwards."""


def call_page(
    fabric: FabricMember, pattern: ServicePattern, handle: CallHandle, *, output: bool = False
) -> Page:
    """Return a page with the call, its queue, progress and time, and the state of the service.

    Args:
        fabric: connection, for the state of the service.
        pattern: the service.
        handle: the call.
        output: with the last lines of its output.
    """
    badges = [Badge("not announced yet", "warn")]
    found = fabric.registry.find(pattern) or fabric.registry.find(pattern, gone=True)
    if len(found) == 1:
        state = service_badge(fabric.registry.state(found[0]))
        badges = [Badge(f"{found[0].name.id} is {state.text}", state.tone)]
    badges += state_badge(fabric)
    lines = _texts(handle.report) if output else []
    return Page(
        title=handle.label if handle.report.began else f"Waiting for {handle.label}",
        badges=badges,
        facts=[*handle.facts, *([counted(len(lines), "line")] if lines else [])],
        progress=None if handle.progress is None else handle.progress.fraction,
        printed="\n".join(lines[-MAX_LINES:]),
    )


def output_page(handle: CallHandle) -> Page:
    """Return a page with all output of a call, of which the last lines are not collapsed."""
    lines, omitted = _texts(handle.report), handle.report.omitted
    return Page(
        title=f"Output of {handle.label}",
        facts=[counted(len(lines), "line"), *([f"{omitted:,} more omitted"] if omitted else [])],
        printed="\n".join(lines[-MAX_LINES:]),
        folded=[("All lines", "\n".join(lines))] if len(lines) > MAX_LINES else [],
    )


def all_calls_page(handles: Sequence[CallHandle | MapHandle]) -> Page:
    """Return a page with the progress of several calls together."""
    done = sum(handle.done() for handle in handles)
    fraction = sum(map(_fraction, handles)) / len(handles)
    return Page(
        title=f"{done:,} of {counted(len(handles), 'call')}",
        facts=[
            *([f"{fraction:.0%}".replace("%", " %")] if any(h.progress for h in handles) else []),
            f"{max(handle.elapsed for handle in handles):.0f} s",
        ],
        progress=fraction,
    )


def cancelled_page(handle: CallHandle, sentence: str) -> Page:
    """Return a page with the outcome of a cancellation."""
    return Page(title=handle.label, badges=[Badge("cancelled", "quiet")], notes=[sentence])


def _fraction(handle: CallHandle | MapHandle) -> float:
    if handle.done():
        return 1.0
    return (handle.progress.fraction if handle.progress is not None else None) or 0.0


def _texts(report: CallReport) -> list[str]:
    return [line.text for line in report.lines]
