"""The errors that the broker reports to its clients.

    AMQPError    a reply code and a text; closes a channel or a whole connection

Which of the two follows from the code: AMQP 0-9-1 divides the codes into soft errors (a channel
exception) and hard errors (a connection exception), see section 1.2 "Reply codes" of the reference.
"""

import enum


class ReplyCode(enum.IntEnum):
    """Reply codes of AMQP 0-9-1, by their names in RabbitMQ's texts."""

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
"""Class and method number of a close that no method has caused."""

_SOFT = frozenset(
    {
        ReplyCode.ACCESS_REFUSED,
        ReplyCode.NOT_FOUND,
        ReplyCode.RESOURCE_LOCKED,
        ReplyCode.PRECONDITION_FAILED,
    }
)


class AMQPError(Exception):
    """A client did something that AMQP answers with a close.

    Args:
        code: The reply code.
        explanation: What is wrong, for the client's developer.
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
        """Whether this is a hard error, which costs the client its whole connection."""
        return self.code not in _SOFT

    @property
    def reply_text(self) -> str:
        """The text for the wire, cut to what a short string can hold (255 bytes)."""
        return str(self).encode()[:255].decode(errors="ignore")
