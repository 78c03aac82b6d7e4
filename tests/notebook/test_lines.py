"""Parsing of magic lines: variables, semicolons, and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.notebook.notebooks import DOMAIN, Notebook, error_text, password_of
from tests.support.kernels import unix_sockets
from tests.support.peers import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.notebooks import StartNotebook

NOBODY = "amqp://ann:nothing@127.0.0.1:1/"


async def test_variables_in_every_magic(
    start_notebook: StartNotebook, uri: str, calc: Peer
) -> None:
    """`{x}` and `$x` are replaced by variables in the lines of all magics."""
    notebook = await start_notebook()
    await notebook.run(
        f"uri, domain, me, kind = {uri!r}, {DOMAIN!r}, 'filled-in', 'A B'\n"
        "svc, days, level, rows = 'calc1', [7, 8], 'WARNING', 5"
    )
    card = await notebook.run("%fabric_connect {uri} --domain $domain --id {me}")
    assert password_of(uri) not in card.displays[0].text
    assert "The password is part" not in card.displays[0].text
    assert await notebook.value("str(fabric.name)") == f"'{DOMAIN}.notebook.filled-in'"
    await notebook.run("while not fabric.registry.find('calc1'): await fabric.registry.changed()")
    assert await notebook.value("%fabric_call {svc}.multiply x=days[0] y=2 --timeout $rows") == "14"
    assert await notebook.value("%fabric_call {svc}.echo value='{days}'") == "'{days}'"
    assert await notebook.value("%%fabric_call {svc}.echo --timeout {rows}\nvalue = '$x'") == "'$x'"
    await notebook.run("s = %fabric_stream msg_type={kind} n={days[0]} --max-rows {rows}")
    await notebook.run(
        "%fabric_publish msg_type={kind} n={days[0]} -- {'text': '{kind}'}\nawait s.wait(1)"
    )
    assert await notebook.value("list(s.df.text), s.headers") == (
        "(['{kind}'], {'msg_type': 'A B', 'n': 7})"
    )
    assert await notebook.value("feed = %fabric_logs --level {level}\nfeed.level") == "'WARNING'"
    await notebook.run("%%fabric_serve --id {me}2\ndef f(): return 1")
    assert await notebook.value("[str(server.name) for server in fabric.servers]") == (
        f"['{DOMAIN}.notebook.filled-in2']"
    )
    assert (await notebook.run("%fabric_stop {me}2")).stdout.startswith("Stopped")
    await notebook.run("%fabric_services --domain {domain}\n%fabric_disconnect --grace {rows}")


async def test_variables_of_a_function(notebook: Notebook) -> None:
    """In a function, its local variables are used before globals."""
    await notebook.run(
        "kind = 'outer'\ns = %fabric_stream kind=inner\n"
        "def send(kind):\n    %fabric_publish kind={kind} -- {'n': kind}\nsend('inner')"
    )
    assert await notebook.value("(await s.wait(1)) or list(s.df.n)") == "['inner']"
    await notebook.run("%fabric_stop s")


async def test_semicolon_silences(notebook: Notebook) -> None:
    """A semicolon at the end hides the value, and has no other effect."""
    assert await notebook.value("%fabric_call calc1.multiply x=2 y=3") == "6"
    for silent in (
        "%fabric_call calc1.multiply x=2 y=3;",
        "%fabric_call calc1.multiply x=2 y=3 --timeout 5 ; ",
        "%%fabric_call calc1.multiply;\nx = 2\ny = 3",
        "%%fabric_call calc1.multiply\nx = 2\ny = 3;",
    ):
        assert (await notebook.run(silent)).data == {}
        assert await notebook.value("_") == "6", "the value before"
    assert await notebook.value("x = %fabric_call calc1.echo value='a;';\nx") == "'a;'"
    assert (await notebook.run("s = %fabric_stream kind=silent;\n%fabric_stop s;")).status == "ok"
    assert (await notebook.run("%fabric_calls;")).displays
    assert (await notebook.run("if True:\n    %fabric_publish kind=silent -- {};")).status == "ok"


async def test_errors_can_be_caught(notebook: Notebook) -> None:
    """A magic raises the error itself, which `except` can catch."""
    caught = await notebook.run(
        "from fabric_nb.errors import BrokerUnavailable, FabricError, NotServed\n"
        f"try:\n    %fabric_connect {NOBODY}\n"
        "except BrokerUnavailable as error:\n    print('caught', error)\n"
        "try:\n    get_ipython().run_line_magic('fabric_stop', 'nix')\n"
        "except NotServed as error:\n    print('caught', error)\n"
        "try:\n    %fabric_stream name={1 / 0}\n"
        "except FabricError as error:\n    print(type(error.__cause__).__name__)"
    )
    broker, stop, cause = caught.stdout.splitlines()
    assert broker.startswith("caught amqp://ann:***@127.0.0.1:1/ cannot be reached")
    assert stop.startswith("caught This notebook serves no 'nix'")
    assert cause == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (f"%fabric_connect {NOBODY}", "BrokerUnavailable"),
        ("%fabric_call calc1.divide x=1 y=0", "RemoteZeroDivisionError"),
        ("%fabric_call calc1.echo value=nix", "BadArgument"),
        ("%fabric_call calc1.echo --nix", "UsageError"),
        ("x = 1\n%fabric_stop nix", "NotServed"),
    ],
)
async def test_capture_does_not_hide_failures(notebook: Notebook, line: str, error: str) -> None:
    """A magic that fails in `%%capture` makes the cell fail, so that a run stops there."""
    cell = await notebook.execute(f"%%capture\n{line}")
    assert (cell.status, cell.reply["ename"]) == ("error", error)
    assert cell.reply["evalue"]
    assert (await notebook.execute("%%capture\n1 + 1")).status == "ok"
    own = f"get_ipython().run_cell({line!r}).success"
    assert (await notebook.execute(own)).text == "False"
    calmed = f"%%capture shown\ntry:\n    {line.splitlines()[-1]}\nexcept Exception: print('no')"
    assert (await notebook.execute(calmed)).status == "ok"
    assert await notebook.value("shown.stdout") == r"'no\n'"


async def test_error_of_a_headless_run(tmp_path: Path) -> None:
    """A headless run fails with the error's name and text, which the notebook contains too."""
    cells = ["%load_ext fabric_nb", f"%%capture\n%fabric_connect {NOBODY}", "ran = True"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    client = NotebookClient(
        notebook,
        config=unix_sockets(),
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    with pytest.raises(
        CellExecutionError, match=r"BrokerUnavailable: amqp://ann:\*\*\*@"
    ) as caught:
        await client.async_execute()
    assert caught.value.ename == "BrokerUnavailable"
    failed, after = notebook.cells[1:]
    assert [output.ename for output in failed.outputs if output.output_type == "error"] == [
        "BrokerUnavailable"
    ]
    assert after.execution_count is None


async def test_invalid_line_is_a_usage_error(notebook: Notebook) -> None:
    """An invalid line is IPython's `UsageError`, with the syntax of the magic."""
    cell = await notebook.execute("%fabric_services --nix")
    assert error_text(cell).splitlines()[1].startswith("Usage: %fabric_services [--domain")


async def test_expression_that_raises(notebook: Notebook) -> None:
    """An error in a function that an expression calls is shown with the function's line."""
    await notebook.run("def broken(n):\n    return 1 / n")
    for line in (
        "%fabric_call calc1.echo value=broken(0)",
        "%fabric_stream kind={broken(0)}",
        "%fabric_publish kind=A -- broken(0)",
    ):
        cell = await notebook.execute(line)
        assert cell.error is not None
        first, *lines = cell.error.traceback.splitlines()
        assert first.startswith("BadArgument: ")
        assert "raised ZeroDivisionError: division by zero" in first
        assert [text.strip() for text in lines] == ["cell, line 2, in broken: return 1 / n"]


async def test_end_of_a_value(notebook: Notebook) -> None:
    """A value ends before the next name or an option with two dashes."""
    await notebook.run("b, c = 7, 2")
    assert await notebook.value("%fabric_call calc1.echo value=b -c") == "5"
    assert await notebook.value("%fabric_call -i calc1.echo value=b -c --timeout 5") == "5"
    cell = await notebook.run(
        "%%fabric_call calc1.multiply\nimport math\nif b > 3:\n    x = math.floor(b)\n"
        "with open('/dev/null') as file:\n    for digit in '23':\n        y = int(digit)"
    )
    assert cell.text == "21"
    twice = await notebook.execute("%%fabric_call calc1.echo value=1\nvalue = 2")
    assert "value is given in the line and again in the cell" in error_text(twice)
