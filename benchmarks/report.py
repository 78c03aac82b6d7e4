"""The figures as tables of text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks import calls, streams
from benchmarks.figures import Figures, Sample, Spread, summarise
from benchmarks.targets import Results, Verdict

Row = Sequence[str]


def tables(machine: dict[str, Any], results: Results, verdicts: Iterable[Verdict]) -> str:
    """Everything, for a person."""
    parts = [_machine(machine)]
    if results.calls:
        parts.append(
            "Calls of 42 bytes of JSON, echoed; CPU per call, minimum / median; ratios to bare"
            f" aiormq\n{_figures(results.calls, calls.REFERENCE, 'calls/s')}"
        )
    if results.streams:
        parts.append(
            "Messages of one row, 120 bytes of JSON; CPU per row, minimum / median; ratios to"
            f" bare aiormq\n{_figures(results.streams, streams.REFERENCE, 'rows/s')}"
        )
    parts.append(f"To reach\n{verdict_table(verdicts)}")
    return "\n\n".join(parts)


def as_json(machine: dict[str, Any], results: Results, verdicts: Iterable[Verdict]) -> Any:
    """Everything, for a program, with every sample."""
    return {
        "machine": machine,
        "calls": [asdict(one) for one in summarise(results.calls, calls.REFERENCE)],
        "streams": [asdict(one) for one in summarise(results.streams, streams.REFERENCE)],
        "frames": results.frames,
        "targets": [{**asdict(one), "met": one.met} for one in verdicts],
        "samples": {
            "calls": [asdict(sample) for sample in results.calls],
            "streams": [asdict(sample) for sample in results.streams],
        },
    }


def _machine(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}\n"
        f"Python {machine['python']}, {machine.get('broker', 'no broker')}; {packages}\n"
        f"load before {machine['load']}, after {machine.get('load_after', '?')};"
        f" {machine['rounds']} rounds"
    )


def _figures(samples: Sequence[Sample], reference: str, unit: str) -> str:
    head: Row = ("", unit, "ratio (lowest-highest)", "CPU µs", "ratio", "server CPU µs")
    figures = summarise(samples, reference)
    rows: list[Row] = []
    for load in dict.fromkeys(one.load for one in figures):
        rows.append((f"{load}:", "", "", "", "", ""))
        rows += [_figure_row(one) for one in figures if one.load == load]
    if all(one.server_cpu_us is None for one in figures):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return _table(head, rows)


def _figure_row(one: Figures) -> Row:
    return (
        f"  {one.kind}",
        f"{one.rate.median:,.0f}",
        _spread(one.rate_ratio),
        _micros(one.cpu_us),
        f"{one.cpu_ratio.median:.2f}" if one.cpu_ratio else "",
        _micros(one.server_cpu_us),
    )


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """What was to be reached, beside what was found."""
    verdicts = list(verdicts)
    measured = [one for one in verdicts if one.found is not None]
    rows = [
        (
            one.what,
            f"{one.bound} {_amount(one.limit, 2)}",
            _spread(one.found, digits=3),
            "met" if one.met else "NOT MET",
        )
        for one in measured
    ]
    table = _table(("", "to reach", "median (lowest-highest)", ""), rows)
    left = len(verdicts) - len(measured)
    return f"{table}\n{left} more were not measured in this run" if left else table


def _spread(spread: Spread | None, digits: int = 2) -> str:
    if spread is None:
        return ""
    median = _amount(spread.median, digits)
    if spread.low == spread.high:
        return median
    return f"{median} ({_amount(spread.low, digits)}-{_amount(spread.high, digits)})"


def _amount(value: float, digits: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def _micros(spread: Spread | None) -> str:
    if spread is None:
        return ""
    digits = 0 if spread.median >= 10 else 1
    return f"{spread.low:.{digits}f} / {spread.median:.{digits}f}"


def _table(head: Row, rows: Sequence[Row]) -> str:
    """Columns as wide as they must be, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )
