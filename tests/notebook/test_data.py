"""`%fabric_stream`, `%fabric_publish`, `%fabric_logs` and `%fabric_services` with real peers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook, error_text
from tests.support.peers import DOMAIN, Peer

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook, StartPeer

# Streams


async def test_stream_becomes_a_data_frame(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """Messages with matching headers become rows, and the table under the cell is updated."""
    publisher: Peer = await start_peer("data_publisher", uri)
    cell = await notebook.run("tx = %fabric_stream kind=TX currency=USD")
    assert "No row received yet" in cell.displays[0].text
    assert "kind=TX, currency=USD" in cell.displays[0].text
    headers = {"kind": "TX", "currency": "USD"}
    for order in ({"total": 1.5, "who": "<b>Ann</b>"}, {"total": 2.5, "who": "Bob"}):
        await publisher.ask("publish", headers=headers, data=order)
    await publisher.ask("publish", headers={"kind": "TX", "currency": "EUR"}, data={"total": 99})
    await publisher.ask("publish", headers=headers, data=[{"total": 3.5}, {"total": 4.5}])
    assert await notebook.value("await tx.wait(4, timeout=60); tx.df.total.tolist()") == (
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
    """Header values are literals, text, or variables of the notebook."""
    await notebook.run("which = 'A'")
    await notebook.run("s = %fabric_stream kind=$which unit={which + 'x'} n=5 ok=True note='a b'")
    assert await notebook.value("s.headers") == (
        "{'kind': 'A', 'unit': 'Ax', 'n': 5, 'ok': True, 'note': 'a b'}"
    )
    right = {"kind": "A", "unit": "Ax", "n": 5, "ok": True, "note": "a b"}
    await watcher.publish_data({"v": 0}, {**right, "n": 6})
    await watcher.publish_data({"v": 1}, right)
    assert await notebook.value("await s.wait(timeout=60); s.df.v.tolist()") == "[1]"
    await notebook.run("%fabric_stop s")


async def test_max_rows_of_a_stream(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """`--max-rows` limits the retained rows, and the view shows the number of dropped ones."""
    cell = await notebook.run("s = %fabric_stream kind=many --max-rows 100")
    await watcher.publish_data([{"n": n} for n in range(1000)], {"kind": "many"})
    await notebook.run("await s.wait(1000, timeout=60)")
    assert await notebook.value("s.df.n.tolist()[-1], len(s.df) <= 100") == "(999, True)"
    await cell.until(lambda cell: "dropped" in cell.displays[0].text)
    assert "1,000 rows" in cell.displays[0].text
    await notebook.run("%fabric_stop s")


async def test_named_streams_share_the_messages(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """Two streams with one `--name` share the messages; without it each receives all."""
    await notebook.run(
        "a = %fabric_stream --name both kind=share\n"
        "b = %fabric_stream --name both kind=share\n"
        "c = %fabric_stream kind=share"
    )
    for n in range(20):
        await watcher.publish_data({"n": n}, {"kind": "share"})
    await notebook.run("await c.wait(20, timeout=60)")
    await notebook.run(
        "import asyncio\nwhile a.rows + b.rows < 20: await asyncio.sleep(0.01)", timeout=60
    )
    assert await notebook.value("a.rows + b.rows, min(a.rows, b.rows) > 0") == "(20, True)"
    await notebook.run("%fabric_stop a\n%fabric_stop b\n%fabric_stop c")


async def test_durable_and_replayed_streams(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """`--durable` delivers messages sent without a consumer; `--replay-from` delivers again."""
    for options in ("--durable --name dur", "--replay-from first --name rep"):
        await notebook.run(f"s = %fabric_stream kind=kept {options}\nawait s.close()")
        await watcher.publish_data({"n": 1}, {"kind": "kept"})
        await notebook.run(f"s = %fabric_stream kind=kept {options}\nawait s.wait(1, timeout=60)")
        assert await notebook.value("list(s.df.n)") == "[1]"
        await notebook.run("await s.delete()")
    assert "needs a name" in error_text(
        await notebook.execute("%fabric_stream --durable"), "UnusableQueue"
    )


async def test_stream_of_another_domain(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """`--domain` receives data of another domain."""
    publisher: Peer = await start_peer("data_publisher", uri, domain="elsewhere")
    await notebook.run("s = %fabric_stream --domain elsewhere kind=E")
    await publisher.ask("publish", headers={"kind": "E"}, data={"n": 7})
    assert await notebook.value("await s.wait(timeout=60); s.df.n.tolist()") == "[7]"
    await notebook.run("%fabric_stop s")


# Charts and recordings


async def test_a_chart_of_a_stream(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """`stream.plot` shows a live chart under its cell, and leaves a static copy."""
    await notebook.run("s = %fabric_stream kind=chart")
    cell = await notebook.run("chart = s.plot('price', window='5min')", cell_id="chart")
    live, last = cell.outputs
    assert "application/vnd.jupyter.widget-view+json" in live.data
    assert "No row received yet" in last.text
    rows = [{"price": n % 50, "note": "<b>x</b>"} for n in range(1000)]
    await watcher.publish_data(rows, {"kind": "chart"})
    await cell.until(lambda cell: "1,000 rows" in cell.displays[0].text)
    assert "price 0.0 to 49.0, last 49.0" in cell.displays[0].text
    assert "<polyline" in cell.displays[0].html
    wrong = await notebook.execute("s.plot(window='soon')")
    assert wrong.error is not None
    assert "window must be a span of time" in wrong.error.value
    unknown = await notebook.execute("%fabric_stream kind=chart --kind bra")
    assert "invalid choice: 'bra'" in error_text(unknown, "UsageError")
    unknown = await notebook.execute("%fabric_stream kind=chart --plot price --every soon")
    assert "every must be a span of time" in error_text(unknown, "InvalidArgument")
    asked = await notebook.run(
        "t = %fabric_stream kind=chart --plot price --every 1min --how count"
    )
    await watcher.publish_data(rows, {"kind": "chart"})
    await asked.until(lambda cell: "last 1,000" in cell.displays[-1].text)
    assert "count of price, every 1 min" in asked.displays[-1].text
    again = await notebook.run("s.plot('price')", cell_id="chart")
    assert len(again.outputs) == 2, "it is not shown a second time as the cell's value"
    assert await notebook.value("chart.live") == "False"
    await notebook.run("%fabric_stop s\n%fabric_stop t")
    await notebook.run("from fabric_nb.notebook import extension; extension._charts.close()")
    await again.until(lambda cell: cell.outputs[0].data == {})
    assert "<polyline" in again.outputs[1].html


async def test_a_recording_is_complete_after_shutdown(
    start_notebook: StartNotebook, watcher: AmqBrokerConnector, uri: str, tmp_path: Path
) -> None:
    """A recording is valid after the kernel was shut down, and another kernel can play it."""
    notebook = await start_notebook()
    await notebook.connect(uri, id="recorder")
    await notebook.run("s = %fabric_stream kind=rec")
    path = tmp_path / "r.parquet"
    await notebook.run(f"r = await s.record({str(path)!r})")
    for n in range(100):
        await watcher.publish_data({"n": n}, {"kind": "rec"})
    await notebook.run("await s.wait(100, timeout=60)")
    assert await notebook.value("r") == "<Recording r.parquet: 100 rows of 100 messages, open>"
    await notebook.shutdown()
    assert pd.read_parquet(path)["n"].tolist() == list(range(100))
    async with await watcher.stream(kind="again") as stream:
        await (await watcher.replay(path, speed=0, headers={"kind": "again"}))
        await stream.wait(100, timeout=60)


async def test_a_stream_is_recorded_from_its_first_row(
    notebook: Notebook, watcher: AmqBrokerConnector, tmp_path: Path
) -> None:
    """`--record` writes messages to a file, the view shows it, and invalid files are errors."""
    path = tmp_path / "some rows.jsonl"
    line = "s = %fabric_stream kind=kept --with-headers --arrival --record"
    cell = await notebook.run(f"{line} '{path}'")
    for n in range(3):
        await watcher.publish_data({"n": n}, {"kind": "kept"})
    await cell.until(lambda cell: "3 rows recorded to some rows.jsonl" in cell.displays[0].text)
    columns = "await s.wait(3, timeout=60)\nsorted(s.df.columns)"
    shown = "['arrival', 'header.kind', 'header.service_id', 'header.service_type', 'n']"
    assert await notebook.value(columns) == shown
    await notebook.run("%fabric_stop s")
    assert len(path.read_text().splitlines()) == 4, "a head and three messages"
    for wrong, words in ((path, "exists"), (tmp_path / "x.csv", ".parquet")):
        refused = await notebook.execute(f"{line} '{wrong}'")
        assert refused.error is not None
        assert refused.error.name == "RecordingError"
        assert words in refused.error.value
    assert await notebook.value("s.closed") == "True"


async def test_a_notebook_keeps_up(notebook: Notebook, watcher: AmqBrokerConnector) -> None:
    """With thousands of rows a second and live views, no row is lost and memory is bounded.

    The long version, with timings, is `python -m benchmarks.notebook`.
    """
    await notebook.run("s = %fabric_stream kind=flood --max-rows 50000\ns.plot()")
    for _ in range(20):
        frame = pd.DataFrame({"n": range(10_000), "v": [n / 7 for n in range(10_000)]})
        publishing = [
            watcher.publish_data({"n": n, "v": 0.5}, {"kind": "flood"}) for n in range(100)
        ]
        publishing.append(watcher.publish_data(frame, {"kind": "flood"}, format="arrow"))
        await asyncio.gather(*publishing)
    await notebook.run("await s.wait(202_000, timeout=60)", timeout=60)
    counts = await notebook.value("s.rows, len(s), s.dropped, s.messages, s.rejected")
    assert counts == "(202000, 50000, 152000, 2020, 0)"
    await notebook.run("%fabric_stop s")


# Publishing


async def test_publishing_reaches_amqp_fabric(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """The value after the dashes is published as JSON, with headers that consumers can match."""
    subscriber: Peer = await start_peer("data_subscriber", uri, headers={"msg_type": "ALERT"})
    unrouted = await notebook.run("x = 5\n%fabric_publish msg_type=OTHER -- 1")
    assert unrouted.stdout.startswith("Published to no queue. No queue of ")
    for data, body in (
        ('{"text": "hello -- there", "value": null}', {"text": "hello -- there", "value": None}),
        ("{'text': 'hello', 'value': x + 1}", {"text": "hello", "value": 6}),
        ("[1, 2, true]", [1, 2, True]),
        ("dict(n=x)", {"n": 5}),
        ('"text"', "text"),
    ):
        cell = await notebook.run(f"%fabric_publish msg_type=ALERT level=3 -- {data}")
        assert cell.stdout == "Published to at least one queue.\n"
        received = await subscriber.event("data")
        assert json.loads(received["body"]) == body
        assert received["headers"]["msg_type"] == "ALERT"
        assert received["headers"]["level"] == 3
    await notebook.run(
        "def alert(text):\n    %fabric_publish msg_type=ALERT -- {'text': text}\nalert('local')"
    )
    assert json.loads((await subscriber.event("data"))["body"]) == {"text": "local"}


# Logs


async def test_logs_are_shown_as_they_come(
    notebook: Notebook, start_peer: StartPeer, uri: str
) -> None:
    """Remote records are shown, filtered by level and service, and are in a DataFrame."""
    mine: Peer = await start_peer("log_publisher", uri, id="mine")
    other: Peer = await start_peer("log_publisher", uri, id="other")
    everything = await notebook.run("all = %fabric_logs")
    cell = await notebook.run("logs = %fabric_logs --level warning --service mine")
    assert "No log record received yet" in cell.displays[0].text
    await mine.ask("log", level="INFO", message="all is well")
    await other.ask("log", level="ERROR", message="of another")
    await mine.ask("log", level="WARNING", message="disk <i>full</i>")
    await mine.ask("log", level="CRITICAL", message="gone")
    assert await notebook.value("await logs.wait(2, timeout=60); logs.df.message.tolist()") == (
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
    await mine.ask("log", level="CRITICAL", message="unrouted")
    assert await notebook.value("len(logs.df)") == "2"


# Services


async def test_services_are_listed_and_kept_live(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """The list of services under the cell is live; options filter it."""
    cell = await notebook.run("%fabric_services")
    narrow = "%fabric_services --type late --id late1 --domain my_project"
    only, present = await notebook.run(f"{narrow} --gone"), await notebook.run(narrow)
    assert "calc1" in cell.displays[0].text
    assert "calc1" in cell.displays[0].html
    assert "No service has announced itself yet" in only.displays[0].text
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


async def test_mixed_versions_are_shown(
    notebook: Notebook, watcher: AmqBrokerConnector, uri: str
) -> None:
    """A service with instances of different versions has all versions, and their number."""
    cell = await notebook.run("%fabric_services --type mixed")
    async with AmqBrokerConnector(uri, DOMAIN, "test", "second", 0.3, True) as second:
        first_server = await watcher.serve({"f": int}, type="mixed", id="m1", version="1.0")
        await second.serve({"f": int}, type="mixed", id="m1", version="2.0")
        both = re.compile(r" m1 .* 1\.0 \+ 2\.0 +2 ")
        await cell.until(lambda cell: both.search(cell.displays[0].text))
        await first_server.close()
        one = re.compile(r" m1 .* 2\.0 +1 ")
        await cell.until(lambda cell: one.search(cell.displays[0].text))


async def test_a_cell_that_runs_again_closes_its_earlier_stream(notebook: Notebook) -> None:
    """A stream or log feed is closed when its cell runs again, unless it is still referenced."""
    cell = "tx = %fabric_stream kind=rerun\nlogs = %fabric_logs"
    await notebook.run(f"{cell}\nfirst = []", cell_id="a")
    await notebook.run("import weakref\nones = weakref.WeakSet([tx, logs])")
    for _ in range(3):
        await notebook.run(f"{cell}\nones |= {{tx, logs}}", cell_id="a")
    assert await notebook.value("tx.closed, logs.closed") == "(False, False)"
    assert await notebook.value("sorted(one.closed for one in ones)[:3]") == "[False, False, True]"
    assert await notebook.value("len([one for one in ones if not one.closed])") == "2"
    # Streams that are referenced elsewhere or opened by other cells stay open.
    for holder in (
        "mine = tx",
        "first.append(tx)",
        "class Kept: pass\nfirst = Kept()\nfirst.tx = tx",
    ):
        await notebook.run(f"{holder}\nheld = weakref.ref(tx)")
        await notebook.run(cell, cell_id="a")
        assert await notebook.value("held() is not tx, held().closed") == "(True, False)"
        await notebook.run("await held().close()\nmine, first = None, []")
    await notebook.run("before = weakref.ref(tx)\nother = tx\ndel other")
    await notebook.run("tx = %fabric_stream kind=other", cell_id="b")
    assert await notebook.value("before().closed") == "False"
    await notebook.run("await tx.close()\nawait before().close()\nawait logs.close()")


async def test_a_cell_without_a_name_that_runs_again(notebook: Notebook) -> None:
    """If the front end sends no cell id, the cell is identified by its source."""
    await notebook.run("import weakref\nones = weakref.WeakSet()")
    for _ in range(3):
        await notebook.run("tx = %fabric_stream kind=nameless\nones.add(tx)")
    assert await notebook.value("len([one for one in ones if not one.closed])") == "1"
    await notebook.run("tx = %fabric_stream kind=nameless\nones.add(tx)\nother = True")
    assert await notebook.value("len([one for one in ones if not one.closed])") == "2"
    await notebook.run("for one in list(ones): await one.close()")


async def test_a_cell_that_fails_keeps_its_earlier_stream(notebook: Notebook) -> None:
    """A stream stays open if its cell runs again and fails."""
    await notebook.run("s = %fabric_stream kind=kept", cell_id="c")
    failed = await notebook.execute_no_wait(
        "s = %fabric_stream kind=kept --durable", cell_id="c"
    ).wait()
    assert failed.status == "error"
    assert await notebook.value("s.closed") == "False"
    await notebook.run("%fabric_stop s")


async def test_a_shared_stream_moves_to_the_later_run(
    notebook: Notebook, watcher: AmqBrokerConnector
) -> None:
    """After its cell runs again, a named stream receives all messages, not half of them."""
    for _ in range(2):
        await notebook.run("s = %fabric_stream kind=shared --name shared", cell_id="d")
    for n in range(6):
        await watcher.publish_data({"n": n}, {"kind": "shared"})
    assert await notebook.value("(await s.wait(6, timeout=60)) or list(s.df.n)") == (
        "[0, 1, 2, 3, 4, 5]"
    )
    await notebook.run("%fabric_stop s")
