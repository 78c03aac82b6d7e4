"""Which of a DataFrame's columns tells the time; pure."""

from __future__ import annotations

import pandas as pd

from fabric_nb.errors import InvalidArgument


def only_time(frame: pd.DataFrame, *, besides: str = "") -> str | None:
    """The name of the only column of times; None if there is none.

    Args:
        frame: where to look.
        besides: a column that counts only where there is no other.

    Raises:
        InvalidArgument: There are several.
    """
    names = [str(name) for name, dtype in frame.dtypes.items() if dtype.kind == "M"]
    others = [name for name in names if name != besides]
    if len(others) > 1:
        raise InvalidArgument(
            f"There are several columns of times: choose one of {', '.join(others)}."
        )
    return next(iter(others or names), None)


def timed(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The frame itself, with one of its columns of times as its index.

    Raises:
        InvalidArgument: There is no such column, or it is none of times.
    """
    if column not in frame:
        raise InvalidArgument(f"There is no column {column!r}.")
    times = frame[column]
    if times.dtype.kind != "M":
        raise InvalidArgument(f"The column {column!r} holds {times.dtype}, and no times.")
    frame.pop(column)
    frame.index = pd.DatetimeIndex(times)
    return frame
