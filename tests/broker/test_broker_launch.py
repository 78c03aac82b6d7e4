"""Discovery, start, leases and stop of the user's broker, from several processes."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from fabric_nb.broker import launch
from fabric_nb.broker.control import ControlError, Operation, connect
from fabric_nb.broker.discovery import read_record, record_path
from tests.broker.process import ROOT
from tests.broker.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_LEASE_SCRIPT = """
import os, sys
from fabric_nb.broker.launch import ensure_broker
sys.stdin.readline()
address = ensure_broker()
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(address.uri, address.pid, address.started_here, flush=True)
sys.stdin.read()
"""


class LeaseProcess:
    """A process with a lease on the broker, like a notebook."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LEASE_SCRIPT, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "FABRIC_NB_RUNTIME_DIR": str(folder)},
        )

    def start(self) -> None:
        """Make it find or start the broker."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def address(self) -> tuple[str, int, bool]:
        """Return URI and process id of its broker, and whether it has started it."""
        assert self._process.stdout
        uri, pid, started = self._process.stdout.readline().split()
        return uri, int(pid), started == "True"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Use a new runtime folder, and stop its broker after the test."""
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    launch.stop_broker()
    launch.release_broker()


def wait_until_ended(pid: int, timeout: float = 60) -> None:
    """Wait for the end of any process, not only of a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([descriptor], [], [], timeout)
    os.close(descriptor)
    assert ended, f"process {pid} is still running"


def test_the_first_call_starts_a_broker_and_later_calls_find_it(folder: Path) -> None:
    """The address works, is the same each time, and its repr does not contain the password."""
    address = launch.ensure_broker()
    assert address.started_here
    assert launch.ensure_broker() is address
    with RawClient(address.uri).open():
        pass
    password = address.uri.split(":")[2].split("@")[0]
    assert len(password) > 20
    assert password not in repr(address)
    assert password not in address.masked_uri
    with LeaseProcess(folder) as second:
        second.start()
        assert second.address() == (address.uri, address.pid, False)


def test_the_record_is_readable_by_its_owner_only(folder: Path) -> None:
    """The mode is 0600, and no command line contains the password."""
    address = launch.ensure_broker()
    path = record_path(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = json.loads(path.read_text())["password"]
    assert password.encode() not in Path(f"/proc/{address.pid}/cmdline").read_bytes()
    path.chmod(0o644)
    assert read_record(path) is None
    path.chmod(0o600)


def test_concurrent_starts_result_in_one_broker(folder: Path) -> None:
    """One process starts the broker, and all others find it."""
    processes = [LeaseProcess(folder) for _ in range(5)]
    try:
        for process in processes:
            process.start()
        addresses = [process.address() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.__exit__(None, None, None)
    assert len({(uri, pid) for uri, pid, _ in addresses}) == 1
    assert [started for _, _, started in addresses].count(True) == 1


@pytest.mark.parametrize("options", [(), ("fork",)])
def test_the_broker_stops_after_its_last_lease_process_was_killed(
    folder: Path, options: tuple[str, ...]
) -> None:
    """The broker does not stop earlier, and a child of a killed process does not extend a lease."""
    with LeaseProcess(folder, *options) as first, LeaseProcess(folder) as second:
        first.start()
        _, pid, _ = first.address()
        second.start()
        assert second.address()[1] == pid
        first.kill()
        assert launch.find_broker() is not None
        second.kill()
        wait_until_ended(pid)
    assert not record_path(folder).exists()
    assert launch.find_broker() is None


def test_a_restarted_process_finds_the_same_broker(folder: Path) -> None:
    """A restarted kernel finds its fabric again."""
    with LeaseProcess(folder) as first:
        first.start()
        _, pid, _ = first.address()
        first.kill()
    with LeaseProcess(folder) as again:
        again.start()
        assert again.address()[1:] == (pid, False)


def test_stop_is_immediate_and_the_next_call_starts_another_broker(folder: Path) -> None:
    """Leases do not prevent the stop; the next call in any process starts another broker."""
    address = launch.ensure_broker()
    assert launch.stop_broker()
    wait_until_ended(address.pid)
    assert launch.find_broker() is None
    assert not launch.stop_broker()
    again = launch.ensure_broker()
    assert again.started_here
    assert again.pid != address.pid


def test_a_killed_broker_is_replaced(folder: Path) -> None:
    """The record is stale, and another broker is started."""
    address = launch.ensure_broker()
    os.kill(address.pid, signal.SIGKILL)
    wait_until_ended(address.pid)
    assert record_path(folder).exists()
    assert launch.find_broker() is None
    again = launch.ensure_broker()
    assert again.started_here
    with RawClient(again.uri).open():
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "port": 1}'])
def test_an_invalid_record_is_ignored(folder: Path, content: str) -> None:
    """With any content of the file, a broker is found or started."""
    path = record_path(folder)
    path.write_text(content)
    path.chmod(0o600)
    assert launch.find_broker() is None
    assert launch.ensure_broker().started_here


def test_control_operations_require_the_password(folder: Path) -> None:
    """A client without the password cannot stop the broker."""
    address = launch.ensure_broker()
    record = read_record(record_path(folder))
    assert record is not None
    with pytest.raises(ControlError):
        connect(("127.0.0.1", record.port), "guess", Operation.STOP, 60)
    assert launch.find_broker() == launch.BrokerAddress(
        address.uri, address.masked_uri, address.pid, started_here=False
    )


def test_a_failed_start_reports_the_error_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the output of the process."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setattr(launch, "_MODULE", "fabric_nb.broker.nowhere")
    with pytest.raises(
        launch.BrokerStartError, match=r"No module named fabric_nb\.broker\.nowhere"
    ):
        launch.ensure_broker()


def test_modules_in_the_working_directory_are_not_imported(folder: Path, tmp_path: Path) -> None:
    """A `secrets.py` beside the notebook does not replace the standard library's."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (notebooks / "secrets.py").write_text("raise SystemExit('trapped')")
    (notebooks / "asyncio.py").write_text("raise SystemExit('trapped')")
    script = (
        f"import sys; sys.path[0] = {str(ROOT)!r};"
        "from fabric_nb.broker.launch import ensure_broker; print(ensure_broker().started_here)"
    )
    result: Any = subprocess.run(
        [sys.executable, "-c", script], cwd=notebooks, capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\n"


# Permissions and links


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
def test_a_folder_writable_by_others_is_refused(folder: Path, mode: int) -> None:
    """Another user could plant links in the folder; the error contains the solution."""
    folder.chmod(mode)
    try:
        for use in (launch.ensure_broker, launch.find_broker, launch.stop_broker):
            with pytest.raises(launch.BrokerStartError, match="chmod go-w"):
                use()
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("kind", ["log", "lock", "record"])
def test_links_are_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """The target of a planted link is neither read nor changed."""
    target = tmp_path_factory.mktemp("elsewhere") / "target"
    record = {"pid": 1, "port": 1, "user": "mallory", "password": "known"}
    target.write_text(json.dumps(record))
    target.chmod(0o600)
    names = {"log": folder / "broker.log", "lock": folder / "broker.lock"}
    link = names.get(kind, record_path(folder))
    link.symlink_to(target)
    if kind == "record":
        assert read_record(link) is None
        assert launch.ensure_broker().started_here
    else:
        with pytest.raises(launch.BrokerStartError, match=link.name):
            launch.ensure_broker()
    assert json.loads(target.read_text()) == record


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to create a link of another user")
def test_another_users_link_to_the_folder_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link of another user is refused even if its target belongs to this user."""
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(link))
    assert launch.find_broker() is None
    os.lchown(link, 65534, 65534)
    with pytest.raises(launch.BrokerStartError, match="belongs to another user"):
        launch.find_broker()
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(folder))
