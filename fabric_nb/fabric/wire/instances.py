"""Messages to the instances of a service: who serves what, and which calls are running.

Each instance binds its control queue to the service's exchange, so that everyone who may call the
service reaches its instances, and nothing is to be known of them before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fabric_nb.errors import MalformedMessage, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.calls import reply_message
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.fabric.wire.reading import number, text

PING, PONG = "ping", "pong"
MAX_PONG = 1024 * 1024
"""Bytes of the longest pong that is read."""
MAX_LISTED = 10_000
"""Calls that one pong lists."""
MAX_HOST = 64
"""Characters of the name of a machine."""
_MAX_SECONDS = 1e9
_MAX_TIME = 1e11
_MAX_PID = 2**32


@dataclass(frozen=True, slots=True)
class CallStatus:
    """Status of a call that an instance has received and not answered.

    Attributes:
        seconds: time since it began; None if it waits at the instance.
        acknowledged: the broker does not deliver it to another instance if this one is lost.
    """

    seconds: float | None
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """An instance's answer to a ping.

    Attributes:
        instance: id of the instance.
        methods: for each method that it consumes calls of, seconds since it created the method's
            queue, in which no earlier call can be; None if the queue had other consumers.
        calls: calls of the member that asks, by correlation id.
        host: name of its machine.
        pid: id of its process there.
        version: version of the service.
        up: seconds since it began to serve.
        time: its clock, in epoch seconds.
    """

    instance: str
    methods: dict[str, float | None] = field(default_factory=dict)
    calls: dict[str, CallStatus] = field(default_factory=dict)
    host: str = ""
    pid: int | None = None
    version: str = ""
    up: float | None = None
    time: float | None = None

    def merged_with(self, other: InstanceStatus) -> InstanceStatus:
        """Return the status of an instance with two servers, of which `other` is the older one."""
        methods, calls = other.methods | self.methods, other.calls | self.calls
        return replace(self, methods=methods, calls=calls)


def ping_message(ping_id: str, reply_to: str, user_id: str | None = None) -> Message:
    """Return a message that asks each instance of a service for its status.

    The broker is to verify `user_id`: a service that accepts calls from certain users only answers
    no others.
    """
    message = reply_message(PING, ping_id, b"null", reply_to=reply_to)
    message.user_id = user_id
    return message


def pong_message(status: InstanceStatus, ping_id: str | None) -> Message:
    """Return the reply to a ping."""
    content = {
        "instance": status.instance,
        "methods": status.methods,
        "calls": {key: [call.seconds, call.acknowledged] for key, call in status.calls.items()},
        "host": status.host,
        "pid": status.pid,
        "version": status.version,
        "up": status.up,
        "time": status.time,
    }
    return reply_message(PONG, ping_id, encode(content)[0])


def read_pong(delivery: Delivery) -> InstanceStatus:
    """Return the status in a pong.

    Raises:
        MalformedMessage: it cannot be read.
    """
    content = decode(delivery.body) if len(delivery.body) <= MAX_PONG else None
    if not isinstance(content, dict):
        raise MalformedMessage("A pong's body must be a JSON object of at most 1 MiB.")
    methods, calls = content.get("methods"), content.get("calls")
    pid = number(content.get("pid"), low=0, high=_MAX_PID)
    return InstanceStatus(
        instance=printable(text(content.get("instance"), 64)),
        methods={
            name: _seconds(age)
            for name, age in (methods.items() if isinstance(methods, dict) else ())
            if is_method(name)
        },
        calls={
            key: CallStatus(_seconds(status[0]), status[1] is True)
            for key, status in (calls.items() if isinstance(calls, dict) else ())
            if isinstance(status, list) and len(status) == 2
        },
        host=printable(text(content.get("host"), MAX_HOST)),
        pid=None if pid is None else int(pid),
        version=printable(text(content.get("version"), 64)),
        up=_seconds(content.get("up")),
        time=number(content.get("time"), low=0.0, high=_MAX_TIME),
    )


def _seconds(value: object) -> float | None:
    return number(value, low=0.0, high=_MAX_SECONDS)
