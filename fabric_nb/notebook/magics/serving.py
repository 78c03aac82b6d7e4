"""``%%fabric_serve``, ``%fabric_stop`` and ``%fabric_rerun``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.magic import cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics, reads_line, with_options
from fabric_nb.notebook.options import SERVE, names, read_options, unquoted
from fabric_nb.notebook.serving import functions_to_serve, others_to_call, remarks, run_cell


@magics_class
class ServingMagics(SessionMagics):
    """Offer a cell's functions to others."""

    @reads_line
    @magic_arguments()
    @argument("--type", type=unquoted, help="The service's type.")
    @argument("--id", type=unquoted, help="The service's id.")
    @argument("--only", type=names, default=(), help="Serve only these functions: a,b.")
    @with_options(*SERVE)
    @cell_magic
    def fabric_serve(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Run the cell and serve its top-level functions to the domain.

        In [5]: %%fabric_serve --type analytics --id mynb --version 1.2
           ...: def mean(values: list) -> float:
           ...:     "The mean of the values."
           ...:     return sum(values) / len(values)

        Functions live in this notebook's namespace. Running the cell again swaps them without
        losing a call. Names that start with an underscore are never served; lambdas and other
        objects that can be called are when --only names them. Everybody who may use
        the domain's exchanges can call them, or the users that --allow names alone;
        `fabric_nb.caller()` tells a function who called it. A function may call other services
        itself: with `%fabric_call`, or `await fabric.call(...)` in an `async def`.
        """
        __tracebackhide__ = True  # what the cell raises is the cell's
        with self._told(self.fabric_serve.parser):
            args = self._read(self.fabric_serve.parser, line, local_ns)
            _ = self.session.fabric  # says that it is missing before the cell is run
        defined, assigned = run_cell(self._user_shell, cell)
        namespace = self._user_shell.user_ns
        others = others_to_call(namespace, assigned, defined)
        with self._told(self.fabric_serve.parser):
            functions = functions_to_serve(namespace, defined, args.only, others)
            wait(
                self.session.serve(
                    functions,
                    read_options(
                        ServeOptions,
                        args,
                        exchanges=self.call_exchanges,
                        reply_queues=self.reply_queues,
                    ),
                    type=args.type,
                    id=args.id,
                    notes=remarks(functions, () if args.only else others),
                )
            )

    @reads_line
    @magic_arguments()
    @argument("what", type=unquoted, help="A service's id or type.id, or a stream's variable.")
    @line_magic
    def fabric_stop(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Stop serving, or close a stream or log feed.

        In [8]: %fabric_stop mynb
        """
        with self._told(self.fabric_stop.parser):
            args = self._read(self.fabric_stop.parser, line, local_ns)
            print(f"Stopped {wait(self.session.stop(args.what))}")  # noqa: T201 - a magic's answer

    @reads_line
    @magic_arguments()
    @argument("--debug", "-d", action="store_true", help="Stop in the debugger where it fails.")
    @argument("--list", "-l", action="store_true", help="Show the calls that can be run again.")
    @argument("what", nargs="?", type=unquoted, help="Its number or method; without: the last.")
    @line_magic
    def fabric_rerun(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run a call that failed here again: its arguments as they came, the function as it is now.

        In [6]: %fabric_rerun
        In [7]: %fabric_rerun mean --debug
        In [8]: %fabric_rerun --list

        Returns what the function returns; nobody but this notebook is told.
        """
        __tracebackhide__ = True
        with self._told(self.fabric_rerun.parser):
            args = self._read(self.fabric_rerun.parser, line, local_ns)
            member = self.session.member
            # Not at the top, because loading the extension must be quick.
            from fabric_nb.notebook.rerun import Rerun, show_failures

            if args.list:
                show_failures(member.calls.failures)
                return None
            rerun = Rerun.prepare(member, self._user_shell.user_ns, args.what)
        print(f"{rerun}, again:")  # noqa: T201 - a magic's answer
        if not args.debug:
            return rerun.run()
        with self._told(self.fabric_rerun.parser):
            return rerun.debug(self._user_shell)
