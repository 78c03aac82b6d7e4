"""Magics that watch: ``%fabric``, ``%fabric_services``, ``%fabric_calls`` and others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser, argument, magic_arguments

from fabric_nb.notebook.arguments import expand, words
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.cells import assigned_variable
from fabric_nb.notebook.magics.base import SessionMagics, with_options, with_raw_line
from fabric_nb.notebook.options import CONNECTED_DOMAIN, LOGS, SERVICES, domain_option, unquoted

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.logs.feed import LogFeed
    from fabric_nb.notebook.dashboard import ViewChoice


@magics_class
class WatchingMagics(SessionMagics):
    """Magics that show services, calls and logs."""

    @with_raw_line
    @magic_arguments()
    @argument("view", nargs="*", help="Views to place side by side; see below.")
    @line_magic
    def fabric(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show services, calls, served methods, streams and logs together, live.

        In [2]: %fabric
        In [3]: %fabric services calls orders orders.plot("total")

        With views, it shows these side by side: services, statistics, calls, serving, streams,
        logs, graph, a variable with a stream or log feed, or a chart of a stream.
        Without a connection it shows how to connect.
        """
        with self._usage_errors(self.fabric.parser):
            chosen = self._choices(self.fabric.parser, line, local_ns)
            wait(self.session.show_side_by_side(chosen) if chosen else self.session.show_all())

    @with_raw_line
    @magic_arguments()
    @argument("file", nargs="?", help="An .html file; by default it is named by the time.")
    @argument("view", nargs="*", help="Views, as of %%fabric; by default those shown now.")
    @line_magic
    def fabric_report(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Write the views of this notebook to one HTML file, which needs no kernel.

        In [8]: %fabric_report
        In [9]: %fabric_report monday.html services calls orders.plot("total")

        Tables can be sorted and searched there, and charts are SVG. The file loads nothing, and
        contains what the views show, without passwords.
        """
        from fabric_nb.notebook.report import SUFFIXES

        with self._usage_errors(self.fabric_report.parser):
            first = [*words(line), ""][0]
            file = unquoted(expand(first, self._scope(local_ns)))
            path = Path(file) if file.lower().endswith(SUFFIXES) else None
            typed = line if path is None else line.partition(first)[2]
            chosen = self._choices(self.fabric_report.parser, typed, local_ns)
            wait(self.session.report(path, chosen))

    def _choices(
        self, parser: MagicArgumentParser, line: str, local_ns: Mapping[str, Any] | None
    ) -> list[ViewChoice]:
        """Return the views that a line chooses."""
        from fabric_nb.notebook.dashboard import choose

        # Expressions contain spaces, braces and quotes, so they are not parsed as options.
        scope = self._scope(local_ns)
        typed = [word for word in words(line) if not word.startswith("-")]
        options = [word for word in words(line) if word.startswith("-")]
        self._parse(parser, " ".join(options), local_ns)
        return [choose(word, scope, self.session.member) for word in typed]

    @with_raw_line
    @magic_arguments()
    @with_options(domain_option("all domains"))
    @with_options(*SERVICES)
    @line_magic
    def fabric_services(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show the services of all domains, live under the cell.

        In [2]: %fabric_services --type calc
        In [3]: %fabric_services --stats

        With --stats it shows the calls that the services have answered, how many per second, how
        long they took, and the calls per second of the last five minutes as a line; a row opens to
        its instances and methods. Services on amqp-fabric announce no statistics.

        As a DataFrame: fabric.registry.df
        """
        with self._usage_errors(self.fabric_services.parser):
            args = self._parse(self.fabric_services.parser, line, local_ns)
            wait(
                self.session.show_services(
                    args.domain, args.type, args.id, args.gone, statistics=args.stats
                )
            )

    @with_raw_line
    @magic_arguments()
    @argument("service", type=unquoted, help="id or type.id; with @ and an id, one instance.")
    @line_magic
    def fabric_ping(self, line: str, local_ns: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Ping the instances of a service; returns a DataFrame with a row for each.

        In [5]: %fabric_ping my_app

        It has machine, process, version, round trip and clock of each instance. One that has not
        answered within a second, as its loop may be blocked, has a row without figures.
        """
        with self._usage_errors(self.fabric_ping.parser):
            args = self._parse(self.fabric_ping.parser, line, local_ns)
            connection, service = self.session.connections.resolve(args.service)
            return wait(connection.fabric.ping(service))

    @with_raw_line
    @magic_arguments()
    @with_options(CONNECTED_DOMAIN)
    @line_magic
    def fabric_graph(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show who calls whom: caller, service and method, with calls and errors per second.

        In [6]: %fabric_graph

        The services count their calls themselves, so those on amqp-fabric appear as callers only.
        Refresh asks them again. As a DataFrame: await fabric.graph()
        """
        with self._usage_errors(self.fabric_graph.parser):
            args = self._parse(self.fabric_graph.parser, line, local_ns)
            wait(self.session.show_graph(args.domain))

    @with_raw_line
    @magic_arguments()
    @argument("--failed", action="store_true", help="Only failed calls.")
    @line_magic
    def fabric_calls(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show the calls that this notebook made and served, live under the cell.

        In [4]: %fabric_calls --failed

        A row opens to the arguments and the result, or to the traceback, and to a form that calls
        again. Values of names such as password are masked. As a DataFrame:
        fabric.calls.df; of one call: fabric.calls[17].result and .arguments.
        """
        with self._usage_errors(self.fabric_calls.parser):
            args = self._parse(self.fabric_calls.parser, line, local_ns)
            wait(self.session.show_calls(failed=args.failed))

    @with_raw_line
    @magic_arguments()
    @argument(
        "last",
        nargs="?",
        default="5min",
        type=unquoted,
        help="Its length: 30s, 5min (default), 1h.",
    )
    @line_magic
    def fabric_timeline(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Show calls, instances, streams and logs on one time axis, live under the cell.

        In [5]: %fabric_timeline 1h

        It has a lane for each service that was called or served, one for instances that come and
        go, and those of open streams and of log records by level. A range that is selected with
        the mouse filters the table of events below. As a DataFrame: fabric.timeline("1h").df
        """
        with self._usage_errors(self.fabric_timeline.parser):
            args = self._parse(self.fabric_timeline.parser, line, local_ns)
            wait(self.session.show_timeline(args.last))

    @with_raw_line
    @magic_arguments()
    @with_options(*LOGS)
    @with_options(CONNECTED_DOMAIN)
    @line_magic
    def fabric_logs(self, line: str, local_ns: Mapping[str, Any] | None = None) -> LogFeed:
        """Show remote Python logs as they arrive, live under the cell; returns the feed.

        In [6]: logs = %fabric_logs --level WARNING --service my_app
        In [7]: logs.df

        As a DataFrame of all feeds: fabric.logs.df
        """
        with self._usage_errors(self.fabric_logs.parser):
            args = self._parse(self.fabric_logs.parser, line, local_ns)
            return wait(
                self.session.open_logs(
                    assigned_variable(),
                    level=args.level,
                    service=args.service,
                    domain=args.domain,
                )
            )
