"""Arrow types that become columns without a Python object per value; no pandas."""

from __future__ import annotations

from functools import cache
from typing import Any


def is_simple(schema: Any) -> bool:
    """Return whether all columns can be read without a Python object per value."""
    return _simple_type_ids().issuperset([kind.id for kind in schema.types])


@cache
def _simple_type_ids() -> frozenset[int]:
    """Return Arrow's type ids of numbers, booleans, timestamps and text."""
    import pyarrow as pa

    whole = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    natural = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    further = (pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.timestamp("s"))
    return frozenset(
        kind.id for kind in (*whole, *natural, *further, pa.string(), pa.large_string())
    )
