"""A hostile peer with permission to publish cannot execute code or stop other members."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq
import pytest

from fabric_nb.errors import CallTimeout, MalformedMessage, RemoteError
from fabric_nb.fabric.amqp.frames import read_header, read_properties
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.calls import INSTANCE_HEADER
from fabric_nb.fabric.wire.data_encoding import compress
from fabric_nb.fabric.wire.logs import read_log
from fabric_nb.notebook.views.bench import result_html
from tests.faults import hostile as tricks
from tests.faults.hostile import (
    BIDI_TEXT,
    INJECTED_NAME,
    MARKUP,
    TERMINAL_CODES,
    Hostile,
    Reply,
    headers_frame,
)
from tests.support.fabric import Members, until, wait_for_service
from tests.support.kernels import Kernel
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fabric_nb import AmqBrokerConnector

HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
async def fabric(members: Members) -> AmqBrokerConnector:
    """Open a member that serves and subscribes."""
    fabric = await members.join("me")
    await fabric.serve({"add": lambda x, y: x + y})
    await (await fabric.logs()).close()
    return fabric


@pytest.fixture
async def hostile(fabric: AmqBrokerConnector, rabbitmq_uri: str) -> AsyncIterator[Hostile]:
    """Connect a hostile peer to the same broker."""
    async with Hostile.on(rabbitmq_uri) as hostile:
        yield hostile


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Return the path of a file that any executed payload creates."""
    return tmp_path / "owned"


async def assert_works(fabric: AmqBrokerConnector) -> None:
    """Check that calls and streams work and no connection was closed."""
    assert await fabric.call("me.add", x=1, y=2, timeout=60) == 3
    async with await fabric.stream(check=1) as stream:
        await fabric.publish_data({"n": 1}, {"check": 1})
        await stream.wait(1, timeout=60)
    # A broker that refuses transient queues has closed the connection of the first service.
    assert fabric.member.connection.reconnects == int(fabric.transient_queues_refused)


# No execution


TYPES = [
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "builtins.SystemExit",
    "builtins.KeyboardInterrupt",
    "os.system",
    "subprocess.Popen",
    "fabric_nb.errors.NotConnected",
    "__main__.Anything",
    INJECTED_NAME,
    MARKUP,
]


async def test_error_types_are_only_names(fabric, hostile, evidence):
    """An error of any type name is a `RemoteError`, and its arguments are data."""
    code = tricks.touch_expression(evidence)
    await hostile.serve(
        {"fail": lambda request: tricks.error(json.loads(request.body)["type"], code)}
    )
    for type in TYPES:  # noqa: A001
        with pytest.raises(RemoteError) as caught:
            await fabric.call("app.evil.fail", type=type, timeout=60)
        assert caught.value.type == type
        assert caught.value.remote_args == (code,)
        assert isinstance(caught.value, Exception)
        assert not isinstance(caught.value, OSError)
    assert not evidence.exists()


async def test_pickles_are_not_loaded(fabric, hostile, evidence):
    """A pickle is rejected as malformed in any kind of message and content type."""
    pickle = tricks.touch_pickle(evidence)
    kind = {"content_type": "application/python-pickle"}
    await hostile.serve({"get": lambda _: Reply(pickle, properties=kind)})
    with pytest.raises(MalformedMessage, match="cannot be read"):
        await fabric.call("app.evil.get", timeout=60)
    async with await fabric.stream() as stream, await fabric.logs():
        await hostile.data(pickle, **kind)
        await hostile.log(pickle)
        await hostile.announce(pickle)
        await hostile.send(
            fabric.name.api_exchange, fabric.name.method_queue("add"), pickle, **kind
        )
        counts = {"reply": 1, "data": 1, "log": 1, "keep-alive": 1, "call": 1}
        await until(lambda: fabric.rejected.counts == counts)
        assert stream.rejected == 1
    assert not evidence.exists()
    await assert_works(fabric)


async def test_signatures_and_docs_are_text(fabric, hostile, evidence):
    """Signatures and docs of methods are parsed and shown, never evaluated."""
    signature = f"(x={tricks.touch_expression(evidence)}, y: {tricks.touch_expression(evidence)}=1)"
    methods = {
        "do": {"signature": signature, "doc": MARKUP + TERMINAL_CODES + BIDI_TEXT},
        INJECTED_NAME: {"signature": "()", "doc": ""},
        "__class__": {"signature": "()", "doc": ""},
    }
    described = json.dumps({"version": TERMINAL_CODES, "methods": methods}).encode()
    await hostile.serve({"_describe": lambda _: Reply(described)})
    await hostile.announce(
        version=TERMINAL_CODES, methods={"do": signature + TERMINAL_CODES, INJECTED_NAME: "()"}
    )
    await wait_for_service(fabric, "evil", methods=1)
    proxy = await fabric.service("evil").load()
    assert "touch" in str(proxy.do.__signature__)
    assert INJECTED_NAME not in dir(proxy)
    shown = [repr(proxy), repr(proxy.do), proxy.do.__doc__, str(fabric.registry.df.to_dict())]
    assert not HARMFUL.search("".join(shown))
    assert not evidence.exists()


async def test_invalid_names_are_not_registered(fabric, hostile):
    """A keep-alive with an invalid name is counted and ignored."""
    for name in (INJECTED_NAME, MARKUP, TERMINAL_CODES, BIDI_TEXT, "../../etc", "a.b", "x" * 200):
        await hostile.announce(id=name)
    await until(lambda: fabric.rejected.counts["keep-alive"] == 7)
    await wait_for_service(fabric, "me")
    assert {service.name.id for service in fabric.registry.services(gone=True)} == {"me"}


# Bounded decoding


@pytest.mark.parametrize("deep", [tricks.DEEP, tricks.DEEP_OBJECT], ids=["lists", "objects"])
async def test_deep_nesting_is_rejected(fabric, hostile, deep):
    """JSON nested 100,000 deep is rejected as malformed in any kind of message."""
    await hostile.serve({"get": lambda _: Reply(deep), "fail": lambda _: Reply(deep, "error")})
    for method in ("get", "fail"):
        with pytest.raises(MalformedMessage, match="cannot be read"):
            await fabric.call(f"app.evil.{method}", timeout=60)
    async with await fabric.stream(), await fabric.logs():
        await hostile.data(deep)
        await hostile.log(deep)
        await hostile.announce(deep)
        await hostile.send(fabric.name.api_exchange, fabric.name.method_queue("add"), deep)
        counts = {"reply": 2, "data": 1, "log": 1, "keep-alive": 1, "call": 1}
        await until(lambda: fabric.rejected.counts == counts)
    await assert_works(fabric)


async def test_decompression_bombs_are_rejected(fabric, hostile):
    """Decompression stops at a limit, and the message is counted with the reason."""
    packed = tricks.bomb()
    assert len(packed) < 2_000_000
    async with await fabric.stream() as stream:
        await hostile.data(packed, content_encoding="gzip")
        await hostile.data(compress(bytes(300 << 20), "zstd"), content_encoding="zstd")
        await hostile.data(b"x", content_encoding=MARKUP)
        await until(lambda: stream.rejected == 3, timeout=60)
    reasons = [rejection.reason for rejection in fabric.rejected.last]
    assert "unpacks to more than" in reasons[0]
    assert "unpacks to more than" in reasons[1]
    assert "is not known: use gzip, deflate, zstd or a charset" in reasons[2]
    await assert_works(fabric)


async def test_a_million_headers_close_the_connection_of_their_sender(broker_uri):
    """A message with a million headers closes only the connection of its sender."""
    async with Members(broker_uri) as members:
        fabric = await members.join("me")
        await fabric.serve({"add": lambda x, y: x + y})
        async with await fabric.stream() as stream, await fabric.logs() as feed:
            async with Hostile.on(broker_uri) as other, asyncio.timeout(60):
                with pytest.raises(aiormq.exceptions.ConnectionFrameError):
                    await other.headers(f"{DOMAIN}.data", 1_000_000)
            await assert_works(fabric)
            assert len(stream.df) == 1  # what `assert_works` has published
            assert feed.changes == stream.rejected == feed.rejected == 0
        assert not fabric.rejected.counts


def test_a_million_headers_are_not_decoded():
    """A million headers, which longer frames would allow, are not decoded."""
    for count, level in ((1_000, "ERROR"), (1_000_000, "NOTSET")):
        payload = headers_frame(count, {"level_name": "ERROR"})
        delivery = Delivery(b'"text"', *read_properties(read_header(payload)[1]))
        record = read_log(delivery, now=1)
        assert (record.message, record.level) == ("text", level)
        assert len(delivery.headers) == (0 if level == "NOTSET" else count + 1)


async def test_many_headers(fabric, hostile, rabbitmq_uri):
    """Headers beyond 128 KiB are rejected by the broker; thousands of headers are decoded."""
    endless = {f"h{n}": n for n in range(50_000)}
    async with Hostile.on(rabbitmq_uri) as other:
        with pytest.raises(aiormq.exceptions.ConnectionFrameError, match="frame_too_large"):
            await other.data(b"{}", endless)
    many = {f"h{n}": n for n in range(12_000)}
    async with await fabric.stream() as stream, await fabric.logs() as feed:
        await hostile.data(b'{"n": 1}', many)
        await hostile.log("text", **many)
        await hostile.announce(headers=many)
        await stream.wait(1, timeout=60)
        await feed.wait(1, timeout=60)
        await wait_for_service(fabric, "evil")
        assert stream.df.n.tolist() == [1]
    await assert_works(fabric)


async def test_unusual_json(fabric, hostile):
    """The last of equal keys counts; NaN and integers of any size are preserved."""
    odd = b'{"same": 1, "same": 2, "nan": NaN, "inf": -Infinity, "big": %d}' % 2**70
    await hostile.serve({"get": lambda _: Reply(odd)})
    async with await fabric.stream() as stream:
        await hostile.data(odd)
        await stream.wait(1, timeout=60)
        (row,) = stream.df.to_dict("records")
    for read in (await fabric.call("app.evil.get", timeout=60), row):
        assert (read["same"], read["big"]) == (2, 2**70)
        assert math.isnan(read["nan"])
        assert read["inf"] == -math.inf
    echoed = await fabric.call("me.add", x=2**70, y=1, timeout=60)
    assert echoed == 2**70 + 1


# Replies


async def test_replies_with_other_correlation_ids(fabric, hostile):
    """Replies to unknown calls are dropped; the first of several to one call counts."""

    def answer(request: aio_pika.abc.AbstractIncomingMessage) -> list[Reply]:
        wrong = ["", "0", request.correlation_id[:-1], request.correlation_id.upper() + "x"]
        forged = [Reply(b'"wrong"', properties={"correlation_id": id}) for id in wrong]  # noqa: A001
        return [*forged, Reply(b'"first"'), Reply(b'"second"')]

    await hostile.serve({"get": answer, "never": lambda _: []})
    assert await fabric.call("app.evil.get", timeout=60) == "first"
    with pytest.raises(CallTimeout):
        await fabric.call("app.evil.never", timeout=0.3)
    assert fabric.member.rpc.pending == 0
    await assert_works(fabric)


async def test_benchmark_of_hostile_replies(fabric, hostile):
    """Unreadable replies, and names of instances and types, are counted in bounded space."""
    numbers = itertools.count()

    def answer(_: aio_pika.abc.AbstractIncomingMessage) -> Reply:
        number = next(numbers)
        text = MARKUP + TERMINAL_CODES + BIDI_TEXT
        named = {"headers": {INSTANCE_HEADER: f"{number}{text}"}}
        kinds = [
            Reply(b"1", properties=named),
            tricks.error(f"{text}{number}", text, message=text * 100),
            Reply(b"{", properties=named),
            Reply(b"1"),
        ]
        return kinds[number % 4]

    await hostile.serve({"get": answer})
    result = await fabric.bench("app.evil.get", calls=600, in_flight=8, repeatable=True)
    assert (result.calls, result.errors) == (600, 300)
    assert result.errors_by_type["MalformedMessage"].calls == 150
    assert len(result.errors_by_type) < 25
    assert len(result.by_instance) < 110
    for shown in (repr(result), result_html(result)):
        assert not HARMFUL.search(shown)
        assert len(shown) < 30_000
    assert MARKUP not in result_html(result)
    await assert_works(fabric)


async def test_forged_replies_to_other_calls(fabric, hostile, members):
    """A called service knows the reply queue, but cannot answer other calls."""
    go = asyncio.Event()

    async def secret() -> str:
        await go.wait()
        return "honest"

    bank = await members.join("bank")
    await bank.serve({"secret": secret})
    call = asyncio.create_task(fabric.call("app.bank.secret", timeout=60))
    await hostile.serve({"get": lambda _: Reply(b"1")})
    ids = set()
    for _ in range(20):
        await fabric.call("app.evil.get", timeout=60)
    for request in hostile.requests:
        assert request.reply_to
        assert len(request.correlation_id) == 32
        ids.add(request.correlation_id)
        number = int(request.correlation_id, 16)
        for guess in (f"{number + 1:032x}", f"{number - 1:032x}", "*", "#"):
            await hostile.send(
                "", request.reply_to, b'"forged"', type="result", correlation_id=guess
            )
    assert len(ids) == 20
    go.set()
    assert await call == "honest"


# Display in a notebook


async def test_hostile_text_is_escaped(start_kernel, hostile, rabbitmq_uri, evidence):
    """Every magic escapes markup, terminal codes and bidirectional controls of a peer."""
    hostile_text = MARKUP + TERMINAL_CODES + BIDI_TEXT + INJECTED_NAME
    code = tricks.touch_expression(evidence)
    await hostile.serve(
        {
            "fail": lambda _: tricks.error(
                hostile_text, code, message=hostile_text, traceback=hostile_text
            ),
            "_describe": lambda _: Reply(
                json.dumps({"methods": {"fail": {"doc": hostile_text}}}).encode()
            ),
        }
    )
    kernel: Kernel = await start_kernel({"AMQP_URL": rabbitmq_uri})
    await kernel.run(
        f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}\n"
        "s = %fabric_stream\nl = %fabric_logs\n%fabric_services"
    )
    await hostile.announce(
        version=hostile_text, methods={"fail": f"(x={code})" + hostile_text, INJECTED_NAME: "()"}
    )
    await hostile.data(json.dumps({hostile_text: hostile_text, "n": 1}).encode())
    await hostile.log(
        hostile_text, traceback=hostile_text, logger_name=hostile_text, service_id="x"
    )
    await kernel.run("await s.wait(1, timeout=60); await l.wait(1, timeout=60)")
    failed = await kernel.execute("%fabric_call app.evil.fail")
    assert failed.error is not None
    assert failed.error.name == "RemoteError"
    for line in ("%fabric_services", "s", "l", "fabric", "fabric.registry", "fabric.rejected"):
        await kernel.run(line)
    completion = await kernel.complete("%fabric_call app.evil.")
    assert completion.matches == ["app.evil.fail"]
    await kernel.run("proxy = await fabric.service('app.evil').load()\nproxy, proxy.fail")
    await kernel.run("proxy.fail?")
    assert not evidence.exists()

    commands = re.compile(r"\x1b(?!\[[0-9;]*m)|\x1b\[8m|[\x00\x07\u200b\u202e\u2066]")
    shown = [
        (kind, text)
        for message in kernel.messages
        if message.type in ("stream", "display_data", "update_display_data", "execute_result")
        for kind, text in texts_of(message.content)
    ]
    assert any("gpj.exe" in text for _, text in shown)  # it is shown as text
    for kind, text in shown:
        assert not commands.search(text), (kind, text)
        if kind == "text/html":
            assert "<img src=x" not in text
            assert "<script" not in text
    for reply in kernel.replies.values():
        assert not commands.search("".join(reply.get("traceback", [])) + reply.get("evalue", ""))


def texts_of(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the text formats of an output."""
    data = content.get("data", {"text/plain": content.get("text", "")})
    return [(kind, text) for kind, text in data.items() if kind.startswith("text/")]
