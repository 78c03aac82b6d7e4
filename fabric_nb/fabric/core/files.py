"""Files that are written beside their place and take it once they are whole.

What stands there before stays until then: a full disk, or a program that is killed, never costs it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

_MOST = 100
SUFFIX = ".partial"


class Draft:
    """A new file beside the place that it is to take.

    Example::

        draft = Draft(Path("orders.jsonl"))
        draft.write_at(0, b"...")
        draft.keep()

    Args:
        place: the place.
        overwrite: it takes the place also of a file that has come to stand there meanwhile.

    Attributes:
        path: where it is now: the place's name with ``.partial`` at its end.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, place: Path, *, overwrite: bool = True) -> None:
        self._overwrite = overwrite
        self._place = place.resolve() if place.is_symlink() else place
        self.path, self._file = _made(self._place)

    def write_at(self, start: int, data: bytes) -> int:
        """Write from an offset on, to which the file ends then; return its new end.

        Raises:
            OSError: it cannot be written; bytes before the offset are unharmed.
        """
        self._file.seek(start)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        return self._file.truncate()

    def keep(self) -> Path:
        """Take the place, with the permissions of what stood there.

        Raises:
            OSError: that cannot be done; the draft stays, and can still be written to.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(self._place, self.path)
        os.fsync(self._file.fileno())  # some file systems notice only now that there is no room
        has_place = not self._overwrite and self._has_linked()
        self.leave()
        if has_place:
            self.path.unlink()
        else:
            self.path.replace(self._place)
        return self._place

    def _has_linked(self) -> bool:
        """Stand in the place as well, in one step; return False where files cannot be linked.

        Raises:
            FileExistsError: another file stands there.
        """
        try:
            os.link(self.path, self._place)
        except FileExistsError:
            raise
        except OSError:
            if self._place.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            return False
        return True

    def leave(self) -> None:
        """Close the file; it stays where it is."""
        self._file.close()

    def discard(self) -> None:
        """Delete the file."""
        self.leave()
        self.path.unlink(missing_ok=True)


def _made(place: Path) -> tuple[Path, FileIO]:
    """Make a file under the first name that is free; another draft may be all that is left."""
    for number in range(1, _MOST):
        path = place.with_name(f"{place.name}{f'.{number}' if number > 1 else ''}{SUFFIX}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(FileExistsError):
            return path, FileIO(os.open(path, flags, 0o666), "r+")
    raise FileExistsError(f"{_MOST} drafts of it stand there: delete those that you do not need")


@contextlib.contextmanager
def beside(place: Path) -> Iterator[Path]:
    """Give a path to write to, and let what was written take its place; on an error nothing does.

    Raises:
        OSError: it cannot be made, or cannot take the place.
    """
    draft = Draft(place)
    try:
        yield draft.path
        draft.keep()
    except BaseException:
        draft.discard()
        raise
