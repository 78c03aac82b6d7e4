"""A hostile peer with the right to publish: nothing of it runs, and it stops nobody else."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq
import pytest

from fabric_nb.errors import CallTimeout, MalformedMessage, RemoteError
from fabric_nb.fabric.amqp.frames import read_properties
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.data_encoding import compress
from fabric_nb.fabric.wire.logs import read_log
from tests.faults import hostile as tricks
from tests.faults.hostile import COMMANDS, MARKUP, SMUGGLED, TURNED, Hostile, Reply, headers_frame
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
    """A member that serves and listens."""
    fabric = await members.join("me")
    await fabric.serve({"add": lambda x, y: x + y})
    await (await fabric.logs()).close()
    return fabric


@pytest.fixture
async def hostile(fabric: AmqBrokerConnector, rabbitmq_uri: str) -> AsyncIterator[Hostile]:
    """Somebody on the same broker."""
    async with Hostile.on(rabbitmq_uri) as hostile:
        yield hostile


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file that is there as soon as anything remote was run."""
    return tmp_path / "owned"


async def works(fabric: AmqBrokerConnector) -> None:
    """Calls and streams go on, and nothing was closed on the way."""
    assert await fabric.call("me.add", x=1, y=2, timeout=20) == 3
    async with await fabric.stream(check=1) as stream:
        await fabric.publish_data({"n": 1}, {"check": 1})
        await stream.wait(1, timeout=10)
    assert fabric.member.connection.reconnects == 0


# Nothing runs


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
    SMUGGLED,
    MARKUP,
]


async def test_types_of_errors_are_only_names(fabric, hostile, trap):
    """An error is a `RemoteError` whatever type it names; its arguments are data."""
    code = tricks.touching(trap)
    await hostile.serve(
        {"fail": lambda request: tricks.error(json.loads(request.body)["type"], code)}
    )
    for type in TYPES:  # noqa: A001
        with pytest.raises(RemoteError) as caught:
            await fabric.call("app.evil.fail", type=type, timeout=10)
        assert caught.value.type == type
        assert caught.value.remote_args == (code,)
        assert isinstance(caught.value, Exception)
        assert not isinstance(caught.value, OSError)
    assert not trap.exists()


async def test_pickles_are_not_loaded(fabric, hostile, trap):
    """A pickle is bytes that cannot be read, wherever it comes from and whatever it is called."""
    pickle = tricks.pickled(trap)
    kind = {"content_type": "application/python-pickle"}
    await hostile.serve({"get": lambda _: Reply(pickle, properties=kind)})
    with pytest.raises(MalformedMessage, match="cannot be read"):
        await fabric.call("app.evil.get", timeout=10)
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
    assert not trap.exists()
    await works(fabric)


async def test_signatures_and_docs_are_text(fabric, hostile, trap):
    """What a service tells of its methods is parsed and shown, never evaluated."""
    signature = f"(x={tricks.touching(trap)}, y: {tricks.touching(trap)}=1)"
    methods = {
        "do": {"signature": signature, "doc": MARKUP + COMMANDS + TURNED},
        SMUGGLED: {"signature": "()", "doc": ""},
        "__class__": {"signature": "()", "doc": ""},
    }
    described = json.dumps({"version": COMMANDS, "methods": methods}).encode()
    await hostile.serve({"_describe": lambda _: Reply(described)})
    await hostile.announce(version=COMMANDS, methods={"do": signature + COMMANDS, SMUGGLED: "()"})
    await wait_for_service(fabric, "evil", methods=1)
    proxy = await fabric.service("evil").load()
    assert "touch" in str(proxy.do.__signature__)
    assert SMUGGLED not in dir(proxy)
    shown = [repr(proxy), repr(proxy.do), proxy.do.__doc__, str(fabric.registry.df.to_dict())]
    assert not HARMFUL.search("".join(shown))
    assert not trap.exists()


async def test_names_that_are_none_make_nobody_known(fabric, hostile):
    """A keep-alive under a name that could not be one is counted and nothing else."""
    for name in (SMUGGLED, MARKUP, COMMANDS, TURNED, "../../etc", "a.b", "x" * 200):
        await hostile.announce(id=name)
    await until(lambda: fabric.rejected.counts["keep-alive"] == 7)
    await wait_for_service(fabric, "me")
    assert {service.name.id for service in fabric.registry.services(gone=True)} == {"me"}


# What is read is bounded


@pytest.mark.parametrize("deep", [tricks.DEEP, tricks.DEEP_OBJECT], ids=["lists", "objects"])
async def test_endless_nesting(fabric, hostile, deep):
    """JSON that is nested 100,000 deep is malformed, wherever it comes."""
    await hostile.serve({"get": lambda _: Reply(deep), "fail": lambda _: Reply(deep, "error")})
    for method in ("get", "fail"):
        with pytest.raises(MalformedMessage, match="cannot be read"):
            await fabric.call(f"app.evil.{method}", timeout=10)
    async with await fabric.stream(), await fabric.logs():
        await hostile.data(deep)
        await hostile.log(deep)
        await hostile.announce(deep)
        await hostile.send(fabric.name.api_exchange, fabric.name.method_queue("add"), deep)
        counts = {"reply": 2, "data": 1, "log": 1, "keep-alive": 1, "call": 1}
        await until(lambda: fabric.rejected.counts == counts)
    await works(fabric)


async def test_bombs(fabric, hostile):
    """What would unpack to a gigabyte is given up on the way, counted, and said to be too much."""
    packed = tricks.bomb()
    assert len(packed) < 2_000_000
    async with await fabric.stream() as stream:
        await hostile.data(packed, content_encoding="gzip")
        await hostile.data(compress(bytes(300 << 20), "zstd"), content_encoding="zstd")
        await hostile.data(b"x", content_encoding=MARKUP)
        await until(lambda: stream.rejected == 3, timeout=60)
    reasons = [one.reason for one in fabric.rejected.last]
    assert "unpacks to more than" in reasons[0]
    assert "unpacks to more than" in reasons[1]
    assert "is not known: use gzip, deflate, zstd or a charset" in reasons[2]
    await works(fabric)


async def test_a_million_headers(broker_uri):
    """A million headers in one message cost their sender the connection, and nobody else."""
    async with Members(broker_uri) as members:
        fabric = await members.join("me")
        await fabric.serve({"add": lambda x, y: x + y})
        async with await fabric.stream() as stream, await fabric.logs() as feed:
            async with Hostile.on(broker_uri) as other, asyncio.timeout(30):
                with pytest.raises(aiormq.exceptions.ConnectionFrameError):
                    await other.headers(f"{DOMAIN}.data", 1_000_000)
            await works(fabric)
            assert len(stream.df) == 1  # what `works` has published
            assert feed.changes == stream.rejected == feed.rejected == 0
        assert not fabric.rejected.counts


def test_a_million_headers_that_pass():
    """Where a broker lets a million headers pass, as longer frames would, they are not read."""
    for count, level in ((1_000, "ERROR"), (1_000_000, "NOTSET")):
        payload = headers_frame(count, {"level_name": "ERROR"})
        delivery = Delivery(b'"text"', *read_properties(payload))
        record = read_log(delivery, now=1)
        assert (record.message, record.level) == ("text", level)
        assert len(delivery.headers) == (0 if level == "NOTSET" else count + 1)


async def test_headers_without_end(fabric, hostile, rabbitmq_uri):
    """More headers than 128 KiB do not pass the broker; the thousands that do are read like few."""
    endless = {f"h{n}": n for n in range(50_000)}
    async with Hostile.on(rabbitmq_uri) as other:
        with pytest.raises(aiormq.exceptions.ConnectionFrameError, match="frame_too_large"):
            await other.data(b"{}", endless)
    many = {f"h{n}": n for n in range(12_000)}
    async with await fabric.stream() as stream, await fabric.logs() as feed:
        await hostile.data(b'{"n": 1}', many)
        await hostile.log("text", **many)
        await hostile.announce(headers=many)
        await stream.wait(1, timeout=20)
        await feed.wait(1, timeout=20)
        await wait_for_service(fabric, "evil")
        assert stream.df.n.tolist() == [1]
    await works(fabric)


async def test_odd_json(fabric, hostile):
    """Of equal keys the last counts; NaN and integers of any size are what they are."""
    odd = b'{"same": 1, "same": 2, "nan": NaN, "inf": -Infinity, "big": %d}' % 2**70
    await hostile.serve({"get": lambda _: Reply(odd)})
    async with await fabric.stream() as stream:
        await hostile.data(odd)
        await stream.wait(1, timeout=10)
        (row,) = stream.df.to_dict("records")
    for read in (await fabric.call("app.evil.get", timeout=10), row):
        assert (read["same"], read["big"]) == (2, 2**70)
        assert math.isnan(read["nan"])
        assert read["inf"] == -math.inf
    echoed = await fabric.call("me.add", x=2**70, y=1, timeout=10)
    assert echoed == 2**70 + 1


# Replies


async def test_replies_under_other_ids(fabric, hostile):
    """Replies that belong to no call are dropped; of several to one call the first counts."""

    def answer(request: aio_pika.abc.AbstractIncomingMessage) -> list[Reply]:
        wrong = ["", "0", request.correlation_id[:-1], request.correlation_id.upper() + "x"]
        others = [Reply(b'"wrong"', properties={"correlation_id": id}) for id in wrong]  # noqa: A001
        return [*others, Reply(b'"first"'), Reply(b'"second"')]

    await hostile.serve({"get": answer, "never": lambda _: []})
    assert await fabric.call("app.evil.get", timeout=10) == "first"
    with pytest.raises(CallTimeout):
        await fabric.call("app.evil.never", timeout=0.3)
    assert fabric.member.rpc.pending == 0
    await works(fabric)


async def test_replies_to_the_calls_of_others(fabric, hostile, members):
    """Who was called once knows where replies go, and still cannot answer other calls."""
    go = asyncio.Event()

    async def secret() -> str:
        await go.wait()
        return "honest"

    bank = await members.join("bank")
    await bank.serve({"secret": secret})
    call = asyncio.create_task(fabric.call("app.bank.secret", timeout=30))
    await hostile.serve({"get": lambda _: Reply(b"1")})
    ids = set()
    for _ in range(20):
        await fabric.call("app.evil.get", timeout=10)
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


# What is seen in a notebook


async def test_nothing_harmful_is_shown(start_kernel, hostile, rabbitmq_uri, trap):
    """Every magic shows what a hostile peer says as text: no markup, no commands, no turning."""
    everything = MARKUP + COMMANDS + TURNED + SMUGGLED
    code = tricks.touching(trap)
    await hostile.serve(
        {
            "fail": lambda _: tricks.error(
                everything, code, message=everything, traceback=everything
            ),
            "_describe": lambda _: Reply(
                json.dumps({"methods": {"fail": {"doc": everything}}}).encode()
            ),
        }
    )
    kernel: Kernel = await start_kernel({"AMQP_URL": rabbitmq_uri})
    await kernel.run(
        f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}\n"
        "s = %fabric_stream\nl = %fabric_logs\n%fabric_services"
    )
    await hostile.announce(
        version=everything, methods={"fail": f"(x={code})" + everything, SMUGGLED: "()"}
    )
    await hostile.data(json.dumps({everything: everything, "n": 1}).encode())
    await hostile.log(everything, traceback=everything, logger_name=everything, service_id="x")
    await kernel.run("await s.wait(1, timeout=20); await l.wait(1, timeout=20)")
    failed = await kernel.execute("%fabric_call app.evil.fail")
    assert failed.error is not None
    assert failed.error.name == "RemoteError"
    for line in ("%fabric_services", "s", "l", "fabric", "fabric.registry", "fabric.rejected"):
        await kernel.run(line)
    offered = await kernel.complete("%fabric_call app.evil.")
    assert offered.matches == ["app.evil.fail"]
    await kernel.run("proxy = await fabric.service('app.evil').load()\nproxy, proxy.fail")
    await kernel.run("proxy.fail?")
    assert not trap.exists()

    commands = re.compile(r"\x1b(?!\[[0-9;]*m)|\x1b\[8m|[\x00\x07\u200b\u202e\u2066]")
    shown = [
        (kind, text)
        for message in kernel.messages
        if message.type in ("stream", "display_data", "update_display_data", "execute_result")
        for kind, text in texts_of(message.content)
    ]
    assert any("gpj.exe" in text for _, text in shown)  # it is shown, as text
    for kind, text in shown:
        assert not commands.search(text), (kind, text)
        if kind == "text/html":
            assert "<img src=x" not in text
            assert "<script" not in text
    for reply in kernel.replies.values():
        assert not commands.search("".join(reply.get("traceback", [])) + reply.get("evalue", ""))


def texts_of(content: dict[str, Any]) -> list[tuple[str, str]]:
    """The forms of an output that a front end shows as they are."""
    data = content.get("data", {"text/plain": content.get("text", "")})
    return [(kind, text) for kind, text in data.items() if kind.startswith("text/")]
