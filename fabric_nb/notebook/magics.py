"""The magics: what is written in a cell becomes a call to the session."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from IPython.core.magic_arguments import MagicArgumentParser, argument, magic_arguments
from traitlets import Float, Int, Unicode, observe
from traitlets.config.configurable import Configurable

from fabric_nb.broker.launch import BrokerStartError, ensure_broker
from fabric_nb.errors import CallError, ConnectionLost, FabricError
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.logs import LogFeed
from fabric_nb.fabric.naming import parse_call
from fabric_nb.fabric.streams import Stream
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import KeywordProblem, count, seconds, unquoted
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.calling import CallHandle
from fabric_nb.notebook.completion import Known, matcher
from fabric_nb.notebook.serving import functions_to_serve, run_cell
from fabric_nb.notebook.session import Session, notebook_id
from fabric_nb.notebook.views.registry import Filter

DEFAULT_DOMAIN = "my_project"
EMBEDDED = (
    "This is the embedded broker, for development: nothing is kept when it ends.",
    "Others on this machine join with the URI that `fabric-nb broker uri` prints.",
)


@magics_class
class FabricMagics(Magics, Configurable):
    """Magics to work on an AMQP fabric; ``%config FabricMagics`` lists what can be set."""

    uri = Unicode("", help="AMQP URI of the broker; AMQP_URL when empty.").tag(config=True)
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
    heartbeat = Int(600, help="Seconds between AMQP heartbeats.").tag(config=True)
    max_rows = Int(1_000_000, help="Rows that a stream keeps.").tag(config=True)

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self.session = session
        self._user_shell = shell
        self.matcher = matcher(self.known)
        super().__init__(shell=shell, parent=shell)

    @observe("timeout")
    def _timeout_changed(self, change: Mapping[str, Any]) -> None:
        if self.session.connected:
            self.session.fabric.timeout = change["new"]

    # -- connecting

    @no_var_expand
    @magic_arguments()
    @argument("uri", nargs="?", type=unquoted, help="amqp://user:password@host:port/vhost")
    @argument("--domain", "-d", type=unquoted, help="The fabric's domain.")
    @argument("--type", type=unquoted, help="This notebook's type.")
    @argument("--id", type=unquoted, help="This notebook's id.")
    @argument("--timeout", type=seconds, help="Seconds that connecting may take.")
    @line_magic
    def fabric_connect(self, line: str) -> None:
        """Join the fabric: %fabric_connect amqp://user:pw@host/ --domain my_project.

        In [1]: %fabric_connect amqp://guest:guest@localhost/ --domain my_project

        Without a URI it is taken from %config FabricMagics.uri or the environment's AMQP_URL;
        without these an embedded broker for development is found or started. Shows where we
        are, who we are and who is there, and puts the connector into the variable `fabric`.
        """
        with self._told(self.fabric_connect.parser):
            args = arguments.parse(self.fabric_connect.parser, line)
            uri, notes = self._broker(args)
            wait(
                self.session.connect(
                    self._connector(uri, args),
                    timeout=args.timeout or self.connect_timeout,
                    notes=notes,
                )
            )

    def _broker(self, args: Namespace) -> tuple[str, tuple[str, ...]]:
        """Where the broker is, and what is to be said of it."""
        uri = args.uri or self.uri or os.environ.get("AMQP_URL", "")
        if uri:
            return uri, ()
        try:
            return ensure_broker().uri, EMBEDDED
        except BrokerStartError as error:
            raise UsageError(
                f"No broker is given, and {error}. Write %fabric_connect"
                " amqp://user:password@host/, or set AMQP_URL."
            ) from None

    def _connector(self, uri: str, args: Namespace) -> AmqBrokerConnector:
        return AmqBrokerConnector(
            amqp_uri=uri,
            service_domain=_first(args.domain, self.domain, "SERVICE_DOMAIN", DEFAULT_DOMAIN),
            service_type=_first(args.type, self.service_type, "SERVICE_TYPE", "notebook"),
            service_id=_first(args.id, self.service_id, "SERVICE_ID", "")
            or notebook_id(self._user_shell.user_ns),
            keep_alive_seconds=self.keep_alive_seconds,
            keep_alive_listen=True,
            service_version=self.version,
            timeout=self.timeout,
            heartbeat=self.heartbeat,
            presence="thread",
        )

    @magic_arguments()
    @argument("--grace", type=seconds, default=0.0, help="Seconds that running calls have to end.")
    @line_magic
    def fabric_disconnect(self, line: str) -> None:
        """Leave the fabric: what is served ends, streams and logs keep what they hold.

        In [9]: %fabric_disconnect
        """
        with self._told(self.fabric_disconnect.parser):
            args = arguments.parse(self.fabric_disconnect.parser, line)
            wait(self.session.disconnect(args.grace))

    # -- seeing

    @magic_arguments()
    @argument("--domain", "-d", type=unquoted, help="Only this domain.")
    @argument("--type", type=unquoted, help="Only this type.")
    @argument("--id", type=unquoted, help="Only this id.")
    @argument("--gone", action="store_true", help="Also services that have gone.")
    @line_magic
    def fabric_services(self, line: str) -> None:
        """Show the services of all domains, kept live under the cell.

        In [2]: %fabric_services --type calc

        As a DataFrame: fabric.registry.df
        """
        with self._told(self.fabric_services.parser):
            args = arguments.parse(self.fabric_services.parser, line)
            self.session.show_services(Filter(args.domain, args.type, args.id, args.gone))

    @magic_arguments()
    @argument("--level", "-l", type=unquoted, help="The least level, as in WARNING.")
    @argument("--service", "-s", type=unquoted, help="Only this service: id or type.id.")
    @argument("--domain", "-d", type=unquoted, help="The logs of this domain.")
    @line_magic
    def fabric_logs(self, line: str) -> LogFeed:
        """Show remote Python logs as they come, live under the cell; returns the feed.

        In [6]: logs = %fabric_logs --level WARNING --service my_app
        In [7]: logs.df
        """
        with self._told(self.fabric_logs.parser):
            args = arguments.parse(self.fabric_logs.parser, line)
            return wait(
                self.session.open_logs(level=args.level, service=args.service, domain=args.domain)
            )

    # -- calling and serving

    @no_var_expand
    @needs_local_scope
    @magic_arguments()
    @argument("--timeout", "-t", type=seconds, help="Seconds the call may take.")
    @argument("--version", "-v", type=unquoted, help="What version is required: '>=1.2,<2'.")
    @argument("--noblock", "-a", action="store_true", help="Do not wait: return a handle.")
    @argument("--progress-after", type=float, help="Seconds before it is said what is awaited.")
    @argument("call", type=unquoted, help="id.method, type.id.method or domain.type.id.method")
    @argument("keywords", nargs="*", help="name=expression ...")
    @line_cell_magic
    def fabric_call(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a remote method; the value of the line is its result.

        In [3]: %fabric_call my_app.multiply x=5 y=a+1
        In [4]: total = %fabric_call calc.c1.add numbers=[1, 2, 3] --timeout 5
        In [5]: report = %fabric_call -a reports.make day="2026-11-24"
        In [6]: report.result()

        The expressions are Python, evaluated here; DataFrames may be sent and received. As
        %%fabric_call, the arguments are what the cell assigns. After two seconds
        (%config FabricMagics.progress_after) a line says what is awaited.
        """
        __tracebackhide__ = True
        with self._told(self.fabric_call.parser):
            args = arguments.parse(self.fabric_call.parser, line)
            scope = self._scope(local_ns)
            kwargs = arguments.keywords(" ".join(args.keywords), scope=scope)
            if cell is not None:
                kwargs |= arguments.assigned(cell, scope=scope)
            pattern, method = parse_call(args.call, domain=self.session.fabric.domain)
            options = {"timeout": args.timeout, "version": args.version}
            if args.noblock:
                return self.session.start_call(pattern, method, kwargs, **options)
            after = self.progress_after if args.progress_after is None else args.progress_after
            return wait(self.session.call(pattern, method, kwargs, progress_after=after, **options))

    @magic_arguments()
    @argument("handles", nargs="*", help="variables that hold handles; all open ones without")
    @line_magic
    def fabric_result(self, line: str) -> Any:
        """Wait for calls that were started with -a, with one bar for all of them.

        In [7]: a = %fabric_call -a reports.make day="2026-11-23"
        In [8]: b = %fabric_call -a reports.make day="2026-11-24"
        In [9]: %fabric_result a b

        Returns the result of one call, or the list of several.
        """
        __tracebackhide__ = True
        with self._told(self.fabric_result.parser):
            args = arguments.parse(self.fabric_result.parser, line)
            handles = [self._user_shell.user_ns.get(name) for name in args.handles]
            for name, handle in zip(args.handles, handles, strict=True):
                if not isinstance(handle, CallHandle):
                    raise KeywordProblem(f"{name} is no call that was started with -a")
            results = wait(self.session.results(handles))
            return results[0] if len(handles) == 1 else results

    @no_var_expand
    @magic_arguments()
    @argument("--type", type=unquoted, help="The service's type.")
    @argument("--id", type=unquoted, help="The service's id.")
    @argument("--version", "-v", type=unquoted, default="", help="The service's version.")
    @argument("--only", type=unquoted, default="", help="Serve only these functions: a,b.")
    @argument("--thread", action="store_true", help="Run plain functions off the loop.")
    @argument("--prefetch", type=count, default=1, help="Calls of one method at once.")
    @cell_magic
    def fabric_serve(self, line: str, cell: str) -> None:
        """Run the cell and serve its top-level functions to everybody in the domain.

        In [5]: %%fabric_serve --type analytics --id mynb --version 1.2
           ...: def mean(values: list) -> float:
           ...:     "The mean of the values."
           ...:     return sum(values) / len(values)

        Functions live in this notebook's namespace. Running the cell again swaps them without
        losing a call. Names that start with an underscore are never served. A function that calls
        other services is better an `async def` with `await fabric.call(...)`: plain ones that wait
        for each other can only end in the reverse order.
        """
        __tracebackhide__ = True  # what the cell raises is the cell's
        with self._told(self.fabric_serve.parser):
            args = arguments.parse(self.fabric_serve.parser, line)
            _ = self.session.fabric  # says that it is missing before the cell is run
        defined = run_cell(self._user_shell, cell)
        with self._told(self.fabric_serve.parser):
            only = [name.strip() for name in args.only.split(",") if name.strip()]
            wait(
                self.session.serve(
                    functions_to_serve(self._user_shell.user_ns, defined, only),
                    type=args.type,
                    id=args.id,
                    version=args.version,
                    prefetch=args.prefetch,
                    threads=args.thread,
                )
            )

    @magic_arguments()
    @argument("what", type=unquoted, help="A service's id or type.id, or a stream's variable.")
    @line_magic
    def fabric_stop(self, line: str) -> None:
        """Stop serving, or close a stream or log feed.

        In [8]: %fabric_stop mynb
        """
        with self._told(self.fabric_stop.parser):
            args = arguments.parse(self.fabric_stop.parser, line)
            print(f"Stopped {wait(self.session.stop(args.what))}")  # noqa: T201 - a magic's answer

    # -- data

    @magic_arguments()
    @argument("--name", "-n", type=unquoted, default="", help="Share the messages under a name.")
    @argument("--domain", "-d", type=unquoted, help="The data of this domain.")
    @argument("--max-rows", type=count, help="Rows that are kept.")
    @argument("headers", nargs="*", help="name=value ... that messages must carry")
    @line_magic
    def fabric_stream(self, line: str) -> Stream:
        """Let a data stream flow into a DataFrame; returns the stream.

        In [6]: tx = %fabric_stream msg_type=CUSTOMER_TRANSACTIONS currency=USD
        In [7]: tx.df.tail()

        Header values are text, or Python literals such as 5 or True. `{expression}` and
        `$variable` are replaced, as in any magic.
        """
        with self._told(self.fabric_stream.parser):
            args = arguments.parse(self.fabric_stream.parser, line)
            return wait(
                self.session.open_stream(
                    arguments.headers(args.headers),
                    name=args.name,
                    domain=args.domain,
                    max_rows=args.max_rows or self.max_rows,
                )
            )

    @no_var_expand
    @needs_local_scope
    @magic_arguments()
    @argument("headers", nargs="*", help="name=value ... -- data")
    @line_magic
    def fabric_publish(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Publish a message: headers, two dashes, and the data as JSON or Python.

        In [7]: %fabric_publish msg_type=ALERT -- {"text": "hello", "value": x}

        Done when the broker has taken it.
        """
        with self._told(self.fabric_publish.parser):
            before, dashes, data = f" {line} ".partition(" -- ")
            if not dashes or not data.strip():
                raise KeywordProblem("The data is missing; it stands behind two dashes")
            args = arguments.parse(self.fabric_publish.parser, before)
            value = arguments.payload(data.strip(), scope=self._scope(local_ns))
            wait(_publish(self.session.fabric, value, arguments.headers(args.headers)))

    # -- shared

    def known(self) -> Known | None:
        """What Tab completes with; None when there is no connection."""
        if not self.session.connected:
            return None
        fabric = self.session.fabric
        return Known(
            services=fabric.registry.services(domain=fabric.domain),
            own=self.session.own_names(),
            options={name: _options(magic) for name, magic in self._magics().items()},
        )

    def _magics(self) -> dict[str, Any]:
        names = {name for kind in self.magics.values() for name in kind}
        return {name: getattr(self, name) for name in names}

    def _scope(self, local_ns: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**self._user_shell.user_ns, **(local_ns or {})}

    @contextmanager
    def _told(self, parser: MagicArgumentParser) -> Iterator[None]:
        """Mistakes are told in a sentence; what went wrong remotely is raised as it is."""
        try:
            yield
        except (CallError, ConnectionLost):
            raise
        except KeywordProblem as problem:
            raise arguments.usage_error(parser, str(problem)) from None
        except FabricError as error:
            raise UsageError(str(error)) from None


async def _publish(fabric: AmqBrokerConnector, data: Any, headers: Mapping[str, Any]) -> None:
    await fabric.publish_data(data, headers)


def _options(magic: Any) -> list[str]:
    """The long options of a magic, as its usage line has them."""
    return re.findall(r"--[a-z][a-z-]*", magic.parser.format_usage())


def _first(option: str | None, configured: str, variable: str, default: str) -> str:
    return option or configured or os.environ.get(variable, "") or default
