"""AMQP client of single frames over a blocking socket, which can also send invalid bytes."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import base, body, commands, frame, header, heartbeat

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
TIMEOUT = 60.0


class Closed(Exception):
    """The broker has closed the socket."""


@dataclass
class Content:
    """A message with the method that carried it."""

    method: Any
    properties: commands.Basic.Properties
    body: bytes


class RawClient:
    """A connection on which the test controls every frame.

    Example:
        ```python
        with RawClient(uri) as client:
            client.open()
            client.call(1, commands.Queue.Declare(queue="q", exclusive=True))
        ```
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        assert parts.hostname
        assert parts.port
        self.user = unquote(parts.username or "guest")
        self.password = unquote(parts.password or "guest")
        self.vhost = unquote(parts.path[1:]) or "/"
        self.socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    # Bytes and frames

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, channel: int, *frames: Any) -> None:
        self.send_bytes(b"".join(frame.marshal(value, channel) for value in frames))

    def receive_bytes(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self._received) < size:
            data = self.socket.recv(65536)
            if not data:
                raise Closed
            self._received += data
        data, self._received = self._received[:size], self._received[size:]
        return data

    def receive(self) -> tuple[int, Any]:
        """Return the next frame with its channel, ignoring heartbeats."""
        while True:
            start = self.receive_bytes(7)
            _, _, size = struct.unpack(">BHI", start)
            _, channel, value = frame.unmarshal(start + self.receive_bytes(size + 1))
            if not isinstance(value, heartbeat.Heartbeat):
                return channel, value

    def receive_content(self, method: Any) -> Content:
        """Return the message of a method that was just received."""
        _, head = self.receive()
        assert isinstance(head, header.ContentHeader)
        data = b""
        while len(data) < head.body_size:
            _, piece = self.receive()
            assert isinstance(piece, body.ContentBody)
            data += piece.value
        return Content(method, head.properties, data)

    def receive_message(self) -> Content:
        """Return the next message; the next frames must be one."""
        _, method = self.receive()
        assert isinstance(
            method, commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return
        ), method
        return self.receive_content(method)

    def call(self, channel: int, method: base.Frame) -> Any:
        """Send a method, and return the next frame of any type."""
        self.send(channel, method)
        return self.receive()[1]

    def until_closed(self) -> list[Any]:
        """Return all frames up to the end of the stream."""
        frames = []
        try:
            while True:
                frames.append(self.receive()[1])
        except (Closed, ConnectionResetError):
            return frames

    # Handshake

    def start(self) -> commands.Connection.Start:
        self.send_bytes(PROTOCOL_HEADER)
        return self.receive()[1]

    def start_ok(
        self, capabilities: dict[str, bool] | None = None, response: str | None = None
    ) -> commands.Connection.StartOk:
        return commands.Connection.StartOk(
            {"capabilities": capabilities or {}},
            "PLAIN",
            f"\0{self.user}\0{self.password}" if response is None else response,
        )

    def open(
        self,
        *,
        channels: int = 1,
        heartbeat: int = 0,
        frame_max: int = 131072,
        capabilities: dict[str, bool] | None = None,
    ) -> Self:
        """Open the connection and the channels 1 to `channels`."""
        self.start()
        tune = self.call(0, self.start_ok(capabilities))
        assert isinstance(tune, commands.Connection.Tune), tune
        self.send(0, commands.Connection.TuneOk(tune.channel_max, frame_max, heartbeat))
        opened = self.call(0, commands.Connection.Open(self.vhost))
        assert isinstance(opened, commands.Connection.OpenOk), opened
        for number in range(1, channels + 1):
            self.open_channel(number)
        return self

    def open_channel(self, number: int) -> None:
        answer = self.call(number, commands.Channel.Open())
        assert isinstance(answer, commands.Channel.OpenOk), answer

    def publish(
        self,
        channel: int,
        routing_key: str,
        data: bytes = b"",
        *,
        exchange: str = "",
        mandatory: bool = False,
        **properties: Any,
    ) -> None:
        content: list[Any] = [
            commands.Basic.Publish(0, exchange, routing_key, mandatory),
            header.ContentHeader(0, len(data), commands.Basic.Properties(**properties)),
        ]
        if data:
            content.append(body.ContentBody(data))
        self.send(channel, *content)
