"""Base class of the magics: the session, the settings, and errors in a line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import MagicArgumentParser, argument
from traitlets import Bool, Enum, Float, Int, List, Unicode, observe, validate
from traitlets.config.configurable import Configurable

from fabric_nb.fabric.amqp.credentials import BrokerUri, Secret
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import InvalidLine
from fabric_nb.notebook.options import CALL_TIMEOUT, CONNECT_TIMEOUT, Option, unquoted

if TYPE_CHECKING:
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.notebook.connections import NamedConnection
    from fabric_nb.notebook.session import Session
    from fabric_nb.notebook.views.connections import ListedConnection


Magic = TypeVar("Magic", bound=Callable[..., Any])


def with_options(*options: Option) -> Callable[[Magic], Magic]:
    """Add options that the command line shares to a magic; their values may be quoted."""

    def add(magic: Magic) -> Magic:
        for option in reversed(options):
            settings = dict(option.settings)
            if "action" not in settings:
                settings.setdefault("type", unquoted)
            help_text = f"{option.help[0].upper()}{option.help[1:]}."
            magic = argument(*option.names, help=help_text, **settings)(magic)
        return magic

    return add


def with_raw_line(magic: Magic) -> Magic:
    """Pass a magic its line as it was typed, and the local variables of the caller.

    Otherwise IPython replaces ``{expression}`` and ``$name`` before it calls a magic, also in
    Python expressions, and replaces none if one fails. `SessionMagics._parse` replaces them word
    by word, and not in expressions.
    """
    return no_var_expand(needs_local_scope(magic))


class SessionMagics(Magics, Configurable):
    """Settings and session that all magics share."""

    uri = Unicode("", help="AMQP URI of the broker; AMQP_URL if empty.").tag(config=True)
    user = Unicode("", help="User, if the URI has none; AMQP_USER if empty.").tag(config=True)
    password = Unicode("", help="Password, if the URI has none; AMQP_PASSWORD if empty.").tag(
        config=True
    )
    cafile = Unicode(
        "", help="amqps: certificate authorities to trust instead of the system's."
    ).tag(config=True)
    certfile = Unicode("", help="amqps: client certificate.").tag(config=True)
    keyfile = Unicode(
        "", help="amqps: key of the client certificate, unless certfile contains it."
    ).tag(config=True)
    server_name_indication = Unicode(
        "", help="amqps: host name in the broker's certificate; the host of the URI if empty."
    ).tag(config=True)
    domain = Unicode("", help="Domain of the fabric; SERVICE_DOMAIN if empty.").tag(config=True)
    service_type = Unicode(
        "", help="Service type of this notebook; SERVICE_TYPE or 'notebook' if empty."
    ).tag(config=True)
    service_id = Unicode(
        "", help="Service id of this notebook; SERVICE_ID or the name of the file if empty."
    ).tag(config=True)
    version = Unicode("", help="Version that this notebook announces.").tag(config=True)
    timeout = Float(CALL_TIMEOUT, help="Seconds that a call may take.").tag(config=True)
    progress_after = Float(2.0, help="Seconds before the progress of a call or map appears.").tag(
        config=True
    )
    sample = Float(0.0, min=0.0, max=1.0, help="Share of the calls that are traced, 0 to 1.").tag(
        config=True
    )
    show_output = Bool(
        True, help="Show what a called method prints and logs, once it has run for two seconds."
    ).tag(config=True)
    connect_timeout = Float(CONNECT_TIMEOUT, help="Seconds that connecting may take.").tag(
        config=True
    )
    # Less than the five seconds without a keep-alive after which amqp-fabric drops a service.
    keep_alive_seconds = Float(4.0, help="Seconds between this notebook's keep-alives.").tag(
        config=True
    )
    presence = Enum(
        ["thread", "loop"],
        "thread",
        help="Origin of keep-alives: 'thread', so that they continue while a cell computes, or"
        " 'loop'.",
    ).tag(config=True)
    heartbeat = Int(600, help="Seconds between AMQP heartbeats.").tag(config=True)
    call_exchanges = List(
        Unicode(), help="Further exchanges whose calls are served, besides the service's own."
    ).tag(config=True)
    reply_queues = List(
        Unicode(), help="Further names of accepted reply queues, as in 'rpc.reply-*'."
    ).tag(config=True)
    max_rows = Int(1_000_000, help="Maximum number of rows that a stream keeps.").tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        self.open_session: Session | None = None
        """Session of the notebook; None until a magic needs it."""
        self._user_shell = shell
        super().__init__(shell=shell, parent=shell)

    @property
    def session(self) -> Session:
        """Session of the notebook.

        It is created at first use, because its imports would delay loading the extension. For the
        same reason magics import only what parsing their line needs.
        """
        if self.open_session is None:
            from fabric_nb.notebook.session import Session

            self.open_session = Session(self._user_shell, lambda: self.progress_after)
        return self.open_session

    def cell_ended(self) -> None:
        """Update the views at the end of a cell, for headless runs."""
        if self.open_session is not None:
            self.open_session.cell_ended()

    @property
    def connected(self) -> bool:
        """True if there is a current connection."""
        return self.open_session is not None and self.open_session.connected

    @property
    def connector(self) -> AmqBrokerConnector | None:
        """Connector of the notebook; None if it is not connected."""
        return self.session.fabric if self.connected else None

    @property
    def listed_connections(self) -> list[ListedConnection]:
        """Open connections, for the panel."""
        return [] if self.open_session is None else self.open_session.listed_connections()

    @property
    def _open_connections(self) -> Iterable[NamedConnection]:
        return () if self.open_session is None else self.open_session.connections

    @validate("uri")
    def _hide_uri(self, proposal: Mapping[str, Any]) -> BrokerUri:
        return BrokerUri(proposal["value"])

    @validate("password")
    def _hide_password(self, proposal: Mapping[str, Any]) -> Secret:
        return Secret(proposal["value"])

    @observe("timeout")
    def _timeout_changed(self, change: Mapping[str, Any]) -> None:
        for connection in self._open_connections:
            connection.fabric.timeout = change["new"]

    @observe("sample")
    def _sample_changed(self, change: Mapping[str, Any]) -> None:
        for connection in self._open_connections:
            connection.fabric.traces.sample = change["new"]

    def _scope(self, local_ns: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**self._user_shell.user_ns, **(local_ns or {})}

    def _parse(
        self,
        parser: MagicArgumentParser,
        line: str,
        local_ns: Mapping[str, Any] | None,
        *,
        expressions: bool = False,
        texts: int | None = None,
    ) -> Namespace:
        """Parse the line of a magic; see `arguments.parse`."""
        scope = self._scope(local_ns)
        return arguments.parse(parser, line, scope=scope, expressions=expressions, texts=texts)

    @contextmanager
    def _usage_errors(self, parser: MagicArgumentParser) -> Iterator[None]:
        """Raise `UsageError` for an error in the line; other errors pass unchanged."""
        try:
            yield
        except InvalidLine as error:
            raise arguments.usage_error(parser, str(error)) from None
