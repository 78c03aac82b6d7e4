"""The rows of a stream that are kept, and what can be seen of them at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fabric_nb.fabric.data import plotting
from fabric_nb.fabric.data.arrivals import Arrivals
from fabric_nb.fabric.data.recording import write_frame
from fabric_nb.frames import FrameBuffer, sole_time_column, with_time_index

if TYPE_CHECKING:
    from pandas.core.resample import DatetimeIndexResampler

ARRIVAL = "arrival"
_RATE_WINDOW = 5.0


class StreamRows:
    """What a `Stream` has taken.

    Args:
        buffer: holds the rows.
        arrival: the name of its column of the times at which rows came, if it has one.
    """

    def __init__(self, buffer: FrameBuffer, arrival: str) -> None:
        self.rejected = 0
        self._buffer = buffer
        self._arrival = arrival
        self._arrivals = Arrivals()

    @property
    def df(self) -> pd.DataFrame:
        """All rows that are kept, as a read-only DataFrame; `copy()` it to change it."""
        return self._buffer.df

    def tail(self, n: int = 10) -> pd.DataFrame:
        """The last `n` rows."""
        return self._buffer.tail(n)

    def __len__(self) -> int:
        return len(self._buffer)

    def timed(self, on: str | None = None) -> pd.DataFrame:
        """All rows that are kept, with their times as the index.

        These are the index if it is one of times, else the only column of times (besides that of
        `arrival`), else the times at which the rows came.

        Args:
            on: the column of times to take instead.

        Raises:
            ValueError: `on` is no column of times, or there are several and none was chosen.
        """
        frame = self._buffer.df
        self._arrivals.keep(len(frame))
        if isinstance(frame.index, pd.DatetimeIndex) and on in (None, frame.index.name):
            return frame
        column = on or sole_time_column(frame, fallback=self._arrival)
        if column is not None:
            return with_time_index(frame, column)
        came = pd.DatetimeIndex(self._arrivals.newest(len(frame)), name=ARRIVAL)
        frame.index = came.tz_localize("UTC")
        return frame

    def resample(
        self, rule: str | pd.Timedelta, *, on: str | None = None, columns: Sequence[str] = ()
    ) -> DatetimeIndexResampler[pd.DataFrame]:
        """Windows of time over the rows that are kept, as `pandas.DataFrame.resample`.

        Example::

            orders.resample("1s").mean()
            orders.resample("5min", columns=["currency"]).nunique()

        Args:
            rule: how long a window is.
            on: the column of times; see `timed`.
            columns: those to take; by default all of numbers.

        Raises:
            ValueError: see `timed`.
            KeyError: there is no such column.
        """
        frame = self.timed(on)
        chosen = frame[list(columns)] if columns else frame.select_dtypes(["number", "bool"])
        return chosen.resample(rule)

    def plot(
        self,
        y: str | Sequence[str] | None = None,
        x: str | None = None,
        *,
        window: str | float | pd.Timedelta | None = None,
        title: str | None = None,
    ) -> Any:
        """Draw a live chart under the running cell of a notebook; returns the chart.

        Example::

            orders.plot("order_total", window="5min")

        Args:
            y: the columns to draw; by default those of numbers.
            x: the column across; by default, the times (see `timed`).
            window: how much of `x` to show up to its newest, as in ``5min``, or a number where `x`
                is one; all that is kept by default.
            title: what stands above it; the stream's headers by default.

        Raises:
            NotInNotebook: the extension is not loaded.
            ValueError: `window` is no span of time and no number.
        """
        return plotting.backend().plot(self, y=y, x=x, window=window, title=title)

    def to_parquet(self, path: str | Path, **options: Any) -> None:
        """Write the rows that are kept to a file, as `pandas.DataFrame.to_parquet` (extra `arrow`).

        Raises:
            RecordingError: pyarrow is not installed, or a column's values cannot be in Parquet.
        """
        write_frame(self._buffer.df, path, **options)

    # -- counted

    @property
    def rows(self) -> int:
        """How many rows have come."""
        return self._buffer.rows_seen

    @property
    def dropped(self) -> int:
        """How many rows were pushed out by newer ones."""
        return self._buffer.dropped

    @property
    def changes(self) -> int:
        """Grows whenever there is something new to see."""
        return self._buffer.version + self.rejected

    @property
    def rate(self) -> float:
        """Rows a second, over the last five seconds."""
        return self._arrivals.rate(_RATE_WINDOW)
