"""Brokers to which the user has connected by a URI in a cell: a small file without passwords."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from fabric_nb.errors import FabricError, InvalidArgument
from fabric_nb.fabric.amqp.uri import mask, parse_uri, split_uris
from fabric_nb.fabric.wire.names import is_part

log = logging.getLogger(__name__)

MAX_BROKERS = 10
MAX_URI = 500
"""Maximum characters of a URI that is kept."""
MAX_FILE = 64_000
"""Maximum bytes of the file that are read."""
_IN_CELL = re.compile(
    r"amqps?://(?:[A-Za-z0-9._~%-]+@)?[A-Za-z0-9.,:\[\]-]+(?:/[A-Za-z0-9._~%-]*)?"
)
"""URI of one word, without characters that IPython replaces; as in labextension/src/cells.ts."""


@dataclass(frozen=True, slots=True)
class RecentBroker:
    """A broker and the domain that was joined there.

    Attributes:
        uri: URI without password.
        domain: the domain.
    """

    uri: str
    domain: str

    @property
    def valid(self) -> bool:
        """True if both can be written into a cell."""
        try:
            return bare_uri(self.uri)[1] == "" and is_part(self.domain)
        except FabricError:
            return False


class RecentBrokers(NamedTuple):
    """Recent brokers, newest first, and a sentence on a flaw of their file, or an empty text."""

    brokers: Sequence[RecentBroker]
    flaw: str = ""


def bare_uri(uri: str) -> tuple[str, str]:
    """Split a URI that can be written into a cell into the URI without password, and the password.

    Example:
        >>> bare_uri("amqp://ann:s%2Fcret@host/shop")
        ('amqp://ann@host/shop', 's/cret')

    Raises:
        InvalidUri: it is no URI.
        InvalidArgument: it has parts that a cell cannot contain.
    """
    uri = uri.strip()
    for node in split_uris(uri):
        parse_uri(node)
    scheme, _, rest = uri.partition("://")
    login, at, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    bare = f"{scheme}://{user}{at}{place}"
    if not _IN_CELL.fullmatch(bare) or len(bare) > MAX_URI:
        raise InvalidArgument(
            f"{mask(uri)[:200]} has characters or options that cannot be written into a cell: set"
            " it as AMQP_URL."
        )
    return bare, unquote(password)


def recent_file() -> Path:
    """Return the path of the file.

    It is ``recent-brokers.json`` in `FABRIC_NB_STATE_DIR`, or in the folder ``fabric_nb`` of the
    user's folder for state.
    """
    if chosen := os.environ.get("FABRIC_NB_STATE_DIR"):
        return Path(chosen) / "recent-brokers.json"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "fabric_nb" / "recent-brokers.json"


def read(path: Path) -> RecentBrokers:
    """Return the brokers of a file; a flaw of the file is a sentence, not an error."""
    try:
        with path.open("rb") as file:
            if problem := _exposure(os.fstat(file.fileno())):
                return RecentBrokers((), f"{path} {problem}: it is not used; run chmod 600 on it.")
            content = json.loads(file.read(MAX_FILE + 1))
        entries = content["brokers"]
        listed = [entry for entry in entries if isinstance(entry, dict)]
        found = [RecentBroker(str(each.get("uri")), str(each.get("domain"))) for each in listed]
        refused = len(entries) - sum(each.valid for each in found)
    except FileNotFoundError:
        return RecentBrokers(())
    except OSError as error:
        return RecentBrokers((), f"{path} cannot be read ({error.strerror}): it is not used.")
    except (ValueError, TypeError, KeyError, RecursionError):
        return RecentBrokers(
            (), f"{path} is damaged: it is not used; the next connection replaces it."
        )
    flaw = (
        f"{path} has {refused} entries that are no brokers: they are not used." if refused else ""
    )
    return RecentBrokers([each for each in found if each.valid][:MAX_BROKERS], flaw)


def _exposure(status: os.stat_result) -> str:
    """Return how others can access a file, as the end of a sentence; empty if they cannot."""
    if sys.platform != "win32":  # where the folder is private
        if status.st_uid != os.getuid():
            return "belongs to another user"
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return "can be read by others"
    return ""


def remember(path: Path, uri: str, domain: str) -> None:
    """Make a broker the newest of a file. Does nothing if it cannot be offered or written."""
    try:
        newest = RecentBroker(bare_uri(uri)[0], domain)
    except FabricError:
        return
    kept = [newest, *(each for each in read(path).brokers if each != newest)][:MAX_BROKERS]
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as output:
            json.dump({"brokers": [asdict(each) for each in kept]}, output, indent=1)
        draft.replace(path)
    except OSError as error:
        log.debug("Recent brokers are not kept: %s", error)
        with contextlib.suppress(OSError):
            draft.unlink()
