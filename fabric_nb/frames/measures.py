"""Detection of columns that are measures, in contrast to ids, counters and times; no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

SAMPLE = 1000
"""Newest rows that are looked at."""
_FEW = 10
"""Rows below which integers that ascend by one are no proof of a counter."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")
_IDS = frozenset(
    ("id", "ids", "uid", "uuid", "guid", "pid", "oid", "key", "seq", "sequence", "serial", "offset")
)
"""Last words of names of ids: their integers measure nothing."""
_COUNTERS = frozenset(
    ("n", "i", "k", "no", "nr", "num", "number", "idx", "index", "row", "step", "counter", "tick")
)
"""Last words of names that are those of counters if the values ascend."""
_TIMES = frozenset(
    ("ts", "time", "timestamp", "epoch", "date", "at", "ms", "us", "ns", "created", "updated")
)
"""Last words of names that are those of times if the values ascend."""


def is_number(values: pd.Series[Any] | pd.Index[Any]) -> bool:
    """Return whether values are numbers; booleans are none."""
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf"


def measures(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that are measures; if there are none, of all with numbers.

    Example:
        >>> measures(pd.DataFrame({"id": [7, 3], "price": [2.5, 2.0], "sku": ["tea", "oil"]}))
        ['price']
    """
    newest = frame.iloc[-SAMPLE:]
    columns = [newest.iloc[:, index] for index in range(newest.shape[1])]
    numeric = [column for column in columns if is_number(column)]
    found = [str(column.name) for column in numeric if not is_label(str(column.name), column)]
    return found or [str(column.name) for column in numeric]


def is_label(name: str, values: Sequence[Any] | pd.Series[Any]) -> bool:
    """Return whether numbers label rows, as ids, counters and times do, and measure nothing.

    Only integers do, also if they are floats because some are missing. Ids have the name of one;
    a counter ascends, by steps of one or with the name of one; times ascend and have the name of
    one.

    Example:
        >>> is_label("order_id", [7, 3, 9]), is_label("n", [4, 5, 9]), is_label("qty", [4, 5, 9])
        (True, True, False)
    """
    array = np.asarray(values)
    if array.dtype.kind == "f":
        present = array[~np.isnan(array)]
        whole = np.isfinite(present).all() and (present == np.floor(present)).all()
        if len(present) == len(array) or not len(present) or not whole:
            return False
        array = present
    word = _last_word(name)
    if word in _IDS:
        return True
    if len(array) < 2:
        return word in _COUNTERS | _TIMES and bool(len(array))
    if word in _TIMES and bool((array[1:] >= array[:-1]).all()):
        return True
    ascending = bool((array[1:] > array[:-1]).all())
    by_one = len(array) >= _FEW and bool((np.diff(array) == 1).all())
    return ascending and (word in _COUNTERS or by_one)


def _last_word(name: str) -> str:
    """Return the last word of a name in snake_case or camelCase, in lower case."""
    words = [word for word in _WORDS.findall(name) if not word.isdigit()]
    return words[-1].lower() if words else ""
