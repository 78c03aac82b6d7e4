"""Additional routing keys in the headers `CC` and `BCC`.

RabbitMQ's "Sender-selected Distribution": each is an array of long strings, and `BCC` is removed
before the message is routed.
"""

from collections.abc import Sequence

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table, join_table, split_table, type_name
from fabric_nb.broker.messages import ContentHeader

COPY, BLIND_COPY = "CC", "BCC"
_NAMES = frozenset({COPY, BLIND_COPY})


def sender_selected(routing_key: str, header: ContentHeader) -> tuple[Sequence[str], ContentHeader]:
    """Return all routing keys of a message, and its content header without `BCC`.

    Raises:
        AMQPError: PRECONDITION_FAILED if one of the two headers is not an array.
    """
    if not header.headers or _NAMES.isdisjoint(header.headers):
        return (routing_key,), header
    keys = [routing_key, *_keys(header.headers, COPY), *_keys(header.headers, BLIND_COPY)]
    raw = header.raw("headers")
    if raw is not None and BLIND_COPY in header.headers:
        fields = split_table(raw)
        del fields[BLIND_COPY]
        header = ContentHeader(header.replace({"headers": join_table(fields)}))
    return keys, header


def _keys(headers: Table, name: str) -> list[str]:
    value = headers.get(name, [])
    if not isinstance(value, list):
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED,
            f'invalid message: {{unacceptable_type_in_header,"{name}",{type_name(value)}}}',
        )
    return [key for key in value if isinstance(key, str)]
