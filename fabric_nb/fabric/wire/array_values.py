"""JSON values of arrays and scalars of numpy and pandas. Pure.

`codec` imports it if the program has imported numpy; pandas is imported for values that need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fabric_nb.fabric.core.values import unboxed
from fabric_nb.libraries import is_imported

if TYPE_CHECKING:
    from fabric_nb.fabric.wire.tables import Encoder, Path


def plain_value(value: Any, at: Path, encoder: Encoder) -> Any:
    """Return an array or scalar as a JSON value; `NotImplemented` for any other value.

    Raises:
        NotSerializable: JSON cannot represent it.
    """
    match value:
        case np.ndarray():
            return _array(value, at, encoder)
        case np.datetime64():
            return _time(value, at, encoder)
        case np.generic() if unboxed(value) is not value:
            return encoder.of(unboxed(value), at)
    return _pandas_value(value, at, encoder) if is_imported("pandas") else NotImplemented


def _pandas_value(value: Any, at: Path, encoder: Encoder) -> Any:
    import pandas as pd

    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.api.extensions.ExtensionArray):
        from fabric_nb.fabric.wire.tables import cells

        return cells(pd.Series(value), at, encoder)
    return _array(value, at, encoder) if isinstance(value, pd.Index) else NotImplemented


def _array(value: Any, at: Path, encoder: Encoder) -> Any:
    if value.dtype.names is not None:
        raise encoder.refuse(value, at, "make it a DataFrame, which has names for its columns")
    return encoder.of(_listed(value), at)


def _time(value: np.datetime64, at: Path, encoder: Encoder) -> Any:
    import pandas as pd

    stamp: Any = pd.Timestamp(value)
    if stamp is not pd.NaT and stamp.to_datetime64() != value:
        raise encoder.refuse(value, at, "round it to nanoseconds")
    return encoder.of(stamp, at)


def _listed(array: Any) -> Any:
    """Return the values of an array as nested lists, or the only value of a 0-dimensional array."""
    if isinstance(array, np.ndarray) and array.dtype.kind in "mM":
        # `tolist` would return integers for nanoseconds.
        return list(array) if array.ndim else array[()]
    return array.tolist()


def hint(value: object) -> str:
    """Return an advice on a value that JSON cannot represent; empty if there is none."""
    if isinstance(value, np.timedelta64):
        return "send its seconds, as in value / np.timedelta64(1, 's')"
    if isinstance(value, np.longdouble):
        return "make it a float"
    if is_imported("pandas"):
        import pandas as pd

        if isinstance(value, pd.Period):
            return "send its text"
        if isinstance(value, pd.Interval):
            return "send its two ends"
    return ""
