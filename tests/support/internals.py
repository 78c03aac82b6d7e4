"""Access to private attributes, to cause failures and to count what nothing public counts.

No other module of the tests has any, because tests observe what users can (ruff's SLF001).
"""

from __future__ import annotations

import atexit
import ctypes
import socket
import struct
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from fabric_nb.fabric.amqp.connection import Connection
    from fabric_nb.fabric.amqp.message import Delivery
    from fabric_nb.fabric.logs.feed import LogFeed

SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""Classic packet filter of one instruction: return 0 bytes (socket(7))."""


def lose_connection(connection: Connection) -> None:
    """Reset the socket of a connection."""
    writer = connection._transport.writer
    assert writer is not None
    writer.abort()


def fall_silent(connection: Connection) -> None:
    """Drop all packets from the broker."""
    sock = connection._transport.writer.transport.get_extra_info("socket")
    program = ctypes.create_string_buffer(DROP_ALL)
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    with socket.socket(fileno=socket.dup(sock.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


def rename_user(connection: Connection, name: str) -> None:
    """Send another user name than the broker knows, as after a login by OAuth 2."""
    connection._user_id = name


def count_replies(connector: AmqBrokerConnector) -> Counter[str | None]:
    """Count the replies by correlation id, from the next opening of the connector on."""
    counted: Counter[str | None] = Counter()
    requester = connector.member.rpc.requester
    on_reply = requester._on_reply

    def count(delivery: Delivery) -> None:
        counted[delivery.correlation_id] += 1
        on_reply(delivery)

    requester._on_reply = count
    return counted


def add_log_feed(connector: AmqBrokerConnector, feed: LogFeed) -> None:
    """Add a feed to those of a connector that is not open."""
    connector.logs._feeds.add(feed)


def run_exit_functions() -> None:
    """Wait for threads, and run the functions registered with atexit, like an interpreter's end."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
