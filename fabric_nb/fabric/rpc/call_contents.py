"""Arguments and results of the calls in the history: bounded, and with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fabric_nb.errors import MalformedMessage, NotKept
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.calls import RESULT, Request
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.formats import TABLES_HEADER

MAX_BODY = 1024 * 1024
"""Bytes of one body that are kept."""
MASK = "***"
"""Text in place of a secret."""

_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|secret|token|credentials?|authorization"
    r"|(?:api|private|access|secret|signing|encryption)_?key)\d*$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class CallContents:
    """Arguments and result of one call, as they were sent.

    It is filled in while the call runs, and bounded when that has ended. Messages are referred to
    and not copied or decoded, because each call has contents and few are read.

    Attributes:
        request: the request; None if it was not sent, or is not kept.
        reply: the reply with the result; None if there is none, or it is not kept.
        request_size: bytes of the arguments; None if the call was not sent.
        reply_size: bytes of the result; None if there is none.
    """

    request: Request | Delivery | None = None
    reply: Delivery | Message | None = None
    request_size: int | None = None
    reply_size: int | None = None

    def settle(self) -> int:
        """Note the sizes and drop what is too large; return the number of bytes that are kept."""
        request, reply, kept = self.request, self.reply, 0
        if request is not None:
            self.request_size = size = len(request.body)
            if size > MAX_BODY:
                self.request = None
            else:
                kept = size
        if reply is not None:
            if reply.type != RESULT:
                self.reply = None
                return kept
            self.reply_size = size = len(reply.body)
            if size > MAX_BODY:
                self.reply = None
            else:
                kept += size
        return kept

    def drop(self) -> int:
        """Keep the sizes only; return the number of bytes that were kept."""
        kept = sum(len(one.body) for one in (self.request, self.reply) if one is not None)
        self.request = self.reply = None
        return kept

    def arguments(self, label: str) -> dict[str, Any]:
        """Return the arguments, decoded again each time.

        Args:
            label: the call, as errors name it.

        Raises:
            NotKept: they are not kept, or the call was not sent.
        """
        if self.request_size is None:
            raise NotKept(f"{label} was not sent, and has no arguments here.")
        if self.request is None:
            raise _not_kept(f"arguments of {label}", self.request_size)
        value = _decoded(self.request)
        if not isinstance(value, dict):
            raise MalformedMessage("A call's body must be a JSON object of keywords.")
        return value

    def result(self, label: str) -> Any:
        """Return the result, decoded again each time.

        Args:
            label: the call, as errors name it.

        Raises:
            NotKept: it is not kept, or there is none.
        """
        if self.reply_size is None:
            raise NotKept(f"{label} has no result here.")
        if self.reply is None:
            raise _not_kept(f"results of {label}", self.reply_size)
        return _decoded(self.reply)


def _not_kept(what: str, size: int) -> NotKept:
    return NotKept(f"The {what} are not kept: they have {size:,} bytes.")


def _decoded(sent: Request | Delivery | Message) -> Any:
    if isinstance(sent, Request):
        return decode(sent.body, sent.tables)
    return decode(sent.body, (sent.headers or {}).get(TABLES_HEADER))


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
