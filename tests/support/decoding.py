"""Decoding of whole data messages, for tests."""

from __future__ import annotations

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.data_decoding import Batch, joined, read_parts


def read_rows(delivery: Delivery) -> Batch:
    """Return the rows in a message of a data stream, in the form in which they were sent."""
    return joined(list(read_parts(delivery)))


def decode_rows(body: bytes, content_type: str | None, content_encoding: str | None) -> Batch:
    """Return the rows in a body with these properties."""
    return read_rows(Delivery(body, content_type=content_type, content_encoding=content_encoding))
