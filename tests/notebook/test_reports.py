"""`%fabric` with views, and `%fabric_report`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.notebook.notebooks import Notebook, error_text, password_of
from tests.support.cells import plain

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook


async def test_views_under_one_cell(notebook: Notebook) -> None:
    """A cell shows the views it names, in order, with streams and charts of variables."""
    await notebook.run("load = %fabric_stream kind=LOAD\n%fabric_publish kind=LOAD -- {'cpu': 5}")
    await notebook.run("_ = await load.wait(1, timeout=60)")
    await notebook.run("%fabric_call calc1.multiply x=2 y=3")
    cell = await notebook.run(
        "limit = 1\n%fabric calls load load.plot load.plot('cpu', title='CPU {limit}') services"
    )
    shown = plain(cell.displays[-1].text)
    titles = ["Calls", "Stream kind=LOAD", "kind=LOAD", "CPU {limit}", "Services"]
    assert [shown.find(title) for title in titles] == sorted(shown.find(title) for title in titles)
    assert "multiply" in shown
    await notebook.run("%fabric_call calc1.divide x=2 y=3")
    await cell.until(lambda cell: "divide" in cell.displays[-1].text)


@pytest.mark.parametrize(
    ("line", "error", "sentence"),
    [
        (
            "servces",
            "UsageError",
            "no view 'servces': did you mean 'services'. Choose from services, .* and graph",
        ),
        ("calls number", "UsageError", "number is of type int, which is no view"),
        ("calls number.plot", "BadArgument", "number.plot raised AttributeError"),
        ("load.plot(", "UsageError", "is not a Python expression"),
        ("calls --domain", "UsageError", "unrecognized arguments: --domain"),
    ],
)
async def test_bad_views(notebook: Notebook, line: str, error: str, sentence: str) -> None:
    """A word that is no view is one sentence, and nothing is shown."""
    await notebook.run("number = 5")
    for magic in ("%fabric", "%fabric_report x.html"):
        failed = await notebook.execute(f"{magic} {line}")
        assert re.search(sentence, error_text(failed, error))
    assert await notebook.value("__import__('os').path.exists('x.html')") == "False"


async def test_report_of_what_is_shown(notebook: Notebook, uri: str, tmp_path: Path) -> None:
    """A report has the live views, one file for all, and no password."""
    await notebook.run("%fabric_calls")
    await notebook.run("%fabric_call calc1.multiply x=2 y=3")
    file = tmp_path / "monday's {report}.html"
    name = str(file).replace("{", "{{").replace("}", "}}")
    for _ in range(2):  # an earlier file is replaced
        cell = await notebook.run(f'%fabric_report "{name}"')
        assert "view" in plain(cell.text or cell.displays[-1].text)
    text = file.read_text("utf-8")
    assert "multiply" in text
    assert "<script" in text
    assert password_of(uri) not in text


async def test_report_by_default(start_notebook: StartNotebook, notebook: Notebook) -> None:
    """Without a name the file is named by the time; without views it has those of `%fabric`."""
    await notebook.run("%fabric_report")
    await notebook.run("from pathlib import Path\n(file,) = Path().glob('fabric-*.html')")
    text = await notebook.value("file.read_text()")
    assert "Services" in text
    alone = await start_notebook()
    assert "%fabric_connect" in error_text(await alone.execute("%fabric_report"), "NotConnected")


async def test_report_that_cannot_be_written(notebook: Notebook, tmp_path: Path) -> None:
    """A folder that does not exist is one sentence with the name of the file."""
    failed = await notebook.execute(f"%fabric_report {tmp_path}/nowhere/report.html calls")
    assert f"{tmp_path}/nowhere/report.html" in error_text(failed, "ReportError")
