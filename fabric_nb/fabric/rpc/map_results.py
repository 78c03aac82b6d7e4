"""Results of a map, in the order of its rows. No I/O."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fabric_nb.fabric.rpc.map_progress import ProgressMeter
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

RESULT, ERROR, MS, INSTANCE = "result", "error", "ms", "instance"
FACTS = (ERROR, MS, INSTANCE)
"""Columns that every row of the results has."""

_MISSING: Any = object()


class FailedRow(NamedTuple):
    """A row of a map that failed.

    Attributes:
        number: position of the row, from 0.
        label: its label in the index of the results.
        row: the row as given.
        error: error of its call.
    """

    number: int
    label: Any
    row: Any
    error: BaseException


class MapResults:
    """Results of the rows, in lists, because a map may have very many.

    Args:
        total: number of rows; None if it is not known.
        index: index of the results; None: the numbers of the rows.
        spread: True: the items of a dict become columns.
        clock: seconds since any time, which only grow.

    Attributes:
        meter: counts of the rows that have ended.
        errors: errors of the failed rows, by number.
    """

    def __init__(
        self,
        total: int | None,
        index: pd.Index[Any] | None,
        *,
        spread: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.meter = ProgressMeter(total, clock)
        self.errors: dict[int, BaseException] = {}
        self._index = index
        self._spread = spread
        self._values: list[Any] = []
        self._ms = array("d")
        self._instances: list[str] = []

    # -- recording

    def begin(self, number: int) -> None:
        """Make room for a row; rows begin in the order of their numbers."""
        if number == len(self._values):
            self._values.append(_MISSING)
            self._ms.append(math.nan)
            self._instances.append("")

    def succeed(self, number: int, value: Any, began: float, instance: str) -> None:
        """Record the result of a row that began at a time of the clock."""
        self._values[number] = value
        self._instances[number] = instance
        self._ms[number] = self.meter.end_row(began, instance, failed=False)

    def fail(self, number: int, error: BaseException, began: float, instance: str) -> None:
        """Record the error of a row that began at a time of the clock."""
        self.errors[number] = error
        self._instances[number] = instance
        self._ms[number] = self.meter.end_row(began, instance, failed=True)

    def forget_failures(self) -> None:
        """Make the failed rows missing ones."""
        self.meter.forget_failures(self._instances[number] for number in self.errors)
        for number in self.errors:
            self._ms[number] = math.nan
            self._instances[number] = ""
        self.errors = {}

    # -- reading

    def frame(self, *, only_failed: bool = False) -> pd.DataFrame:
        """Return the rows that have ended, or those that failed, in the order of the rows."""
        if only_failed:
            numbers = sorted(self.errors)
        else:
            numbers = [
                number
                for number, value in enumerate(self._values)
                if value is not _MISSING or number in self.errors
            ]
        with importing("pandas"):
            import pandas as pd

            from fabric_nb.frames.buffer import FrameBuffer
        buffer = FrameBuffer(times=False)
        buffer.extend([self._columns(number) for number in numbers])
        # A snapshot has read-only columns.
        frame = buffer.df.copy() if numbers else pd.DataFrame()
        if not frame.columns.size:
            frame[RESULT] = pd.Series([None] * len(numbers), dtype=object)
        frame.index = self._labels(numbers, pd)
        facts: Iterable[tuple[str, list[Any], str]] = (
            (ERROR, [self.errors.get(number) for number in numbers], "object"),
            (MS, [self._ms[number] for number in numbers], "float64"),
            (INSTANCE, [self._instances[number] for number in numbers], "str"),
        )
        for name, values, dtype in facts:
            frame[name] = pd.Series(values, index=frame.index, dtype=dtype).array
        return frame

    def label(self, number: int) -> Any:
        """Return the label of a row in the index of the results."""
        return number if self._index is None else self._index[number]

    def _labels(self, numbers: list[int], pd: Any) -> pd.Index[Any]:
        if self._index is not None:
            return self._index.take(numbers)
        if len(numbers) == len(self._values):
            return pd.RangeIndex(len(numbers))  # type: ignore[no-any-return]
        return pd.Index(numbers, dtype="int64")  # type: ignore[no-any-return]

    def _columns(self, number: int) -> dict[str, Any]:
        if number in self.errors:
            return {}
        value = self._values[number]
        if self._spread and isinstance(value, dict):
            return spread_columns(value)
        return {RESULT: value}


def spread_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a dict result; those of `FACTS` get the prefix ``result.``.

    Example:
        >>> spread_columns({"price": 5, "error": "none"})
        {'price': 5, 'result.error': 'none'}
    """
    columns = dict(result)
    for name in FACTS:
        if name in columns:
            value, prefixed = columns.pop(name), f"{RESULT}.{name}"
            while prefixed in columns:
                prefixed = f"{RESULT}.{prefixed}"
            columns[prefixed] = value
    return columns
