"""The notebooks of the manual: they run, and what is stored in them is what they showed."""

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
from tests.docs.running import Runs
from tests.faults.test_rights import rights
from tests.support.peers import DOMAIN

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRODUCTION = FOLDER / "07_production.ipynb"

# What would tell of the machine that ran a notebook, or open its broker.
LOCAL = re.compile(
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


def shown(notebook: nbformat.NotebookNode) -> Iterator[Mapping[str, str]]:
    """The forms of each rich output of a notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output.data


def own_names() -> Iterator[str]:
    """This machine and this user, unless they are called what anything may be called."""
    for name in (socket.gethostname(), getpass.getuser()):
        if len(name) > 4:
            yield name


@pytest.mark.timeout(300)
@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, runs: Runs) -> None:
    """Each notebook runs headless, every step shows what it should, and needs no kernel then."""
    executed = runs[path].result()
    steps = notebooks.steps(executed)
    assert steps
    failed = [f"{step.name} showed:\n{step.saw}" for step in steps if not step.passed]
    assert not failed, "\n\n".join(failed)
    assert not any("left out" in text for text in notebooks.output_texts(executed))
    assert not any(WIDGET in data for data in shown(executed))


@each_notebook
def test_stored_outputs_are_those_of_the_code(path: Path) -> None:
    """What a notebook shows without a kernel was shown by this very code (`make notebooks`)."""
    notebook = read(path)
    assert notebook.metadata.fabric_nb.ran == notebooks.code_digest(notebook)
    assert [step.name for step in notebooks.steps(notebook) if not step.passed] == []
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_stored_outputs_tell_nothing_of_the_machine(path: Path) -> None:
    """No folder, port, host, user or password of whoever ran the notebook is stored in it."""
    for text in notebooks.output_texts(read(path)):
        assert not LOCAL.search(text), text
        assert not any(name in text for name in own_names()), text


@each_notebook
def test_stored_outputs_need_no_kernel(path: Path) -> None:
    """Every output is there as text or HTML: nothing waits for a kernel or a widget's state."""
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    for data in shown(notebook):
        assert WIDGET not in data
        assert "text/plain" in data or "text/html" in data


@each_notebook
def test_stored_prints_are_joined(path: Path) -> None:
    """What a cell printed in a row is one output, in however many messages it came."""
    for cell in read(path).cells:
        names = [output.get("name") for output in cell.get("outputs", ())]
        assert not any(name and name == next_ for name, next_ in pairwise(names)), cell.source


def test_production_is_stored_as_it_was_on_a_cluster() -> None:
    """What is read of RabbitMQ was shown by a cluster with TLS, of which a node was killed."""
    told = "\n".join(notebooks.output_texts(read(PRODUCTION)))
    assert "left out" not in told
    assert told.count("@localhost  running") == 3
    assert "amqps://tour-caller:***@localhost:…" in told
    assert "certificate is of an authority" in told
    assert re.search(r"(\w+)@localhost was killed[\s\S]*this notebook is on (?!\1)\w+@", told)


def test_rights_on_production_are_those_of_the_manual() -> None:
    """The rights that the notebook gives are, for its domain, those that the manual tells."""
    (cell,) = [one.source for one in read(PRODUCTION).cells if "RIGHTS = {" in one.source]
    (given,) = [
        ast.literal_eval(statement.value)
        for statement in ast.parse(cell).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "RIGHTS"
    ]
    told = {role: tuple(rights(role).values()) for role in given}
    assert len(told) == 3
    assert {role: tuple(p.replace("store", DOMAIN) for p in given[role]) for role in given} == told


def test_every_cell_that_runs_is_a_step() -> None:
    """Each code cell of each notebook is a step with a name, so none goes unseen."""
    for path in NOTEBOOKS:
        for cell in read(path).cells:
            assert cell.cell_type != "code" or cell.metadata.fabric_nb.step, cell.source


def test_storing_takes_the_machine_out(tmp_path: Path) -> None:
    """Storing cuts folders and ports, and leaves all else as it was shown."""
    said = new_output(
        "stream", text='File "/home/ann/x/y.py", line 3\namqp://a:***@127.0.0.1:5671/'
    )
    page = new_output(
        "display_data", data={"text/html": "<td>a/b and 3/4</td><td>127.0.0.1:40001</td>"}
    )
    trace = new_output(
        "error", ename="KeyError", evalue="'/etc/x.conf'",
        traceback=['  File "/tmp/ipykernel_17/4711.py", line 1'],
    )  # fmt: skip
    made = new_notebook(cells=[new_code_cell("1", outputs=[said, page, trace])])
    notebooks.store(made, tmp_path / "made.ipynb")
    outputs = read(tmp_path / "made.ipynb").cells[0].outputs
    assert outputs[0].text == 'File "…/y.py", line 3\namqp://a:***@127.0.0.1:…/'
    assert dict(outputs[1].data) == {"text/html": "<td>a/b and 3/4</td><td>127.0.0.1:…</td>"}
    assert outputs[2].evalue == "'…/x.conf'"
    assert outputs[2].traceback == ['  File "<cell>", line 1']


def test_other_code_has_another_digest() -> None:
    """A notebook whose code was changed after it ran is found out; changed text is no matter."""
    made = new_notebook(cells=[new_code_cell("a = 1"), new_code_cell("b")])
    changed = new_notebook(cells=[new_code_cell("a = 2"), new_code_cell("b")])
    joined = new_notebook(cells=[new_code_cell("a = 1\nb")])
    digests = {notebooks.code_digest(one) for one in (made, changed, joined)}
    assert len(digests) == 3
