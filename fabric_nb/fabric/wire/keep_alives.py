"""Keep-alives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from fabric_nb.errors import InvalidName, MalformedMessage, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.names import (
    GOODBYE,
    KEEP_ALIVE,
    KEEP_ALIVE_REQUEST,
    MSG_TYPE,
    ServiceName,
    is_method,
)
from fabric_nb.fabric.wire.reading import JSON, number, text

MAX_ANNOUNCEMENT = 4096
"""Bytes of a keep-alive's body; discovery must stay cheap for everybody."""
MAX_DESCRIPTION_READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a fabric_nb member says of itself in its keep-alives; amqp-fabric says nothing.

    Attributes:
        instance: which member of the clique this is.
        interval: seconds between its keep-alives.
        busy_since: epoch seconds since when its loop has not run, None when it does.
        methods: signatures by method name, as in ``{"multiply": "(x, y)"}``.
        more_methods: how many methods did not fit into the message.
    """

    version: str = ""
    instance: str = ""
    interval: float | None = None
    busy_since: float | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    more_methods: int = 0


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A sign of life, or the last one (`leaving`), or a question for one (`asking`)."""

    name: ServiceName
    said: Announcement | None = None
    leaving: bool = False
    asking: bool = False


def keep_alive_message(name: ServiceName, said: Announcement) -> Message:
    """The periodic sign of life, at most `MAX_ANNOUNCEMENT` bytes.

    Methods that do not fit are left out and counted.
    """
    return _presence(name, KEEP_ALIVE, _encode_announcement(said))


def goodbye_message(name: ServiceName, said: Announcement) -> Message:
    """The last sign of life; of a message type that amqp-fabric does not listen to."""
    return _presence(name, GOODBYE, orjson.dumps({"instance": said.instance}))


def keep_alive_request(name: ServiceName) -> Message:
    """Asks fabric_nb members to announce themselves; amqp-fabric does not listen to it."""
    return _presence(name, KEEP_ALIVE_REQUEST, b"")


def _presence(name: ServiceName, kind: str, body: bytes) -> Message:
    headers = {
        MSG_TYPE: kind,
        "service_domain": name.domain,
        "service_type": name.type,
        "service_id": name.id,
    }
    content_type = JSON if body else None
    return Message(body, headers=headers, content_type=content_type, timestamp=time.time())


def _encode_announcement(said: Announcement) -> bytes:
    version = said.version[:64].encode(errors="replace").decode()
    fixed = {"version": version, "instance": said.instance, "interval": said.interval}
    if said.busy_since is not None:
        fixed["busy_since"] = said.busy_since
    methods: dict[str, str] = {}
    room = MAX_ANNOUNCEMENT - len(orjson.dumps(fixed)) - 64
    for name, told in said.methods.items():
        signature = told.encode(errors="replace").decode()  # JSON has no lone surrogates
        room -= len(orjson.dumps({name: signature}))
        if room < 0:
            fixed["more_methods"] = len(said.methods) - len(methods)
            break
        methods[name] = signature
    return orjson.dumps({**fixed, "methods": methods})


def read_keep_alive(delivery: Delivery) -> KeepAlive:
    """A message of the discovery exchange, from a member of either kind."""
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
    said = _read_announcement(delivery.body) if delivery.body else None
    return KeepAlive(name, said, leaving=kind == GOODBYE)


def _read_announcement(body: bytes) -> Announcement | None:
    if len(body) > MAX_DESCRIPTION_READ:
        raise MalformedMessage(f"A keep-alive of {len(body)} bytes is too long to be read.")
    said = decode(body)
    if not isinstance(said, dict) or "instance" not in said:
        return None  # another library's extras: allowed, and not ours to judge
    methods = said.get("methods")
    return Announcement(
        version=printable(text(said.get("version"), 64)),
        instance=printable(text(said.get("instance"), 64)),
        interval=number(said.get("interval"), low=0.05, high=3600.0),
        busy_since=number(said.get("busy_since"), low=0.0, high=1e11),
        methods={
            name: printable(text(signature, 500))
            for name, signature in (methods.items() if isinstance(methods, dict) else ())
            if is_method(name)
        },
        more_methods=int(number(said.get("more_methods"), low=0, high=1e6) or 0),
    )
