"""Optional arguments of queues and exchanges: validation, meaning and equivalence.

The arguments and their checks are RabbitMQ's (documentation of "Queues", section "Optional
Arguments"). As in RabbitMQ, unknown arguments are stored but neither checked nor compared.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table, Value, type_name
from fabric_nb.broker.messages import MAX_MILLISECONDS

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"
ALTERNATE_EXCHANGE = "alternate-exchange"

_MAX_NAME = 255
_MAX_PRIORITY = 255
_MAX_COUNT = 2**63 - 1

Check = Callable[[Value], str | None]


def _integer(minimum: int, maximum: int) -> Check:
    def check(value: Value) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return not_an_integer(value)
        if value < minimum:
            return f"{{value_{'negative' if value < 0 else 'zero'},{value}}}"
        return f"{{max_value_exceeded,{value}}}" if value > maximum else None

    return check


def not_an_integer(value: Value) -> str:
    """Return RabbitMQ's error text for a value that should be a whole number."""
    return f'"expected integer, got {type_name(value)}"'


def _choice(*choices: str, otherwise: str) -> Check:
    def check(value: Value) -> str | None:
        return None if value in choices else otherwise.format(value)

    return check


def _text(value: Value) -> str | None:
    if not isinstance(value, str):
        return _unacceptable(value)
    return None if len(value.encode()) <= _MAX_NAME else "longer than a name can be"


def _boolean(value: Value) -> str | None:
    return None if isinstance(value, bool) else _unacceptable(value)


def _unacceptable(value: Value) -> str:
    return f"{{unacceptable_type,{type_name(value)}}}"


_QUEUE_CHECKS: dict[str, Check] = {
    "x-expires": _integer(1, MAX_MILLISECONDS),
    "x-message-ttl": _integer(0, MAX_MILLISECONDS),
    DEAD_LETTER_EXCHANGE: _text,
    DEAD_LETTER_ROUTING_KEY: _text,
    "x-max-length": _integer(0, _MAX_COUNT),
    "x-max-length-bytes": _integer(0, _MAX_COUNT),
    "x-max-priority": _integer(0, _MAX_PRIORITY),
    "x-overflow": _choice(
        "drop-head", "reject-publish", "reject-publish-dlx", otherwise="invalid_overflow"
    ),
    "x-queue-mode": _choice("default", "lazy", otherwise="\"unsupported queue mode '{}'\""),
    "x-queue-type": _choice("classic", otherwise="\"unsupported queue type '{}'\""),
    "x-single-active-consumer": _boolean,
}


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Policy set by the arguments of a queue: times in milliseconds, None for no limit."""

    message_ttl: int | None = None
    expires: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int = 0
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    single_active_consumer: bool = False


def queue_policy(arguments: Table, subject: str) -> QueuePolicy:
    """Check a queue's arguments and read them.

    Args:
        arguments: The table from Queue.Declare.
        subject: Description of the queue for the error text.

    Raises:
        AMQPError: PRECONDITION_FAILED if an argument is not acceptable.
    """
    exchange = arguments.get(DEAD_LETTER_EXCHANGE, "")
    if not isinstance(exchange, str):
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED, _wrong_type(DEAD_LETTER_EXCHANGE, exchange, subject)
        )
    for name, check in _QUEUE_CHECKS.items():
        error = check(arguments[name]) if name in arguments else None
        if error:
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED, f"invalid arg '{name}' for {subject}: {error}"
            )
    if DEAD_LETTER_ROUTING_KEY in arguments and DEAD_LETTER_EXCHANGE not in arguments:
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED,
            f"invalid arg '{DEAD_LETTER_ROUTING_KEY}' for {subject}: "
            "routing_key_but_no_dlx_defined",
        )
    values = {_field(name): arguments[name] for name in _QUEUE_CHECKS if name in arguments}
    return QueuePolicy(**{name: values[name] for name in QueuePolicy.__slots__ if name in values})  # type: ignore[arg-type]


def _field(argument: str) -> str:
    return argument.removeprefix("x-").replace("-", "_")


def exchange_alternate(arguments: Table, subject: str) -> str | None:
    """Return the alternate exchange from an exchange's arguments, or None.

    Raises:
        AMQPError: PRECONDITION_FAILED if it is not a name.
    """
    value = arguments.get(ALTERNATE_EXCHANGE)
    if value is not None and not isinstance(value, str):
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED,
            _wrong_type(ALTERNATE_EXCHANGE, value, subject),
        )
    return value


def _wrong_type(name: str, value: Value, subject: str) -> str:
    return f"invalid type '{type_name(value)}' for arg '{name}' in {subject}"


def assert_equivalent(
    subject: str,
    received: dict[str, Value],
    current: dict[str, Value],
) -> None:
    """Check that a redeclaration is equivalent, attribute by attribute.

    Raises:
        AMQPError: PRECONDITION_FAILED naming the first difference (AMQP 0-9-1, rule "equivalent").
    """
    for name in current.keys() | received.keys():
        if not same_value(received.get(name), current.get(name)):
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED,
                f"inequivalent arg '{name}' for {subject}: "
                f"received {_format_value(name, received.get(name))} "
                f"but current is {_format_value(name, current.get(name))}",
            )


def compared_queue_arguments(arguments: Table) -> dict[str, Value]:
    """Return the arguments of a queue that a redeclaration must repeat."""
    return _select(arguments, _QUEUE_CHECKS)


def compared_exchange_arguments(arguments: Table) -> dict[str, Value]:
    """Return the arguments of an exchange that a redeclaration must repeat."""
    return _select(arguments, (ALTERNATE_EXCHANGE,))


def _select(arguments: Table, names: Iterable[str]) -> dict[str, Value]:
    return {name: arguments[name] for name in names if name in arguments}


def same_value(left: Value, right: Value) -> bool:
    """Return whether two values are equal and of one type: `True` is not `1`."""
    return type(left) is type(right) and left == right


def _format_value(name: str, value: Value) -> str:
    """Format a value as RabbitMQ does: values of the argument table include their type."""
    if value is None:
        return "none"
    shown = f"'{str(value).lower() if isinstance(value, bool) else value!s}'"
    if name in _QUEUE_CHECKS or name == ALTERNATE_EXCHANGE:
        return f"the value {shown} of type '{type_name(value)}'"
    return shown
