"""Which kind of file a recording is, by the end of its name."""

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
        RecordingError: the file is there, cannot be written, or is of neither kind.
    """
    writer = _WRITERS.get(_kind(path))
    if writer is None:
        raise _neither(path)
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists: choose another name, or say overwrite=True.")
    try:
        return writer(path, overwrite=overwrite)
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {reason(error)}.") from None


def open_reader(path: Path) -> Reader:
    """Open a recording.

    Raises:
        RecordingError: the file cannot be read, is of neither kind, or is no recording.
    """
    reader = _READERS.get(_kind(path))
    if reader is None:
        raise _neither(path)
    try:
        return reader(path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {reason(error)}.") from None


def _kind(path: Path) -> str:
    """The end of the name that tells; what was left by a kernel that was killed has one more."""
    name = path.name.removesuffix(SUFFIX)
    number = "" if name == path.name else name.rpartition(".")[2]
    return Path(name.removesuffix(f".{number}") if number.isdigit() else name).suffix.lower()


def _neither(path: Path) -> RecordingError:
    return RecordingError(
        f"A recording's name ends in .parquet or .jsonl, which {path.name!r} does not."
    )
