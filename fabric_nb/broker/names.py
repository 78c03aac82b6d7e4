"""Names with a meaning to the broker, and restrictions on them."""

from fabric_nb.broker.errors import AMQPError, ReplyCode

TRANSIENT_NONEXCL_QUEUES = "transient_nonexcl_queues"
"""RabbitMQ's name of a deprecated feature: queues neither durable nor exclusive."""

DENIABLE_FEATURES = frozenset({TRANSIENT_NONEXCL_QUEUES})

REPLY_TO = "amq.rabbitmq.reply-to"
"""Pseudo-queue of RabbitMQ's "Direct Reply-to"."""


PREDECLARED_EXCHANGES = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""Predeclared exchanges and their types (AMQP 0-9-1, 3.1.3)."""


def refuse_default_exchange(name: str) -> None:
    """Refuse an operation on the default exchange.

    Raises:
        AMQPError: ACCESS_REFUSED if the name is empty.
    """
    if not name:
        raise AMQPError(ReplyCode.ACCESS_REFUSED, "operation not permitted on the default exchange")


def refuse_reserved(kind: str, name: str) -> None:
    """Refuse a reserved name.

    Raises:
        AMQPError: ACCESS_REFUSED if the name begins with ``amq.``.
    """
    if name.startswith("amq."):
        raise AMQPError(
            ReplyCode.ACCESS_REFUSED, f"{kind} name '{name}' contains reserved prefix 'amq.*'"
        )
