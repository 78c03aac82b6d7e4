"""Maps of a notebook: their bars under cells, and cells that continue an interrupted map."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, WeakSet

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.map_calls import MapOptions
from fabric_nb.fabric.rpc.map_rows import row_source
from fabric_nb.fabric.rpc.mapping import MapHandle
from fabric_nb.fabric.rpc.watched_map import WatchedMap
from fabric_nb.fabric.wire.codec import encode
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.libraries import is_frame
from fabric_nb.notebook.bridge import runs_in_cell
from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.terminal_line import PERIOD, TerminalLine, progress_text
from fabric_nb.notebook.views.live import CellRun, Screen
from fabric_nb.notebook.views.maps import MapView

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 10_000
"""Rows that are encoded together when maps are compared."""


@dataclass(frozen=True, slots=True)
class MapRequest:
    """A map as a cell requests it.

    Attributes:
        member: member that calls.
        pattern: the service.
        method: the method.
        rows: the rows; None: they are columns in `kwargs`.
        kwargs: further keywords.
        options: options of the map.
    """

    member: FabricMember
    pattern: ServicePattern
    method: str
    rows: Any
    kwargs: Mapping[str, Any]
    options: MapOptions

    def start(self) -> MapHandle:
        """Start the map."""
        source = row_source(self.rows, self.kwargs)
        return self.member.maps.start(self.pattern, self.method, source, self.options)

    @property
    def reads_once(self) -> bool:
        """True if the rows cannot be read a second time."""
        return isinstance(self.rows, (Iterator, AsyncIterator))

    def identity(self) -> object | None:
        """Return a value that is equal for requests of the same map; None if there is none.

        Rows are the same if they are sent as the same JSON, or come from the same iterator. A
        DataFrame that was changed in place has other rows.
        """
        content = self._content()
        if content is None:
            return None
        return self.member, self.pattern, self.method, self.options, content

    def _content(self) -> object | None:
        rows = self.rows
        try:
            if self.reads_once:
                return id(rows), _digest([self.kwargs])
            if rows is not None and not is_frame(rows) and not isinstance(rows, Sequence):
                return None  # reading it may have effects, as in the result of a query
            source = row_source(rows, self.kwargs)
            index = None if source.index is None else _digest(source.index)
            return index, _digest([source.constants]), _digest(cast("Iterable[Any]", source.rows))
        except NotSerializable:
            return None


def _digest(values: Iterable[Any]) -> bytes:
    """Return a digest of values as they are sent.

    Raises:
        NotSerializable: one of them cannot be sent.
    """
    digest, values = hashlib.blake2b(), iter(values)
    while chunk := list(islice(values, ROWS_AT_ONCE)):
        body, tables = encode(chunk)
        digest.update(body)
        digest.update((tables or "").encode())
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Interrupted:
    """A map whose cell was interrupted."""

    run: CellRun
    request: MapRequest
    identity: object
    handle: MapHandle


class CellMaps:
    """Maps of a notebook.

    A map of a cell, whether by a magic or in Python, has a bar under the cell if it takes long, or
    if a row has failed. Maps of served functions have none.

    Args:
        shell: shell of the notebook.
        screen: live views under cells.
        bar_after: returns the seconds before a bar appears; negative for never.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        screen: Screen,
        bar_after: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._screen = screen
        self._bar_after = bar_after
        self._last: MapHandle | None = None
        """The newest map, kept for `fabric.last_map`."""
        self._interrupted: _Interrupted | None = None
        self._members: WeakKeyDictionary[WatchedMap, FabricMember] = WeakKeyDictionary()
        self._shown: WeakSet[WatchedMap] = WeakSet()
        self._showing: set[asyncio.Task[None]] = set()
        self._lines: list[TerminalLine] = []

    def watch(self, member: FabricMember) -> None:
        """Keep the newest map of a member, and show the bars of its maps."""
        member.maps.on_start.append(partial(self._started, member))

    # -- maps by magic

    async def start(self, request: MapRequest) -> MapHandle:
        """Start a map."""
        return request.start()

    async def run(self, request: MapRequest) -> pd.DataFrame:
        """Run a map to its end and return its results.

        If the cell was interrupted in the same map before, that is continued.
        """
        handle = self._continue(request) or request.start()
        try:
            return await handle
        except asyncio.CancelledError:
            await handle.stopped()
            raise asyncio.CancelledError(self._interrupt(request, handle)) from None

    def _continue(self, request: MapRequest) -> MapHandle | None:
        """Resume the map in which this cell was interrupted; None if it is another one."""
        interrupted = self._interrupted
        if (
            interrupted is None
            or not interrupted.run.is_replaced_by(CellRun.identified(self._shell))
            or interrupted.identity != request.identity()
        ):
            return None
        self._interrupted = None
        handle = interrupted.handle.resume()
        self._shown.discard(handle)
        self._started(request.member, handle)
        return handle

    def _interrupt(self, request: MapRequest, handle: MapHandle) -> str:
        """Keep an interrupted map for `_continue`, and return a sentence on it."""
        progress = handle.progress
        sentence = f"The map of {handle.label} was interrupted: {progress.summary};"
        if progress.missing == 0:
            return f"{sentence} fabric.last_map has the results. {handle.cancellation}".rstrip()
        identity = request.identity()
        if identity is not None:
            run = CellRun.identified(self._shell)
            self._interrupted = _Interrupted(run, request, identity, handle)
        how = "await fabric.last_map.resume()"
        if identity is not None and not request.reads_once:
            how = "run this cell again, unchanged,"
        return (
            f"{sentence} {how} to continue with the missing rows. fabric.last_map has the results"
            f" so far. {handle.cancellation}"
        ).rstrip()

    # -- bars

    def show(self, handle: MapHandle) -> None:
        """Display the bar of a map under the running cell, also after its connection has ended."""
        self._show(handle, self._members.get(handle))

    def cell_ended(self) -> None:
        """Draw no more lines in a terminal, because its prompt appears.

        An interrupted map that the next run of its cell has not continued is not continued later,
        because its results may be outdated.
        """
        while self._lines:
            self._lines.pop().close()
        interrupted = self._interrupted
        if interrupted and interrupted.run.is_replaced_by(CellRun.identified(self._shell)):
            self._interrupted = None

    def _started(self, member: FabricMember, handle: WatchedMap) -> None:
        if isinstance(handle, MapHandle):
            self._last = handle
        self._members[handle] = member
        after = self._bar_after()
        if runs_in_cell() and after >= 0:
            task = asyncio.create_task(self._show_later(handle, member, after), name="bar of a map")
            self._showing.add(task)
            task.add_done_callback(self._showing.discard)

    async def _show_later(self, handle: WatchedMap, member: FabricMember, after: float) -> None:
        done = await handle.ended(after)
        if done and not handle.progress.failed:
            return
        if in_terminal():
            await self._draw(handle)
        elif handle not in self._shown:
            self._show(handle, member)

    def _show(self, handle: WatchedMap, member: FabricMember | None) -> None:
        self._shown.add(handle)
        self._screen.show(MapView(handle, member), of=member)

    async def _draw(self, handle: WatchedMap) -> None:
        """Draw the progress of a map on a line of the terminal, until the map or the cell ends."""
        line = TerminalLine(sys.stderr)
        self._lines.append(line)
        done = False
        while not (done or line.closed):
            done = handle.done()
            line.draw(progress_text(handle.label, handle.progress))
            if not done:
                await handle.ended(PERIOD)
        line.close()
