"""`%fabric_connect` without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook


async def test_notebooks_without_a_broker_meet(
    start_notebook: StartNotebook, tmp_path: Path
) -> None:
    """Without a URI the notebooks of a user share an embedded broker, which the card names."""
    env = {"FABRIC_NB_RUNTIME_DIR": str(tmp_path)}
    one, two = await start_notebook(env), await start_notebook(env)
    card = (await one.run("%fabric_connect --id one")).displays[0].text
    assert "embedded broker" in card
    assert "nothing is kept" in card
    assert "fabric-nb broker uri" in card
    await two.run("%fabric_connect --id two")
    await two.run("%%fabric_serve --id answers\ndef whence():\n    return 'from two'")
    assert await one.value("%fabric_call answers.whence") == "'from two'"
    assert ":***@127.0.0.1:" in card
