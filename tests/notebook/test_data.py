"""`%fabric_stream`, `%fabric_publish`, `%fabric_logs` and `%fabric_services` with real peers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartPeer

# Streams


async def test_stream_becomes_a_data_frame(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """Messages that carry the headers become rows; the table under the cell follows them."""
    publisher: Peer = await start_peer("data_publisher", uri)
    cell = await notebook.run("tx = %fabric_stream kind=TX currency=USD")
    assert "No row has come yet" in cell.displays[0].text
    assert "kind=TX, currency=USD" in cell.displays[0].text
    headers = {"kind": "TX", "currency": "USD"}
    for order in ({"total": 1.5, "who": "<b>Ann</b>"}, {"total": 2.5, "who": "Bob"}):
        await publisher.ask("publish", headers=headers, data=order)
    await publisher.ask("publish", headers={"kind": "TX", "currency": "EUR"}, data={"total": 99})
    await publisher.ask("publish", headers=headers, data=[{"total": 3.5}, {"total": 4.5}])
    assert await notebook.value("await tx.wait(4, timeout=10); tx.df.total.tolist()") == (
        "[1.5, 2.5, 3.5, 4.5]"
    )
    await cell.until(lambda cell: "4 rows" in cell.displays[0].text)
    display = cell.displays[0]
    assert "Ann" in display.text
    assert "&lt;b&gt;Ann&lt;/b&gt;" in display.html
    assert "<b>Ann" not in display.html
    assert "Stopped <Stream kind='TX'" in (await notebook.run("%fabric_stop tx")).stdout
    await cell.until(lambda cell: "closed" in cell.displays[0].text)
    assert await notebook.value("len(tx.df)") == "4"


async def test_stream_s_headers_may_be_values_and_variables(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """Header values are literals or text, and variables of the notebook."""
    await notebook.run("which = 'A'")
    await notebook.run("s = %fabric_stream kind=$which unit={which + 'x'} n=5 ok=True note='a b'")
    assert await notebook.value("s.headers") == (
        "{'kind': 'A', 'unit': 'Ax', 'n': 5, 'ok': True, 'note': 'a b'}"
    )
    right = {"kind": "A", "unit": "Ax", "n": 5, "ok": True, "note": "a b"}
    await watcher.publish_data({"v": 0}, {**right, "n": 6})
    await watcher.publish_data({"v": 1}, right)
    assert await notebook.value("await s.wait(timeout=10); s.df.v.tolist()") == "[1]"
    await notebook.run("%fabric_stop s")


async def test_stream_keeps_so_many_rows(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """`--max-rows` bounds what is kept, and the view says how many were dropped."""
    cell = await notebook.run("s = %fabric_stream kind=many --max-rows 100")
    await watcher.publish_data([{"n": n} for n in range(1000)], {"kind": "many"})
    await notebook.run("await s.wait(1000, timeout=10)")
    assert await notebook.value("s.df.n.tolist()[-1], len(s.df) <= 100") == "(999, True)"
    await cell.until(lambda cell: "dropped" in cell.displays[0].text)
    assert "1,000 rows" in cell.displays[0].text
    await notebook.run("%fabric_stop s")


async def test_named_streams_share_the_messages(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """Two streams of one `--name` share the messages; without it each gets all."""
    await notebook.run(
        "a = %fabric_stream --name both kind=share\n"
        "b = %fabric_stream --name both kind=share\n"
        "c = %fabric_stream kind=share"
    )
    for n in range(20):
        await watcher.publish_data({"n": n}, {"kind": "share"})
    await notebook.run("await c.wait(20, timeout=10)")
    await notebook.run(
        "import asyncio\nwhile a.rows + b.rows < 20: await asyncio.sleep(0.01)", timeout=10
    )
    assert await notebook.value("a.rows + b.rows, min(a.rows, b.rows) > 0") == "(20, True)"
    await notebook.run("%fabric_stop a\n%fabric_stop b\n%fabric_stop c")


async def test_stream_of_another_domain(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """`--domain` listens to the data of another domain."""
    publisher: Peer = await start_peer("data_publisher", uri, domain="elsewhere")
    await notebook.run("s = %fabric_stream --domain elsewhere kind=E")
    await publisher.ask("publish", headers={"kind": "E"}, data={"n": 7})
    assert await notebook.value("await s.wait(timeout=10); s.df.n.tolist()") == "[7]"
    await notebook.run("%fabric_stop s")


# Publishing


async def test_publishing_reaches_amqp_fabric(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """What is behind the dashes is published as JSON, with headers that others can match."""
    subscriber: Peer = await start_peer("data_subscriber", uri, headers={"msg_type": "ALERT"})
    await notebook.run("x = 5\n%fabric_publish msg_type=OTHER -- 1")
    for data, body in (
        ('{"text": "hello -- there", "value": null}', {"text": "hello -- there", "value": None}),
        ("{'text': 'hello', 'value': x + 1}", {"text": "hello", "value": 6}),
        ("[1, 2, true]", [1, 2, True]),
        ("dict(n=x)", {"n": 5}),
        ('"text"', "text"),
    ):
        cell = await notebook.run(f"%fabric_publish msg_type=ALERT level=3 -- {data}")
        assert cell.outputs == []
        heard = await subscriber.event("data")
        assert json.loads(heard["body"]) == body
        assert heard["headers"]["msg_type"] == "ALERT"
        assert heard["headers"]["level"] == 3
    await notebook.run(
        "def alert(text):\n    %fabric_publish msg_type=ALERT -- {'text': text}\nalert('local')"
    )
    assert json.loads((await subscriber.event("data"))["body"]) == {"text": "local"}


# Logs


async def test_logs_are_shown_as_they_come(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """Remote records appear under the cell, by level and service, and are a DataFrame."""
    mine: Peer = await start_peer("log_publisher", uri, id="mine")
    other: Peer = await start_peer("log_publisher", uri, id="other")
    everything = await notebook.run("all = %fabric_logs")
    cell = await notebook.run("logs = %fabric_logs --level warning --service mine")
    assert "No record has come yet" in cell.displays[0].text
    await mine.ask("log", level="INFO", message="all is well")
    await other.ask("log", level="ERROR", message="of another")
    await mine.ask("log", level="WARNING", message="disk <i>full</i>")
    await mine.ask("log", level="CRITICAL", message="gone")
    assert await notebook.value("await logs.wait(2, timeout=10); logs.df.message.tolist()") == (
        "['disk <i>full</i>', 'gone']"
    )
    await cell.until(lambda cell: "gone" in cell.displays[0].text)
    display = cell.displays[0]
    assert "peer.mine" in display.text
    assert "WARNING and above" in display.text
    assert "disk &lt;i&gt;full&lt;/i&gt;" in display.html
    assert "all is well" not in display.text
    await everything.until(lambda cell: "of another" in cell.displays[0].text)
    await everything.until(lambda cell: "all is well" in cell.displays[0].text)
    await notebook.run("%fabric_stop logs\n%fabric_stop all\ndel all")
    await mine.ask("log", level="CRITICAL", message="unheard")
    assert await notebook.value("len(logs.df)") == "2"


# Services


async def test_services_are_listed_and_kept_live(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """Services come and go under the cell; options narrow them."""
    cell = await notebook.run("%fabric_services")
    narrow = "%fabric_services --type late --id late1 --domain my_project"
    only, present = await notebook.run(f"{narrow} --gone"), await notebook.run(narrow)
    assert "calc1" in cell.displays[0].text
    assert "calc1" in cell.displays[0].html
    assert "Nobody was heard" in only.displays[0].text
    late = await watcher.serve({"work": int}, type="late", id="late1")
    for one in (cell, only, present):
        await one.until(lambda one: "late1" in one.displays[0].text)
        assert "work" in one.displays[0].text
    assert "calc1" not in only.displays[0].text
    row = "fabric.registry.df.query(\"id == 'late1'\")[['domain', 'state']].values.tolist()"
    assert await notebook.value(row) == f"[['{DOMAIN}', 'up']]"
    await late.close()
    await only.until(lambda one: "gone" in one.displays[0].text)
    await present.until(lambda one: "late1" not in one.displays[0].text)
    assert await notebook.value(row) == f"[['{DOMAIN}', 'gone']]"


async def test_mixed_versions_are_told(
    notebook: Notebook, watcher: AmqBrokerConnector, uri: str
) -> None:
    """A service whose members differ in version says so, with how many members there are."""
    cell = await notebook.run("%fabric_services --type mixed")
    async with AmqBrokerConnector(uri, DOMAIN, "test", "second", 0.3, True) as second:
        first_server = await watcher.serve({"f": int}, type="mixed", id="m1", version="1.0")
        await second.serve({"f": int}, type="mixed", id="m1", version="2.0")
        await cell.until(lambda cell: "1.0 + 2.0 (mixed)" in cell.displays[0].text)
        (row,) = [line for line in cell.displays[0].text.splitlines() if " m1 " in line]
        assert row.split()[7] == "2"
        await first_server.close()
        await cell.until(lambda cell: "(mixed)" not in cell.displays[0].text)
