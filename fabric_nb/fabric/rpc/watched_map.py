"""A map as its bar shows it, whether its results are kept or yielded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from fabric_nb.fabric.rpc.map_progress import MapProgress
from fabric_nb.fabric.rpc.map_results import FailedRow

MapState = Literal["running", "done", "cancelled", "stopped"]
"""State of a map: under way, ended with its last row, cancelled, or ended before its last row."""


class WatchedMap(Protocol):
    """A map under way, or one that has ended."""

    @property
    def label(self) -> str:
        """The call, as in ``pricing.quote``."""

    @property
    def state(self) -> MapState:
        """State of the map."""

    @property
    def progress(self) -> MapProgress:
        """Progress at this moment."""

    @property
    def revision(self) -> int:
        """Number that grows when a row ends, and when the map starts or ends."""

    @property
    def elapsed(self) -> float:
        """Seconds for which the map has run."""

    def failures(self) -> Iterator[FailedRow]:
        """Yield rows that failed, in the order in which they ended."""

    def done(self) -> bool:
        """Return whether the map has ended."""

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the end of the map; return whether it is done."""
