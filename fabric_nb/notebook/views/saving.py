"""Results of calls in the history, saved to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.files import replacing
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.libraries import is_table
from fabric_nb.notebook.pages import counted
from fabric_nb.notebook.table import Field, Form
from fabric_nb.notebook.views.form_values import InvalidField

SAVE = "save "
"""Beginning of the name of the form that saves the result of a call, before its number."""
FILE = "file"
"""Name of its field."""
TABLE_SUFFIXES = (".csv", ".parquet", ".json")


def save_form(record: CallRecord) -> Form | None:
    """Return a form that saves the result of a call; None if there is no result that is kept."""
    if record.contents is None or record.contents.reply is None:
        return None
    file = f"{record.method}-{record.number}.json"
    return Form(
        f"{SAVE}{record.number}",
        "Save the result",
        "The file is beside the notebook: .json, or .csv and .parquet for a DataFrame.",
        [Field(FILE, required=True, value=file, kind="text")],
        submit="Save",
    )


def save_result(record: CallRecord, file: str) -> str:
    """Write the result of a call to a new file, and return a sentence on it.

    Args:
        record: the call.
        file: path whose suffix is the format: ``.json``, or for a DataFrame also ``.csv`` or
            ``.parquet``.

    Raises:
        NotKept: the result is not kept.
        InvalidArgument: the file exists, cannot be written, or cannot contain the result.
    """
    path, result = Path(file.strip()).expanduser(), record.result
    suffix = path.suffix.lower()
    allowed = TABLE_SUFFIXES if is_table(result) else (".json",)
    if suffix not in allowed:
        raise InvalidField(
            f"A {type(result).__name__} is saved as {' or '.join(allowed)}: {path.name!r} ends with"
            f" {suffix or 'none of them'}.",
            FILE,
        )
    if path.exists():
        raise InvalidField(f"{path} exists: enter another name.", FILE)
    try:
        with replacing(path) as draft:
            _write(draft, suffix, result, record.number)
    except (OSError, ImportError) as error:
        raise InvalidField(f"{path} cannot be written: {error}.", FILE) from None
    return f"Saved {path}, {counted(path.stat().st_size, 'byte')}."


def _write(path: Path, suffix: str, result: Any, number: int) -> None:
    if not is_table(result):
        path.write_text(_json(result, number), "utf-8")
    elif suffix == ".csv":
        result.to_csv(path, index=False)
    elif suffix == ".parquet":
        result.to_parquet(path)
    else:
        result.to_json(path, orient="records", date_format="iso")


def _json(result: Any, number: int) -> str:
    """Return a result as JSON.

    Raises:
        InvalidArgument: JSON has no such values.
    """
    try:
        return json.dumps(result, ensure_ascii=False, indent=1)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"JSON cannot contain this result ({error}): it is fabric.calls[{number}].result."
        ) from None
