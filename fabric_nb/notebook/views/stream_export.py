"""Selected rows of a stream as text for a spreadsheet, as a file, and as code for a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython import get_ipython

from fabric_nb.errors import InvalidArgument, RecordingError, one_line
from fabric_nb.fabric.core.files import replacing
from fabric_nb.fabric.data.recording.columns import pyarrow

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.frames.query import Query
    from fabric_nb.frames.time_conversion import Array as Positions

MAX_COPIED = 5_000
"""Maximum number of rows that are copied."""
MAX_TEXT = 400_000
"""Maximum number of characters that are copied: the Jupyter server limits messages."""
SUFFIXES = (".csv", ".parquet")
_PART = 2_000
"""Rows that are written at once, so that the event loop is not kept from running."""
_FORMULA = ("=", "+", "-", "@")
"""First characters of a text that a spreadsheet computes."""


def tsv(frame: pd.DataFrame, positions: Positions, columns: Sequence[str]) -> str:
    """Return rows as tab-separated values, to be pasted into a spreadsheet; run in a thread.

    The values come from other programs. So a text that a spreadsheet would compute is preceded by
    an apostrophe, which makes it a text there.
    """
    rows = frame[[*columns]].iloc[positions[:MAX_COPIED]]
    lines = ["\t".join(map(_tsv_cell, columns))]
    size = len(lines[0])
    for row in zip(*(rows[name].tolist() for name in columns), strict=True):
        line = "\t".join(map(_tsv_cell, row))
        size += len(line) + 1
        if size > MAX_TEXT:
            break
        lines.append(line)
    return "\n".join(lines)


def _tsv_cell(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (bool, int, float)):
        return str(value)
    text = value if isinstance(value, str) else _json(value)
    text = one_line(text.replace("\r\n", " ").replace("\t", " ").replace("\r", " "))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(type(value).__name__)


def target(options: Mapping[Any, Any]) -> Path:
    """Return the path of a file beside the notebook.

    Args:
        options: ``name`` of the file; ``replace`` is True to replace one that exists.

    Raises:
        InvalidArgument: the name is none, or the file exists and is not to be replaced.
    """
    name, replace = str(options.get("name", "")).strip(), options.get("replace") is True
    path = Path(name)
    if not name or path.name != name or "\\" in name or path.suffix.lower() not in SUFFIXES:
        raise InvalidArgument(
            f"{name!r} is no name for a file: write one that ends in .csv or .parquet, without a"
            " folder."
        )
    if path.exists() and not replace:
        raise InvalidArgument(f"{name} exists: write another name, or tick Replace.")
    return path


def write(frame: pd.DataFrame, positions: Positions, columns: Sequence[str], path: Path) -> None:
    """Write rows to a file, which is replaced once it is complete; run in a thread.

    Raises:
        RecordingError: pyarrow is not installed, or Parquet cannot represent a column's values.
        OSError: it cannot be written.
    """
    chosen = frame[[*columns]]
    starts = range(0, max(1, len(positions)), _PART)
    parts = (chosen.iloc[positions[start : start + _PART]] for start in starts)
    if path.suffix.lower() == ".parquet":
        _write_parquet(list(parts), columns, path)
        return
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        for start, part in zip(starts, parts, strict=True):
            part.to_csv(file, index=False, header=start == 0)


def _write_parquet(parts: Sequence[pd.DataFrame], columns: Sequence[str], path: Path) -> None:
    pa = pyarrow()
    table = pa.table({name: _arrow_column(pa, parts, name) for name in columns})
    with replacing(path) as draft:
        pa.parquet.write_table(table, draft)


def _arrow_column(pa: Any, parts: Sequence[pd.DataFrame], name: str) -> Any:
    """Return a column; its parts may have types that differ, as with fields that some lack."""
    try:
        tables = [pa.table({name: pa.Array.from_pandas(part[name])}) for part in parts]
        return pa.concat_tables(tables, promote_options="permissive").column(0)
    except pa.ArrowException:
        raise RecordingError(
            f"Parquet has one type to a column, which {name!r} has not: save a .csv file, or choose"
            " other columns."
        ) from None


def code(stream: Stream, query: Query, columns: Sequence[str] | None) -> str:
    """Return code that selects the same rows from the stream.

    Args:
        stream: the stream, which a variable must hold.
        query: rows and order.
        columns: columns to select; None for all.

    Raises:
        InvalidArgument: no variable holds the stream.
    """
    variable = _variable(stream)
    arguments = [_literal(query.words)] if query.words.strip() else []
    if query.filters:
        filters = (f"{_literal(each.column)}: {_literal(each.text)}" for each in query.filters)
        arguments.append(f"{'' if arguments else 'columns='}{{{', '.join(filters)}}}")
    if query.sort is not None:
        arguments.append(f"sort={_literal(query.sort)}")
        arguments += ["descending=True"] if query.descending else []
    if query.words.strip() and query.within is not None:
        arguments.append(f"within=[{', '.join(map(_literal, query.within))}]")
    rows = f"{variable}.where({', '.join(arguments)})" if arguments else f"{variable}.df"
    if columns is not None:
        rows += f"[[{', '.join(map(_literal, columns))}]]"
    return f"df = {rows}\ndf"


def _literal(text: str) -> str:
    """Return a text as a literal, in which no character is misread."""
    quoted = json.dumps(text)
    return quoted if text.isprintable() and "\\" not in quoted else ascii(text)


def _variable(stream: Stream) -> str:
    shell = get_ipython()
    names: dict[str, Any] = {} if shell is None else dict(shell.user_ns)
    for name, value in names.items():
        if value is stream and not name.startswith("_"):
            return name
    raise InvalidArgument(
        "No variable holds this stream: assign it, as in `orders = %fabric_stream`, and run the"
        " cell again."
    )
