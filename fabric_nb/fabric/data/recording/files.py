"""Choice of the format of a recording from the file suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fabric_nb.errors import RecordingError
from fabric_nb.fabric.core.files import SUFFIX
from fabric_nb.fabric.data.recording import jsonlines, parquet
from fabric_nb.fabric.data.recording.entry import Reader, Writer, reason

_WRITERS: dict[str, Callable[..., Writer]] = {
    ".parquet": parquet.ParquetWriter,
    ".jsonl": jsonlines.JsonLinesWriter,
}
_READERS: dict[str, Callable[[Path], Reader]] = {
    ".parquet": parquet.ParquetReader,
    ".jsonl": jsonlines.JsonLinesReader,
}


def open_writer(path: Path, *, overwrite: bool) -> Writer:
    """Start a recording.

    Raises:
        RecordingError: the file exists, cannot be written, or has another suffix.
    """
    writer = _WRITERS.get(_suffix(path))
    if writer is None:
        raise _unknown_suffix(path)
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists: choose another name, or say overwrite=True.")
    try:
        return writer(path, overwrite=overwrite)
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {reason(error)}.") from None


def open_reader(path: Path) -> Reader:
    """Open a recording.

    Raises:
        RecordingError: the file cannot be read, has another suffix, or is not a recording.
    """
    reader = _READERS.get(_suffix(path))
    if reader is None:
        raise _unknown_suffix(path)
    try:
        return reader(path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {reason(error)}.") from None


def _suffix(path: Path) -> str:
    """Return the suffix of the format, without that of a draft left by a killed kernel."""
    name = path.name.removesuffix(SUFFIX)
    number = "" if name == path.name else name.rpartition(".")[2]
    return Path(name.removesuffix(f".{number}") if number.isdigit() else name).suffix.lower()


def _unknown_suffix(path: Path) -> RecordingError:
    return RecordingError(
        f"A recording's name ends in .parquet or .jsonl, which {path.name!r} does not."
    )
