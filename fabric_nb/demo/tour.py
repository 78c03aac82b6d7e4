"""Runs the tour headless, says what each step saw, and writes it as a page.

What a step must show stands with the step, in its cell's metadata: ``fabric_nb: {step,
expect}``, where `expect` is a regular expression for the cell's output as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

CELL_TIMEOUT = 60
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Step:
    """One step of the tour, and whether it gave what it should."""

    name: str
    saw: str
    passed: bool

    def __str__(self) -> str:
        line = next((line for line in reversed(self.saw.splitlines()) if line.strip()), "")
        return f"  {'ok  ' if self.passed else 'FAIL'}  {self.name:32} {line.strip()[:80]}"


def run_tour(notebook: Path, page: Path) -> list[Step]:
    """Execute a notebook from top to bottom and write the result as HTML.

    Args:
        notebook: the notebook; it is not changed.
        page: where to write the executed notebook as a page.

    Returns:
        The steps, in order.
    """
    tour = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        tour, timeout=CELL_TIMEOUT, allow_errors=True, resources={"metadata": {"path": "."}}
    )
    client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
    client.execute()
    page.parent.mkdir(parents=True, exist_ok=True)
    body, _ = HTMLExporter(
        exclude_input_prompt=True, exclude_output_prompt=True
    ).from_notebook_node(tour)
    page.write_text(body, encoding="utf-8")
    return [_step(cell) for cell in tour.cells if "fabric_nb" in cell.metadata]


def _step(cell: Any) -> Step:
    told = cell.metadata["fabric_nb"]
    saw = "\n".join(_text(output) for output in cell.outputs)
    may_fail = "raises-exception" in cell.metadata.get("tags", [])
    failed = any(output.output_type == "error" for output in cell.outputs)
    expected = told.get("expect") is None or re.search(told["expect"], saw, re.MULTILINE)
    return Step(told["step"], saw, bool(expected) and failed == may_fail)


def _text(output: Any) -> str:
    match output.output_type:
        case "stream":
            text = output.text
        case "error":
            text = "\n".join(output.traceback)
        case _:
            text = output.data.get("text/plain", "")
    return _ANSI.sub("", text)
