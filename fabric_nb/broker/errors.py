"""Errors that the broker reports to its clients.

`AMQPError` has a reply code and a text, and closes a channel or a whole connection. The code
determines the scope: AMQP 0-9-1 divides the codes into soft errors (channel exceptions) and hard
errors (connection exceptions), see section 1.2 "Reply codes" of the reference.
"""

import enum


class ReplyCode(enum.IntEnum):
    """Reply codes of AMQP 0-9-1, with their names in RabbitMQ's texts."""

    REPLY_SUCCESS = 200
    NO_ROUTE = 312
    CONNECTION_FORCED = 320
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


NO_METHOD = (0, 0)
"""Class and method number of a close that was not caused by a method."""

_SOFT = frozenset(
    {
        ReplyCode.ACCESS_REFUSED,
        ReplyCode.NOT_FOUND,
        ReplyCode.RESOURCE_LOCKED,
        ReplyCode.PRECONDITION_FAILED,
    }
)


class AMQPError(Exception):
    """An error of a client that closes its channel or connection.

    Args:
        code: The reply code.
        explanation: Explanation for the client's developer.
        method_ids: Class and method number for the close; None for those of the offending frame.

    Example:
        ```python
        raise AMQPError(ReplyCode.NOT_FOUND, "no queue 'orders' in vhost '/'")
        ```
    """

    def __init__(
        self, code: ReplyCode, explanation: str, method_ids: tuple[int, int] | None = None
    ) -> None:
        super().__init__(f"{code.name} - {explanation}")
        self.code = code
        self.method_ids = method_ids

    @property
    def closes_connection(self) -> bool:
        """True for a hard error, which closes the whole connection."""
        return self.code not in _SOFT

    @property
    def reply_text(self) -> str:
        """Text for the wire, cut to the length of a short string (255 bytes)."""
        return str(self).encode()[:255].decode(errors="ignore")
