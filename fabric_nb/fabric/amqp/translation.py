"""Translation of errors of aiormq and of the broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator

from aiormq import exceptions as amqp_errors

from fabric_nb.errors import (
    BrokerFailed,
    BrokerRefused,
    ConnectionLost,
    FabricError,
    MessageTooLarge,
    NotAcknowledgedInTime,
    TransientQueuesRefused,
)
from fabric_nb.fabric.amqp import reply_codes

# RabbitMQ's text for a missing permission.
_NO_PERMISSION = re.compile(
    r"access to ((?:exchange|queue|topic) '.*?') in vhost '(.*?)' refused for user '(.*?)'"
)

_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_NOT_ACKNOWLEDGED = re.compile(r"delivery acknowledgement .* timed out\..* (\d+) ms")


def silence_client_logs() -> None:
    """Keep log records of aiormq and aio-pika off stderr, unless logging is configured.

    The errors of this package report the same. For interactive programs only: the library does
    not configure logging.
    """
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).addHandler(logging.NullHandler())


class Unroutable(FabricError):
    """A mandatory message was routed to no queue; the sender turns it into an error for the user.

    Attributes:
        exchange_missing: True if the exchange does not exist either.
    """

    def __init__(self, message: str, *, exchange_missing: bool = False) -> None:
        super().__init__(message)
        self.exchange_missing = exchange_missing


@contextlib.contextmanager
def translated(masked_uri: str) -> Iterator[None]:
    """Turn errors of aiormq into those of this package.

    aiormq cancels tasks that wait on a lost channel; that is a lost connection too, unless the
    task itself was cancelled.
    """
    try:
        yield
    except FabricError:
        raise
    except amqp_errors.ChannelClosed as error:
        raise _refusal(error) from None
    except amqp_errors.ConnectionInternalError as error:
        if "transient_nonexcl_queues" in str(error.args):
            raise TransientQueuesRefused(str(error.args[0])) from None
        raise BrokerFailed(
            f"{masked_uri} closed the connection because of an error of its own"
            f" ({str(error.args[0]) if error.args else error!r}); its log describes it, and the"
            " outcome of the operation is not known."
        ) from None
    except (amqp_errors.AMQPError, amqp_errors.ChannelInvalidStateError, ConnectionError):
        raise connection_lost(masked_uri) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise connection_lost(masked_uri) from None


def connection_lost(masked_uri: str) -> ConnectionLost:
    """Return the error for an operation that was in flight when the connection was lost."""
    return ConnectionLost(
        f"The connection to {masked_uri} was lost during the operation; its outcome is not known."
    )


def _refusal(error: amqp_errors.ChannelClosed) -> BrokerRefused:
    text = str(error.args[-1]) if error.args else ""
    codes = {
        amqp_errors.ChannelAccessRefused: reply_codes.ACCESS_REFUSED,
        amqp_errors.ChannelNotFoundEntity: reply_codes.NOT_FOUND,
        amqp_errors.ChannelLockedResource: reply_codes.RESOURCE_LOCKED,
        amqp_errors.ChannelPreconditionFailed: reply_codes.PRECONDITION_FAILED,
    }
    code = codes.get(type(error), error.args[0] if len(error.args) > 1 else 0)
    return refusal(int(code or 0), text.strip('"') or repr(error))


def refusal(code: int, text: str) -> BrokerRefused:
    """Return the error for the reply code and text with which the broker closed a channel."""
    large = _TOO_LARGE.search(text)
    if large is not None:
        return MessageTooLarge.of(int(large[1]), int(large[2]))
    late = _NOT_ACKNOWLEDGED.search(text)
    if late is not None:
        return NotAcknowledgedInTime(f"The broker refused: {text}.", seconds=int(late[1]) / 1000)
    permission = _NO_PERMISSION.search(text)
    if permission is None:
        return BrokerRefused(f"The broker refused: {text}.", code=code)
    resource, vhost, user = permission.groups()
    return BrokerRefused(
        f"The broker refused: user {user!r} lacks permission for this use of the {resource} in"
        f" virtual host {vhost!r}; the broker's operator can grant it.",
        code=code,
    )
