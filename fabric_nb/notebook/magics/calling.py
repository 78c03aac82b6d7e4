"""``%fabric_call`` and ``%fabric_result``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from IPython.core.magic import line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.errors import printable
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import KeywordProblem
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics, reads_line, with_options
from fabric_nb.notebook.options import CALL, time_limit, unquoted


@magics_class
class CallingMagics(SessionMagics):
    """Call remote methods."""

    @reads_line
    @magic_arguments()
    @argument("--timeout", "-t", type=time_limit, help="Seconds the call may take.")
    @with_options(*CALL)
    @argument("--noblock", "-a", action="store_true", help="Do not wait: return a handle.")
    @argument("--progress-after", type=float, help="Seconds before a progress line appears.")
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
        In [7]: rows = %fabric_call --stream reports.rows day="2026-11-24" --count 100

        The expressions are Python, evaluated here; DataFrames may be sent and received. Behind
        the first name=, options are written with two dashes. After two seconds
        (%config FabricMagics.progress_after) a line says what is awaited. With --stream the value
        is the list of items, and --timeout is for each of them.

        As %%fabric_call, the arguments are what the cell assigns, also inside `if`, `for`, `with`
        and `try`. Names that start with an underscore, loop variables, `with ... as`, imports,
        functions and classes are the cell's own.
        """
        __tracebackhide__ = True
        with self._told(self.fabric_call.parser):
            args = self._read(self.fabric_call.parser, line, local_ns, expressions=True)
            scope = self._scope(local_ns)
            kwargs = arguments.keywords(" ".join(args.keywords), scope=scope)
            if cell is not None:
                kwargs = _joined(kwargs, arguments.assigned(cell, scope=scope))
            pattern, method = parse_call(args.call, domain=self.session.fabric.domain)
            options = {"timeout": args.timeout, "version": args.version}
            if args.stream:
                if args.idempotent:
                    raise KeywordProblem("--idempotent is not for --stream")
                items = self.session.receive_items(pattern, method, kwargs, args.count, **options)
                label = f"{pattern}.{method}"
                return wait(self.session.start(label, items) if args.noblock else items)
            if args.count is not None:
                raise KeywordProblem("--count is for --stream")
            options["idempotent"] = args.idempotent
            if args.noblock:
                return wait(self.session.start_call(pattern, method, kwargs, **options))
            after = self.progress_after if args.progress_after is None else args.progress_after
            return wait(self.session.call(pattern, method, kwargs, progress_after=after, **options))

    @reads_line
    @magic_arguments()
    @argument("handles", nargs="*", help="variables that hold handles; all open ones without")
    @line_magic
    def fabric_result(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Wait for calls that were started with -a, with one bar for all of them.

        In [7]: a = %fabric_call -a reports.make day="2026-11-23"
        In [8]: b = %fabric_call -a reports.make day="2026-11-24"
        In [9]: %fabric_result a b

        Returns the result of one call, or the list of several. Of several, one that failed is
        told, and its error stands in the list.
        """
        __tracebackhide__ = True
        with self._told(self.fabric_result.parser):
            args = self._read(self.fabric_result.parser, line, local_ns)
            results = wait(self.session.results(args.handles))
            if len(args.handles) == 1:
                return results[0]
            for failed in (one for one in results if isinstance(one, BaseException)):
                told = printable(f"{type(failed).__name__}: {failed}")
                print(told, file=sys.stderr)  # noqa: T201 - the list shows it only in part
            return results


def _joined(line: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    twice = sorted(line.keys() & cell.keys())
    if twice:
        raise KeywordProblem(f"{', '.join(twice)} is given in the line and again in the cell")
    return {**line, **cell}
