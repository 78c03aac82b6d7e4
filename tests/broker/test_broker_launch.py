"""Finding, starting, holding and stopping the user's broker, from processes of their own."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
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
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

_HOLDER = """
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


class Holder:
    """A process that holds the broker, as a notebook does."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "FABRIC_NB_RUNTIME_DIR": str(folder)},
        )

    def go(self) -> None:
        """Let it look for the broker."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def address(self) -> tuple[str, int, bool]:
        """What it has found."""
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
    """A runtime folder of the test's own; the broker in it ends with the test."""
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    launch.stop_broker()
    launch.release_broker()


def wait_until_gone(pid: int, timeout: float = 15) -> None:
    """Wait for the end of a process that need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([descriptor], [], [], timeout)
    os.close(descriptor)
    assert ended, f"process {pid} is still there"


def test_the_first_call_starts_a_broker_and_the_next_find_it(folder: Path) -> None:
    """The address works, is the same one each time, and does not show its password."""
    started = time.monotonic()
    address = launch.ensure_broker()
    took = time.monotonic() - started
    assert address.started_here
    assert launch.ensure_broker() is address
    with RawClient(address.uri).open():
        pass
    password = address.uri.split(":")[2].split("@")[0]
    assert len(password) > 20
    assert password not in repr(address)
    assert password not in address.masked_uri
    # Half a second on a machine that does nothing else; here others work as well.
    assert took < 2
    with Holder(folder) as other:
        other.go()
        assert other.address() == (address.uri, address.pid, False)


def test_the_record_is_for_its_owners_eyes_only(folder: Path) -> None:
    """Mode 0600, and the password is in nobody's command line."""
    address = launch.ensure_broker()
    path = record_path(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = json.loads(path.read_text())["password"]
    assert password.encode() not in Path(f"/proc/{address.pid}/cmdline").read_bytes()
    path.chmod(0o644)
    assert read_record(path) is None
    path.chmod(0o600)


def test_starters_at_the_same_time_end_with_one_broker(folder: Path) -> None:
    """One starts it, and all the others find that one."""
    holders = [Holder(folder) for _ in range(5)]
    try:
        for holder in holders:
            holder.go()
        addresses = [holder.address() for holder in holders]
    finally:
        for holder in holders:
            holder.kill()
            holder.__exit__(None, None, None)
    assert len({(uri, pid) for uri, pid, _ in addresses}) == 1
    assert [started for _, _, started in addresses].count(True) == 1


@pytest.mark.parametrize("options", [(), ("fork",)])
def test_the_broker_ends_when_its_last_holder_was_killed(
    folder: Path, options: tuple[str, ...]
) -> None:
    """Not before the last one, also when a child of the killed one lives on."""
    with Holder(folder, *options) as first, Holder(folder) as second:
        first.go()
        _, pid, _ = first.address()
        second.go()
        assert second.address()[1] == pid
        first.kill()
        assert launch.find_broker() is not None
        second.kill()
        wait_until_gone(pid)
    assert not record_path(folder).exists()
    assert launch.find_broker() is None


def test_a_holder_that_comes_back_soon_finds_the_same_broker(folder: Path) -> None:
    """A kernel that restarts keeps its fabric."""
    with Holder(folder) as first:
        first.go()
        _, pid, _ = first.address()
        first.kill()
    with Holder(folder) as again:
        again.go()
        assert again.address()[1:] == (pid, False)


def test_stopping_ends_it_at_once_and_the_next_call_starts_another(folder: Path) -> None:
    """Whoever holds it; a holder that asks again gets a new one."""
    address = launch.ensure_broker()
    assert launch.stop_broker()
    wait_until_gone(address.pid)
    assert launch.find_broker() is None
    assert not launch.stop_broker()
    again = launch.ensure_broker()
    assert again.started_here
    assert again.pid != address.pid


def test_a_holder_notices_that_the_broker_was_killed(folder: Path) -> None:
    """The record is stale then: another broker is started in its place."""
    address = launch.ensure_broker()
    os.kill(address.pid, signal.SIGKILL)
    wait_until_gone(address.pid)
    assert record_path(folder).exists()
    assert launch.find_broker() is None
    again = launch.ensure_broker()
    assert again.started_here
    with RawClient(again.uri).open():
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "port": 1}'])
def test_a_damaged_record_counts_as_none(folder: Path, content: str) -> None:
    """Whatever is in the file, a broker is found or started."""
    path = record_path(folder)
    path.write_text(content)
    path.chmod(0o600)
    assert launch.find_broker() is None
    assert launch.ensure_broker().started_here


def test_who_does_not_know_the_password_is_neither_believed_nor_obeyed(folder: Path) -> None:
    """A stranger at a stale port learns nothing; a stranger at ours can stop nothing."""
    address = launch.ensure_broker()
    record = read_record(record_path(folder))
    assert record is not None
    with pytest.raises(ControlError):
        connect(("127.0.0.1", record.port), "guess", Operation.STOP, 5)
    assert launch.find_broker() == launch.BrokerAddress(
        address.uri, address.masked_uri, address.pid, started_here=False
    )


def test_a_broker_that_cannot_start_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's own words are in the error."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setattr(launch, "_MODULE", "fabric_nb.broker.nowhere")
    with pytest.raises(
        launch.BrokerStartError, match=r"No module named fabric_nb\.broker\.nowhere"
    ):
        launch.ensure_broker()


def test_the_broker_is_not_led_astray_by_files_where_it_is_started(
    folder: Path, tmp_path: Path
) -> None:
    """A `secrets.py` beside the notebook is not the standard library's."""
    trap = tmp_path / "notebooks"
    trap.mkdir()
    (trap / "secrets.py").write_text("raise SystemExit('trapped')")
    (trap / "asyncio.py").write_text("raise SystemExit('trapped')")
    script = (
        f"import sys; sys.path[0] = {str(ROOT)!r};"
        "from fabric_nb.broker.launch import ensure_broker; print(ensure_broker().started_here)"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", script], cwd=trap, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


# Who else may write there


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, mode: int) -> None:
    """Another user could plant links in it; the error says what to do."""
    folder.chmod(mode)
    try:
        for use in (launch.ensure_broker, launch.find_broker, launch.stop_broker):
            with pytest.raises(launch.BrokerStartError, match="chmod go-w"):
                use()
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("kind", ["log", "lock", "record"])
def test_no_link_is_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """A planted link leads nowhere: what it points to stays as it is."""
    precious = tmp_path_factory.mktemp("elsewhere") / "precious"
    record = {"pid": 1, "port": 1, "user": "mallory", "password": "known"}
    precious.write_text(json.dumps(record))
    precious.chmod(0o600)
    names = {"log": folder / "broker.log", "lock": folder / "broker.lock"}
    link = names.get(kind, record_path(folder))
    link.symlink_to(precious)
    if kind == "record":
        assert read_record(link) is None
        assert launch.ensure_broker().started_here
    else:
        with pytest.raises(launch.BrokerStartError, match=link.name):
            launch.ensure_broker()
    assert json.loads(precious.read_text()) == record


@pytest.mark.skipif(os.getuid() != 0, reason="only root can plant what is another user's")
def test_another_users_link_to_the_folder_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it leads to a folder of one's own."""
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(link))
    assert launch.find_broker() is None
    os.lchown(link, 65534, 65534)
    with pytest.raises(launch.BrokerStartError, match="belongs to another user"):
        launch.find_broker()
    monkeypatch.setenv("FABRIC_NB_RUNTIME_DIR", str(folder))
