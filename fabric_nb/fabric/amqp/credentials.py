"""Who we are at the broker: as the URI says, or as configured, in a keyring, or asked for.

A password need not stand where it is saved or seen: a URI may name the user alone, or nobody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import InvalidUri
from fabric_nb.fabric.amqp.uri import mask, parse_uri, split_uris

if TYPE_CHECKING:
    from yarl import URL

log = logging.getLogger(__name__)

USER, PASSWORD = "AMQP_USER", "AMQP_PASSWORD"
DEFAULT_USER = "guest"
"""Who an AMQP client is when it says nothing."""


class Secret(str):
    """Text that is not shown where values are: in tracebacks, settings and outputs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr("***") if self else repr("")


class BrokerUri(Secret):
    """A URI whose password is not shown where values are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(mask(self))


def complete(
    uri: str,
    *,
    user: str = "",
    password: str = "",
    tls: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> BrokerUri:
    """The URI, with what it does not say of the login and of TLS.

    The user is that of the URI, else `user`, else ``AMQP_USER``. The password is that of the
    URI, else `password`, else ``AMQP_PASSWORD``, else what the system's keyring holds for the
    user at ``amqp://host:port`` (the package ``keyring``, where it is installed), else it is
    asked for. Without any user and password the client's default holds, ``guest``.

    Example:
        >>> complete("amqp://ann@localhost/", password="secret")
        'amqp://ann:***@localhost:5672/'

    Args:
        uri: where the broker is.
        user: as configured.
        password: as configured.
        tls: options for ``amqps://`` as configured: ``cafile``, ``certfile``, ``keyfile`` and
            ``server_name_indication``.
        environment: where the variables are.
        ask: called with a prompt for the password; must not echo. None: nobody can be asked.

    Raises:
        InvalidUri: it cannot be used, or has a user without a password and nobody can be asked.
    """
    url = parse_uri(uri)
    if url.user is None:
        url = url.with_user(user or environment.get(USER) or None)
    if url.password is None:
        known = password or environment.get(PASSWORD)
        if known or url.user is not None:
            url = url.with_user(url.user or DEFAULT_USER)
            url = url.with_password(known or _from_keyring(url) or _asked(url, ask))
    if url.scheme == "amqps" and tls:
        more = {name: value for name, value in tls.items() if value and name not in url.query}
        url = url.update_query(more)
    return BrokerUri(url)


def complete_each(
    uris: str | Sequence[str], *, ask: Callable[[str], str] | None = None, **configured: Any
) -> list[BrokerUri]:
    """`complete` for every node of a cluster; a password is asked for once.

    Example:
        >>> complete_each("amqp://ann@a,b/", password="secret")
        ['amqp://ann:***@a:5672/', 'amqp://ann:***@b:5672/']
    """
    first: list[str] = []

    def ask_once(prompt: str) -> str:
        if not first:
            assert ask is not None  # noqa: S101 - it is given where this is
            first.append(ask(prompt))
        return first[0]

    asking = ask_once if ask is not None else None
    return [complete(uri, ask=asking, **configured) for uri in split_uris(uris)]


def _place(url: URL) -> str:
    return f"{url.scheme}://{url.host}:{url.port}"


def _from_keyring(url: URL) -> str | None:
    try:
        import keyring
    except ImportError:
        return None
    try:
        return keyring.get_password(_place(url), url.user or "")
    except Exception as error:  # noqa: BLE001 - backends raise what they like: locked, not there
        log.debug("The keyring gives no password: %r", error)
        return None


def _asked(url: URL, ask: Callable[[str], str] | None) -> str:
    if ask is None:
        raise InvalidUri(
            f"{mask(url)} has no password: set {PASSWORD}, or keep it in the keyring"
            f" (keyring set {_place(url)} {url.user})."
        )
    return ask(f"Password of {url.user} at {url.host}: ")
