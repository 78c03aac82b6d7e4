"""`%fabric_doctor` in a real notebook."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.notebook.notebooks import error_text, password_of
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.notebooks import StartNotebook
    from tests.support.cells import Output


def row(shown: Output, check: str) -> str:
    """Return the line of a check in the table's text."""
    (line,) = [line for line in shown.text.splitlines() if line.startswith(check)]
    return line


async def test_broker_that_is_checked(
    start_notebook: StartNotebook, uri: str, tmp_path: Path
) -> None:
    """Without a connection the doctor checks the given URI, with one that connection."""
    no_broker = {"FABRIC_NB_RUNTIME_DIR": str(tmp_path), "AMQP_URL": ""}
    notebook = await start_notebook(no_broker, load=False)
    await notebook.run("import asyncio; asyncio._nest_patched = True")
    await notebook.load()
    nothing = error_text(await notebook.execute("%fabric_doctor"), "BrokerUnavailable")
    assert "no broker to check" in nothing
    cell = await notebook.run("%fabric_doctor amqp://guest:guest@127.0.0.1:1/ --timeout 2")
    assert "nothing listens on 127.0.0.1:1" in cell.outputs[-1].text

    cell = await notebook.run(f"%fabric_doctor {uri} --domain {DOMAIN} --id calm --wait 0.5")
    shown = cell.outputs[-1]
    assert "No other member has the address my_project.notebook.calm" in row(shown, "name")
    assert "AMQP_PASSWORD" in row(shown, "password")
    assert "Restart the kernel" in row(shown, "waiting in cells")
    assert password_of(uri) not in shown.text + shown.html
    assert "not connected" in error_text(await notebook.execute("%fabric_services"), "NotConnected")

    await notebook.connect(uri, id="doctor")
    await notebook.run("s = %fabric_stream kind=doctor --name shared-name")
    cell = await notebook.run("%fabric_doctor --wait 0.5 --subscriber another")
    (shown,) = [output for output in cell.outputs if output.kind == "display_data"]
    assert re.search(r"RabbitMQ \d+\.\d+", row(shown, "broker"))
    assert "notebook.doctor" in row(shown, "serve")
    assert "every 0.5 s" in row(shown, "keep-alives")
    assert "'another' has no subscriber" in shown.text
    assert "'shared-name' has one subscriber" in shown.text
    assert '<span class="badge good">ok</span>' in shown.html
    assert "what to do" in shown.html
