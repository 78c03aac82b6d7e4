"""Execution and stored outputs of the manual's notebooks."""

from __future__ import annotations

import ast
import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.docs import notebooks
from tests.faults.test_permissions import permissions
from tests.support.peers import DOMAIN

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRODUCTION = FOLDER / "07_production.ipynb"

# Traces of the machine that ran a notebook, and passwords of its broker.
LOCAL_DATA = re.compile(
    r"/(home|root|tmp|work|Users|usr|opt|var)/"
    r"|site-packages"
    r"|(127\.0\.0\.1|localhost):\d"
    r"|amqps?://[^\s:@/]*:(?!\*\*\*@|password@)[^\s@/]+@"
)
WIDGET = "application/vnd.jupyter.widget-view+json"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def rich_outputs(notebook: nbformat.NotebookNode) -> Iterator[Mapping[str, str]]:
    """Yield the data of each rich output of a notebook, by MIME type."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output.data


def own_names() -> Iterator[str]:
    """Yield the names of this machine and this user, unless they are too short to be specific."""
    for name in (socket.gethostname(), getpass.getuser()):
        if len(name) > 4:
            yield name


@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, runs: notebooks.Runs) -> None:
    """Each notebook runs headless, with the expected output of every step and without widgets."""
    executed = runs[path].result()
    steps = notebooks.steps(executed)
    assert steps
    failed = [f"{step.name} printed:\n{step.output}" for step in steps if not step.passed]
    assert not failed, "\n\n".join(failed)
    assert not any("left out" in text for text in notebooks.output_texts(executed))
    assert not any(WIDGET in data for data in rich_outputs(executed))


@each_notebook
def test_stored_outputs_match_the_code(path: Path) -> None:
    """The stored outputs of a notebook are those of its current code (`make notebooks`)."""
    notebook = read(path)
    assert notebook.metadata.fabric_nb.ran == notebooks.code_digest(notebook)
    assert [step.name for step in notebooks.steps(notebook) if not step.passed] == []
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_stored_outputs_contain_no_local_data(path: Path) -> None:
    """A stored notebook contains no folder, port, host, user or password of its run."""
    for text in notebooks.output_texts(read(path)):
        assert not LOCAL_DATA.search(text), text
        assert not any(name in text for name in own_names()), text


@each_notebook
def test_stored_outputs_need_no_kernel(path: Path) -> None:
    """Every stored output has a form as text or HTML, and none is a widget."""
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    for data in rich_outputs(notebook):
        assert WIDGET not in data
        assert "text/plain" in data or "text/html" in data


@each_notebook
def test_stored_prints_are_one_output(path: Path) -> None:
    """Consecutive prints of a cell are one output."""
    for cell in read(path).cells:
        names = [output.get("name") for output in cell.get("outputs", ())]
        assert not any(name and name == next_ for name, next_ in pairwise(names)), cell.source


def test_stored_production_ran_on_a_cluster() -> None:
    """The stored outputs on RabbitMQ are those of a cluster with TLS, with one node killed."""
    texts = "\n".join(notebooks.output_texts(read(PRODUCTION)))
    assert "left out" not in texts
    assert texts.count("@localhost  running") == 3
    assert "amqps://tour-caller:***@localhost:…" in texts
    assert "certificate is of an authority" in texts
    assert re.search(r"(\w+)@localhost was killed[\s\S]*this notebook is on (?!\1)\w+@", texts)


def test_permissions_of_production_match_the_manual() -> None:
    """The permissions in the notebook are those of the manual, for its domain."""
    (code,) = [cell.source for cell in read(PRODUCTION).cells if "PERMISSIONS = {" in cell.source]
    (stored,) = [
        ast.literal_eval(statement.value)
        for statement in ast.parse(code).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "PERMISSIONS"
    ]
    manual = {role: tuple(permissions(role).values()) for role in stored}
    assert len(manual) == 3
    renamed = {
        role: tuple(pattern.replace("store", DOMAIN) for pattern in patterns)
        for role, patterns in stored.items()
    }
    assert renamed == manual


def test_every_code_cell_is_a_step() -> None:
    """Each code cell of each notebook is a step with a name, so that its output is checked."""
    for path in NOTEBOOKS:
        for cell in read(path).cells:
            assert cell.cell_type != "code" or cell.metadata.fabric_nb.step, cell.source


def test_storing_removes_local_data(tmp_path: Path) -> None:
    """Storing removes folders and ports, and preserves everything else."""
    printed = new_output(
        "stream", text='File "/home/ann/x/y.py", line 3\namqp://a:***@127.0.0.1:5671/'
    )
    page = new_output(
        "display_data", data={"text/html": "<td>a/b and 3/4</td><td>127.0.0.1:40001</td>"}
    )
    trace = new_output(
        "error", ename="KeyError", evalue="'/etc/x.conf'",
        traceback=['  File "/tmp/ipykernel_17/4711.py", line 1'],
    )  # fmt: skip
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[printed, page, trace])])
    notebooks.store(notebook, tmp_path / "stored.ipynb")
    outputs = read(tmp_path / "stored.ipynb").cells[0].outputs
    assert outputs[0].text == 'File "…/y.py", line 3\namqp://a:***@127.0.0.1:…/'
    assert dict(outputs[1].data) == {"text/html": "<td>a/b and 3/4</td><td>127.0.0.1:…</td>"}
    assert outputs[2].evalue == "'…/x.conf'"
    assert outputs[2].traceback == ['  File "<cell>", line 1']


def test_changed_code_has_a_different_digest() -> None:
    """The digest depends on code and its division into cells."""
    original = new_notebook(cells=[new_code_cell("a = 1"), new_code_cell("b")])
    changed = new_notebook(cells=[new_code_cell("a = 2"), new_code_cell("b")])
    joined = new_notebook(cells=[new_code_cell("a = 1\nb")])
    digests = {notebooks.code_digest(notebook) for notebook in (original, changed, joined)}
    assert len(digests) == 3
