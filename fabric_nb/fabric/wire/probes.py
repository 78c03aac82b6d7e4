"""Messages without content, sent to learn how the broker responds to them."""

from __future__ import annotations

from fabric_nb.fabric.amqp.message import Message


def empty_message() -> Message:
    """Return a message without content, which tests whether an exchange or a queue exists."""
    return Message(b"")


def refused_message() -> Message:
    """Return a message that brokers refuse for its expiration, after they checked permissions."""
    return Message(b"", expiration=-1)
