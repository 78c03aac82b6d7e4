"""Pages of a benchmark: while it is under way, and its result."""

from __future__ import annotations

from collections.abc import Iterator

from fabric_nb.fabric.rpc.bench_result import (
    INSTANCE_HEAD,
    SHOWN,
    BenchResult,
    BenchState,
    histogram_lines,
    instance_cells,
    ms_text,
    shown_errors,
)
from fabric_nb.notebook.pages import Badge, Bars, Cell, Chart, Page, Table, Tone, counted

TONES: dict[BenchState, Tone] = {
    "running": "busy",
    "done": "good",
    "interrupted": "warn",
    "stopped": "bad",
}
TICKS = 5
"""Labels below the histogram."""
CHART_FROM = 3
"""Seconds from which the rate is drawn over time."""


def live_page(result: BenchResult) -> Page:
    """Return the figures of a benchmark that is under way, with a bar of its progress."""
    return Page(
        f"Benchmark of {result.label}",
        [Badge(result.state, TONES[result.state])],
        result.live_facts,
        chart=_rates(result),
        progress=result.fraction,
    )


def result_page(result: BenchResult) -> Page:
    """Return the result of a benchmark, with a histogram of its latencies."""
    return Page(
        f"Benchmark of {result.label}",
        [
            Badge(result.state, TONES[result.state]),
            *([Badge(f"{result.errors:,} failed", "bad")] if result.errors else []),
        ],
        result.facts,
        chart=_rates(result),
        bars=_histogram(result),
        tables=list(_tables(result)),
        notes=result.notes,
    )


def result_html(result: BenchResult) -> str:
    """Return the result of a benchmark as HTML."""
    return result_page(result).html()


def _rates(result: BenchResult) -> Chart | None:
    rates = [round(second.rate) for second in result.by_second]
    return Chart("calls/s", rates) if len(rates) >= CHART_FROM else None


def _histogram(result: BenchResult) -> Bars | None:
    bins = result.histogram
    if not bins:
        return None
    edges = [bins[0].low, *(one.high for one in bins)]
    step, rest = divmod(len(bins), TICKS - 1)
    shown = edges[::step] if step and not rest else [edges[0], edges[-1]]
    return Bars(
        f"latency of {counted(result.latency.count, 'call')}",
        [one.number for one in bins],
        [ms_text(1000 * edge) for edge in shown],
        histogram_lines(bins),
    )


def _tables(result: BenchResult) -> Iterator[Table]:
    if result.latency.count:
        latencies = result.latencies
        yield Table(list(latencies), [[*map(ms_text, latencies.values())]], frozenset(latencies))
    errors = shown_errors(result.errors_by_type)
    rows: list[list[Cell]] = [[name, error.calls, error.example] for name, error in errors]
    yield Table(["error", "calls", "example"], rows, frozenset({"calls"}))
    if any(one.instance for one in result.by_instance):
        instances = [instance_cells(one) for one in result.by_instance[:SHOWN]]
        if (more := len(result.by_instance) - SHOWN) > 0:
            instances.append([f"{more:,} more", *[""] * (len(INSTANCE_HEAD) - 1)])
        yield Table(INSTANCE_HEAD, instances, frozenset(INSTANCE_HEAD[1:]))
