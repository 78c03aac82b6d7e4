"""Groups of rows by the values of a column, updated with the new rows only; pandas, no I/O."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

import numpy as np
import pandas as pd

from fabric_nb.notebook.plot.decimate import Array

MAX_VALUES = 10_000
"""Maximum number of distinct values; further ones count as the other values."""
OTHER = "other"
MISSING = "(missing)"

_REPLACED = 2
"""Factor by which a value must be more frequent than one that is shown, to replace it."""


class Categories:
    """Groups of rows by the values of a column: the most frequent ones, and all other ones.

    Args:
        most: maximum number of groups, that of the other values included.

    Attributes:
        names: names of the groups, in the order of their first rows.
        others: number of values in the last group, `OTHER`; 0 if there is none.

    Example:
        >>> categories = Categories(2)
        >>> column = pd.Series(["tea", "oil", "tea", "rye"])
        >>> categories.update(column, 0).tolist(), categories.names, categories.others
        ([0, 1, 0, 1], ['tea', 'other'], 2)
    """

    def __init__(self, most: int) -> None:
        self.names: list[str] = []
        self.others = 0
        self._most = most
        self._reset()

    def _reset(self, dtype: object = None) -> None:
        self._dtype = dtype
        self._first = self._end = 0
        self._codes: Array = np.empty(0, np.int16)
        self._groups: Array = np.empty(0, np.int8)
        self._code_of: dict[Hashable, int] = {}
        self._counts: Array = np.zeros(MAX_VALUES + 1, np.int64)
        self._shown: tuple[int, ...] = ()

    def update(self, column: pd.Series[Any], first: int) -> Array:
        """Return the group of each row.

        Args:
            column: values of the kept rows.
            first: number of the first row, which counts all rows received before it.
        """
        end = first + len(column)
        if column.dtype != self._dtype or not self._first <= first <= self._end <= end:
            self._reset(column.dtype)
            self._first = self._end = first
        new = self._new_codes(column.iloc[self._end - first :])
        self._counts += np.bincount(new, minlength=len(self._counts))
        earlier = first - self._first
        self._codes = np.concatenate([self._codes[earlier:], new])
        shown = self._choose()
        if shown != self._shown:
            self._shown = shown
            self._groups = self._group_of[self._codes]
        else:
            self._groups = np.concatenate([self._groups[earlier:], self._group_of[new]])
        self._first, self._end = first, end
        return self._groups

    def _new_codes(self, column: pd.Series[Any]) -> Array:
        """Return the codes of values, which count distinct values in the order of first rows."""
        try:
            places, values = pd.factorize(column, use_na_sentinel=False)
        except TypeError:  # lists and dicts
            places, values = pd.factorize(column.map(_hashable), use_na_sentinel=False)
        codes = np.empty(len(values), np.int16)
        for place, value in enumerate(values):
            key = None if pd.isna(value) else value
            code = self._code_of.get(key)
            if code is None and len(self._code_of) < MAX_VALUES:
                code = self._code_of[key] = len(self._code_of)
            codes[place] = MAX_VALUES if code is None else code
        return codes[places]

    def _choose(self) -> tuple[int, ...]:
        """Choose the codes that are groups, and update `names` and `others`."""
        distinct = len(self._code_of)
        overfull = bool(self._counts[MAX_VALUES])
        shown = self._shown
        if distinct <= self._most and not overfull:
            shown = tuple(range(distinct))
        else:
            room = self._most - 1
            by_count = np.argsort(-self._counts[:distinct], kind="stable")
            if len(shown) == room:
                others = np.setdiff1d(by_count[: 2 * room], shown)
                most = self._counts[others].max(initial=0)
                keep = most <= _REPLACED * self._counts[list(shown)].min()
            if len(shown) != room or not keep:
                shown = tuple(sorted(by_count[:room].tolist()))
        self.others = distinct - len(shown)
        keys = list(self._code_of)
        self.names = [MISSING if keys[code] is None else str(keys[code]) for code in shown]
        if self.others or overfull:
            self.names.append(OTHER)
        self._group_of = np.full(MAX_VALUES + 1, len(shown), np.int8)
        self._group_of[list(shown)] = np.arange(len(shown))
        return shown


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return cast("Hashable", value)
