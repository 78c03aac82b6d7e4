"""Names that mean something to the broker, and who may use them."""

from fabric_nb.broker.errors import AMQPError, ReplyCode

TRANSIENT_NONEXCL_QUEUES = "transient_nonexcl_queues"
"""RabbitMQ's name of the deprecated feature: queues neither durable nor exclusive."""

DENIABLE_FEATURES = frozenset({TRANSIENT_NONEXCL_QUEUES})

REPLY_TO = "amq.rabbitmq.reply-to"
"""The pseudo-queue of RabbitMQ's "Direct Reply-to"."""


PREDECLARED_EXCHANGES = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""The exchanges that are always there, with their types (AMQP 0-9-1, 3.1.3)."""


def refuse_default_exchange(name: str) -> None:
    """Refuse what may not be done to the default exchange.

    Raises:
        AMQPError: ACCESS_REFUSED when the name is its empty one.
    """
    if not name:
        raise AMQPError(ReplyCode.ACCESS_REFUSED, "operation not permitted on the default exchange")


def refuse_reserved(kind: str, name: str) -> None:
    """Refuse a name that is the broker's to give.

    Raises:
        AMQPError: ACCESS_REFUSED when it begins with ``amq.``.
    """
    if name.startswith("amq."):
        raise AMQPError(
            ReplyCode.ACCESS_REFUSED, f"{kind} name '{name}' contains reserved prefix 'amq.*'"
        )
