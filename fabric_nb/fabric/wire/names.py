"""What things are called on the broker: services, exchanges, queues and headers.

Pure: names in, names out. The rules are those of the wire contract (`docs/wire.md`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import InvalidArgumentType, InvalidName, UnusableQueue

DEAD_LETTER_EXCHANGE = "rpc.dlx"
DEATH_HEADER = "x-death"
"""Header that a broker adds to what it dead-letters, and that no publisher can take away again."""
DEFAULT_DISCOVERY_EXCHANGE = "msc.discovery"
DEFAULT_DATA_EXCHANGE = "data"

MSG_TYPE = "msg_type"
KEEP_ALIVE = "keep_alive"
KEEP_ALIVE_REQUEST = "keep_alive_request"
"""Ours alone: asks every fabric_nb member to announce itself now."""
GOODBYE = "goodbye"
"""Ours alone: a member leaves in order, so that nobody waits for its expiry."""

MAX_QUEUE, MAX_EXCHANGE = 255, 127
"""Bytes of the names of a queue (AMQP 0-9-1, 4.2.5.3) and of an exchange (1.6 of its reference)."""

_NAME = re.compile(r"[A-Za-z0-9_.:@#,/+ -]*\Z")  # what AMQP clients on pamqp take
_PART = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def discovery_exchange() -> str:
    """The discovery exchange, ``DISCOVERY_EXCHANGE_NAME`` or ``msc.discovery``."""
    return os.environ.get("DISCOVERY_EXCHANGE_NAME", DEFAULT_DISCOVERY_EXCHANGE)


def check_version(version: object) -> str:
    """Return a service's version if it is text, which keep-alives carry.

    Raises:
        InvalidArgumentType: it is no text.
    """
    if not isinstance(version, str):
        raise InvalidArgumentType(
            f"A version is text, as in {str(version)!r}, and cannot be the"
            f" {type(version).__name__} {version!r}."
        )
    return version


def match_all(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a binding for messages that have all of these headers.

    ``x-match: all`` ignores headers that begin with ``x-``; RabbitMQ 3.10 has ``all-with-x``.

    Example:
        >>> match_all({"x-tenant": "a"})
        {'x-match': 'all-with-x', 'x-tenant': 'a'}
    """
    with_x = any(name.startswith("x-") for name in headers)
    return {"x-match": "all-with-x" if with_x else "all", **headers}


def data_exchange(domain: str) -> str:
    """The exchange of a domain's data streams, ``{domain}.data``."""
    name = os.environ.get("DATA_EXCHANGE_NAME", DEFAULT_DATA_EXCHANGE)
    return check_exchange(f"{domain}.{name}")


def log_exchange(domain: str) -> str:
    """The exchange of a domain's log records, ``{domain}.log.records``."""
    return f"{domain}.log.records"


def check_part(value: object, what: str) -> str:
    """Return `value` when it may be a `what` (domain, type or id); `InvalidName` otherwise."""
    if isinstance(value, str) and _PART.match(value):
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be a service {what}: use 1 to 63 letters, digits, '-' or '_'."
    )


def check_method(value: object) -> str:
    """Return `value` when it may be a method's name; `InvalidName` otherwise."""
    if isinstance(value, str) and _METHOD.match(value):
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be a method: use letters, digits and '_', not starting with"
        " a digit."
    )


def check_exchange(value: object) -> str:
    """Return `value` when an exchange may have this name; `InvalidName` otherwise."""
    if isinstance(value, str) and _NAME.match(value) and 0 < len(value) <= MAX_EXCHANGE:
        return value
    raise InvalidName(
        f"{_shown(value)} cannot be the name of an exchange: use 1 to {MAX_EXCHANGE} letters,"
        " digits, spaces and any of -_.:@#,/+ only."
    )


def check_queue(value: object) -> str:
    """Return `value` when a queue may have this name, which the user chooses.

    Raises:
        UnusableQueue: it is no text, too long, reserved, or has other characters than clients take.
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
    """Whether `value` may be a domain, type or id; for names that come from elsewhere."""
    return isinstance(value, str) and _PART.match(value) is not None


def is_method(value: object) -> bool:
    """Whether `value` may be a method's name; for names that come from elsewhere."""
    return isinstance(value, str) and _METHOD.match(value) is not None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """The address of a service: domain, type and id.

    Instances with the same address form a clique: any of them may take the next call.

    Example:
        >>> ServiceName("my_project", "calc", "c1").method_queue("multiply")
        'my_project.api.calc.c1::multiply'

    Raises:
        InvalidName: a part is not 1 to 63 letters, digits, ``-`` or ``_``.
    """

    domain: str
    type: str
    id: str

    def __post_init__(self) -> None:
        for what in ("domain", "type", "id"):
            check_part(getattr(self, what), what)

    @property
    def fqn(self) -> str:
        """The full name, ``{domain}.{type}.{id}``."""
        return f"{self.domain}.{self.type}.{self.id}"

    @property
    def api_exchange(self) -> str:
        """The exchange that this service's calls go to."""
        return f"{self.domain}.api.{self.type}.{self.id}"

    def method_queue(self, method: str) -> str:
        """The queue of one method, which is its routing key too."""
        return f"{self.api_exchange}::{method}"

    def check_servable(self, methods: Iterable[str]) -> None:
        """Check that exchange and queues can be named after this address and its methods.

        Raises:
            InvalidName: one of their names is longer than AMQP's are.
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
        """The queue of all methods, where one instance at a time takes all calls."""
        return f"{self.api_exchange}.leader"

    def __str__(self) -> str:
        return self.fqn


@dataclass(frozen=True, slots=True)
class ServicePattern:
    """A service as a person names it: the id, ``type.id``, or the full name.

    An empty `domain` means any.

    Example:
        >>> ServicePattern.parse("calc.c1", domain="my_project")
        ServicePattern(domain='my_project', type='calc', id='c1')
    """

    domain: str
    type: str | None
    id: str

    @classmethod
    def parse(cls, text: str, *, domain: str) -> ServicePattern:
        """Read ``id``, ``type.id`` or ``domain.type.id``; `domain` is where short names live."""
        parts = text.split(".") if isinstance(text, str) else []
        if not 1 <= len(parts) <= 3:
            raise InvalidName(
                f"{_shown(text)} is not a service: write id, type.id or domain.type.id."
            )
        for what, part in zip(("id", "type", "domain"), reversed(parts), strict=False):
            check_part(part, what)
        return cls(
            domain=parts[-3] if len(parts) == 3 else domain,
            type=parts[-2] if len(parts) > 1 else None,
            id=parts[-1],
        )

    @property
    def exact(self) -> ServiceName | None:
        """The address itself, when the pattern names all of it."""
        return ServiceName(self.domain, self.type, self.id) if self.domain and self.type else None

    def matches(self, name: ServiceName) -> bool:
        """Whether `name` is one that the pattern can mean."""
        return (
            name.id == self.id
            and self.domain in ("", name.domain)
            and self.type in (None, name.type)
        )

    def __str__(self) -> str:
        return ".".join(part for part in (self.domain, self.type, self.id) if part)


def parse_call(text: str, *, domain: str) -> tuple[ServicePattern, str]:
    """Split ``id.method``, ``type.id.method`` or ``domain.type.id.method``.

    Example:
        >>> parse_call("my_app.multiply", domain="d")
        (ServicePattern(domain='d', type=None, id='my_app'), 'multiply')
    """
    service, dot, method = text.rpartition(".") if isinstance(text, str) else ("", "", "")
    if not dot or service.count(".") > 2:
        raise InvalidName(
            f"{_shown(text)} is not a call: write id.method, type.id.method or"
            " domain.type.id.method."
        )
    return ServicePattern.parse(service, domain=domain), check_method(method)
