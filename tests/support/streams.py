"""Data streams without a broker."""

from __future__ import annotations

from typing import Any

from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.data.stream_options import StreamOptions


class UnconnectedStream(Stream):
    """A stream whose rows are added by the test."""

    def __init__(self, **options: Any) -> None:
        connection = Connection("amqp://localhost/", name="unconnected")
        rejected = RejectedMessages()
        super().__init__(connection, "d", {}, StreamOptions(**options), rejected=rejected)

    def add_columns(self, columns: dict[str, Any]) -> None:
        """Append rows, given as columns."""
        self._appended(self._buffer.extend_columns(columns))
