"""``%%fabric_serve``, ``%fabric_stop`` and ``%fabric_rerun``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.magic import cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics, with_options, with_raw_line
from fabric_nb.notebook.options import SERVE, names, read_options, unquoted
from fabric_nb.notebook.serving import functions_to_serve, other_callables, run_cell, serving_notes


@magics_class
class ServingMagics(SessionMagics):
    """Magics that serve the functions of a cell."""

    @with_raw_line
    @magic_arguments()
    @argument("--type", type=unquoted, help="Type of the service.")
    @argument("--id", type=unquoted, help="Id of the service.")
    @argument("--only", type=names, default=(), help="Serve only these functions: a,b.")
    @with_options(*SERVE)
    @cell_magic
    def fabric_serve(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Run the cell and serve its top-level functions to the domain.

        In [5]: %%fabric_serve --type analytics --id mynb --version 1.2
           ...: def mean(values: list) -> float:
           ...:     "The mean of the values."
           ...:     return sum(values) / len(values)

        The functions run in this notebook's namespace. Running the cell again replaces them
        without losing a call. Names that start with an underscore are never served; lambdas and
        other callables only if --only names them. Every user with access to the domain's
        exchanges can call them, unless --allow restricts them to some users;
        `fabric_nb.caller()` returns the identity of the caller. A function may call other
        services: with `%fabric_call`, or `await fabric.call(...)` in an `async def`.
        """
        __tracebackhide__ = True  # the traceback of an error begins in the cell
        with self._usage_errors(self.fabric_serve.parser):
            args = self._parse(self.fabric_serve.parser, line, local_ns)
            _ = self.session.fabric  # raises before the cell is run
        defined, assigned = run_cell(self._user_shell, cell)
        namespace = self._user_shell.user_ns
        others = other_callables(namespace, assigned, defined)
        with self._usage_errors(self.fabric_serve.parser):
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
                    notes=serving_notes(functions, () if args.only else others),
                )
            )

    @with_raw_line
    @magic_arguments()
    @argument("target", type=unquoted, help="Service (id or type.id), or variable of a stream.")
    @line_magic
    def fabric_stop(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Stop serving, or close a stream or log feed.

        In [8]: %fabric_stop mynb
        """
        with self._usage_errors(self.fabric_stop.parser):
            args = self._parse(self.fabric_stop.parser, line, local_ns)
            print(f"Stopped {wait(self.session.stop(args.target))}")  # noqa: T201 - output of a magic

    @with_raw_line
    @magic_arguments()
    @argument("--debug", "-d", action="store_true", help="Open the debugger where the call fails.")
    @argument("--list", "-l", action="store_true", help="Show the failed calls that can be rerun.")
    @argument("call", nargs="?", type=unquoted, help="Number or method; default: the last call.")
    @line_magic
    def fabric_rerun(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Rerun a failed call: with the arguments it came with, and the function as it is now.

        In [6]: %fabric_rerun
        In [7]: %fabric_rerun mean --debug
        In [8]: %fabric_rerun --list

        The last call is that of all connections; `staging/mean` is one of the connection staging.
        Returns the function's result in this notebook; the caller receives nothing.
        """
        __tracebackhide__ = True
        with self._usage_errors(self.fabric_rerun.parser):
            args = self._parse(self.fabric_rerun.parser, line, local_ns)
            member, call = self.session.failed_call(args.call)
            # Not at the top, because loading the extension must be quick.
            from fabric_nb.notebook.rerun import Rerun, show_failures

            if args.list:
                show_failures(member.calls.failures)
                return None
            rerun = Rerun.prepare(member, self._user_shell.user_ns, call)
        print(f"{rerun}, again:")  # noqa: T201 - output of a magic
        if not args.debug:
            return rerun.run()
        with self._usage_errors(self.fabric_rerun.parser):
            return rerun.debug(self._user_shell)
