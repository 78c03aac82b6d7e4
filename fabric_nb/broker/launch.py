"""Find or start the user's broker, and keep it running while this process lives.

The broker is a separate process. Every process that uses it has a lease, which is an open
connection. The broker stops after the last lease has ended, including when its process was killed.
"""

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fabric_nb.broker.control import ControlError, Operation, connect
from fabric_nb.broker.discovery import (
    BrokerRecord,
    file_lock,
    open_private,
    read_record,
    record_path,
    runtime_folder,
)

_HOST = "127.0.0.1"
_MODULE = "fabric_nb.broker"
_ANSWER_TIMEOUT = 2.0
_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_LOG_SHOWN = 2000


class BrokerStartError(Exception):
    """The embedded broker did not start, or cannot be discovered; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Address of the embedded broker.

    Attributes:
        uri: URI with the password, for clients; must not be displayed.
        masked_uri: URI with the password masked, for display.
        pid: Process id of the broker.
        started_here: True if this process has started the broker.
    """

    uri: str = field(repr=False)
    masked_uri: str
    pid: int
    started_here: bool


@dataclass(slots=True)
class _Lease:
    connection: socket.socket
    address: BrokerAddress

    def is_alive(self) -> bool:
        """Return whether the connection to the broker is open."""
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False


_lease: _Lease | None = None
_lease_guard = threading.Lock()


def ensure_broker() -> BrokerAddress:
    """Find or start the user's embedded broker, and keep it running until this process ends.

    May be called repeatedly, from any thread: while the broker is running the result is the
    same; if it has stopped, another one is found or started.

    Raises:
        BrokerStartError: The broker cannot be started.

    Example:
        ```python
        address = ensure_broker()
        connection = await aio_pika.connect(address.uri)
        ```
    """
    global _lease
    with _lease_guard:
        if _lease is not None:
            if _lease.is_alive():
                return _lease.address
            _lease.connection.close()
            _lease = None
        try:
            _lease = _find_or_start(runtime_folder())
        except OSError as error:
            raise BrokerStartError(f"the embedded broker did not start: {error}") from error
        return _lease.address


def find_broker() -> BrokerAddress | None:
    """Return the user's running broker, without a lease on it; None if there is none.

    Raises:
        BrokerStartError: The runtime folder cannot be used.
    """
    record = read_record(record_path(_folder()))
    if record is None:
        return None
    try:
        _connect(record, Operation.PING).close()
    except (OSError, ControlError):
        return None
    return _address(record, started_here=False)


def stop_broker() -> bool:
    """Stop the user's running broker immediately; return False if there is none.

    Processes with a lease lose their connections.

    Raises:
        BrokerStartError: The runtime folder cannot be used.
    """
    record = read_record(record_path(_folder()))
    if record is None:
        return False
    try:
        connection = _connect(record, Operation.STOP)
    except (OSError, ControlError):
        return False
    with connection:
        # The broker closes the connection when its process exits.
        connection.settimeout(_STOP_TIMEOUT)
        with contextlib.suppress(OSError):
            connection.recv(1)
    _drop_lease(record.pid)
    return True


def _folder() -> Path:
    try:
        return runtime_folder()
    except OSError as error:
        raise BrokerStartError(f"the embedded broker cannot be looked for: {error}") from error


def release_broker() -> None:
    """End this process's lease, if any, as at the end of the process."""
    _drop_lease()


def _drop_lease(pid: int | None = None) -> None:
    """Close this process's lease; with a `pid`, only if it is on that broker."""
    global _lease
    with _lease_guard:
        if _lease is not None and pid in {None, _lease.address.pid}:
            _lease.connection.close()
            _lease = None


def _drop_lease_in_child() -> None:
    # A forked child has a copy of the connection, which would extend the lease of its parent.
    global _lease, _lease_guard
    _lease_guard = threading.Lock()
    if _lease is not None:
        _lease.connection.close()
        _lease = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_lease_in_child)


def _connect(record: BrokerRecord, operation: Operation) -> socket.socket:
    return connect((_HOST, record.port), record.password, operation, _ANSWER_TIMEOUT)


def _address(record: BrokerRecord, *, started_here: bool) -> BrokerAddress:
    user, address = quote(record.user, safe=""), f"{_HOST}:{record.port}/"
    return BrokerAddress(
        f"amqp://{user}:{quote(record.password, safe='')}@{address}",
        f"amqp://{user}:***@{address}",
        record.pid,
        started_here,
    )


def _find_or_start(folder: Path) -> _Lease:
    lease = _find(folder)
    if lease is not None:
        return lease
    # A second process waits here, and finds the broker that the first one has started.
    with file_lock(folder / "broker.lock", _START_TIMEOUT):
        lease = _find(folder)
        if lease is not None:
            return lease
        _start(folder)
        record = read_record(record_path(folder))
        if record is None:
            raise BrokerStartError("the embedded broker has started and left no record")
        try:
            connection = _connect(record, Operation.LEASE)
        except ControlError as error:
            raise BrokerStartError(f"the embedded broker cannot be used: {error}") from error
        return _Lease(connection, _address(record, started_here=True))


def _find(folder: Path) -> _Lease | None:
    record = read_record(record_path(folder))
    if record is None:
        return None
    try:
        connection = _connect(record, Operation.LEASE)
    except (OSError, ControlError):
        # A stale record: its broker has stopped, and another process may use the port.
        return None
    return _Lease(connection, _address(record, started_here=False))


def _start(folder: Path) -> None:
    """Start the broker's process, and wait until it listens."""
    log = folder / "broker.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(open_private(log, flags), "wb") as log_file:
        process = subprocess.Popen(  # noqa: S603 - no argument is user input
            [sys.executable, "-P", "-m", _MODULE, "--leased"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=_environment(folder),
            # An interrupt of the notebook must not stop the broker.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    # Reaps the process when it ends.
    threading.Thread(target=process.wait, name="fabric_nb broker", daemon=True).start()
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with process.stdout as output:
        watchdog = threading.Timer(_START_TIMEOUT, process.kill)
        watchdog.start()
        ready = output.readline()
        watchdog.cancel()
    if not ready:
        log_tail = log.read_text(errors="replace").strip()[-_LOG_SHOWN:]
        raise BrokerStartError(f"the embedded broker did not start: {log_tail or 'no output'}")


def _environment(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "FABRIC_NB_RUNTIME_DIR": str(folder)}
    package_home = str(Path(__file__).resolve().parents[2])
    if package_home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        # Imported from a checkout: the new interpreter must import the same package.
        paths = [environment.get("PYTHONPATH", ""), package_home]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
