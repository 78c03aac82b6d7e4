"""Messages of a real kernel to a panel, over the two comms."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest_asyncio

import fabric_nb
from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.notebook.panel.link import REQUESTS, TARGET
from tests.notebook.notebooks import Notebook
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.notebook.notebooks import StartNotebook

_numbers = itertools.count(1)


class PanelClient:
    """A panel without a page: finds the kernel's comm, sends requests, and merges pushes."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.requests = f"requests-{next(_numbers)}"
        self._begins = len(notebook.messages)

    @classmethod
    async def open(cls, notebook: Notebook) -> PanelClient:
        """Find the kernel's comm, and request the state."""
        client = cls(notebook)
        assert await pushing_comms(notebook)
        notebook.send("comm_open", comm_id=client.requests, target_name=REQUESTS, data={})
        client.send(do="state")
        await client.until(lambda: client.state)
        return client

    @property
    def pushes(self) -> list[dict[str, Any]]:
        """Pushes since this client was created."""
        return [
            message.content["data"]
            for message in self.notebook.messages[self._begins :]
            if message.type == "comm_msg" and message.content["comm_id"] != self.requests
        ]

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """Merged pushes; empty before the first."""
        merged: dict[str, dict[str, Any]] = {}
        for push in self.pushes:
            if push.get("reset"):
                merged = {"services": {}, "facts": {}}
            merged.get("facts", {}).update(push.get("facts", {}))
            change = push.get("services", {"put": {}, "drop": []})
            for key in change["drop"]:
                merged.get("services", {}).pop(key, None)
            merged.get("services", {}).update(change["put"])
        return merged

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table, each with its `id` and its cells by column label."""
        labels: list[str] = []
        rows: dict[int, list[Any]] = {}
        for push in self.pushes:
            change = push.get("tables", {}).get(name, {})
            if "columns" in change:
                labels, rows = [one["label"] for one in change["columns"]], {}
            for id_ in change.get("drop", []):
                del rows[id_]
            rows |= {id_: [*cells] for id_, cells, _ in change.get("add", [])}
            for id_, (*changes,), *_ in change.get("set", []):
                for index, cell in zip(changes[::2], changes[1::2], strict=True):
                    rows[id_][index] = cell
        return [{"id": id_, **dict(zip(labels, cells, strict=True))} for id_, cells in rows.items()]

    @property
    def log(self) -> list[str]:
        """Messages of the log records that are shown."""
        return [row["message"] for row in self.table("logs")]

    def send(self, **request: Any) -> str:
        """Send a request and return its id."""
        request_id = f"request-{next(_numbers)}"
        self.notebook.send_comm(self.requests, {"id": request_id, **request})
        return request_id

    async def result(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its result, or for the reply that rejects it."""
        request_id = self.send(**request)

        def found() -> dict[str, Any] | None:
            answers = [
                message.content["data"]
                for message in self.notebook.messages
                if message.type == "comm_msg" and message.content["comm_id"] == self.requests
            ]
            results = [result for push in self.pushes for result in push.get("results", [])]
            rejected = [answer for answer in answers if answer.get("error")]
            return next((each for each in rejected + results if each.get("id") == request_id), None)

        answer = await self.until(found)
        assert answer is not None
        return answer

    async def until(self, what: Callable[[], Any], timeout: float = 60) -> Any:
        """Wait until a condition holds, checked after every message."""
        return await self.notebook.until(what, timeout, about=self.state)


async def pushing_comms(notebook: Notebook) -> list[str]:
    """Return the ids of the comms that a panel finds."""
    reply = await notebook.request("comm_info_request", target_name=TARGET)
    return list(reply["comms"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def panel(notebook: Notebook) -> AsyncIterator[PanelClient]:
    """Panel of the connected notebook of this module."""
    client = await PanelClient.open(notebook)
    await client.until(lambda: f"{DOMAIN}.calc.calc1" in client.state["services"])
    yield client


async def test_connection_and_services(panel: PanelClient, uri: str) -> None:
    """The panel receives the connection and all services."""
    connection = panel.state["facts"]["connection"]
    assert connection["domain"] == DOMAIN
    assert connection["name"] == "notebook.panel"
    assert connection["badges"] == []
    assert ":***@" in connection["uri"]
    await panel.until(lambda: {f"{DOMAIN}.calc.calc1"} <= set(panel.state["services"]))
    calc = f"{DOMAIN}.calc.calc1"
    await panel.until(lambda: panel.state["services"][calc]["state"][0] == "up")
    await panel.until(lambda: f"{DOMAIN}.notebook.panel" in panel.state["services"])


async def test_other_front_ends_are_not_affected(start_notebook: StartNotebook) -> None:
    """Without a panel the kernel sends no `comm_open` and starts no thread for it."""
    notebook = await start_notebook()
    threads = "[t.name for t in __import__('threading').enumerate()]"
    assert "fabric companion" not in await notebook.value(threads)
    assert [m for m in notebook.messages if m.type == "comm_open"] == []
    assert len(await pushing_comms(notebook)) == 1


async def test_services_are_live_while_a_cell_blocks(panel: PanelClient, uri: str) -> None:
    """While a cell blocks the loop, services are live, and the panel receives `busy_since`."""
    cell = panel.notebook.execute_no_wait("import time\nprint('on')\ntime.sleep(90)")
    try:
        await cell.until(lambda cell: "on" in cell.stdout)
        fresh = f"{DOMAIN}.test.fresh"

        def state() -> str:
            return str(panel.state["services"][fresh]["state"][0])

        async with AmqBrokerConnector(uri, DOMAIN, "test", "fresh", keep_alive_seconds=0.5):
            await panel.until(lambda: fresh in panel.state["services"] and state() == "up")
            await panel.until(lambda: panel.state["facts"]["busy_since"])
        await panel.until(lambda: state() == "gone")
        assert not cell.done
    finally:
        await panel.notebook.interrupt()
    await cell.wait()
    await panel.until(lambda: panel.state["facts"]["busy_since"] is None)


async def test_streams_and_serving(panel: PanelClient, watcher: AmqBrokerConnector) -> None:
    """Streams have variable, rate and rows, and can be paused; served calls are counted."""
    await panel.notebook.run("tx = %fabric_stream mark=panel")
    await panel.notebook.run("%%fabric_serve --id seen\ndef double(x: int): return 2 * x")

    def named() -> bool:  # the stream is shown shortly before the variable is assigned
        return [row["variable"] for row in panel.table("streams")] == ["tx"]

    def state() -> str:
        return str(panel.table("streams")[0]["state"][0])

    await panel.until(named)
    [stream] = panel.table("streams")
    assert stream["stream"] == "mark=panel"
    for n in range(5):
        await watcher.publish_data({"n": n}, {"mark": "panel"})
    await panel.until(lambda: panel.table("streams")[0]["rows"] == 5)
    pause = {"do": "act", "table": "streams", "name": "pause"}
    assert (await panel.result(**pause, row=stream["id"]))["error"] == ""
    await panel.until(lambda: state() == "paused")
    assert (await panel.result(**pause, row=stream["id"]))["error"] == ""
    await panel.until(lambda: state() == "open")
    assert "no longer exists" in (await panel.result(**pause, row=1000))["error"]
    assert await watcher.call("seen.double", x=4) == 8

    def calls() -> list[int]:
        methods = panel.table("serving")
        return [row["calls"] for row in methods if row["service"] == "notebook.seen"]

    await panel.until(lambda: calls() == [1])
    await panel.notebook.run("%fabric_stop seen\n%fabric_stop tx")
    await panel.until(lambda: calls() == [])
    await panel.until(lambda: state() == "closed")


async def test_calls_from_the_form(panel: PanelClient) -> None:
    """A form calls with JSON, Python literals or words; results and errors are text."""
    target = f"{DOMAIN}.calc.calc1"
    product = await panel.result(
        do="call", call=f"{target}.multiply", arguments={"x": "6", "y": "7"}
    )
    assert (product["text"], product["error"]) == ("42", "")
    echo = await panel.result(do="call", call=f"{target}.echo", arguments={"value": '"<b>"'})
    assert echo["text"] == "'<b>'"
    failed = await panel.result(do="call", call=f"{target}.fail", arguments={"message": '"so"'})
    assert "so" in failed["error"]
    assert "Traceback" not in failed["error"]
    words = await panel.result(do="call", call=f"{target}.echo", arguments={"value": "green tea"})
    assert words["text"] == "'green tea'"
    unread = await panel.result(do="call", call=f"{target}.echo", arguments={"value": "[tx"})
    assert "value is not a value" in unread["error"]
    unnamed = await panel.result(do="call", call="nothing", arguments={})
    assert "is not a call" in unnamed["error"]

    def methods() -> list[str]:
        return [method["name"] for method in panel.state["services"][target]["methods"]]

    # amqp-fabric announces no methods; those that have replied are listed.
    await panel.until(lambda: {"multiply", "echo"} <= set(methods()))


async def test_a_long_call_can_be_cancelled(panel: PanelClient) -> None:
    """Cancelling sends a result at once; a second time has no effect."""
    target = f"{DOMAIN}.calc.calc1"
    request = panel.send(do="call", call=f"{target}.slow", arguments={"seconds": "30"})
    panel.send(do="cancel", request=request)

    def results() -> list[str]:
        pushed = [result for push in panel.pushes for result in push.get("results", [])]
        return [result["error"] for result in pushed if result["id"] == request]

    (cancelled,) = await panel.until(results)
    assert "ancelled" in cancelled
    panel.send(do="cancel", request=request)
    refused = await panel.result(do="cancel", request="x" * 100)
    assert "not a text" in refused["error"]
    assert len(results()) == 1


async def test_progress_of_a_call_from_the_form(
    panel: PanelClient, watcher: AmqBrokerConnector
) -> None:
    """The progress of a running call is pushed; cancelling it says that it was stopped."""

    async def train() -> None:
        fabric_nb.progress(30, 120, "training")
        await asyncio.Event().wait()

    def progress() -> list[str]:
        pushed = [one for push in panel.pushes for one in push.get("progress", [])]
        return [one["text"] for one in pushed if one["id"] == request and "25 %" in one["text"]]

    def results() -> list[str]:
        pushed = [result for push in panel.pushes for result in push.get("results", [])]
        return [result["error"] for result in pushed if result["id"] == request]

    server = await watcher.serve({"train": train}, type="app", id="trained")
    try:
        request = panel.send(do="call", call=f"{DOMAIN}.app.trained.train", arguments={})
        text = (await panel.until(progress))[0]
        assert text.startswith(f"{'█' * 6}{'░' * 18}\ntraining · 30 of 120 · 25 % · ")
        panel.send(do="cancel", request=request)
        (cancelled,) = await panel.until(results)
        assert "was cancelled: it was stopped" in cancelled
    finally:
        await server.close()


async def test_logs_are_received_on_request(
    panel: PanelClient, watcher: AmqBrokerConnector
) -> None:
    """Log records of the domain are pushed from the requested minimum level."""
    handler = AmqpHandler()
    await watcher.init_logging_handler(handler)
    logger = logging.Logger("panel.test")  # noqa: LOG001 - isolated from other loggers
    logger.addHandler(handler)
    level = {"do": "act", "table": "logs", "name": "level"}
    assert panel.log == []
    assert (await panel.result(do="logs"))["error"] == ""
    assert (await panel.result(**level, value="WARNING"))["error"] == ""
    assert (await panel.result(**level, value="LOUD"))["error"] != ""
    logger.info("quiet")
    logger.warning("loud <b> \x1b[31m")
    await panel.until(lambda: panel.log)
    assert panel.log == ["loud <b> \ufffd[31m"]
    assert (await panel.result(**level, value="all"))["error"] == ""
    await panel.until(lambda: panel.log[:2] == ["quiet", "loud <b> \ufffd[31m"])


async def test_a_panel_costs_no_connection(
    start_notebook: StartNotebook, uri: str, calc: Peer
) -> None:
    """The panel shares thread and connection with the notebook's announcements."""
    notebook = await start_notebook()
    await notebook.connect(uri, id="thrifty")

    def connections() -> int:
        found = psutil.Process(notebook.pid).net_connections("tcp")
        port = urlsplit(uri).port or 5672
        return sum(each.raddr != () and each.raddr.port == port for each in found)

    alone = connections()
    assert alone >= 2
    panel = await PanelClient.open(notebook)
    await panel.until(lambda: f"{DOMAIN}.calc.calc1" in panel.state["services"])
    assert (await panel.result(do="logs"))["error"] == ""
    assert connections() == alone
    threads = "[t.name for t in __import__('threading').enumerate()]"
    assert (await notebook.value(threads)).count("fabric companion") == 1


async def test_changes_of_the_connection(
    start_notebook: StartNotebook, uri: str, calc: Peer
) -> None:
    """The panel follows the notebook to another domain, and after disconnecting and unloading."""
    notebook = await start_notebook()
    panel = await PanelClient.open(notebook)
    assert panel.state["facts"]["connection"] is None
    await notebook.connect(uri, id="comes")
    await panel.until(lambda: f"{DOMAIN}.calc.calc1" in panel.state["services"])
    await notebook.run(f"%fabric_connect {uri} --domain elsewhere --id comes")

    def domain() -> str | None:
        connection = panel.state["facts"]["connection"]
        return connection["domain"] if connection is not None else None

    await panel.until(lambda: domain() == "elsewhere")
    await panel.until(lambda: f"{DOMAIN}.calc.calc1" in panel.state["services"])
    await notebook.run("%fabric_disconnect")
    await panel.until(lambda: panel.state["facts"]["connection"] is None)
    await panel.until(lambda: panel.state["services"] == {})
    await notebook.run("%unload_ext fabric_nb")
    assert await pushing_comms(notebook) == []
    threads = "[t.name for t in __import__('threading').enumerate()]"
    assert "fabric companion" not in await notebook.value(threads)
    await notebook.load()
    assert await PanelClient.open(notebook)
    assert "Traceback" not in notebook.log


async def test_a_connector_that_is_closed_and_opened_again(
    start_notebook: StartNotebook, uri: str, calc: Peer
) -> None:
    """The panel keeps the last known services of a closed connector, and goes on when it opens."""
    notebook = await start_notebook()
    await notebook.connect(uri, id="closing")
    panel = await PanelClient.open(notebook)
    known = f"{DOMAIN}.calc.calc1"
    await panel.until(lambda: known in panel.state["services"])
    await notebook.run("await fabric.close()")

    def notes() -> list[str]:
        return list(panel.state["facts"]["services"]["notes"])

    await panel.until(lambda: any("Not connected" in note for note in notes()))
    assert panel.state["facts"]["connection"]["badges"] != []
    assert known in panel.state["services"]
    await notebook.run("await fabric.open()")
    await panel.until(lambda: notes() == [] and not panel.state["facts"]["connection"]["badges"])
    await panel.until(lambda: panel.state["services"][known]["state"][0] == "up")
    assert "Traceback" not in notebook.log


async def test_demo_services_end_with_the_kernel(
    start_notebook: StartNotebook, tmp_path: Path
) -> None:
    """Demo services are started for the embedded broker, and exit even if the kernel is killed."""
    notebook = await start_notebook({"FABRIC_NB_RUNTIME_DIR": str(tmp_path)})
    await notebook.run("%fabric_connect --id newcomer --domain shop")
    panel = await PanelClient.open(notebook)
    assert panel.state["facts"]["connection"]["embedded"]
    assert (await panel.result(do="demo"))["error"] == ""
    await panel.until(
        lambda: {"shop.math.calc", "shop.host.monitor"} <= set(panel.state["services"])
    )
    started = [
        process
        for process in psutil.Process(notebook.pid).children(recursive=True)
        if "fabric_nb.demo" in " ".join(process.cmdline())
    ]
    assert len(started) >= 4
    notebook.kill()
    async with asyncio.timeout(60):
        while any(one.is_running() and one.status() != "zombie" for one in started):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a process that is not a child cannot be awaited
