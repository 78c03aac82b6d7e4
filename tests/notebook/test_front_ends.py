"""Front ends other than JupyterLab: VS Code, Colab, and IPython in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import sys
import termios
import threading
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pexpect
import pytest

import fabric_nb
from tests.notebook.notebooks import call, password_of
from tests.support.cells import Cell, Message
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.notebook.notebooks import Notebook, StartNotebook

VIEW = "application/vnd.jupyter.widget-view+json"
# Cell id of VS Code; Colab sends none.
VSCODE_CELL = "vscode-notebook-cell:/home/somebody/shop.ipynb#W2sZmlsZQ%3D%3D"
COLAB = '''
import sys
import types

output = types.ModuleType("google.colab.output")
output.enabled = 0
output._widgets = types.SimpleNamespace(_installed_url=None)


def enable_custom_widget_manager():
    """Fake of Colab: the manager shows only outputs with this metadata."""
    output.enabled += 1

    def add_manager(message):
        if "VIEW" in message["content"].get("data", {}):
            message["content"]["metadata"]["VIEW"] = {"colab": {"custom_widget_manager": "url"}}
        return message

    get_ipython().display_pub.register_hook(add_manager)


output.enable_custom_widget_manager = enable_custom_widget_manager
sys.modules["google.colab.output"] = output
'''.replace("VIEW", VIEW)


def models(cell: Cell) -> dict[str, dict[str, Any]]:
    """Return the states of the widgets that a cell has opened, by id."""
    return {
        message.content["comm_id"]: message.content["data"]["state"]
        for message in cell.messages
        if message.type == "comm_open"
    }


def shown(cell: Cell) -> Iterator[Message]:
    """Yield the outputs of a cell that are widgets."""
    for message in cell.messages:
        if message.type == "display_data" and VIEW in message.content["data"]:
            yield message


def table_of(cell: Cell) -> str:
    """Return the id of the live table under a cell."""
    (view,) = shown(cell)
    return str(view.content["data"][VIEW]["model_id"])


def hello(notebook: Notebook, model: str) -> None:
    """Send the first message of a view outside JupyterLab."""
    content = {"type": "hello", "revision": 1, "hides": False}
    notebook.send_comm(model, {"method": "custom", "content": content})


def sent(notebook: Notebook, model: str) -> list[dict[str, Any]]:
    """Return the changes that were sent to a table's view."""
    return [
        json.loads(bytes(message.buffers[0]))
        for message in notebook.messages
        if message.type == "comm_msg" and message.content["comm_id"] == model and message.buffers
    ]


@pytest.mark.parametrize(
    "code", ["%fabric_services", "%fabric", "s = %fabric_stream kind=x\ns.plot('n');"]
)
async def test_views_speak_the_widgets_protocol(notebook: Notebook, code: str) -> None:
    """A view needs only the protocol of widgets: its models are opened before it is displayed."""
    # The model of the code may be open already.
    earlier = [message for message in notebook.messages if message.type == "comm_open"]
    opened = {message.content["comm_id"] for message in earlier}
    cell = await notebook.run(code)
    views = 0
    for message in cell.messages:
        if message.type == "comm_open":
            assert message.content["target_name"] == "jupyter.widget"
            assert message.metadata["version"].startswith("2.")
            state = message.content["data"]["state"]
            assert set(re.findall(r"IPY_MODEL_(\w+)", str(state))) <= opened
            if state["_model_module"] == "anywidget":
                assert "export default" in state["_esm"]
            else:  # classes that every front end has
                assert state["_model_module"].startswith("@jupyter-widgets/")
            opened.add(message.content["comm_id"])
        elif message.type == "display_data" and VIEW in message.content["data"]:
            assert message.content["data"][VIEW]["model_id"] in opened
            views += 1
    assert views == len([one for one in cell.displays if one.html])


async def test_vs_code_shows_a_live_table_and_no_second_one(notebook: Notebook) -> None:
    """A view outside JupyterLab receives changes, and the static copy is removed."""
    cell = await notebook.run("%fabric_services", cell_id=VSCODE_CELL)
    await cell.until(lambda cell: "calc1" in cell.displays[0].text)
    table = table_of(cell)
    hello(notebook, table)
    await cell.until(lambda cell: not cell.displays)
    await notebook.run("%%fabric_serve --id newcomer\ndef greet(): return 'hello'")
    await notebook.until(lambda: "newcomer" in str(sent(notebook, table)))
    assert not cell.displays
    await notebook.run("%fabric_stop newcomer")


async def test_a_reloaded_page_requests_the_code(notebook: Notebook) -> None:
    """A reloaded window of VS Code does not know models that were opened before."""
    cell = await notebook.run("%fabric_services")
    table = table_of(cell)
    notebook.send_comm(table, {"method": "custom", "content": {"type": "code"}})

    def codes() -> list[dict[str, Any]]:
        contents = [
            message.content["data"].get("content", {})
            for message in notebook.messages
            if message.type == "comm_msg" and message.content["comm_id"] == table
        ]
        return [content for content in contents if content.get("type") == "code"]

    await notebook.until(codes)
    (code,) = codes()
    assert "class TableView" in code["esm"]
    assert ".fabric-table" in code["css"]


async def test_vs_code_runs_a_cell_again(notebook: Notebook) -> None:
    """VS Code's cell ids are addresses: a second run closes the first view, and shows no path."""
    first = await notebook.run("%fabric_services", cell_id=VSCODE_CELL)
    second = await notebook.run("%fabric_services", cell_id=VSCODE_CELL)
    closed = [m.content["comm_id"] for m in notebook.messages if m.type == "comm_close"]
    assert table_of(first) in closed
    assert table_of(second) not in closed
    for message in (*first.messages, *second.messages):
        assert "somebody" not in str(message.content)


async def test_a_front_end_without_widgets_has_the_last_state(notebook: Notebook) -> None:
    """Without a browser view the static copy is updated."""
    cell = await notebook.run("%fabric_services")
    await notebook.run("%%fabric_serve --id latecomer\ndef greet(): return 'hello'")
    await cell.until(lambda cell: "latecomer" in cell.displays[0].text)
    assert "latecomer" in cell.displays[0].html
    assert not sent(notebook, table_of(cell))
    await notebook.run("%fabric_stop latecomer")


async def test_colab_widget_manager_is_enabled(start_notebook: StartNotebook, uri: str) -> None:
    """In Colab, which shows widgets only on request, the first view enables them."""
    notebook = await start_notebook(load=False)
    await notebook.run(COLAB)
    await notebook.load()
    await notebook.run(f"%fabric_connect {uri} --domain {DOMAIN} --id colab")
    for code in ("%fabric_services", "%fabric", "%fabric_services"):
        cell = await notebook.run(code)
        (view,) = shown(cell)
        assert view.content["metadata"][VIEW] == {"colab": {"custom_widget_manager": "url"}}
    assert await notebook.value("output.enabled") == "1"


async def test_a_cell_without_a_name_may_run_again(notebook: Notebook) -> None:
    """Colab sends no cell id: views of earlier runs stay live, and the last works."""
    first, second = [await notebook.run("%fabric_services --type calc") for _ in range(2)]
    for cell in (first, second):
        hello(notebook, table_of(cell))
        await cell.until(lambda cell: not cell.displays)
    closed = [m.content["comm_id"] for m in notebook.messages if m.type == "comm_close"]
    assert not {table_of(first), table_of(second)} & set(closed)


# -- IPython in a terminal


class Screen:
    """A pseudo-terminal with a number of columns."""

    def __init__(self, columns: int) -> None:
        self._ours, self.fileno = pty.openpty()
        termios.tcsetwinsize(self.fileno, (50, columns))
        self._printed = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while some := os.read(self._ours, 65536):
                self._printed += some

    def read(self) -> bytes:
        """Return the output of the program, which has exited."""
        os.close(self.fileno)
        self._reader.join()
        os.close(self._ours)
        return self._printed.replace(b"\r\n", b"\n")


IPYTHON = (*("IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"),)


@dataclass(frozen=True)
class Terminal:
    """Output of IPython in a terminal, by prompt number."""

    printed: Mapping[int, str]

    @classmethod
    async def run(
        cls,
        *cells: str,
        folder: Path,
        uri: str,
        screen: Screen | None = None,
        program: Sequence[str] = IPYTHON,
    ) -> Self:
        """Type cells into IPython; its output goes to a pipe by default."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *program),
            stdin=PIPE,
            stdout=PIPE if screen is None else screen.fileno,
            stderr=STDOUT,
            env=os.environ | {"IPYTHONDIR": str(folder), "AMQP_URL": uri, "TERM": "xterm-256color"},
            cwd=folder,
        )
        async with asyncio.timeout(60):
            typed = "\n".join(f"{cell}\n" if "\n" in cell else cell for cell in cells)
            output, _ = await process.communicate(f"{typed}\nexit\n".encode())
        if screen is not None:
            output = await asyncio.to_thread(screen.read)
        _, *rest = re.split(r"In \[(\d+)\]: ", output.decode())
        return cls({int(n): text for n, text in zip(rest[::2], rest[1::2], strict=True)})

    def __getitem__(self, number: int) -> str:
        return self.printed[number]


async def test_a_terminal_prints_each_view_once(tmp_path: Path, uri: str, calc: Peer) -> None:
    """In plain IPython views are text, printed once."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id terminal",
        "%fabric_call calc1.multiply x=5 y=7",
        "s = %fabric_stream kind=TERMINAL",
        '%fabric_publish kind=TERMINAL -- {"n": 1}',
        "await s.wait(timeout=60)",
        "s.plot()",
        "%fabric_services --type calc",
        "%fabric",
        "%fabric_call calc1.multiply x=5 z=7",
        "%fabric_timeline 10min",
        "fabric.timeline('10min')",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
    )
    assert "connected" in terminal[2]
    assert "this notebook   notebook.terminal" in terminal[2]
    assert "35" in terminal[3]
    assert "Stream kind=TERMINAL" in terminal[4]
    assert "1 row" in terminal[7]
    assert re.search(r"calc\s+calc1\s+up", terminal[8])
    for name in ("Services", "Calls", "Serving", "Streams · 1 open", "Logs"):
        assert name in terminal[9]
    assert "RemoteError" in terminal[10]
    for prompt in (11, 12):
        assert "· 2 calls ·" in terminal[prompt]
        assert re.search(r"calc\.calc1 .*!.* 2, 1 bad", terminal[prompt])
    everything = "\n".join(terminal.printed.values())
    assert everything.count("Stream kind=TERMINAL") == 1
    assert everything.count("Fabric ·") == 1
    assert not re.search(r"<\w+Widget|GridBox\(|<div|Traceback", everything)
    assert password_of(uri) not in everything


async def test_the_repl_is_connected(tmp_path: Path, uri: str, calc: Peer) -> None:
    """`fabric-nb repl` is IPython with the magics and the connector, and shows no password."""
    terminal = await Terminal.run(
        "total = %fabric_call calc1.multiply x=5 y=7",
        "total, fabric.domain",
        "%config FabricMagics",
        folder=tmp_path,
        uri=uri,
        program=("fabric_nb.cli", "repl", "--domain", DOMAIN),
    )
    assert f"(35, '{DOMAIN}')" in terminal[2]
    assert password_of(uri) not in "".join(terminal.printed.values())


async def test_a_terminal_shows_tables_by_rich(tmp_path: Path, uri: str, calc: Peer) -> None:
    """On a terminal, tables have lines and colours, and fit the width."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id rich-terminal",
        "%fabric_call calc1.multiply x=5 y=7",
        "%fabric_services --type calc",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
        screen=Screen(columns=100),
    )
    assert "35" in terminal[3]
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal[4])
    assert len(text) < len(terminal[4])
    assert "─" * 20 in text
    assert re.search(r"calc +calc1 +up", text)
    assert 60 < max(map(len, text.splitlines())) <= 100


async def test_a_terminal_shows_progress_once(tmp_path: Path, uri: str, calc: Peer) -> None:
    """A slow call prints one progress line; output of served functions is shown."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id slow-terminal",
        "%fabric_call calc1.slow seconds=1.5 --progress-after 0.1",
        "%%fabric_serve --id printing\ndef say(n): print('said', n)\n",
        "%fabric_call printing.say n=5",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
    )
    assert terminal[3].count("Waiting for") == 1
    assert "printing · serving" in terminal[4]
    assert "said 5" in terminal[5]


async def test_a_terminal_draws_the_bar_of_a_map(tmp_path: Path, uri: str, calc: Peer) -> None:
    """A map draws its bar on a line of the terminal, which is kept at its end."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id map-terminal",
        "%config FabricMagics.progress_after = 0",
        "x = %fabric_map calc1.slow seconds=[0.5, 0.5]",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
        screen=Screen(columns=100),
    )
    _, *drawn = terminal[4].replace("\x1b[K", "").split("\r")
    assert len(drawn) > 2
    assert f"{DOMAIN}.calc1.slow  {'█' * 12}{'░' * 12}  1 of 2 rows · " in terminal[4]
    assert drawn[-1].startswith(f"{DOMAIN}.calc1.slow  {'█' * 24}  2 of 2 rows · ")
    assert drawn[-1].endswith("\n")


async def test_a_terminal_draws_the_figures_of_a_benchmark(
    tmp_path: Path, uri: str, calc: Peer
) -> None:
    """A benchmark draws its figures on a line of the terminal, and then prints its result."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id bench-terminal",
        "%fabric_bench calc1.slow seconds=0.5 --calls 2 --in-flight 1 --yes",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
        screen=Screen(columns=150),
    )
    *drawn, end = terminal[3].split("\r")
    assert any(f"{'█' * 12}{'░' * 12}  " in line and "1 calls in" in line for line in drawn)
    assert end.startswith("\x1b[K")
    assert f"{DOMAIN}.calc.calc1.slow · done" in end
    assert "p95" in end


async def test_a_terminal_prints_the_output_of_a_call(
    tmp_path: Path, uri: str, calc: Peer, watcher: AmqBrokerConnector
) -> None:
    """A call draws its progress on a line of the terminal, and prints what its method prints."""

    async def train() -> str:
        print("begun")
        fabric_nb.progress(30, 120, "training")
        await asyncio.sleep(1)
        return "trained"

    server = await watcher.serve({"train": train}, type="app", id="model")
    try:
        terminal = await Terminal.run(
            "%load_ext fabric_nb",
            f"%fabric_connect --domain {DOMAIN} --id call-terminal",
            "%fabric_call model.train --output --progress-after 0",
            "h = %fabric_call -a model.train",
            "h.cancel()",
            "%fabric_disconnect",
            folder=tmp_path,
            uri=uri,
            screen=Screen(columns=120),
        )
    finally:
        await server.close()
    bar = f"{DOMAIN}.model.train  {'█' * 6}{'░' * 18}  training · 30 of 120 · 25 % · "
    assert bar in terminal[3]
    text = terminal[3].replace("\x1b[K", "").replace("\r\n", "\n")
    printed = [line.rpartition("\r")[2] for line in text.splitlines()]
    assert "begun" in printed
    assert "was cancelled" in terminal[5]
    assert "Traceback" not in terminal[5]
    assert any("'trained'" in line for line in printed)


@pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")
async def test_messages_are_received_while_the_prompt_waits(
    tmp_path: Path, uri: str, caller: Peer, watcher: AmqBrokerConnector
) -> None:
    """Calls are served, and rows are received, while IPython waits for input."""
    arguments = ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    env = {**os.environ, "IPYTHONDIR": str(tmp_path), "AMQP_URL": uri, "TERM": "xterm-256color"}
    terminal = pexpect.spawn(
        sys.executable, arguments, env=env, cwd=str(tmp_path), encoding="utf-8", timeout=60
    )
    terminal.setwinsize(50, 200)

    async def typed(number: int, line: str) -> None:
        await terminal.expect(rf"In \[{number}\]:", async_=True)
        terminal.send(f"{line}\r")

    try:
        await typed(1, "%load_ext fabric_nb")
        await typed(2, f"%fabric_connect --domain {DOMAIN} --id prompt")
        await typed(3, "s = %fabric_stream kind=PROMPT")
        await typed(4, "f = lambda: s.rows; _ = await fabric.serve({'rows': f}, id='prompt2')")
        await terminal.expect(r"In \[5\]:", async_=True)
        assert await call(caller, "prompt2", "rows") == 0
        await watcher.publish_data([{"n": 1}, {"n": 2}], {"kind": "PROMPT"})
        while await call(caller, "prompt2", "rows") != 2:
            pass
        terminal.send("print('rows', len(s.df))\r")
        await terminal.expect("rows 2", async_=True)
        terminal.send("exit\r")
        await terminal.expect(pexpect.EOF, async_=True)
    finally:
        terminal.close(force=True)


async def test_note_on_a_prompt_without_a_loop(tmp_path: Path, uri: str) -> None:
    """If messages are received only while a cell runs, the card has a note."""
    terminal = await Terminal.run(
        "%load_ext fabric_nb",
        f"%fabric_connect --domain {DOMAIN} --id simple",
        "%fabric_disconnect",
        folder=tmp_path,
        uri=uri,
    )
    assert "No event loop runs at this prompt" in terminal[2]
