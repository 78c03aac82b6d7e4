"""Reports of figures as text tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import calls, streams
from benchmarks.figures import Figures, Sample, Spread, summarise
from benchmarks.start import Run
from benchmarks.targets import Results, Verdict

Row = Sequence[str]


def tables(machine: dict[str, Any], results: Results, verdicts: Iterable[Verdict]) -> str:
    """Return all results as text."""
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
    if results.start:
        parts.append(
            f"Programs and commands, from their start to their end; medians\n{_runs(results.start)}"
        )
    parts.append(f"Targets\n{verdict_table(verdicts)}")
    return "\n\n".join(parts)


def as_json(machine: dict[str, Any], results: Results, verdicts: Iterable[Verdict]) -> Any:
    """Return all results for JSON, with every sample."""
    return {
        "machine": machine,
        "calls": [asdict(figure) for figure in summarise(results.calls, calls.REFERENCE)],
        "streams": [asdict(figure) for figure in summarise(results.streams, streams.REFERENCE)],
        "frames": results.frames,
        "start": [asdict(run) for run in results.start],
        "targets": [{**asdict(verdict), "met": verdict.met} for verdict in verdicts],
        "samples": {
            "calls": [asdict(sample) for sample in results.calls],
            "streams": [asdict(sample) for sample in results.streams],
        },
    }


def _machine(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
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
    for load in dict.fromkeys(figure.load for figure in figures):
        rows.append((f"{load}:", "", "", "", "", ""))
        rows += [_figure_row(figure) for figure in figures if figure.load == load]
    if all(figure.server_cpu_us is None for figure in figures):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return _table(head, rows)


def _figure_row(figure: Figures) -> Row:
    return (
        f"  {figure.kind}",
        f"{figure.rate.median:,.0f}",
        _spread(figure.rate_ratio),
        _micros(figure.cpu_us),
        f"{figure.cpu_ratio.median:.2f}" if figure.cpu_ratio else "",
        _micros(figure.server_cpu_us),
    )


def _runs(runs: Sequence[Run]) -> str:
    rows = []
    for load, kind in dict.fromkeys((run.load, run.kind) for run in runs):
        found = [run for run in runs if (run.load, run.kind) == (load, kind)]
        seconds, cpu, memory = (
            Spread.of([getattr(run, name) for run in found])
            for name in ("seconds", "cpu", "megabytes")
        )
        rows.append((f"{load}, {kind}", _spread(seconds), _spread(cpu), _spread(memory, digits=0)))
    return _table(("", "s (lowest-highest)", "CPU s", "MB"), rows)


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Return a table of targets and measurements."""
    verdicts = list(verdicts)
    measured = [verdict for verdict in verdicts if verdict.measured is not None]
    rows = [
        (
            verdict.name,
            f"{verdict.bound} {_amount(verdict.limit, 2)}",
            _spread(verdict.measured, digits=3),
            "met" if verdict.met else "NOT MET",
        )
        for verdict in measured
    ]
    table = _table(("", "target", "median (lowest-highest)", ""), rows)
    skipped = len(verdicts) - len(measured)
    return f"{table}\n{skipped} more were not measured in this run" if skipped else table


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
    """Format a table, with the first column left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )


def print_verdicts(
    about: dict[str, Any], verdicts: Sequence[Verdict], path: Path | None = None
) -> None:
    """Print verdicts with the machine; write them as JSON to `path`, if given."""
    print(f"{about['date']}, {about['cpu']}, {about['cores']} cores, Python {about['python']},")
    print(f"load before {about['load']}, after {about['load_after']}")
    print(verdict_table(verdicts))
    if path is not None:
        targets = [{**asdict(verdict), "met": verdict.met} for verdict in verdicts]
        text = json.dumps({"machine": about, "targets": targets}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
