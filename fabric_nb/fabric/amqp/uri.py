"""AMQP URIs: validation, and display without the password."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fabric_nb.errors import InvalidUri

if TYPE_CHECKING:
    from yarl import URL

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
_PASSWORD_OPTION = re.compile(r"([?&]password=)[^&]*", re.IGNORECASE)
_EXAMPLE = "amqp://user:password@host:5672/vhost"
_ESCAPES = (
    "in the password %40 for '@', %23 for '#', %3F for '?', %2F for '/', %3A for ':' and %25 for"
    " '%'"
)


def parse_uri(uri: object) -> URL:
    """Return a usable AMQP URI, with its port.

    Raises:
        InvalidUri: it is not ``amqp://`` or ``amqps://`` with a host and a valid port.
    """
    from yarl import URL  # slow to import, and not needed to mask a URI

    if not isinstance(uri, str) or not uri.strip():
        raise InvalidUri(f"An AMQP URI is needed, as in {_EXAMPLE}.")
    try:
        url = URL(uri.strip())
        port = url.explicit_port
    except (ValueError, TypeError):  # their text may quote the password
        raise InvalidUri(f"{mask(uri)} is not a URI: write {_EXAMPLE}, and {_ESCAPES}.") from None
    if url.scheme not in DEFAULT_PORTS:
        scheme = f"{url.scheme}://" if url.scheme else "no scheme"
        raise InvalidUri(
            f"{mask(uri)} has {scheme}, which is not AMQP: use amqp:// or amqps:// (TLS)."
        )
    if url.fragment or _is_cut_password(url):
        raise InvalidUri(
            f"{mask(uri)} has a character in its password that ends it there: write {_ESCAPES}."
        )
    if not url.host:
        raise InvalidUri(f"{mask(uri)} names no host: write {_EXAMPLE}.")
    if "cadata" in url.query:  # aiormq's, which raises whatever base64 makes of it
        raise InvalidUri(f"{mask(uri)} has cadata: give the authority's file, as cafile.")
    return url.with_port(port if port is not None else DEFAULT_PORTS[url.scheme])


def _is_cut_password(url: URL) -> bool:
    """Return whether a '/' or '?' in the password made its rest a path or query with an '@'."""
    options = url.query_string.split("&")
    return url.user is None and (
        "@" in url.path
        or any("@" in option and "=" not in option.partition("@")[0] for option in options)
    )


def split_uris(uris: object) -> list[str]:
    """Return the URI of each broker, given by a list or by several hosts in one URI.

    Example:
        >>> split_uris("amqp://ann@a,b:5673/vhost")
        ['amqp://ann@a/vhost', 'amqp://ann@b:5673/vhost']

    Raises:
        InvalidUri: there is none.
    """
    if isinstance(uris, (list, tuple)) and uris:
        return [single for uri in uris for single in split_uris(uri)]
    if not isinstance(uris, str) or not uris.strip():
        raise InvalidUri(f"An AMQP URI is needed, as in {_EXAMPLE}.")
    scheme, separator, rest = uris.strip().partition("://")
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    login, at_sign, hosts = rest[:end].rpartition("@")
    if "," not in hosts or "@" in rest[end:]:  # the comma may be part of a password
        return [uris]
    prefix, suffix = f"{scheme}{separator}{login}{at_sign}", rest[end:]
    return [f"{prefix}{host.strip()}{suffix}" for host in hosts.split(",")]


def mask(uri: str | URL | Sequence[str]) -> str:
    """Return the URI with its password replaced.

    Also works on text that is not a URI, for use in error messages.

    Example:
        >>> mask("amqp://ann:secret@host/")
        'amqp://ann:***@host/'
        >>> mask(["amqp://ann:secret@a/", "amqp://ann:secret@b/"])
        'amqp://ann:***@a/, amqp://ann:***@b/'
    """
    if isinstance(uri, Sequence) and not isinstance(uri, str):
        return ", ".join(map(mask, uri))
    text = _PASSWORD_OPTION.sub(r"\1***", str(uri))
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    # The last '@' ends the credentials: a password may contain '@' and '/' unescaped, and hiding
    # too much is better than showing a part of it.
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:***" if colon else user
    return f"{scheme}{separator}{shown}{at}{host}"
