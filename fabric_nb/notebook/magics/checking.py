"""``%fabric_doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.broker.launch import BrokerStartError, find_broker
from fabric_nb.errors import BrokerUnavailable
from fabric_nb.fabric.amqp.credentials import BrokerUri
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import with_options, with_raw_line
from fabric_nb.notebook.magics.connecting import ConnectingMagics, password_warning
from fabric_nb.notebook.options import domain_option, seconds, time_limit, unquoted


@magics_class
class CheckingMagics(ConnectingMagics):
    """Magic that checks the fabric."""

    @with_raw_line
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="Another broker than that of the connection.")
    @with_options(domain_option("that of the connection; with another broker as to connect"))
    @argument("--type", type=unquoted, help="Service type of this notebook, with another broker.")
    @argument("--id", type=unquoted, help="Service id of this notebook, with another broker.")
    @argument("--wait", type=seconds, help="Seconds to listen for keep-alives.")
    @argument("--timeout", type=time_limit, help="Seconds that connecting may take.")
    @argument(
        "--subscriber",
        action="append",
        type=unquoted,
        default=[],
        help="A further name that streams share; may be given several times.",
    )
    @line_magic
    def fabric_doctor(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Check the broker, your permissions and the other members, with advice on each fault.

        In [2]: %fabric_doctor
        In [3]: %fabric_doctor amqps://ann@broker.example/ --domain my_project

        Works with and without a connection, opens its own, and leaves nothing behind at the
        broker. In programs: await fabric.diagnose().
        """
        with self._usage_errors(self.fabric_doctor.parser):
            args = self._parse(self.fabric_doctor.parser, line, local_ns)
            settings = None
            if args.uri is not None or not self.connected:
                settings = self._settings(self._existing_broker(args.uri), args)
            saved = password_warning(args.uri, line)
            options = {
                "timeout": args.timeout or self.connect_timeout,
                "subscriptions": args.subscriber,
            }
            if args.wait is not None:
                options["seconds"] = args.wait
            wait(self.session.diagnose(settings, saved, **options))

    def _existing_broker(self, uri: str | None) -> list[BrokerUri]:
        """Return the broker of the URI or the settings, or the embedded one; start none."""
        if configured := self._configured_broker(uri):
            return configured
        try:
            found = find_broker()
        except BrokerStartError as error:
            raise BrokerUnavailable(f"No broker is given, and {error}.") from None
        if found is None:
            raise BrokerUnavailable(
                "There is no broker to check: write %fabric_doctor amqp://user@host/, or set"
                " AMQP_URL."
            )
        return [BrokerUri(found.uri)]
