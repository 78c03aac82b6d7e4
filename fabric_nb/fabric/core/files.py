"""Files that are written under a temporary name and replace their target once they are complete.

An existing file is kept until then: it survives a full disk and a program that is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

_MAX_DRAFTS = 100
"""Maximum number of drafts of one target."""
SUFFIX = ".partial"
"""Suffix of a draft's name."""


class Draft:
    """New file that is written beside its target and then replaces it.

    Example::

        draft = Draft(Path("orders.jsonl"))
        draft.write_at(0, b"...")
        draft.commit()

    Args:
        target: path of the target.
        overwrite: True to replace also a file that was created there meanwhile.

    Attributes:
        path: path of the draft: the target's name with the suffix ``.partial``.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, target: Path, *, overwrite: bool = True) -> None:
        self._overwrite = overwrite
        self._target = target.resolve() if target.is_symlink() else target
        self.path, self._file = _create(self._target)

    def write_at(self, start: int, data: bytes) -> int:
        """Truncate the file at an offset and append data; return its new end.

        Raises:
            OSError: it cannot be written; bytes before the offset are unchanged.
        """
        self._file.seek(start)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        return self._file.truncate()

    def commit(self) -> Path:
        """Replace the target, keeping its permissions; return its path.

        Raises:
            OSError: it cannot be replaced; the draft is kept, and can still be written to.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(self._target, self.path)
        os.fsync(self._file.fileno())  # some file systems report a full disk only now
        linked = not self._overwrite and self._link()
        self.close()
        if linked:
            self.path.unlink()
        else:
            self.path.replace(self._target)
        return self._target

    def _link(self) -> bool:
        """Link the draft as the target, atomically; return False if the system cannot link files.

        Raises:
            FileExistsError: the target exists.
        """
        try:
            os.link(self.path, self._target)
        except FileExistsError:
            raise
        except OSError:
            if self._target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            return False
        return True

    def close(self) -> None:
        """Close the draft and keep it under its temporary name."""
        self._file.close()

    def discard(self) -> None:
        """Delete the draft."""
        self.close()
        self.path.unlink(missing_ok=True)


def _create(target: Path) -> tuple[Path, FileIO]:
    """Create a draft under a name that is free; an older draft may be the only copy of its data."""
    for number in range(1, _MAX_DRAFTS):
        path = target.with_name(f"{target.name}{f'.{number}' if number > 1 else ''}{SUFFIX}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(FileExistsError):
            return path, FileIO(os.open(path, flags, 0o666), "r+")
    raise FileExistsError(f"{_MAX_DRAFTS} drafts of it exist: delete those that you do not need")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces the target afterwards; on an error it is deleted.

    Raises:
        OSError: it cannot be created, or the target cannot be replaced.
    """
    draft = Draft(target)
    try:
        yield draft.path
        draft.commit()
    except BaseException:
        draft.discard()
        raise
