"""Names of services, exchanges, queues and headers, by the wire contract (`docs/wire.md`). Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fabric_nb.errors import InvalidArgumentType, InvalidName, UnusableQueue

DEAD_LETTER_EXCHANGE = "rpc.dlx"
DEATH_HEADER = "x-death"
"""Header that a broker adds to dead-lettered messages, and that no publisher can remove."""
DEFAULT_DISCOVERY_EXCHANGE = "msc.discovery"
DEFAULT_DATA_EXCHANGE = "data"

MSG_TYPE = "msg_type"
KEEP_ALIVE = "keep_alive"
KEEP_ALIVE_REQUEST = "keep_alive_request"
"""Extension of fabric_nb: requests that every fabric_nb member announces itself now."""
GOODBYE = "goodbye"
"""Extension of fabric_nb: the member leaves; other members need not wait for its expiry."""

ALL_INSTANCES = "*"
"""In place of the id of an instance."""

MAX_QUEUE, MAX_EXCHANGE = 255, 127
"""Bytes of the names of a queue (AMQP 0-9-1, 4.2.5.3) and of an exchange (1.6 of its reference)."""

_NAME = re.compile(r"[A-Za-z0-9_.:@#,/+ -]*\Z")  # accepted by AMQP clients on pamqp
_PART = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def discovery_exchange() -> str:
    """Return the discovery exchange, ``DISCOVERY_EXCHANGE_NAME`` or ``msc.discovery``."""
    return os.environ.get("DISCOVERY_EXCHANGE_NAME", DEFAULT_DISCOVERY_EXCHANGE)


def check_version(version: object) -> str:
    """Return a service's version, which must be text.

    Raises:
        InvalidArgumentType: it is not text.
    """
    if not isinstance(version, str):
        raise InvalidArgumentType(
            f"A version is text, as in {str(version)!r}, and cannot be the"
            f" {type(version).__name__} {version!r}."
        )
    return version


def match_all(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a binding to messages that have all of these headers.

    ``x-match: all`` ignores headers that begin with ``x-``; RabbitMQ 3.10 has ``all-with-x``.

    Example:
        >>> match_all({"x-tenant": "a"})
        {'x-match': 'all-with-x', 'x-tenant': 'a'}
    """
    with_x = any(name.startswith("x-") for name in headers)
    return {"x-match": "all-with-x" if with_x else "all", **headers}


def data_exchange(domain: str) -> str:
    """Return the exchange of a domain's data streams, ``{domain}.data``."""
    name = os.environ.get("DATA_EXCHANGE_NAME", DEFAULT_DATA_EXCHANGE)
    return check_exchange(f"{domain}.{name}")


def log_exchange(domain: str) -> str:
    """Return the exchange of a domain's log records, ``{domain}.log.records``."""
    return f"{domain}.log.records"


def span_exchange(domain: str) -> str:
    """Return the exchange of a domain's spans, ``{domain}.spans``."""
    return f"{domain}.spans"


def check_part(value: object, kind: str) -> str:
    """Return `value` if it is a valid `kind` (domain, type or id); raise `InvalidName` if not."""
    if isinstance(value, str) and _PART.match(value):
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be a service {kind}: use 1 to 63 letters, digits, '-' or '_'."
    )


def check_method(value: object) -> str:
    """Return `value` if it is a valid method name; raise `InvalidName` if not."""
    if isinstance(value, str) and _METHOD.match(value):
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be a method: use letters, digits and '_', not starting with"
        " a digit."
    )


def check_exchange(value: object) -> str:
    """Return `value` if it is a valid exchange name; raise `InvalidName` if not."""
    if isinstance(value, str) and _NAME.match(value) and 0 < len(value) <= MAX_EXCHANGE:
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be the name of an exchange: use 1 to {MAX_EXCHANGE} letters,"
        " digits, spaces and any of -_.:@#,/+ only."
    )


def check_queue(value: object) -> str:
    """Return `value` if it is a valid name of a queue, chosen by the user.

    Raises:
        UnusableQueue: it is not text, too long, reserved, or has characters that clients refuse.
    """
    if not isinstance(value, str):
        raise UnusableQueue(
            f"The name of a queue is text, so it cannot be {_shown(value)}: give it as str."
        )
    if not _NAME.match(value):
        raise UnusableQueue(
            f"{_shown(value)} cannot be the name of a queue: use letters, digits, spaces and"
            " any of -_.:@#,/+ only."
        )
    if len(value) > MAX_QUEUE:
        raise UnusableQueue(
            f"{_shown(value)} cannot be the name of a queue, because it has {len(value)}"
            f" characters: use {MAX_QUEUE} at most."
        )
    if value.startswith("amq."):
        raise UnusableQueue(
            f"{_shown(value)} cannot be the name of a queue, because names that begin with amq. are"
            " the broker's own: choose another."
        )
    return value


def is_part(value: object) -> bool:
    """Return whether a received value is a valid domain, type or id."""
    return isinstance(value, str) and _PART.match(value) is not None


def is_method(value: object) -> bool:
    """Return whether a received value is a valid method name."""
    return isinstance(value, str) and _METHOD.match(value) is not None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """Address of a service: domain, type and id.

    Instances with the same address form a clique: any of them may receive the next call.

    Example:
        >>> ServiceName("my_project", "calc", "c1").method_queue("multiply")
        'my_project.api.calc.c1::multiply'

    Raises:
        InvalidName: a part is not 1 to 63 letters, digits, ``-`` or ``_``.
    """

    domain: str
    type: str
    id: str
    fqn: str = field(init=False, repr=False, compare=False)
    """Full name, ``{domain}.{type}.{id}``."""
    api_exchange: str = field(init=False, repr=False, compare=False)
    """Exchange for calls to this service."""

    def __post_init__(self) -> None:
        for kind in ("domain", "type", "id"):
            check_part(getattr(self, kind), kind)
        object.__setattr__(self, "fqn", f"{self.domain}.{self.type}.{self.id}")
        object.__setattr__(self, "api_exchange", f"{self.domain}.api.{self.type}.{self.id}")

    def __hash__(self) -> int:
        return hash(self.fqn)  # which str computes only once

    @property
    def local(self) -> str:
        """Name within the domain, ``{type}.{id}``."""
        return f"{self.type}.{self.id}"

    def seen_from(self, domain: str) -> str:
        """Return the name in a call from a domain: `local` in the same one, else `fqn`."""
        return self.local if domain == self.domain else self.fqn

    def method_queue(self, method: str) -> str:
        """Return the queue of one method, which is its routing key too."""
        return f"{self.api_exchange}::{method}"

    def check_servable(self, methods: Iterable[str]) -> None:
        """Check that the names of the exchange and of the methods' queues are short enough.

        Raises:
            InvalidName: one of them is longer than AMQP allows.
        """
        if len(self.api_exchange) > MAX_EXCHANGE:
            raise InvalidName(
                f"{self.fqn} is too long an address to serve under: its exchange would have a name"
                f" of {len(self.api_exchange)} characters, and {MAX_EXCHANGE} are allowed; shorten"
                " domain, type or id."
            )
        for method in methods:
            if (length := len(self.method_queue(method))) > MAX_QUEUE:
                raise InvalidName(
                    f"{_shown(method)} is too long a method to serve under {self.fqn}: its queue"
                    f" would have a name of {length} characters, and {MAX_QUEUE} are allowed;"
                    " shorten it."
                )

    @property
    def leader_queue(self) -> str:
        """Queue of all methods of a leader service, which one instance at a time consumes."""
        return f"{self.api_exchange}.leader"

    @property
    def instances_key(self) -> str:
        """Routing key of messages to all instances on fabric_nb."""
        return f"{self.api_exchange}.instances"

    def instance_key(self, instance: str) -> str:
        """Return the routing key of messages to one instance."""
        return f"{self.instances_key}.{instance}"

    def __str__(self) -> str:
        return self.fqn


_service_name = lru_cache(maxsize=1024)(ServiceName)


@dataclass(frozen=True, slots=True)
class ServicePattern:
    """Name of a service as typed by a user: the id, ``type.id``, or the full name.

    An empty `domain` matches any. `instance` is empty, or the beginning of the id of one instance,
    or `ALL_INSTANCES`.

    Example:
        >>> ServicePattern.parse("calc.c1", domain="my_project")
        ServicePattern(domain='my_project', type='calc', id='c1', instance='')
        >>> ServicePattern.parse("c1@7f3a", domain="my_project", instances=True).instance
        '7f3a'
    """

    domain: str
    type: str | None
    id: str
    instance: str = ""

    @classmethod
    def parse(cls, text: str, *, domain: str, instances: bool = False) -> ServicePattern:
        """Parse ``id``, ``type.id`` or ``domain.type.id``; short names are names in `domain`.

        With `instances`, ``@`` and the beginning of the id of an instance, or ``*``, may follow.

        Raises:
            InvalidName: it is not written so.
        """
        service, at, instance = text.partition("@") if isinstance(text, str) else ("", "", "")
        parts = service.split(".")
        if not isinstance(text, str) or len(parts) > 3:
            raise InvalidName(
                f"{_shown(text)} is not a service: write id, type.id or domain.type.id."
            )
        for kind, part in zip(("id", "type", "domain"), reversed(parts), strict=False):
            check_part(part, kind)
        if at and not instances:
            raise InvalidName(
                f"{_shown(text)} names an instance, and a service is needed here: write {service}."
            )
        if at and instance != ALL_INSTANCES and not is_part(instance):
            raise InvalidName(
                f"{_shown(text)} names no instance: write the beginning of its id after the @, or"
                f" {ALL_INSTANCES} for all."
            )
        return cls(
            domain=parts[-3] if len(parts) == 3 else domain,
            type=parts[-2] if len(parts) > 1 else None,
            id=parts[-1],
            instance=instance,
        )

    @property
    def exact(self) -> ServiceName | None:
        """Address of the service if the pattern is a full name, otherwise None."""
        return _service_name(self.domain, self.type, self.id) if self.domain and self.type else None

    def matches(self, name: ServiceName) -> bool:
        """Return whether the pattern matches `name`."""
        return (
            name.id == self.id
            and self.domain in ("", name.domain)
            and self.type in (None, name.type)
        )

    def __str__(self) -> str:
        name = ".".join(part for part in (self.domain, self.type, self.id) if part)
        return f"{name}@{self.instance}" if self.instance else name


def parse_call(text: str, *, domain: str) -> tuple[ServicePattern, str]:
    """Split ``id.method``, ``type.id.method`` or ``domain.type.id.method``.

    The service may be followed by ``@`` and an instance, as for `ServicePattern.parse`.

    Example:
        >>> parse_call("my_app.multiply", domain="d")
        (ServicePattern(domain='d', type=None, id='my_app', instance=''), 'multiply')
    """
    if isinstance(text, str):
        return _parse_call(text, domain)
    raise _no_call(text)


@lru_cache(maxsize=1024)  # programs write the same few calls again and again
def _parse_call(text: str, domain: str) -> tuple[ServicePattern, str]:
    service, dot, method = text.rpartition(".")
    if not dot or service.count(".") > 2:
        raise _no_call(text)
    pattern = ServicePattern.parse(service, domain=domain, instances=True)
    return pattern, check_method(method)


def _no_call(text: object) -> InvalidName:
    return InvalidName(
        f"{_shown(text)} is not a call: write id.method, type.id.method or domain.type.id.method."
    )
