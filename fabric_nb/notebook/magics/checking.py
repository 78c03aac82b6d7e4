"""``%fabric_doctor``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.broker.launch import BrokerStartError, find_broker
from fabric_nb.errors import BrokerUnavailable
from fabric_nb.fabric.amqp.credentials import BrokerUri
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import reads_line
from fabric_nb.notebook.magics.connecting import SAVED, ConnectingMagics, tells_password
from fabric_nb.notebook.options import seconds, time_limit, unquoted


@magics_class
class CheckingMagics(ConnectingMagics):
    """Find out what is wrong."""

    @reads_line
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="Another broker than the one we are on.")
    @argument("--domain", "-d", type=unquoted, help="The fabric's domain, with another broker.")
    @argument("--type", type=unquoted, help="This notebook's type, with another broker.")
    @argument("--id", type=unquoted, help="This notebook's id, with another broker.")
    @argument("--wait", type=seconds, help="Seconds to listen for others.")
    @argument("--timeout", type=time_limit, help="Seconds that connecting may take.")
    @argument(
        "--subscriber",
        action="append",
        type=unquoted,
        default=[],
        help="A name that streams share, besides our own; may be given several times.",
    )
    @line_magic
    def fabric_doctor(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Look for what is wrong: with the broker, our rights, the others; and say what to do.

        In [2]: %fabric_doctor
        In [3]: %fabric_doctor amqps://ann@broker.example/ --domain my_project

        Works connected and not connected, over a connection of its own, and leaves nothing
        behind at the broker. In programs: await fabric.diagnose().
        """
        with self._told(self.fabric_doctor.parser):
            args = self._read(self.fabric_doctor.parser, line, local_ns)
            settings = None
            if args.uri is not None or not self.connected:
                settings = self._settings(self._broker_that_runs(args.uri), args)
            saved = SAVED if args.uri and tells_password(args.uri, line) else None
            options = {
                "timeout": args.timeout or self.connect_timeout,
                "subscriptions": args.subscriber,
            }
            if args.wait is not None:
                options["seconds"] = args.wait
            wait(self.session.diagnose(settings, saved, **options))

    def _broker_that_runs(self, uri: str | None) -> list[BrokerUri]:
        given = uri or self.uri or os.environ.get("AMQP_URL", "")
        if given:
            return self._completed(given)
        try:
            found = find_broker()
        except BrokerStartError as error:
            raise BrokerUnavailable(f"No broker is given, and {error}.") from None
        if found is None:
            raise BrokerUnavailable(
                "There is no broker to look at: write %fabric_doctor amqp://user@host/, or set"
                " AMQP_URL."
            )
        return [BrokerUri(found.uri)]
