"""A data stream, seen: how much has come, how fast, and the last rows."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.streams import Stream
from fabric_nb.notebook.pages import Badge, Cell, Page, Table, glimpse
from fabric_nb.notebook.views.state import state_badge

ROWS, COLUMNS = 5, 12


@dataclass(eq=False)
class StreamView:
    """A stream of this notebook."""

    fabric: FabricMember
    stream: Stream

    def version(self) -> Hashable:
        """How much has come, and every second the rate."""
        stream = self.stream
        flowing = int(time.monotonic()) if stream.rate else 0
        return self.fabric.state, stream.changes, stream.closed, stream.paused, flowing

    def page(self) -> Page:
        """Counts and the last rows."""
        stream = self.stream
        what = ", ".join(f"{name}={value}" for name, value in stream.headers.items())
        facts = [f"{stream.rows:,} rows", f"{stream.rate:,.1f} rows/s"]
        if stream.dropped:
            facts.append(f"{stream.dropped:,} dropped (kept: the last {len(stream):,})")
        if stream.malformed:
            facts.append(f"{stream.malformed:,} unreadable")
        return Page(
            title=f"Stream {what or 'of all data'}",
            badges=[self._badge(), *state_badge(self.fabric)],
            facts=facts,
            tables=[self._tail()],
            notes=[] if stream.rows else ["No row has come yet."],
        )

    def _badge(self) -> Badge:
        if self.stream.closed:
            return Badge("closed", "quiet")
        return Badge("paused", "warn") if self.stream.paused else Badge("open", "good")

    def _tail(self) -> Table:
        tail = self.stream.tail(ROWS)
        frame = tail.iloc[:, :COLUMNS]
        names = [str(name) for name in frame.columns]
        numeric = frozenset(
            name
            for name, dtype in zip(names, frame.dtypes, strict=True)
            if getattr(dtype, "kind", "O") in "iuf"
        )
        rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        return Table(names, rows, numeric)


def _cell(value: object) -> Cell:
    if isinstance(value, float):
        return f"{value:.6g}"
    return glimpse(value) if isinstance(value, (list, dict)) else str(value)
