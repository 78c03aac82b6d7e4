"""Time columns of a DataFrame: detection, and use as the index; no I/O."""

from __future__ import annotations

import pandas as pd

from fabric_nb.errors import InvalidArgument


def sole_time_column(frame: pd.DataFrame, *, fallback: str = "") -> str | None:
    """Return the name of the only time column; None if there is none.

    Args:
        frame: The DataFrame.
        fallback: A time column that is used only if there is no other.

    Raises:
        InvalidArgument: There are several.
    """
    names = [str(name) for name, dtype in frame.dtypes.items() if dtype.kind == "M"]
    candidates = [name for name in names if name != fallback]
    if len(candidates) > 1:
        raise InvalidArgument(
            f"There are several columns of times: choose one of {', '.join(candidates)}."
        )
    return next(iter(candidates or names), None)


def with_time_index(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Move a time column of the frame to its index, in place, and return the frame.

    Raises:
        InvalidArgument: The column does not exist, or contains no times.
    """
    if column not in frame:
        raise InvalidArgument(f"There is no column {column!r}.")
    times = frame[column]
    if times.dtype.kind != "M":
        raise InvalidArgument(f"The column {column!r} holds {times.dtype}, and no times.")
    frame.pop(column)
    frame.index = pd.DatetimeIndex(times)
    return frame
