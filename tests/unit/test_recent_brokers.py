"""The file of recent brokers: private, small, without passwords, and never an error."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from fabric_nb.errors import InvalidArgument
from fabric_nb.notebook.connect.finder import BrokerFinder
from fabric_nb.notebook.connect.recent import MAX_BROKERS, RecentBroker, read, remember

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of a file that does not exist, in a folder that does not either."""
    return tmp_path / "state" / "recent-brokers.json"


def test_the_newest_comes_first(path: Path) -> None:
    """Each broker and domain is kept once, newest first, and ten at most."""
    assert read(path) == ([], "") or read(path) == ((), "")
    for number in range(MAX_BROKERS + 3):
        remember(path, f"amqp://ann@host{number}/", "shop")
    remember(path, "amqp://ann@host9/", "shop")
    remember(path, "amqp://ann@host9/", "other")
    brokers, flaw = read(path)
    assert flaw == ""
    assert len(brokers) == MAX_BROKERS
    assert brokers[:3] == [
        RecentBroker("amqp://ann@host9/", "other"),
        RecentBroker("amqp://ann@host9/", "shop"),
        RecentBroker("amqp://ann@host12/", "shop"),
    ]


@posix_only
def test_the_file_is_private_and_has_no_password(path: Path) -> None:
    """Only the user can read the file, and a password in the URI is not written."""
    remember(path, "amqp://ann:s3cret@host/shop", "shop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cret" not in path.read_text()
    assert read(path).brokers == [RecentBroker("amqp://ann@host/shop", "shop")]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@posix_only
def test_a_file_that_others_can_read_is_not_used(path: Path) -> None:
    """It has a sentence with what to do, and the next connection replaces it by a private one."""
    remember(path, "amqp://ann@host/", "shop")
    path.chmod(0o644)
    brokers, flaw = read(path)
    assert brokers == ()
    assert flaw == f"{path} can be read by others: it is not used; run chmod 600 on it."
    remember(path, "amqp://ann@other/", "shop")
    assert read(path) == ([RecentBroker("amqp://ann@other/", "shop")], "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", '{"brokers": 5}', '{"other": []}', "[" * 40_000, "\0\xff", "x" * 70_000],
)
def test_a_damaged_file_is_a_sentence(path: Path, content: str) -> None:
    """Whatever it contains, it has one sentence, and the next connection replaces it."""
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(content, "latin-1")
    brokers, flaw = read(path)
    assert brokers == ()
    assert flaw == f"{path} is damaged: it is not used; the next connection replaces it."
    remember(path, "amqp://ann@host/", "shop")
    assert read(path) == ([RecentBroker("amqp://ann@host/", "shop")], "")


@pytest.mark.parametrize(
    ("uri", "domain"),
    [
        ("amqp://ann@host/\n!rm -rf ~", "shop"),
        ("amqp://ann@host/ --as x", "shop"),
        ("amqp://{open('x')}@host/", "shop"),
        ("amqp://$HOME@host/", "shop"),
        ("amqp://ann:s3cret@host/", "shop"),
        ("http://host/", "shop"),
        ("amqp://" + "h" * 600, "shop"),
        ("amqp://ann@host/", "a b"),
        ("amqp://ann@host/", "<script>"),
        (5, None),
    ],
)
def test_hostile_entries_are_not_offered(path: Path, uri: object, domain: object) -> None:
    """An entry that no cell could contain is omitted, with a sentence; others stay."""
    good = {"uri": "amqp://ann@host/", "domain": "shop"}
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(json.dumps({"brokers": [{"uri": uri, "domain": domain}, 7, good]}))
    brokers, flaw = read(path)
    assert brokers == [RecentBroker("amqp://ann@host/", "shop")]
    assert flaw == f"{path} has 2 entries that are no brokers: they are not used."


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """A file that cannot be written is no error; no broker is remembered."""
    (tmp_path / "file").touch()
    remember(tmp_path / "file" / "recent-brokers.json", "amqp://ann@host/", "shop")
    remember(tmp_path, "amqp://ann@host/", "shop")
    assert "cannot be read" in read(tmp_path).flaw or sys.platform == "win32"


async def test_the_cell_has_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A password in the URI or in its field is kept for the connection, and not in the cell."""
    monkeypatch.setenv("FABRIC_NB_STATE_DIR", str(tmp_path))
    finder = BrokerFinder(lambda uri, password: [])
    for values in (
        {"uri": "amqp://ann:s%2Fcret@host/", "domain": "shop"},
        {"uri": "amqp://ann@host/", "domain": " shop ", "password": "s/cret"},
    ):
        cell = await finder.answer("cell", values)
        assert cell["line"] == "%fabric_connect amqp://ann@host/ --domain shop"
        assert finder.password_for("amqp://ann@host/") == "s/cret"
        assert "cret" not in repr(cell) + repr(vars(finder))
    assert (await finder.answer("cell", {"uri": "amqp://h/"}))[
        "line"
    ] == "%fabric_connect amqp://h/"
    assert await finder.answer("recent", {}) == {"brokers": [], "flaw": ""}
    with pytest.raises(InvalidArgument, match="cannot be written into a cell: set it as AMQP_URL"):
        await finder.answer("cell", {"uri": "amqp://ann:secret@host/?cafile=x"})
    with pytest.raises(InvalidArgument, match="domain is not a text of up to 63"):
        await finder.answer("cell", {"uri": "amqp://h/", "domain": "x" * 64})
