"""Login at the broker, from the URI, the configuration, the environment, a keyring or a prompt.

A password need not be saved or visible: a URI may contain the user alone, or no login.
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
"""User of an AMQP client that configures none."""


class Secret(str):
    """Text whose `repr` is masked, for tracebacks, settings and outputs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr("***") if self else repr("")


class BrokerUri(Secret):
    """URI whose `repr` does not show the password."""

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
    """Return the URI, completed with the login and the TLS options that it lacks.

    The user is that of the URI, else `user`, else ``AMQP_USER``. The password is that of the
    URI, else `password`, else ``AMQP_PASSWORD``, else that of the system's keyring for the user at
    ``amqp://host:port`` (if the package ``keyring`` is installed), else the result of `ask`.
    Without any user and password the client's default applies, ``guest``.

    Example:
        >>> complete("amqp://ann@localhost/", password="secret")
        'amqp://ann:***@localhost:5672/'

    Args:
        uri: URI of the broker.
        user: configured user.
        password: configured password.
        tls: configured options for ``amqps://``: ``cafile``, ``certfile``, ``keyfile`` and
            ``server_name_indication``.
        environment: environment variables.
        ask: called with a prompt for the password; must not echo. None: no terminal to prompt on.

    Raises:
        InvalidUri: it cannot be used, or has a user without a password and there is no prompt.
    """
    url = parse_uri(uri)
    if url.user is None:
        url = url.with_user(user or environment.get(USER) or None)
    if url.password is None:
        known = password or environment.get(PASSWORD)
        if known or url.user is not None:
            url = url.with_user(url.user or DEFAULT_USER)
            url = url.with_password(known or _from_keyring(url) or _prompted(url, ask))
    if url.scheme == "amqps" and tls:
        more = {name: value for name, value in tls.items() if value and name not in url.query}
        url = url.update_query(more)
    return BrokerUri(url)


def complete_each(
    uris: str | Sequence[str], *, ask: Callable[[str], str] | None = None, **configured: Any
) -> list[BrokerUri]:
    """Apply `complete` to every node of a cluster; prompt for a password only once.

    Example:
        >>> complete_each("amqp://ann@a,b/", password="secret")
        ['amqp://ann:***@a:5672/', 'amqp://ann:***@b:5672/']
    """
    first: list[str] = []

    def ask_once(prompt: str) -> str:
        if not first:
            assert ask is not None  # noqa: S101 - otherwise this function is not used
            first.append(ask(prompt))
        return first[0]

    asking = ask_once if ask is not None else None
    return [complete(uri, ask=asking, **configured) for uri in split_uris(uris)]


def _keyring_service(url: URL) -> str:
    return f"{url.scheme}://{url.host}:{url.port}"


def _from_keyring(url: URL) -> str | None:
    try:
        import keyring
    except ImportError:
        return None
    try:
        return keyring.get_password(_keyring_service(url), url.user or "")
    except Exception as error:  # noqa: BLE001 - backends raise any type: locked, not available
        log.debug("The keyring returns no password: %r", error)
        return None


def _prompted(url: URL, ask: Callable[[str], str] | None) -> str:
    if ask is None:
        raise InvalidUri(
            f"{mask(url)} has no password: set {PASSWORD}, or keep it in the keyring"
            f" (keyring set {_keyring_service(url)} {url.user})."
        )
    return ask(f"Password of {url.user} at {url.host}: ")
