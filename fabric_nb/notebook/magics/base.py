"""What all the magics share: the session, what can be configured, and how mistakes are told."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import MagicArgumentParser, argument
from traitlets import Enum, Float, Int, List, Unicode, observe, validate
from traitlets.config.configurable import Configurable

from fabric_nb.fabric.amqp.credentials import BrokerUri, Secret
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import KeywordProblem
from fabric_nb.notebook.options import Option, unquoted

if TYPE_CHECKING:
    from fabric_nb.notebook.session import Session


Magic = TypeVar("Magic", bound=Callable[..., Any])


def with_options(*options: Option) -> Callable[[Magic], Magic]:
    """Give a magic options that are declared for the command line too; values may be quoted."""

    def add(magic: Magic) -> Magic:
        for one in reversed(options):
            settings = dict(one.settings)
            if "action" not in settings:
                settings.setdefault("type", unquoted)
            help_text = f"{one.help[0].upper()}{one.help[1:]}."
            magic = argument(*one.names, help=help_text, **settings)(magic)
        return magic

    return add


def reads_line(magic: Magic) -> Magic:
    """Give a magic its line as it was written, and the variables that are seen there.

    IPython replaces ``{expression}`` and ``$name`` before it calls a magic, also in Python
    expressions, and leaves them as they are when one fails. `SessionMagics._read` does that for
    each word, where it belongs.
    """
    return no_var_expand(needs_local_scope(magic))


class SessionMagics(Magics, Configurable):
    """Magics of one session."""

    uri = Unicode("", help="AMQP URI of the broker; AMQP_URL when empty.").tag(config=True)
    user = Unicode("", help="The user, where the URI has none; AMQP_USER when empty.").tag(
        config=True
    )
    password = Unicode(
        "", help="The password, where the URI has none; AMQP_PASSWORD when empty."
    ).tag(config=True)
    cafile = Unicode("", help="amqps: the authorities to trust, in place of the system's.").tag(
        config=True
    )
    certfile = Unicode("", help="amqps: our own certificate.").tag(config=True)
    keyfile = Unicode("", help="amqps: its key, where certfile does not hold it.").tag(config=True)
    server_name_indication = Unicode(
        "", help="amqps: the name that the broker's certificate is for; the host when empty."
    ).tag(config=True)
    domain = Unicode("", help="The fabric's domain; SERVICE_DOMAIN when empty.").tag(config=True)
    service_type = Unicode(
        "", help="This notebook's type; SERVICE_TYPE, or 'notebook', when empty."
    ).tag(config=True)
    service_id = Unicode(
        "", help="This notebook's id; SERVICE_ID, or the file's name, when empty."
    ).tag(config=True)
    version = Unicode("", help="A version that this notebook tells.").tag(config=True)
    timeout = Float(30.0, help="Seconds a call may take.").tag(config=True)
    progress_after = Float(2.0, help="Seconds before a call says what is awaited.").tag(config=True)
    connect_timeout = Float(10.0, help="Seconds that connecting may take.").tag(config=True)
    # Less than the five seconds after which amqp-fabric forgets who was not heard.
    keep_alive_seconds = Float(4.0, help="Seconds between this notebook's keep-alives.").tag(
        config=True
    )
    presence = Enum(
        ["thread", "loop"],
        "thread",
        help="Where keep-alives are sent from: 'thread', so that they go on while a cell computes,"
        " or 'loop'.",
    ).tag(config=True)
    heartbeat = Int(600, help="Seconds between AMQP heartbeats.").tag(config=True)
    call_exchanges = List(
        Unicode(), help="Exchanges whose calls are served too, beside the service's own."
    ).tag(config=True)
    reply_queues = List(
        Unicode(), help="Further names of queues that get replies, as in 'rpc.reply-*'."
    ).tag(config=True)
    max_rows = Int(1_000_000, help="Rows that a stream keeps.").tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        self.open_session: Session | None = None
        """The session, once there is one."""
        self._user_shell = shell
        super().__init__(shell=shell, parent=shell)

    @property
    def session(self) -> Session:
        """What this notebook has open.

        Made when it is first asked for: it imports all that a notebook can do, and loading the
        extension is to be quick. For that, magics import only what reading their line takes.
        """
        if self.open_session is None:
            from fabric_nb.notebook.session import Session

            self.open_session = Session(self._user_shell)
        return self.open_session

    def cell_ended(self) -> None:
        """Bring up to date what a headless run stores."""
        if self.open_session is not None:
            self.open_session.cell_ended()

    @property
    def connected(self) -> bool:
        """Whether the notebook is on a fabric."""
        return self.open_session is not None and self.open_session.connected

    @validate("uri")
    def _hide_uri(self, proposal: Mapping[str, Any]) -> BrokerUri:
        return BrokerUri(proposal["value"])

    @validate("password")
    def _hide_password(self, proposal: Mapping[str, Any]) -> Secret:
        return Secret(proposal["value"])

    @observe("timeout")
    def _timeout_changed(self, change: Mapping[str, Any]) -> None:
        if self.connected:
            self.session.fabric.timeout = change["new"]

    def _scope(self, local_ns: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**self._user_shell.user_ns, **(local_ns or {})}

    def _read(
        self,
        parser: MagicArgumentParser,
        line: str,
        local_ns: Mapping[str, Any] | None,
        *,
        expressions: bool = False,
    ) -> Namespace:
        """Return what a line says; see `arguments.parse`."""
        scope = self._scope(local_ns)
        return arguments.parse(parser, line, scope=scope, expressions=expressions)

    @contextmanager
    def _told(self, parser: MagicArgumentParser) -> Iterator[None]:
        """Raise `UsageError` for a line that cannot be read; any other error is raised as it is."""
        try:
            yield
        except KeywordProblem as problem:
            raise arguments.usage_error(parser, str(problem)) from None
