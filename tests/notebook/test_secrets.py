"""The broker's password is accepted from every source and never output."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import IPython
import nbformat
import psutil
import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient import NotebookClient
from nbformat import NotebookNode

from fabric_nb import errors
from fabric_nb.broker.launch import find_broker
from fabric_nb.notebook.magics import FabricMagics
from tests.cli.test_commands import start
from tests.notebook.notebooks import Notebook, error_text
from tests.support.kernels import unix_sockets
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.notebook.notebooks import StartNotebook
    from tests.support.rabbitmq import RabbitMq

SECRET = "s3cret:p@ss/w?rd"
FORMS = {SECRET, quote(SECRET, safe=""), quote(SECRET)}
"""Encodings of the password."""

SERVE = """\
%%fabric_serve --id secretive
def where():
    return repr(fabric) + repr(vars(fabric))
def fail():
    raise ValueError(repr(fabric), repr(vars(fabric)))"""
WORKING = (
    "%fabric",
    "%fabric_services",
    "%fabric_calls",
    "%fabric_doctor --wait 0.2",
    "%fabric_call calc1.multiply x=2 y=3",
    "%%fabric_call calc1.multiply\nx = 2\ny = 3",
    "c = %fabric_call -a calc1.multiply x=2 y=3",
    "%fabric_result c",
    '%fabric_map calc1.multiply [{"x": 2, "y": 3}]',
    "%fabric_bench calc1.multiply x=2 y=3 --calls 3 --yes",
    '%fabric_publish kind=A -- {"n": 1}',
    "s = %fabric_stream kind=A",
    "l = %fabric_logs --level DEBUG",
    "%fabric_stop s",
    "%config FabricMagics",
    "%config FabricMagics.uri",
    "%config FabricMagics.password",
    "fabric, fabric.uri, fabric.registry, fabric.rejected, s, l",
    "vars(fabric)",
    'import logging; logging.getLogger("mine").warning("%s %r", fabric, fabric)',
    "%fabric_stop l",
    SERVE,
    "%fabric_call secretive.where",
    "%fabric_ping secretive",
    "%fabric_graph",
    "%fabric_timeline",
    "%fabric_trace secretive.where",
    "%fabric services calls statistics s s.plot l",
    "%fabric_report secretive.html",
    "%fabric_connections",
    "%fabric_use default",
    "%fabric_connect --form",
)
FAILING = (
    "%fabric_call nobody.there",
    "%fabric_call calc1.divide x=1 y=0",
    "fabric.publish_data()",
    "await fabric.serve(7)",
    'await fabric.stream(max_rows="x")',
    "%fabric_stop nothing",
    "%fabric_call secretive.fail",
    "%fabric_rerun",
)
LEAVING = ("%fabric_calls", "%fabric_rerun --list", "%fabric_disconnect")
# IPython 8 shows all variables of its own frames, including the source of cells.
LOGGING = f"""\
import logging
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s", force=True)
%xmode {"Verbose" if IPython.version_info >= (9,) else "Context"}
"""


@pytest.fixture
def login(rabbitmq: RabbitMq, place: str) -> Iterator[str]:
    """Create a user with a unique password; yield the URI."""
    yield rabbitmq.add_user("secretive", SECRET, vhost=place)
    rabbitmq.delete_user("secretive")


def untold(text: str) -> None:
    """Check that a text does not contain the password in any encoding."""
    for form in FORMS:
        assert form not in text, text[max(0, text.index(form) - 300) :][:600]


def untold_by(notebook: Notebook) -> None:
    """Check messages and logs of a kernel, except for the source of cells."""
    for message in notebook.messages:
        if message.type != "execute_input":
            untold(repr(message))
    for reply in notebook.replies.values():
        untold(repr(reply))
    untold(notebook.log)


def untold_by_processes() -> None:
    """Check the command lines of all processes."""
    for process in psutil.process_iter():
        try:
            untold(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def tells_error(output: NotebookNode) -> bool:
    """Return whether an output is an error, or the text of a `UsageError`."""
    return bool(output.output_type == "error" or "UsageError: " in output.get("text", ""))


def ran_every_magic(cells: Iterable[str]) -> None:
    """Check that the cells use every magic, as a line and as a cell magic if it is both."""
    ran = {"line": set[str](), "cell": set[str]()}
    for cell in cells:
        for signs, name in re.findall(r"^(?:\w+ = )?(%%?)(fabric\w*)", cell, re.MULTILINE):
            ran["cell" if signs == "%%" else "line"].add(name)
    assert ran == {kind: set(magics) for kind, magics in FabricMagics.magics.items()}


async def test_no_magic_outputs_the_password(
    start_notebook: StartNotebook, login: str, calc: Peer
) -> None:
    """With all logs and verbose tracebacks, no output, error, log or panel message has it."""
    notebook = await start_notebook()
    await notebook.run(LOGGING)
    for wrong in (
        login.replace("secretive:", "nobody:"),
        login.rpartition("/")[0] + "/nowhere",
        login.replace("amqp://", "amqps://") + "?cafile=/none.pem",
        login.replace("amqp://", "http://"),
        login.replace("amqp://", "amqp://x@"),
        f"amqp://ann:{SECRET}@127.0.0.1:notaport/",
        f"amqp://ann:{SECRET}",
    ):
        refused = await notebook.execute(f"%fabric_connect '{wrong}'")
        assert refused.error is not None
        assert issubclass(getattr(errors, refused.error.name), errors.FabricError)
    typed = await notebook.run(f"%fabric_connect {login} --domain {DOMAIN} --id secretive")
    assert "The password is part of this cell" in typed.displays[0].text

    await notebook.run(f"%config FabricMagics.uri = {login!r}\n%config FabricMagics.password = 'p'")
    await notebook.run(f"%config FabricMagics.password = {SECRET!r}")
    settings = (await notebook.run("%config FabricMagics")).stdout
    assert "Current: 'amqp://secretive:***@" in settings
    assert "Current: '***'" in settings
    for cell in WORKING:
        await notebook.run(cell)
    for cell in FAILING:
        assert (await notebook.execute(cell)).status == "error", cell
    await notebook.inspect("fabric")

    # A panel of this kernel, with a password in its form.
    notebook.send("comm_open", comm_id="p", target_name="fabric_nb.panel.requests", data={})
    notebook.send_comm("p", {"id": "1", "do": "state"})
    entered = {"uri": login, "password": SECRET, "domain": DOMAIN}
    for request, name in (("2", "domains"), ("3", "cell"), ("4", "recent")):
        asked = {"id": request, "do": "broker", "name": name, "arguments": entered}
        notebook.send_comm("p", asked)
        await notebook.until(
            lambda request=request: any(
                result["id"] == request
                for message in notebook.messages
                if message.type == "comm_msg"
                for result in message.content["data"].get("results", ())
            )
        )
    await notebook.until(
        lambda: any("***@" in repr(m.content) for m in notebook.messages if m.type == "comm_msg")
    )
    for cell in LEAVING:
        await notebook.run(cell)
    untold_by(notebook)
    untold_by_processes()
    ran_every_magic(
        message.content["code"]
        for message in notebook.messages
        if message.type == "execute_input"
        and notebook.replies.get(message.parent_id, {}).get("status") == "ok"
    )


async def test_a_saved_notebook_does_not_contain_it(login: str, calc: Peer, tmp_path: Path) -> None:
    """A notebook with the password from the environment is saved without it."""
    cells = [
        LOGGING + f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN} --id secretive",
        *WORKING,
        *FAILING,
        *LEAVING,
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, config=unix_sockets(), timeout=60, allow_errors=True, kernel_name="python3"
    )
    bare, password = login.replace(quote(SECRET, safe=""), "", 1).replace(":@", "@"), SECRET
    environment = {**os.environ, "AMQP_URL": bare, "AMQP_PASSWORD": password}
    await client.async_execute(env=environment, cwd=str(tmp_path))
    saved = json.dumps(notebook)
    assert "secretive:***@" in saved
    failed = [cell for cell in notebook.cells if any(map(tells_error, cell.outputs))]
    assert [cell.source for cell in failed] == list(FAILING)
    untold(saved)
    ran_every_magic(cell.source for cell in notebook.cells if cell not in failed)


async def test_password_prompt(start_notebook: StartNotebook, login: str) -> None:
    """A URI with a user only prompts for the password, without echo."""
    notebook = await start_notebook()
    bare = login.replace(f":{quote(SECRET, safe='')}@", "@")
    assert "set AMQP_PASSWORD" in error_text(
        await notebook.execute(f"%fabric_connect {bare}"), "BrokerUnavailable"
    )

    client = AsyncKernelClient(connection_file=notebook.connection_file)
    client.load_connection_file()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        client.execute(f"%fabric_connect {bare} --domain {DOMAIN} --id asked", allow_stdin=True)
        asked = (await client.get_stdin_msg(timeout=60))["content"]
        assert asked == {"prompt": "Password of secretive at 127.0.0.1: ", "password": True}
        client.input(SECRET)
        reply = await client.get_shell_msg(timeout=60)
        assert reply["content"]["status"] == "ok", reply
    finally:
        client.stop_channels()
    assert await notebook.value("fabric.fqn") == f"'{DOMAIN}.notebook.asked'"
    untold_by(notebook)


async def test_command_line(login: str, watcher: AmqBrokerConnector) -> None:
    """`fabric-nb` reads it from the environment, so that no command line contains it."""
    process = await start(login, "stream", "kind=secret", "--json")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = asyncio.create_task(process.stdout.readline())
        while not line.done():  # until the stream is open
            await watcher.publish_data({"n": 1}, {"kind": "secret"})
            await asyncio.wait([line], timeout=0.2)
        assert b'"n":1' in line.result()
        untold_by_processes()
    finally:
        process.terminate()
        out, err = await process.communicate()
    untold((out + err).decode())


async def test_embedded_broker(start_notebook: StartNotebook, tmp_path: Path) -> None:
    """The password of the embedded broker is in no command line, and is never output."""
    notebook = await start_notebook({"FABRIC_NB_RUNTIME_DIR": str(tmp_path / "run")})
    await notebook.run("%fabric_connect --id embedded\n%fabric_services\nfabric, vars(fabric)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FABRIC_NB_RUNTIME_DIR", str(tmp_path / "run"))
        broker = find_broker()
    assert broker is not None
    notebook.check_secret(broker.uri)
    password = broker.uri.partition("://")[2].partition("@")[0].partition(":")[2]
    for process in psutil.process_iter(["cmdline"]):
        assert password not in " ".join(process.info["cmdline"] or [])
