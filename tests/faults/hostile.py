"""A hostile peer: arbitrary messages by a user of the broker, without the library's connector.

async with Hostile.on(uri) as hostile:
    await hostile.log(MARKUP + TERMINAL_CODES)
    await hostile.serve("do", lambda request: Reply(b"...", type="error"))
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq
from aiormq.abc import ChannelFrame
from pamqp import constants, encode, frame
from pamqp.commands import Basic

from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
TERMINAL_CODES = "\x1b]0;owned\x07\x1b[2J\x1b[8m"
"""Terminal control sequences: a new title, an empty screen, invisible text."""
BIDI_TEXT = "\u202egpj.exe\u2066\u200b"
"""Bidirectional controls and invisible characters."""
INJECTED_NAME = "x; import os"
DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


def bomb(size: int = 1 << 30) -> bytes:
    """Return a megabyte of gzip that decompresses to a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(size >> 10)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (1 << 10)


def headers_frame(count: int, other_headers: Mapping[str, str] | None = None) -> bytes:
    """Return a content header with `count` headers and others, in one frame.

    AMQP 0-9-1, 4.2.5.5 and 4.2.6.1: a content header is never split, whatever the frame size.
    """
    table = encode.field_table({**(other_headers or {})})[4:]
    table += b"".join(b"\x07h%06dI\x00\x00\x00\x01" % n for n in range(count))
    flags = 1 << 13  # headers, and no other property
    return struct.pack(">HHQHI", 60, 0, 0, flags, len(table)) + table


def touch_expression(path: Path) -> str:
    """Return a Python expression that creates a file when it is evaluated."""
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


class _Touch:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._path,)


def touch_pickle(path: Path) -> bytes:
    """Return a pickle that creates a file when it is loaded."""
    return pickle.dumps(_Touch(path))


@dataclass
class Reply:
    """A reply; other properties than these are regular."""

    body: bytes
    type: str = "result"
    properties: dict[str, Any] = field(default_factory=dict)


def error(type: str, *args: object, message: str = "", traceback: str = "") -> Reply:  # noqa: A002
    """Return an error reply with a type name."""
    details = {"type": type, "message": message or type, "args": args, "traceback": traceback}
    return Reply(json.dumps({"error": details}).encode(), "error")


class Hostile:
    """The service `app.evil`, and a publisher to any exchange."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self.connection = connection
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self.requests: list[aio_pika.abc.AbstractIncomingMessage] = []

    @classmethod
    @asynccontextmanager
    async def on(cls, uri: str) -> AsyncIterator[Hostile]:
        """Connect for the block."""
        async with await aio_pika.connect(uri) as connection:
            yield cls(connection)

    @property
    async def channel(self) -> aio_pika.abc.AbstractChannel:
        """Open channel, reopened if necessary."""
        if self._channel is None or self._channel.is_closed:
            self._channel = await self.connection.channel()
        return self._channel

    async def send(
        self,
        exchange: str,
        key: str,
        body: bytes,
        headers: dict[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Publish a message to an exchange."""
        channel = await self.channel
        target = await channel.get_exchange(exchange) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(body, headers=headers, **properties), key)

    async def announce(
        self,
        body: bytes | None = None,
        *,
        id: str = "evil",  # noqa: A002
        headers: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Publish a keep-alive with arbitrary fields."""
        headers = {
            **(headers or {}),
            "msg_type": "keep_alive",
            "service_domain": DOMAIN,
            "service_type": "app",
            "service_id": id,
        }
        fields = {"instance": "evil", "interval": 600, **fields}
        await self.send(
            "msc.discovery", "", json.dumps(fields).encode() if body is None else body, headers
        )

    async def log(self, message: str | bytes, **headers: Any) -> None:
        """Publish a log record."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.send(f"{DOMAIN}.log.records", "", body, {"level_name": "ERROR", **headers})

    async def headers(self, exchange: str, count: int) -> None:
        """Publish a message with many headers, and wait for the end of the connection."""
        extra_channel = await self.connection.channel(publisher_confirms=False)
        channel = await extra_channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)
        method = frame.marshal(Basic.Publish(exchange=exchange), channel.number)
        payload = headers_frame(count)
        head = struct.pack(">BHI", constants.FRAME_HEADER, channel.number, len(payload))
        parts = [method, head, payload, bytes([constants.FRAME_END])]
        await channel.connection.write_queue.put(
            ChannelFrame(payload=b"".join(parts), should_close=False)
        )
        await channel.connection.closing

    async def data(
        self, body: bytes, headers: dict[str, Any] | None = None, **properties: Any
    ) -> None:
        """Publish a message to the data exchange."""
        await self.send(f"{DOMAIN}.data", "", body, headers, **properties)

    async def serve(
        self, methods: dict[str, Callable[[aio_pika.abc.AbstractIncomingMessage], Any]]
    ) -> None:
        """Serve methods; each returns one `Reply`, or several, for a request."""
        channel = await self.connection.channel()
        exchange = await channel.declare_exchange(
            f"{DOMAIN}.api.app.evil", "direct", auto_delete=True
        )
        for method, handler in methods.items():
            queue = await channel.declare_queue(
                f"{DOMAIN}.api.app.evil::{method}",
                durable=True,
                auto_delete=True,
                arguments={"x-dead-letter-exchange": "rpc.dlx"},
            )
            await queue.bind(exchange, queue.name)
            await queue.consume(self._replying(handler), no_ack=True)

    def _replying(self, handler: Callable[[aio_pika.abc.AbstractIncomingMessage], Any]) -> Any:
        async def on_request(request: aio_pika.abc.AbstractIncomingMessage) -> None:
            self.requests.append(request)
            replies = handler(request)
            for reply in replies if isinstance(replies, list) else [replies]:
                properties = {"correlation_id": request.correlation_id, **reply.properties}
                await self.send(
                    "", request.reply_to or "", reply.body, type=reply.type, **properties
                )

        return on_request
