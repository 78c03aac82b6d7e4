"""Run the manual's notebooks from top to bottom, and store their outputs.

The expected output of a cell is in its metadata: ``fabric_nb: {step, expect}``,
where `expect` is a regular expression for the cell's output as text. `run` describes
``freeze``. The metadata of a stored notebook contain the digest of the code that produced its
outputs: ``fabric_nb: {ran}``.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbclient.util import ensure_async

from fabric_nb.fabric.core.files import replacing
from tests.support.kernels import unix_sockets

CELL_TIMEOUT = 300
"""Seconds that a cell may run."""

Runs = Mapping[Path, "Future[nbformat.NotebookNode]"]
"""Futures of executed notebooks, by their paths."""

# Views are redrawn at most four times a second.
_SETTLE = "import asyncio; await asyncio.sleep(0.6)"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WIDGET = "application/vnd.jupyter.widget-view+json"
# Traces of the machine that ran a notebook: ports, folders, and files of its kernel.
_LOCAL_DATA = (
    (re.compile(r"\b(127\.0\.0\.1|localhost):\d{4,5}\b"), r"\1:…"),
    (re.compile(r"(?<![\w<:/.…])/(?:[\w.+-]+/)+(?=[\w.+-])"), "…/"),
    (re.compile(r"…/\d+\.py\b"), "<cell>"),
)


@dataclass(frozen=True)
class Step:
    """One step of a notebook, its output, and whether it passed."""

    name: str
    output: str
    passed: bool

    def __str__(self) -> str:
        line = next((line for line in reversed(self.output.splitlines()) if line.strip()), "")
        return f"  {'ok  ' if self.passed else 'FAIL'}  {self.name:36} {line.strip()[:80]}"


class _Client(NotebookClient):
    """A client that also processes updates of live outputs sent between two cells."""

    async def _async_poll_output_msg(
        self, parent_msg_id: str, cell: nbformat.NotebookNode, cell_index: int
    ) -> None:
        assert self.kc is not None
        while True:
            message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=None))
            of_this_cell = message["parent_header"].get("msg_id") == parent_msg_id
            if of_this_cell or message["msg_type"] == "update_display_data":
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    return


def run(path: Path) -> nbformat.NotebookNode:
    """Execute a notebook from top to bottom, in its folder, and return it; the file is unchanged.

    A cell with ``freeze`` stops the live views above it; the outputs of the cells above it are
    kept in their state before it runs.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    client = _Client(
        notebook,
        config=unix_sockets(),
        timeout=CELL_TIMEOUT,
        allow_errors=True,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
    environment = {**os.environ, "JPY_SESSION_NAME": str(path)}
    kept: list[Any] = []
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(tuple(notebook.cells)):
            if cell.metadata.get("fabric_nb", {}).get("freeze"):
                _settle(client)
                kept += copy.deepcopy(notebook.cells[len(kept) : index])
            client.execute_cell(cell, index)
        _settle(client)
    notebook.cells[: len(kept)] = kept
    _drop_live_forms(notebook)
    _join_streams(notebook)
    return notebook


def _drop_live_forms(notebook: nbformat.NotebookNode) -> None:
    """Remove widgets, which have no kernel any more; their last state in HTML or text stays."""
    for cell in notebook.cells:
        for output in tuple(cell.get("outputs", ())):
            data = output.get("data")
            if data is not None:
                data.pop(_WIDGET, None)
                if not data:
                    cell.outputs.remove(output)


def _join_streams(notebook: nbformat.NotebookNode) -> None:
    """Join consecutive outputs to the same stream, which can arrive in several messages."""
    for cell in notebook.cells:
        joined: list[Any] = []
        for output in cell.get("outputs", ()):
            last = joined[-1] if joined else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last["text"] += output.text
            else:
                joined.append(output)
        if "outputs" in cell:
            cell.outputs = joined


def _settle(client: NotebookClient) -> None:
    """Run a cell that waits until views have been redrawn."""
    client.nb.cells.append(nbformat.v4.new_code_cell(_SETTLE))
    client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1, store_history=False)
    client.nb.cells.pop()


def steps(notebook: nbformat.NotebookNode) -> list[Step]:
    """Return the steps of an executed notebook."""
    return [_step(cell) for cell in notebook.cells if "fabric_nb" in cell.metadata]


def report(steps: Sequence[Step]) -> int:
    """Print each step, and the outputs of failed ones to standard error; return their number."""
    for step in steps:
        print(step)
    failed = [step for step in steps if not step.passed]
    for step in failed:
        print(f"\n{step.name} printed:\n{step.output}", file=sys.stderr)
    return len(failed)


def store(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write an executed notebook, readable without a kernel and without traces of this machine."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            _scrub(output)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata.fabric_nb = {"ran": code_digest(notebook)}
    with replacing(path) as draft:
        draft.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """Return a digest of the code cells of a notebook."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def output_texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Yield every text in a notebook's outputs, in any form."""
    for output in _outputs(notebook):
        yield from _texts(output)


def _outputs(notebook: nbformat.NotebookNode) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for part in value.values():
                yield from _texts(part)
        case list():
            for part in value:
                yield from _texts(part)


def _scrub(output: Any) -> None:
    for name in ("text", "traceback", "evalue"):
        if name in output:
            output[name] = _without_local_data(output[name])
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output["data"][kind] = _without_local_data(content)


def _without_local_data(text: Any) -> Any:
    if isinstance(text, list):
        return [_without_local_data(line) for line in text]
    for pattern, replacement in _LOCAL_DATA:
        text = pattern.sub(replacement, text)
    return text


def _step(cell: Any) -> Step:
    expectation = cell.metadata["fabric_nb"]
    output = "\n".join(_plain(one) for one in cell.outputs)
    may_fail = "raises-exception" in cell.metadata.get("tags", [])
    failed = any(one.output_type == "error" for one in cell.outputs)
    expected = _matches(expectation.get("expect"), output)
    return Step(expectation["step"], output, expected and failed == may_fail)


def _matches(expected: str | None, output: str) -> bool:
    return expected is None or re.search(expected, output, re.MULTILINE) is not None


def _plain(output: Any) -> str:
    match output.output_type:
        case "stream":
            text = output.text
        case "error":
            text = "\n".join(output.traceback)
        case _:
            text = output.data.get("text/plain", "")
    return _ANSI.sub("", text)
