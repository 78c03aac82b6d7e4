"""Keep-alives, with the announcement of a service in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fabric_nb.errors import InvalidName, MalformedMessage, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.formats import JSON
from fabric_nb.fabric.wire.names import (
    GOODBYE,
    KEEP_ALIVE,
    KEEP_ALIVE_REQUEST,
    MSG_TYPE,
    ServiceName,
    is_method,
)
from fabric_nb.fabric.wire.reading import number, text
from fabric_nb.fabric.wire.statistics import (
    SHARE,
    EncodedStatistics,
    Statistics,
    read_statistics,
)

MAX_ANNOUNCEMENT = 4096
"""Bytes of a keep-alive's body that is sent; discovery must stay cheap for all members."""
MAX_DESCRIPTION_READ = 64 * 1024
"""Bytes of a keep-alive's body that is read."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Description of an instance in its keep-alives; those of amqp-fabric have none.

    Attributes:
        version: version of the service.
        instance: id of the instance within its clique.
        interval: seconds between its keep-alives.
        busy_since: time (epoch seconds) since when its loop is blocked; None if it is not.
        methods: signatures by method name, as in ``{"multiply": "(x, y)"}``.
        more_methods: number of methods that did not fit into the message.
        drains: callers may ask it to finish and leave.
    """

    version: str = ""
    instance: str = ""
    interval: float | None = None
    busy_since: float | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    more_methods: int = 0
    drains: bool = False


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Keep-alive of a service, or its goodbye (`leaving`), or a request for them (`asking`).

    Attributes:
        statistics: calls that the instance has served; None if it serves none, and for amqp-fabric.
        flaw: reason why the statistics could not be read; empty if they could.
    """

    name: ServiceName
    announcement: Announcement | None = None
    leaving: bool = False
    asking: bool = False
    statistics: Statistics | None = None
    flaw: str = ""


def keep_alive_message(
    name: ServiceName, announcement: Announcement, statistics: Statistics | None = None
) -> Message:
    """Return a periodic keep-alive, of at most `MAX_ANNOUNCEMENT` bytes.

    Methods that do not fit are omitted and counted.
    """
    return _discovery_message(name, KEEP_ALIVE, _encode_body(announcement, statistics))


def goodbye_message(name: ServiceName, announcement: Announcement) -> Message:
    """Return a member's last message, of a message type that amqp-fabric ignores."""
    return _discovery_message(name, GOODBYE, orjson.dumps({"instance": announcement.instance}))


def keep_alive_request(name: ServiceName) -> Message:
    """Return a request for keep-alives of all fabric_nb members; amqp-fabric ignores it."""
    return _discovery_message(name, KEEP_ALIVE_REQUEST, b"")


def _discovery_message(name: ServiceName, kind: str, body: bytes) -> Message:
    headers = {
        MSG_TYPE: kind,
        "service_domain": name.domain,
        "service_type": name.type,
        "service_id": name.id,
    }
    content_type = JSON if body else None
    return Message(body, headers=headers, content_type=content_type, timestamp=time.time())


def _encode_body(announcement: Announcement, statistics: Statistics | None) -> bytes:
    version = announcement.version[:64].encode(errors="replace").decode()
    fixed: dict[str, Any] = {
        "version": version,
        "instance": announcement.instance,
        "interval": announcement.interval,
    }
    if announcement.busy_since is not None:
        fixed["busy_since"] = announcement.busy_since
    if announcement.drains:
        fixed["drain"] = True
    encoded = None
    if statistics is not None:
        encoded = EncodedStatistics(statistics)
        fixed["stats"] = encoded.content
    methods: dict[str, str] = {}
    room = MAX_ANNOUNCEMENT - len(orjson.dumps(fixed)) - 64
    reserved = min(encoded.wanted, SHARE) if encoded is not None else 0
    room -= reserved
    for name, raw_signature in announcement.methods.items():
        signature = raw_signature.encode(errors="replace").decode()  # JSON has no lone surrogates
        size = len(orjson.dumps({name: signature}))
        if size > room:
            fixed["more_methods"] = len(announcement.methods) - len(methods)
            break
        room -= size
        methods[name] = signature
    if encoded is not None:
        encoded.add_methods(room + reserved)
    return orjson.dumps({**fixed, "methods": methods})


def read_keep_alive(delivery: Delivery) -> KeepAlive:
    """Decode a message of the discovery exchange, from fabric_nb or amqp-fabric."""
    headers = delivery.headers
    try:
        name = ServiceName(*(headers[f"service_{part}"] for part in ("domain", "type", "id")))
    except KeyError as error:
        raise MalformedMessage(f"A keep-alive must have the header {error}.") from None
    except InvalidName as error:
        raise MalformedMessage(f"A keep-alive names no service: {error}") from None
    kind = headers.get(MSG_TYPE)
    if kind == KEEP_ALIVE_REQUEST:
        return KeepAlive(name, asking=True)
    leaving = kind == GOODBYE
    content = _read_body(delivery.body) if delivery.body else None
    if not isinstance(content, dict) or "instance" not in content:
        return KeepAlive(name, leaving=leaving)  # the body is an extension of another library
    statistics, flaw = None, ""
    if "stats" in content:
        statistics = read_statistics(content["stats"])
        flaw = "" if statistics is not None else "Its statistics cannot be read."
    announcement = _read_announcement(content)
    return KeepAlive(name, announcement, leaving=leaving, statistics=statistics, flaw=flaw)


def _read_body(body: bytes) -> Any:
    if len(body) > MAX_DESCRIPTION_READ:
        raise MalformedMessage(f"A keep-alive of {len(body)} bytes is too long to be read.")
    return decode(body)


def _read_announcement(content: Mapping[str, Any]) -> Announcement:
    methods = content.get("methods")
    return Announcement(
        version=printable(text(content.get("version"), 64)),
        instance=printable(text(content.get("instance"), 64)),
        interval=number(content.get("interval"), low=0.05, high=3600.0),
        busy_since=number(content.get("busy_since"), low=0.0, high=1e11),
        drains=content.get("drain") is True,
        methods={
            name: printable(text(signature, 500))
            for name, signature in (methods.items() if isinstance(methods, dict) else ())
            if is_method(name)
        },
        more_methods=int(number(content.get("more_methods"), low=0, high=1e6) or 0),
    )
