"""Data streams without a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.data.arrivals import Arrivals
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.data.stream_options import StreamOptions


class UnconnectedStream(Stream):
    """A stream whose rows are added by the test.

    Args:
        headers: headers that messages must have.
        clock: clock of the arrival times, in seconds since 1970.
        options: options of `AmqBrokerConnector.stream`.
    """

    def __init__(
        self,
        headers: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        connection = Connection("amqp://localhost/", name="unconnected")
        rejected = RejectedMessages()
        super().__init__(
            connection, "d", headers or {}, StreamOptions(**options), rejected=rejected
        )
        self._arrivals = Arrivals(clock)

    def add_columns(self, columns: dict[str, Any]) -> None:
        """Append rows, given as columns."""
        self._appended(self._buffer.extend_columns(columns))

    def add_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows."""
        self._buffer.extend(rows)
        self._appended(len(rows))
