"""``%fabric_connect``, ``%fabric_use``, ``%fabric_connections`` and ``%fabric_disconnect``."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.broker.launch import BrokerStartError, ensure_broker
from fabric_nb.errors import BrokerUnavailable
from fabric_nb.fabric.amqp.credentials import BrokerUri, complete_each
from fabric_nb.fabric.amqp.uri import parse_uri, split_uris
from fabric_nb.notebook.arguments import InvalidLine
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.connect import recent
from fabric_nb.notebook.magics.base import SessionMagics, with_options, with_raw_line
from fabric_nb.notebook.options import (
    CONFIGURED_DOMAIN,
    DEFAULT_CONNECTION,
    DEFAULT_DOMAIN,
    connection_name,
    domain_option,
    seconds,
    time_limit,
    unquoted,
)

if TYPE_CHECKING:
    from fabric_nb.notebook.connect.finder import BrokerFinder

EMBEDDED = (
    "This is the embedded broker, for development: nothing is kept when it ends.",
    "Other programs on this machine connect with the URI that `fabric-nb broker uri` prints.",
)
"""Notes on the embedded broker."""
SAVED_WARNING = (
    "The password is part of this cell and is saved with the notebook: omit it from the URI and"
    " enter it when prompted, or set AMQP_PASSWORD or AMQP_URL, or store it in the system keyring."
)
"""Warning about a password in a cell."""


@magics_class
class ConnectingMagics(SessionMagics):
    """Magics that connect and disconnect."""

    @with_raw_line
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="amqp://user@host:port/vhost, or amqps://")
    @with_options(domain_option(CONFIGURED_DOMAIN))
    @argument("--type", type=unquoted, help="Service type of this notebook.")
    @argument("--id", type=unquoted, help="Service id of this notebook.")
    @argument(
        "--as",
        dest="name",
        type=connection_name,
        default=DEFAULT_CONNECTION,
        help="Name of the connection, which leaves those of other names open.",
    )
    @argument("--timeout", type=time_limit, help="Retry for this many seconds.")
    @argument(
        "--form",
        action="store_true",
        help="Show a form with recent brokers and the domains on a broker, which writes the cell.",
    )
    @line_magic
    def fabric_connect(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Connect to a fabric: `%fabric_connect amqp://user@host/ --domain my_project`.

        In [1]: %fabric_connect amqp://guest:guest@localhost/ --domain my_project
        In [2]: %fabric_connect amqp://ann@node1,node2,node3/     # a cluster: tried in turn
        In [3]: %fabric_connect amqp://ann@staging/ --as staging  # beside the first one

        The default URI is that of %config FabricMagics.uri or the environment variable AMQP_URL;
        without these an embedded broker for development is found or started, and a form offers the
        brokers to which you have connected by a URI before; --form shows the form alone. If the URI
        has no password, it is that of %config FabricMagics.password, AMQP_PASSWORD or the keyring,
        or you are prompted for it. The cell shows the broker, the name of this notebook
        and the services of its domain; the variable `fabric` holds the connector. Run again with
        the same settings, it keeps the connection and all that is open; with other settings it
        shows what has ended.

        A domain is a group of services that find each other, and this notebook, by short names.

        With --as, connections of other names stay open. The newest is in use: the magics and
        `fabric` use it, until %fabric_use chooses another one; %fabric_call staging/my_app.multiply
        calls by a connection that is not in use.
        """
        with self._usage_errors(self.fabric_connect.parser):
            args = self._parse(self.fabric_connect.parser, line, local_ns)
            if args.form:
                self._show_form(args.uri)
                return
            uri, notes = self._broker_and_notes(args, line)
            settings = self._settings(uri, args)
            wait(
                self.session.connect(
                    settings,
                    timeout=args.timeout or self.connect_timeout,
                    name=args.name,
                    retry=args.timeout is not None,
                    sample=self.sample,
                    notes=notes,
                )
            )
            if args.uri is not None:
                recent.remember(recent.recent_file(), args.uri, settings["service_domain"])
            elif notes == EMBEDDED and not in_terminal() and recent.read(recent.recent_file())[0]:
                wait(self.session.show_connect_form(self.finder))

    def _show_form(self, uri: str | None) -> None:
        if uri is not None:
            raise InvalidLine("--form is for a line without a URI")
        if in_terminal():
            raise InvalidLine(
                "a terminal shows no form: write %fabric_connect amqp://user@host/ --domain shop"
            )
        wait(self.session.show_connect_form(self.finder))

    @cached_property
    def finder(self) -> BrokerFinder:
        """Answers the form that connects."""
        from fabric_nb.notebook.connect.finder import BrokerFinder  # it imports the connector

        return BrokerFinder(self._complete)

    def _complete(
        self, uri: str, password: str, ask: Callable[[str], str] | None = None
    ) -> list[BrokerUri]:
        """Return a URI, for each node of a cluster, with its login and the TLS settings."""
        tls = ("cafile", "certfile", "keyfile", "server_name_indication")
        return complete_each(
            uri,
            user=self.user,
            password=password or self.password,
            tls={name: getattr(self, name) for name in tls},
            ask=ask,
        )

    def _broker_and_notes(
        self, args: Namespace, line: str
    ) -> tuple[list[BrokerUri], tuple[str, ...]]:
        """Return the URI of the broker, for each node of a cluster, and notes to show."""
        if configured := self._configured_broker(args.uri):
            warning = password_warning(args.uri, line)
            return configured, () if warning is None else (warning,)
        try:
            return [BrokerUri(ensure_broker().uri)], EMBEDDED
        except BrokerStartError as error:
            if not in_terminal():
                wait(self.session.show_connect_form(self.finder))
            raise BrokerUnavailable(
                f"No broker is given, and {error}. Write %fabric_connect"
                " amqp://user:password@host/, or set AMQP_URL."
            ) from None

    def _configured_broker(self, uri: str | None) -> list[BrokerUri]:
        """Return the URI given or configured, one for each node; empty if there is none.

        User, password and TLS settings are added to it.
        """
        configured = uri or self.uri or os.environ.get("AMQP_URL", "")
        if not configured:
            return []
        return self._complete(configured, self.finder.password_for(configured), ask=_prompt)

    def _settings(self, uri: list[BrokerUri], args: Namespace) -> dict[str, Any]:
        """Return the arguments of `AmqBrokerConnector`."""
        return {
            "amqp_uri": uri,
            "service_domain": _first_set(
                args.domain, self.domain, "SERVICE_DOMAIN", DEFAULT_DOMAIN
            ),
            "service_type": _first_set(args.type, self.service_type, "SERVICE_TYPE", "notebook"),
            "service_id": _first_set(args.id, self.service_id, "SERVICE_ID", "")
            or notebook_id(self._user_shell.user_ns)
            or self._random_id,
            "keep_alive_seconds": self.keep_alive_seconds,
            "keep_alive_listen": True,
            "service_version": self.version,
            "timeout": self.timeout,
            "heartbeat": self.heartbeat,
            "presence": self.presence,
        }

    @cached_property
    def _random_id(self) -> str:
        """Service id if the notebook's file is not known; the same at every connection."""
        return f"notebook-{secrets.token_hex(3)}"

    @with_raw_line
    @magic_arguments()
    @argument("name", type=connection_name, help="Name of the connection.")
    @line_magic
    def fabric_use(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Use another open connection: the magics and the variable `fabric` use it from now on.

        In [4]: %fabric_use staging

        The connection that was opened without --as is named default. Streams, views and served
        methods keep the connection with which they were opened; a served function calls others by
        its own.
        """
        with self._usage_errors(self.fabric_use.parser):
            args = self._parse(self.fabric_use.parser, line, local_ns)
            wait(self.session.use(args.name))

    @with_raw_line
    @magic_arguments()
    @line_magic
    def fabric_connections(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show the open connections and the one in use, live under the cell.

        In [5]: %fabric_connections
        """
        with self._usage_errors(self.fabric_connections.parser):
            self._parse(self.fabric_connections.parser, line, local_ns)
            wait(self.session.show_connections())

    @with_raw_line
    @magic_arguments()
    @argument(
        "name", nargs="?", type=connection_name, help="Name of the connection; that in use if none."
    )
    @argument("--grace", type=seconds, default=0.0, help="Seconds that in-flight calls may take.")
    @line_magic
    def fabric_disconnect(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Disconnect: services end, streams and logs keep the rows received so far.

        In [9]: %fabric_disconnect
        In [9]: %fabric_disconnect staging

        If other connections are open, none of them is in use until %fabric_use chooses one.
        """
        with self._usage_errors(self.fabric_disconnect.parser):
            args = self._parse(self.fabric_disconnect.parser, line, local_ns)
            wait(self.session.disconnect(args.name, args.grace))


def _prompt(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except (StdinNotImplementedError, EOFError):
        raise BrokerUnavailable(
            "The URI has a user but no password, and there is no prompt here: set AMQP_PASSWORD."
        ) from None


def password_warning(uri: str | None, line: str) -> str | None:
    """Return a warning if the line contains the URI's password, other than ``guest``."""
    if uri is None or uri.rpartition("@")[0] not in line:
        return None
    passwords = {parse_uri(node).password for node in split_uris(uri)}
    return SAVED_WARNING if passwords - {None, "", "guest"} else None


def _first_set(option: str | None, configured: str, variable: str, default: str) -> str:
    return option or configured or os.environ.get(variable, "") or default


def notebook_id(namespace: Mapping[str, Any]) -> str:
    """Return a service id from the name of the notebook's file; empty if that is not known."""
    path = os.environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__") or ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", PurePath(str(path)).stem).strip("-")[:63]
