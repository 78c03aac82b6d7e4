"""Columns of a Parquet recording: fixed types, and an overflow column for other values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.core.files import replacing
from fabric_nb.fabric.data.recording.entry import as_json, reason
from fabric_nb.frames.rows import OVERFLOW

if TYPE_CHECKING:
    import pandas as pd

ARRIVAL, MESSAGE, FORM = "arrival", "fabric.message", "fabric.form"
OWN: Final = (ARRIVAL, MESSAGE, FORM, OVERFLOW)
"""Columns that belong to the recording, not to rows or headers."""

MAX_COLUMNS = 1000
"""Maximum number of further columns; values of others go to the overflow."""
MARK = b"fabric_nb"
FILE_MARK = {MARK: b"recording 1"}
_JSON = {MARK: b"json"}

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "absent"})()
Columns = dict[str, Any]
"""Columns by name: lists with `ABSENT` for rows without a value, or `pyarrow.ChunkedArray`."""


def pyarrow() -> Any:
    """Return the pyarrow module, with its Parquet module loaded.

    Raises:
        RecordingError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise RecordingError(
            "Parquet needs pyarrow: pip install 'fabric-nb[arrow]', or record to a file that ends"
            " in .jsonl."
        ) from None
    return pa


def write_frame(frame: pd.DataFrame, path: str | Path, **options: Any) -> None:
    """Write a DataFrame to Parquet, with errors in one sentence.

    Raises:
        RecordingError: pyarrow is not installed, or Parquet cannot represent a column's values.
    """
    pa = pyarrow()
    try:
        _write(frame, path, options)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        mixed = [str(name) for name in frame if not _fits(pa, frame[name])]
        name = mixed[0] if mixed else "..."
        raise RecordingError(
            f"Parquet has one type to a column, which {', '.join(mixed) or 'one here'} has not:"
            f" write stream.df.astype({{{name!r}: str}}).to_parquet(...), or use"
            " stream.record(...), which keeps any."
        ) from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {reason(error)}.") from None


def _write(frame: pd.DataFrame, path: str | Path, options: Mapping[str, Any]) -> None:
    target = Path(path).expanduser() if "://" not in str(path) else None
    if (
        target is None
        or options.get("partition_cols")
        or (target.exists() and not target.is_file())
    ):
        frame.to_parquet(path, engine="pyarrow", **options)  # not a single local file
        return
    with replacing(target) as draft:
        frame.to_parquet(draft, engine="pyarrow", **options)


def _fits(pa: Any, column: pd.Series[Any]) -> bool:
    try:
        pa.Array.from_pandas(column)
    except pa.ArrowException:
        return False
    return True


def schema_of(pa: Any, parts: Sequence[Columns]) -> Any:
    """Return the types of all columns, determined from the first rows."""
    fields = {
        ARRIVAL: pa.field(ARRIVAL, pa.timestamp("us", "UTC")),
        MESSAGE: pa.field(MESSAGE, pa.int64()),
        FORM: pa.field(FORM, pa.string()),
        OVERFLOW: pa.field(OVERFLOW, pa.string(), metadata=_JSON),
    }
    found: dict[str, list[Any]] = {}
    for columns in parts:
        for name, values in columns.items():
            kind = _type_of(pa, values)
            if kind is not None and name not in fields and _is_text(name):
                found.setdefault(name, []).append(kind)
    for name, kinds in list(found.items())[:MAX_COLUMNS]:
        kind = _common(pa, kinds)
        fields[name] = (
            pa.field(name, pa.string(), metadata=_JSON) if kind is ABSENT else pa.field(name, kind)
        )
    return pa.schema(list(fields.values()), metadata=FILE_MARK)


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _type_of(pa: Any, values: Any) -> Any:
    """Return the type of the values; None if there are no values; `ABSENT` if only JSON fits."""
    if not isinstance(values, list):
        return _type_of_arrow(pa, values.type)
    types = set(map(type, values)) - {type(None), type(ABSENT)}
    if not types:
        return None
    accepting = (kind for kind, accepted in _accepted(pa).items() if types <= accepted)
    return next(accepting, ABSENT)


def _type_of_arrow(pa: Any, kind: Any) -> Any:
    if pa.types.is_null(kind):
        return None
    if pa.types.is_dictionary(kind):
        return _type_of_arrow(pa, kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        # Parquet has no seconds, and before version 26 pyarrow's writer overflowed silently.
        return pa.timestamp("ms", kind.tz)
    simple = pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind)
    return kind if simple or pa.types.is_decimal(kind) else ABSENT


def _accepted(pa: Any) -> dict[Any, set[type]]:
    """Return the types of columns, narrow ones first, with the Python types that they accept."""
    return {
        pa.bool_(): {bool},
        pa.int64(): {int},
        pa.float64(): {float, int},
        pa.string(): {str},
        pa.binary(): {bytes, bytearray},
        pa.timestamp("us", "UTC"): {datetime},
    }


def _common(pa: Any, kinds: Sequence[Any]) -> Any:
    """Return a common type, or `ABSENT` if there is none."""
    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    if ABSENT not in kinds and all(map(pa.types.is_integer, kinds)):
        return pa.int64()
    if ABSENT not in kinds and all(_is_number(pa, kind) for kind in kinds):
        return pa.float64()
    return ABSENT


def _is_number(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def table_of(pa: Any, schema: Any, columns: Columns) -> Any:
    """Return columns as a table of the schema; values that do not fit go to the overflow."""
    rows = len(columns[ARRIVAL])
    arrays: dict[str, Any] = {}
    overflow: dict[int, dict[str, Any]] = {}
    for name, values in columns.items():
        field = schema.field(name) if _is_text(name) and name in schema.names else None
        array, misfits = _fitted(pa, values, field)
        if array is not None:
            arrays[name] = array
        for row, value in misfits:
            overflow.setdefault(row, {})[name] = value
    if overflow:
        texts = [as_json(overflow[row]) if row in overflow else None for row in range(rows)]
        arrays[OVERFLOW] = pa.array(texts, pa.string())
    return pa.table(
        [arrays.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema
    )


def _fitted(pa: Any, values: Any, field: Any) -> tuple[Any, list[tuple[int, Any]]]:
    """Return an array of the field's type, and the values that do not fit, with their rows."""
    if not isinstance(values, list):
        if field is not None and not field.metadata and _widens(pa, values.type, field.type):
            try:
                return values.cast(field.type), []
            except pa.ArrowException:
                pass
        values = [ABSENT if value is None else value for value in values.to_pylist()]
    if field is not None and field.metadata:
        texts = [None if value is ABSENT else as_json(value) for value in values]
        return pa.array(texts, pa.string()), []
    if field is not None:
        accepted = _accepted(pa).get(field.type, set()) | {type(ABSENT)}
        if accepted.issuperset(map(type, values)):
            try:
                return _array(pa, values, field.type), []
            except (pa.ArrowException, UnicodeEncodeError, OverflowError):
                pass  # one of the values is out of range
        fits = [type(value) in accepted and _fits_alone(pa, value, field.type) for value in values]
        misfits = [(row, value) for row, value in enumerate(values) if not fits[row]]
        fitting = [value if fit else ABSENT for value, fit in zip(values, fits, strict=True)]
        return _array(pa, fitting, field.type), misfits
    return None, [(row, value) for row, value in enumerate(values) if value is not ABSENT]


def _widens(pa: Any, given: Any, wanted: Any) -> bool:
    if given == wanted or _type_of_arrow(pa, given) == wanted:
        return True
    numbers = _is_number(pa, given) and _is_number(pa, wanted)
    return numbers or (pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted))


def _array(pa: Any, values: Sequence[Any], kind: Any) -> Any:
    if pa.types.is_floating(kind):
        # Arrow accepts ints among floats only if the first value is a float.
        if any(type(value) is int and not -(2**53) <= value <= 2**53 for value in values):
            raise OverflowError
        values = [float(value) if type(value) is int else value for value in values]
    return pa.array([None if value is ABSENT else value for value in values], kind)


def _fits_alone(pa: Any, value: Any, kind: Any) -> bool:
    try:
        _array(pa, [value], kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return False
    return True
