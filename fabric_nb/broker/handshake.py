"""Connection handshake: authentication and negotiation of limits.

AMQP 0-9-1, section 2.2.4; the capabilities and AMQPLAIN are RabbitMQ's.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pamqp import base
from pamqp.commands import Connection

from fabric_nb._version import __version__
from fabric_nb.broker.errors import NO_METHOD, AMQPError, ReplyCode
from fabric_nb.broker.field_table import (
    Table,
    decode_table,
    join_table,
    longstr_value,
    table_value,
)

FRAME_MIN_SIZE = 4096
"""Bytes: minimum of the negotiated frame size, and maximum frame size before negotiation."""

# Names and order are RabbitMQ's, also of the properties, because a client may rely on either.
_CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)
_SERVER_PROPERTIES = join_table(
    {
        "capabilities": table_value(dict.fromkeys(_CAPABILITIES, b"t\x01")),
        "cluster_name": longstr_value("fabric_nb"),
        "copyright": longstr_value("Copyright (c) The fabric_nb developers"),
        "information": longstr_value(
            "For development: nothing is kept. Use RabbitMQ in production."
        ),
        "platform": longstr_value("Python"),
        "product": longstr_value("fabric_nb embedded broker"),
        "version": longstr_value(__version__),
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of the broker's only user."""

    user: str
    password: str

    def match(self, user: bytes, password: bytes) -> bool:
        """Compare credentials in constant time."""
        same_user = hmac.compare_digest(user, self.user.encode())
        same_password = hmac.compare_digest(password, self.password.encode())
        return same_user and same_password


@dataclass(slots=True)
class NegotiatedParameters:
    """Parameters of a connection: the server's proposal, then the negotiated values.

    Attributes:
        frame_max: Maximum frame size in bytes.
        channel_max: Maximum number of channels of the client.
        heartbeat: Seconds between heartbeats; 0 for none.
        capabilities: RabbitMQ's names of the extensions that the client supports.
    """

    frame_max: int = 131_072
    channel_max: int = 2047
    heartbeat: int = 60
    capabilities: frozenset[str] = frozenset()


class Handshake:
    """The methods of channel 0 up to Connection.OpenOk.

    Args:
        credentials: Credentials that are accepted.
        vhost: Name of the only virtual host.
        negotiated: The server's proposal; updated to the negotiated values.
    """

    def __init__(
        self, credentials: Credentials, vhost: str, negotiated: NegotiatedParameters
    ) -> None:
        self.negotiated = negotiated
        self.done = False
        self._credentials = credentials
        self._vhost = vhost
        self._expected: type[base.Frame] = Connection.StartOk
        self._handlers: dict[type[base.Frame], Callable[[Any], base.Frame | None]] = {
            Connection.StartOk: self._on_start_ok,
            Connection.TuneOk: self._on_tune_ok,
            Connection.Open: self._on_open,
        }

    def start(self) -> base.Frame:
        """Return the first method, which the server sends."""
        return Connection.Start(0, 9, _SERVER_PROPERTIES, "PLAIN AMQPLAIN", "en_US")  # type: ignore[arg-type]

    def on_method(self, method: base.Frame) -> base.Frame | None:
        """Handle the client's next method, and return the reply, if any.

        Raises:
            AMQPError: COMMAND_INVALID for an unexpected method or an unknown mechanism,
                ACCESS_REFUSED for wrong credentials, NOT_ALLOWED for limits beyond the server's or
                an unknown virtual host.
        """
        if not isinstance(method, self._expected):
            raise AMQPError(
                ReplyCode.COMMAND_INVALID, f"expected {self._expected.name}, got {method.name}"
            )
        return self._handlers[self._expected](method)

    def _on_start_ok(self, method: Connection.StartOk) -> base.Frame:
        capabilities = _as_table((method.client_properties or {}).get("capabilities"))
        self.negotiated.capabilities = frozenset(
            name for name, value in capabilities.items() if value is True
        )
        response = cast(
            "bytes", method.response
        )  # bytes, because `decode_method` does not decode it
        if not self._credentials.match(*_login(method.mechanism, response)):
            raise AMQPError(
                ReplyCode.ACCESS_REFUSED,
                f"Login was refused using authentication mechanism {method.mechanism}",
                NO_METHOD,
            )
        self._expected = Connection.TuneOk
        proposed = self.negotiated
        return Connection.Tune(proposed.channel_max, proposed.frame_max, proposed.heartbeat)

    def _on_tune_ok(self, method: Connection.TuneOk) -> None:
        negotiated = self.negotiated
        negotiated.channel_max = _negotiate(
            "channel_max", method.channel_max, 1, negotiated.channel_max
        )
        negotiated.frame_max = _negotiate(
            "frame_max", method.frame_max, FRAME_MIN_SIZE, negotiated.frame_max
        )
        negotiated.heartbeat = method.heartbeat
        self._expected = Connection.Open

    def _on_open(self, method: Connection.Open) -> base.Frame:
        if method.virtual_host != self._vhost:
            raise AMQPError(ReplyCode.NOT_ALLOWED, f"vhost {method.virtual_host} not found")
        self.done = True
        return Connection.OpenOk()


def _as_table(value: Any) -> Table:
    return value if isinstance(value, dict) else {}


def _login(mechanism: str, response: bytes) -> tuple[bytes, bytes]:
    """Return user and password from the response of a SASL mechanism."""
    if mechanism == "PLAIN":
        # RFC 4616: authorization identity, user, password.
        fields = response.split(b"\0")
        return (fields[1], fields[2]) if len(fields) == 3 else (b"", b"")
    if mechanism == "AMQPLAIN":
        # A field table without its length prefix.
        table = decode_table(len(response).to_bytes(4) + response)
        return str(table.get("LOGIN", "")).encode(), str(table.get("PASSWORD", "")).encode()
    raise AMQPError(ReplyCode.COMMAND_INVALID, f"unknown authentication mechanism '{mechanism}'")


def _negotiate(name: str, client: int, minimum: int, server: int) -> int:
    """Return the client's value of a limit, which may only lower the server's; 0 is no limit."""
    if client and client < minimum:
        raise AMQPError(
            ReplyCode.NOT_ALLOWED,
            f"negotiated {name} = {client} is lower than the minimum allowed value ({minimum})",
        )
    if not client or client > server:
        raise AMQPError(
            ReplyCode.NOT_ALLOWED,
            f"negotiated {name} = {client} is higher than the maximum allowed value ({server})",
        )
    return client
