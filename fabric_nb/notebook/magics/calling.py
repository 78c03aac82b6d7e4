"""``%fabric_call``, ``%fabric_trace``, ``%fabric_map``, ``%fabric_bench``, ``%fabric_result``."""

from __future__ import annotations

import sys
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.errors import printable
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import InvalidLine
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics, with_options, with_raw_line
from fabric_nb.notebook.options import BENCH, CALL, MAP, VERSION, read_options, time_limit, unquoted

if TYPE_CHECKING:
    from fabric_nb.fabric.rpc.traced_call import TracedCall
    from fabric_nb.notebook.calling import ShownAfter


@magics_class
class CallingMagics(SessionMagics):
    """Magics that call remote methods."""

    @with_raw_line
    @magic_arguments()
    @argument("--timeout", "-t", type=time_limit, help="Seconds that the call may take.")
    @with_options(VERSION.with_names("-v"), *CALL)
    @argument("--noblock", "-a", action="store_true", help="Do not wait: return a handle.")
    @argument("--progress-after", type=float, help="Seconds before a progress line appears.")
    @argument(
        "--output",
        action=BooleanOptionalAction,
        default=None,
        help="Show what the method prints and logs; by default if it runs for two seconds.",
    )
    @argument("call", type=unquoted, help="id.method, type.id.method or domain.type.id.method")
    @argument("keywords", nargs="*", help="name=expression ...")
    @line_cell_magic
    def fabric_call(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a remote method; the value of the line is the result.

        In [3]: %fabric_call my_app.multiply x=5 y=a+1
        In [4]: total = %fabric_call calc.c1.add numbers=[1, 2, 3] --timeout 5
        In [5]: report = %fabric_call -a reports.make day="2026-11-24"
        In [6]: report.result()
        In [7]: rows = %fabric_call --stream reports.rows day="2026-11-24" --count 100
        In [8]: %fabric_call staging/my_app.multiply x=5 y=7    # by the connection staging

        Expressions are Python and evaluated in this notebook; DataFrames may be sent and received.
        After the first name=, options need two dashes. After two seconds
        (%config FabricMagics.progress_after) a progress line appears, with a bar if the method
        reports its progress. After two seconds the method's output appears too, of services on
        fabric_nb; --no-output, or %config FabricMagics.show_output = False, hides it. Interrupt the
        cell to cancel the call. With --stream the value is the list of items, and --timeout applies
        to each item.

        With %%fabric_call, the variables that the cell assigns are arguments too, also inside
        `if`, `for`, `with` and `try`. Not sent are names that start with an underscore, loop
        variables, `with ... as`, imports, functions and classes.
        """
        __tracebackhide__ = True
        with self._usage_errors(self.fabric_call.parser):
            args = self._parse(self.fabric_call.parser, line, local_ns, expressions=True)
            scope = self._scope(local_ns)
            kwargs = arguments.keywords(" ".join(args.keywords), scope=scope)
            if cell is not None:
                kwargs = _merged(kwargs, arguments.cell_assignments(cell, scope=scope))
            member, pattern, method = self.session.called(args.call)
            calls, call = self.session.calls, (pattern, method, kwargs)
            options = {"timeout": args.timeout, "version": args.version}
            if args.stream:
                if args.idempotent:
                    raise InvalidLine("--idempotent is not for --stream")
                if not args.cancel_on_timeout:
                    raise InvalidLine("--no-cancel is not for --stream")
                if args.output is not None:
                    raise InvalidLine("--output and --no-output are not for --stream")
                items = calls.receive_items(member, *call, args.count, **options)
                label = f"{pattern}.{method}"
                return wait(calls.start(label, items) if args.noblock else items)
            if args.count is not None:
                raise InvalidLine("--count is for --stream")
            options["idempotent"] = args.idempotent
            options["cancel_on_timeout"] = args.cancel_on_timeout
            after = self._shown_after(args)
            if args.noblock:
                output = after.output >= 0
                return wait(calls.start_call(member, *call, output=output, **options))
            return wait(calls.call(member, *call, after=after, **options))

    def _shown_after(self, args: Namespace) -> ShownAfter:
        from fabric_nb.notebook.calling import OUTPUT_AFTER, ShownAfter

        progress = self.progress_after if args.progress_after is None else args.progress_after
        output = {True: 0.0, False: -1.0}
        if args.output is None:
            return ShownAfter(progress, OUTPUT_AFTER if self.show_output else output[False])
        return ShownAfter(progress, output[args.output])

    @with_raw_line
    @magic_arguments()
    @argument("--timeout", "-t", type=time_limit, help="Seconds that the call may take.")
    @argument("call", type=unquoted, help="id.method, type.id.method or domain.type.id.method")
    @argument("keywords", nargs="*", help="name=expression ...")
    @line_magic
    def fabric_trace(self, line: str, local_ns: Mapping[str, Any] | None = None) -> TracedCall:
        """Call a method, and show the calls of all services on its way as a waterfall.

        In [5]: traced = %fabric_trace my_app.report day=1
        In [6]: traced.result
        In [7]: traced.df

        A row is a call: its service and instance, when it ran and how long, how long it was queued
        where the clocks agree, and its error. It opens to the sizes of arguments and reply, log
        records and the traceback. Of a service on amqp-fabric only its caller's part is known. All
        traces: fabric.traces.df; %config FabricMagics.sample = 0.01 traces a share of all calls.
        """
        __tracebackhide__ = True
        with self._usage_errors(self.fabric_trace.parser):
            args = self._parse(self.fabric_trace.parser, line, local_ns, expressions=True)
            kwargs = arguments.keywords(" ".join(args.keywords), scope=self._scope(local_ns))
            return wait(self.session.trace(args.call, kwargs, timeout=args.timeout))

    @with_raw_line
    @magic_arguments()
    @argument("--timeout", "-t", type=time_limit, help="Seconds that a row may take.")
    @with_options(VERSION.with_names("-v"), *MAP)
    @argument("--no-spread", dest="spread", action="store_false", help="Keep dicts as one column.")
    @argument("--noblock", "-a", action="store_true", help="Do not wait: return a handle.")
    @argument("call", type=unquoted, help="id.method, type.id.method or domain.type.id.method")
    @argument("rows", nargs="?", help="expression: a DataFrame, or mappings in an iterable")
    @argument("keywords", nargs="*", help="name=expression ...: the same for all rows")
    @line_magic
    def fabric_map(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Call a remote method for each row; the value of the line is a DataFrame of the results.

        In [3]: %fabric_map pricing.quote df[["sku", "amount"]] country="DE" --in-flight 32
        In [4]: prices = %fabric_map pricing.quote sku=df.sku country="DE"
        In [5]: prices = %fabric_map -a pricing.quote df
        In [6]: prices.failed

        Columns of the rows are keywords of the method. Without rows, keywords that are Series,
        arrays or lists are columns. Put brackets around an expression with spaces. The results
        have the index of the rows, the items of dicts as columns, and the columns error, ms and
        instance. A row that fails stops nothing.

        After two seconds (%config FabricMagics.progress_after) a bar appears, whose failed rows
        open to their errors. Interrupt the cell to cancel the rows under way; run it again
        unchanged to continue with the missing rows. fabric.last_map is the handle of the newest
        map, with its results so far.
        """
        __tracebackhide__ = True
        from fabric_nb.fabric.rpc.map_calls import MapOptions
        from fabric_nb.notebook.maps import MapRequest

        with self._usage_errors(self.fabric_map.parser):
            args = self._parse(self.fabric_map.parser, line, local_ns, expressions=True, texts=1)
            values = [*([] if args.rows is None else [args.rows]), *args.keywords]
            expression, assignments = arguments.split_rows(values)
            scope = self._scope(local_ns)
            kwargs = arguments.keywords(" ".join(assignments), scope=scope)
            rows = None
            if expression is not None:
                rows = arguments.evaluate(expression, scope, name="rows")
            member, pattern, method = self.session.called(args.call)
            options = read_options(MapOptions, args)
            maps = self.session.maps
            request = MapRequest(member, pattern, method, rows, kwargs, options)
            return wait(maps.start(request) if args.noblock else maps.run(request))

    @with_raw_line
    @magic_arguments()
    @argument("--timeout", "-t", type=time_limit, help="Seconds that a call may take.")
    @with_options(VERSION.with_names("-v"), *BENCH)
    @argument("call", type=unquoted, help="id.method, type.id.method or domain.type.id.method")
    @argument("keywords", nargs="*", help="name=expression ...")
    @line_magic
    def fabric_bench(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Measure a remote method; the value of the line is the result.

        In [3]: %fabric_bench my_app.health_check
        In [4]: result = %fabric_bench my_app.quote sku="tea" --in-flight 32 --seconds 5 --yes
        In [5]: result.df.plot(x="second", y="rate")
        In [6]: %fabric_bench my_app@7f3a.quote sku="tea" --rate 200 --yes

        The method is called again and again, with --in-flight calls under way at the same time, or
        at a fixed --rate. The result has the rate, latencies as percentiles and as a histogram,
        errors by type, and the calls of each instance; result.instances and result.df are
        DataFrames. A method with effects has them thousands of times: it is measured only with
        --yes. Interrupt the cell to end early, with the result so far, which is fabric.last_bench
        too.
        """
        __tracebackhide__ = True
        from fabric_nb.fabric.rpc.bench_options import BenchOptions

        with self._usage_errors(self.fabric_bench.parser):
            args = self._parse(self.fabric_bench.parser, line, local_ns, expressions=True)
            kwargs = arguments.keywords(" ".join(args.keywords), scope=self._scope(local_ns))
            member, pattern, method = self.session.called(args.call)
            options = read_options(BenchOptions, args)
            benchmark = member.benchmarks.create(pattern, method, kwargs, options)
            return wait(self.session.benchmarks.run(member, benchmark))

    @with_raw_line
    @magic_arguments()
    @argument("handles", nargs="*", help="variables with handles; without them, all open calls")
    @line_magic
    def fabric_result(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Wait for calls that were started with -a, with one progress bar.

        In [7]: a = %fabric_call -a reports.make day="2026-11-23"
        In [8]: b = %fabric_call -a reports.make day="2026-11-24"
        In [9]: %fabric_result a b

        Returns the result of one call, or the list of several results. If one of several fails,
        its error is printed and is in the list.
        """
        __tracebackhide__ = True
        with self._usage_errors(self.fabric_result.parser):
            args = self._parse(self.fabric_result.parser, line, local_ns)
            results = wait(self.session.calls.results(args.handles))
            if len(args.handles) == 1:
                return results[0]
            for error in (each for each in results if isinstance(each, BaseException)):
                text = printable(f"{type(error).__name__}: {error}")
                print(text, file=sys.stderr)  # noqa: T201 - the list shows it only in part
            return results


def _merged(line: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    twice = sorted(line.keys() & cell.keys())
    if twice:
        raise InvalidLine(f"{', '.join(twice)} is given in the line and again in the cell")
    return {**line, **cell}
