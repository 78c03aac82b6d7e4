"""Discovery of the user's broker, by a file that only this user can read."""

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

_PRIVATE = 0o077
"""Permission bits of group and others, which must not be set."""

_OTHERS_WRITE = 0o022

_LOCK_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """Discovery record of a running broker.

    Attributes:
        pid: Process id.
        port: Port on the loopback interface.
        user: User name.
        password: Password of the user.
    """

    pid: int
    port: int
    user: str
    password: str = field(repr=False)


def runtime_folder() -> Path:
    """Return the folder for files of running processes, creating it if necessary.

    It is `FABRIC_NB_RUNTIME_DIR`, or `fabric_nb` in `XDG_RUNTIME_DIR`, or in the user's folder for
    local state.

    Raises:
        PermissionError: The folder, or a link to it, belongs to another user, or others may write
            to it.
    """
    chosen = os.environ.get("FABRIC_NB_RUNTIME_DIR")
    folder = Path(chosen) if chosen else _default_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = folder.stat()
        if {status.st_uid, folder.lstat().st_uid} != {os.getuid()}:
            raise PermissionError(f"{folder} belongs to another user")
        if status.st_mode & _OTHERS_WRITE:
            raise PermissionError(
                f"others may write to {folder}: take that from them (chmod go-w), or name another"
                " folder in FABRIC_NB_RUNTIME_DIR"
            )
    return folder


def open_private(path: Path, flags: int) -> int:
    """Open a file of the runtime folder for this user only, without following links.

    Args:
        path: The file.
        flags: Flags of `os.open`, without those for links.

    Raises:
        OSError: The file cannot be opened, or is a link.
    """
    no_link = os.O_NOFOLLOW if hasattr(os, "O_NOFOLLOW") else 0
    return os.open(path, flags | no_link, 0o600)


def _default_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = (
            os.environ.get("XDG_RUNTIME_DIR")
            or os.environ.get("XDG_STATE_HOME")
            or Path.home() / ".local" / "state"
        )
    return Path(base) / "fabric_nb"


def record_path(folder: Path) -> Path:
    """Return the path of the discovery file; it names the host, as hosts may share a folder."""
    return folder / f"broker-{platform.node() or 'localhost'}.json"


def read_record(path: Path) -> BrokerRecord | None:
    """Return the record in a file; None if there is none, or it cannot be trusted."""
    try:
        with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "getuid") and (
                status.st_uid != os.getuid() or status.st_mode & _PRIVATE
            ):
                return None
            fields = json.load(file)
        return BrokerRecord(
            int(fields["pid"]), int(fields["port"]), str(fields["user"]), str(fields["password"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, record: BrokerRecord) -> None:
    """Write a record atomically, readable by its owner only (mode 0600)."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(record), file)
        temporary.replace(path)
    except OSError:  # the disk is full
        temporary.unlink(missing_ok=True)
        raise


def remove_record(path: Path, pid: int) -> None:
    """Remove a record if it is that of process `pid`."""
    record = read_record(path)
    if record is not None and record.pid == pid:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold a lock between processes; the system releases it if the process dies.

    Args:
        path: The lock file; it is not removed.
        timeout: Seconds to wait for the lock.

    Raises:
        TimeoutError: Another process has held the lock all the time.
    """
    deadline = time.monotonic() + timeout
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file:
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {timeout:g} s")
            time.sleep(_LOCK_PAUSE)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
