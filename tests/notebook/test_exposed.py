"""Access control of serving cells."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import call
from tests.support.peers import DOMAIN, Peer, needs_amqp_fabric

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook
    from tests.support.rabbitmq import RabbitMq

CELL = """\
import fabric_nb

def who():
    caller = fabric_nb.caller()
    return [caller.service, caller.user]

def _private():
    return "never served"
"""


@needs_amqp_fabric
async def test_allowed_callers_are_shown_and_enforced(
    start_notebook: StartNotebook, uri: str, place: str, rabbitmq: RabbitMq, caller: Peer
) -> None:
    """A serving cell shows its methods and allowed callers; `--allow` names broker users."""
    notebook = await start_notebook()
    await notebook.connect(uri, id="exposed")
    everybody = await notebook.run(f"%%fabric_serve --id exposed\n{CELL}")
    (shown,) = everybody.displays
    assert f"in {DOMAIN}" in shown.text
    assert "open to all callers" in shown.text
    assert "who()" in shown.text
    assert "_private" not in shown.text
    # A caller on amqp-fabric sends no identity.
    assert await call(caller, "exposed", "who") == ["", None]

    ann = rabbitmq.add_user(f"ann-{secrets.token_hex(4)}", "secret", vhost=place)
    name = ann.partition("//")[2].partition(":")[0]
    async with AmqBrokerConnector(ann, DOMAIN, "test", "ann", timeout=20) as of_ann:
        assert await of_ann.call("notebook.exposed.who") == [f"{DOMAIN}.test.ann", name]

        limited = await notebook.run(f"%%fabric_serve --id exposed --allow {name},eve\n{CELL}")
        assert f"only for {name}, eve" in limited.displays[0].text
        assert (await of_ann.call("notebook.exposed.who"))[1] == name
        refused = await notebook.execute("%fabric_call notebook.exposed.who")
        assert refused.error is not None
        assert "does not take calls of" in refused.error.traceback
        await limited.until(lambda cell: "PermissionError" in cell.displays[0].text)
    rabbitmq.delete_user(name)
