"""Arguments and results of the calls in the history: bounded, and with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fabric_nb.errors import MalformedMessage, NotKept
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.calls import RESULT
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.formats import TABLES_HEADER

MAX_BODY = 1024 * 1024
"""Bytes of one body that are kept."""
MASK = "***"
"""Text in place of a secret."""

_NO_HEADERS: Mapping[str, Any] = {}
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|secret|token|credentials?|authorization"
    r"|(?:api|private|access|secret|signing|encryption)_?key)\d*$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Body:
    """Body of a request or reply as it was sent, if it is kept.

    Attributes:
        size: its bytes.
    """

    __slots__ = ("_bytes", "_tables", "size")

    def __init__(self, body: bytes, tables: object) -> None:
        self.size = len(body)
        self._bytes: bytes | None = body if self.size <= MAX_BODY else None
        self._tables = tables

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return 0 if self._bytes is None else self.size

    def drop(self) -> None:
        """Keep the size only."""
        self._bytes, self._tables = None, None

    def value(self, label: str) -> Any:
        """Return the value, decoded again each time.

        Raises:
            NotKept: the body is not kept; the message begins with the `label`.
        """
        if self._bytes is None:
            raise NotKept(f"{label} are not kept: they have {self.size:,} bytes.")
        return decode(self._bytes, self._tables)


class CallContents:
    """Arguments and result of one call.

    Attributes:
        request: body of the request; None if it was not sent.
        reply: body of the reply with the result; None if there is none.
    """

    __slots__ = ("reply", "request")

    def __init__(self) -> None:
        self.request: Body | None = None
        self.reply: Body | None = None

    def keep_request(self, body: bytes, tables: object) -> None:
        """Keep the body of the request, and the descriptor of its tables."""
        self.request = Body(body, tables)

    def keep_reply(self, reply: Message | Delivery) -> None:
        """Keep the body of the reply, if it is a result."""
        if reply.type == RESULT:
            self.reply = Body(reply.body, (reply.headers or _NO_HEADERS).get(TABLES_HEADER))

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return sum(body.kept for body in (self.request, self.reply) if body is not None)

    def drop(self) -> None:
        """Keep the sizes only."""
        for body in (self.request, self.reply):
            if body is not None:
                body.drop()

    def arguments(self, label: str) -> dict[str, Any]:
        """Return the arguments.

        Raises:
            NotKept: they are not kept, or the call was not sent.
        """
        if self.request is None:
            raise NotKept(f"{label} was not sent, and has no arguments here.")
        value = self.request.value(f"The arguments of {label}")
        if not isinstance(value, dict):
            raise MalformedMessage("A call's body must be a JSON object of keywords.")
        return value

    def result(self, label: str) -> Any:
        """Return the result.

        Raises:
            NotKept: it is not kept, or there is none.
        """
        if self.reply is None:
            raise NotKept(f"{label} has no result here.")
        return self.reply.value(f"The results of {label}")


class _NoContents(CallContents):
    """Keeps nothing, for calls without a record."""

    def keep_request(self, body: bytes, tables: object) -> None:
        pass

    def keep_reply(self, reply: Message | Delivery) -> None:
        pass


NO_CONTENTS = _NoContents()


def is_secret(name: str) -> bool:
    """Return whether values of this name are masked.

    Example:
        >>> [is_secret(name) for name in ("password", "apiKey", "access_token", "tokens", "sku")]
        [True, True, True, False, False]
    """
    return _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")) is not None


def masked(value: Any, depth: int = 0) -> Any:
    """Return a value whose secrets, by their names, are replaced by `MASK`.

    Example:
        >>> masked({"user": "ann", "login": {"password": "x"}})
        {'user': 'ann', 'login': {'password': '***'}}
    """
    if depth > _MAX_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(name, str) and is_secret(name) else masked(one, depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [masked(one, depth + 1) for one in value]
    return value


_MAX_DEPTH = 50
"""Levels of mappings and lists in which secrets are looked for; deeper ones are masked."""
