"""``%fabric_connect`` and ``%fabric_disconnect``."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from argparse import Namespace
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePath
from typing import Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.broker.launch import BrokerStartError, ensure_broker
from fabric_nb.errors import BrokerUnavailable
from fabric_nb.fabric.amqp.credentials import BrokerUri, complete_each
from fabric_nb.fabric.amqp.uri import parse_uri, split_uris
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics, reads_line
from fabric_nb.notebook.options import seconds, time_limit, unquoted

DEFAULT_DOMAIN = "my_project"
EMBEDDED = (
    "This is the embedded broker, for development: nothing is kept when it ends.",
    "Others on this machine join with the URI that `fabric-nb broker uri` prints.",
)


SAVED = (
    "The password stands in this cell, and is saved with the notebook: write the URI without it and"
    " be asked, or set AMQP_PASSWORD or AMQP_URL, or keep it in the system's keyring."
)


@magics_class
class ConnectingMagics(SessionMagics):
    """Join the fabric and leave it."""

    @reads_line
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="amqp://user@host:port/vhost, or amqps://")
    @argument("--domain", "-d", type=unquoted, help="The fabric's domain.")
    @argument("--type", type=unquoted, help="This notebook's type.")
    @argument("--id", type=unquoted, help="This notebook's id.")
    @argument("--timeout", type=time_limit, help="Seconds within which to try again and again.")
    @line_magic
    def fabric_connect(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Join the fabric: `%fabric_connect amqp://user@host/ --domain my_project`.

        In [1]: %fabric_connect amqp://guest:guest@localhost/ --domain my_project
        In [2]: %fabric_connect amqp://ann@node1,node2,node3/     # a cluster: tried in turn

        Without a URI it is taken from %config FabricMagics.uri or the environment's AMQP_URL;
        without these an embedded broker for development is found or started. A password that
        the URI does not give is that of %config FabricMagics.password, AMQP_PASSWORD or the
        system's keyring, or is asked for. Shows where we are, who we are and who is there, and
        puts the connector into the variable `fabric`. Run again with the same broker and names it
        keeps what is open; with others it says what has ended.
        """
        with self._told(self.fabric_connect.parser):
            args = self._read(self.fabric_connect.parser, line, local_ns)
            uri, notes = self._broker(args, line)
            wait(
                self.session.connect(
                    self._settings(uri, args),
                    timeout=args.timeout or self.connect_timeout,
                    retry=args.timeout is not None,
                    notes=notes,
                )
            )

    def _broker(self, args: Namespace, line: str) -> tuple[list[BrokerUri], tuple[str, ...]]:
        """Where the broker is, and what is to be said of it."""
        uri = args.uri or self.uri or os.environ.get("AMQP_URL", "")
        if uri:
            notes = (SAVED,) if args.uri and tells_password(args.uri, line) else ()
            return self._completed(uri), notes
        try:
            return [BrokerUri(ensure_broker().uri)], EMBEDDED
        except BrokerStartError as error:
            raise BrokerUnavailable(
                f"No broker is given, and {error}. Write %fabric_connect"
                " amqp://user:password@host/, or set AMQP_URL."
            ) from None

    def _completed(self, uri: str) -> list[BrokerUri]:
        tls = ("cafile", "certfile", "keyfile", "server_name_indication")
        return complete_each(
            uri,
            user=self.user,
            password=self.password,
            tls={name: getattr(self, name) for name in tls},
            ask=_ask,
        )

    def _settings(self, uri: list[BrokerUri], args: Namespace) -> dict[str, Any]:
        """Return what a connector is made of."""
        return {
            "amqp_uri": uri,
            "service_domain": _first(args.domain, self.domain, "SERVICE_DOMAIN", DEFAULT_DOMAIN),
            "service_type": _first(args.type, self.service_type, "SERVICE_TYPE", "notebook"),
            "service_id": _first(args.id, self.service_id, "SERVICE_ID", "")
            or notebook_id(self._user_shell.user_ns)
            or self._made_id,
            "keep_alive_seconds": self.keep_alive_seconds,
            "keep_alive_listen": True,
            "service_version": self.version,
            "timeout": self.timeout,
            "heartbeat": self.heartbeat,
            "presence": self.presence,
        }

    @cached_property
    def _made_id(self) -> str:
        """Id of a notebook whose file is not known; the same each time that it connects."""
        return f"notebook-{secrets.token_hex(3)}"

    @reads_line
    @magic_arguments()
    @argument("--grace", type=seconds, default=0.0, help="Seconds that running calls have to end.")
    @line_magic
    def fabric_disconnect(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Leave the fabric: what is served ends, streams and logs keep what they hold.

        In [9]: %fabric_disconnect
        """
        with self._told(self.fabric_disconnect.parser):
            args = self._read(self.fabric_disconnect.parser, line, local_ns)
            wait(self.session.disconnect(args.grace))


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except (StdinNotImplementedError, EOFError):
        raise BrokerUnavailable(
            "The URI has a user and no password, and nobody can be asked here: set AMQP_PASSWORD."
        ) from None


def tells_password(uri: str, line: str) -> bool:
    """Return whether the line holds a password of the URI, other than the one that all know."""
    return any(
        parse_uri(one).password not in (None, "", "guest") and uri.rpartition("@")[0] in line
        for one in split_uris(uri)
    )


def _first(option: str | None, configured: str, variable: str, default: str) -> str:
    return option or configured or os.environ.get(variable, "") or default


def notebook_id(namespace: Mapping[str, Any]) -> str:
    """Return an id made of the name of this notebook's file; empty where that is not known."""
    path = os.environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__") or ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", PurePath(str(path)).stem).strip("-")[:63]
