"""Options of a data stream; imports no pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabric_nb.fabric.data.queues import Start
    from fabric_nb.frames.time_conversion import Unit

DEFAULT_PREFETCH = 500
DEFAULT_MAX_ROWS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of a data stream: its queue, its prefetch, and the rows and columns that are kept.

    Attributes:
        name: name of the queue; streams that share a name share the messages. Without a name, the
            stream has a queue of its own and receives all messages.
        durable: keep the messages in a quorum queue of that `name`, also while no stream is open;
            it stays until `delete`.
        replay_from: keep them in a RabbitMQ stream of that `name`, and begin at ``"first"``,
            ``"last"``, ``"next"``, an offset or a `datetime`; it stays until `delete`. After a
            connection loss it resumes behind the last message that was received.
        prefetch: unacknowledged messages, from 1 to 65,535.
        max_rows: rows that are kept; the oldest are dropped and counted. None: no limit.
        max_bytes: approximate bytes that the kept rows may take. None: no limit.
        index: column that becomes the DataFrame's index; by default, the number of the row.
        unit: units of columns whose numbers are times since 1970 in UTC: ``{"at": "ms"}``.
        with_headers: names of headers that become columns named ``header.<name>``; True for
            all of them.
        arrival: name of a column with the times of arrival, in UTC; True for ``arrival``. A row's
            own column of that name becomes ``row.<name>``.
        paused: receive no rows before `resume`, so that a reader of `batches` misses none.
    """

    name: str = ""
    durable: bool = False
    replay_from: Start | None = None
    prefetch: int = DEFAULT_PREFETCH
    max_rows: int | None = DEFAULT_MAX_ROWS
    max_bytes: int | None = None
    index: str | None = None
    unit: Mapping[str, Unit] | None = None
    with_headers: bool | Sequence[str] = False
    arrival: bool | str = False
    paused: bool = False
