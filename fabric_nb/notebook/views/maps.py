"""Table of a map: its progress, and the rows that failed, which open to their errors."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from itertools import islice

from fabric_nb.errors import RemoteError, one_line
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.map_results import FailedRow
from fabric_nb.fabric.rpc.watched_map import MapState, WatchedMap
from fabric_nb.notebook.pages import Badge, Tone, glimpse
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.connection import state_badge

TICK = 0.25
"""Seconds between two updates while rows end."""
MAX_FAILED = 100
"""Failed rows that are shown."""
TONES: dict[MapState, Tone] = {
    "running": "busy",
    "done": "good",
    "cancelled": "warn",
    "stopped": "bad",
}
COLUMNS = (Column("row"), Column("keywords", "code", line=0), Column("error", line=2))


class MapView(TableView):
    """A map; it keeps the handle, with all results, only while the map runs.

    Args:
        handle: the map.
        fabric: member whose connection it uses, if that is known.
    """

    def __init__(self, handle: WatchedMap, fabric: FabricMember | None = None) -> None:
        self._label = handle.label
        self._fabric = fabric
        self._handle = weakref.ref(handle)
        self._kept: WatchedMap | None = handle
        """The handle, until its last state is shown."""
        self._version: Hashable = None
        self._failed: dict[int, tuple[FailedRow, list[Value], str]] = {}

    def version(self) -> Hashable:
        """Return the state and, while the map runs, the number of the current update."""
        handle = self._handle()
        if handle is not None:
            state = handle.state
            tick = int(handle.elapsed / TICK) if state == "running" else handle.revision
            version = state, tick, self._connection
            if version != self._version:
                self._version, self._kept = version, handle
        return self._version

    @property
    def _connection(self) -> tuple[Badge, ...]:
        return () if self._fabric is None else tuple(state_badge(self._fabric))

    def model(self) -> TableModel:
        """Return an empty table, which gets its columns with the first failed row."""
        return TableModel(Head(self._label, empty=""), max_rows=MAX_FAILED)

    def fill(self, model: TableModel) -> None:
        """Show the progress, and the first failed rows."""
        handle = self._handle()
        if handle is None:
            return
        state, progress = handle.state, handle.progress
        failed = [self._row(failed) for failed in islice(handle.failures(), MAX_FAILED)]
        self._failed = {row.number: (row, cells, detail) for row, cells, detail in failed}
        model.columns = COLUMNS if failed else ()
        model.replace(
            ((row.number, cells, detail) for row, cells, detail in failed),
            more=progress.failed - len(failed),
        )
        running = state == "running"
        model.head = Head(
            f"Map of {handle.label}",
            [
                Badge(state, TONES[state]),
                *([Badge(f"{progress.failed:,} failed", "bad")] if progress.failed else []),
                *(self._connection if running else ()),
            ],
            progress.facts,
            progress=progress.fraction,
            empty="",
        )
        if not running:
            self._kept = None

    def _row(self, failed: FailedRow) -> tuple[FailedRow, list[Value], str]:
        """Return a failed row with its cells and its detail, which are made once."""
        before = self._failed.get(failed.number)
        if before is not None and before[0].error is failed.error:
            return before
        error = failed.error
        text = one_line(error_text(error))
        traceback = error.remote_traceback if isinstance(error, RemoteError) else ""
        label = failed.label if isinstance(failed.label, str) else glimpse(failed.label)
        return failed, [label, keywords_text(failed.row), text], traceback or error_text(error)


def keywords_text(row: object) -> str:
    """Return the first characters of each keyword of a row."""
    if not isinstance(row, Mapping):
        return glimpse(row)
    return ", ".join(f"{name}={glimpse(value)}"[:80] for name, value in row.items())
