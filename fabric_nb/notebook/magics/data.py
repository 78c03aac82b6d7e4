"""``%fabric_stream`` and ``%fabric_publish``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.errors import NoSubscriber
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import InvalidLine
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.cells import assigned_variable
from fabric_nb.notebook.magics.base import SessionMagics, with_options, with_raw_line
from fabric_nb.notebook.options import (
    CONNECTED_DOMAIN,
    PLOT,
    STREAM,
    STREAM_NAME,
    count,
    read_options,
)

if TYPE_CHECKING:
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.fabric.data.stream import Stream


@magics_class
class DataMagics(SessionMagics):
    """Magics that open data streams and publish data."""

    @with_raw_line
    @magic_arguments()
    @with_options(STREAM_NAME.with_names("-n"), *STREAM, *PLOT, CONNECTED_DOMAIN)
    @argument("--max-rows", type=count, help="Maximum number of rows that are kept.")
    @argument("headers", nargs="*", help="name=value ... that messages must have")
    @line_magic
    def fabric_stream(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Stream:
        """Open a data stream, whose rows are a DataFrame; returns the stream.

        In [6]: tx = %fabric_stream msg_type=CUSTOMER_TRANSACTIONS currency=USD
        In [7]: tx.df.tail()
        In [8]: tx = %fabric_stream currency=USD --record dollars.parquet
        In [9]: tx = %fabric_stream msg_type=ORDER --plot total --every 1min --how sum --by sku

        With any option of a chart, one is shown under the cell, as by `tx.plot("total", ...)`.

        With `--durable` or `--replay-from` RabbitMQ stores the messages under the `--name`, until
        `await tx.delete()`.

        When the cell runs again, the stream that it assigned to the same variable before is
        closed, unless another variable refers to it.

        `await fabric.replay("dollars.parquet")` publishes a recording again.

        Header values are text, or Python literals such as 5 or True. `{expression}` and
        `$variable` are replaced, as in any magic; the text of a variable stays text.
        """
        with self._usage_errors(self.fabric_stream.parser):
            args = self._parse(self.fabric_stream.parser, line, local_ns, expressions=True)
            args.max_rows = args.max_rows or self.max_rows
            chart = _chart_options(args)
            stream = wait(
                self.session.open_stream(
                    arguments.headers(args.headers, scope=self._scope(local_ns)),
                    read_options(StreamOptions, args),
                    domain=args.domain,
                    variable=assigned_variable(),
                    record=args.record,
                )
            )
            if chart:
                stream.plot(**chart)
            return stream

    @with_raw_line
    @magic_arguments()
    @argument("headers", nargs="*", help="name=value ... -- data")
    @line_magic
    def fabric_publish(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Publish a message: headers, two dashes, and the data as JSON or Python.

        In [7]: %fabric_publish msg_type=ALERT -- {"text": "hello", "value": x}

        Returns when the broker has confirmed the message, and says whether a queue has received it.
        """
        with self._usage_errors(self.fabric_publish.parser):
            before, data = arguments.split_at_dashes(line) or ("", "")
            if not data.strip():
                raise InvalidLine("The data is missing; it follows two dashes")
            args = self._parse(self.fabric_publish.parser, before, local_ns, expressions=True)
            scope = self._scope(local_ns)
            value = arguments.payload(data.strip(), scope=scope)
            headers = arguments.headers(args.headers, scope=scope)
            outcome = wait(_publish(self.session.fabric, value, headers))
            print(outcome)  # noqa: T201 - output of a magic


def _chart_options(args: Namespace) -> dict[str, Any]:
    """Return the options of a chart that are given; empty if none is.

    Raises:
        InvalidArgument: one of them is wrong.
    """
    names = ("plot", "kind", "every", "how", "by", "window", "utc")
    given = {name: value for name in names if (value := getattr(args, name))}
    given |= {"y": given.pop("plot")} if "plot" in given else {}
    if given:
        from fabric_nb.notebook.plot.options import chart_options  # it imports pandas

        chart_options(**given)
    return given


async def _publish(fabric: AmqBrokerConnector, data: Any, headers: Mapping[str, Any]) -> str:
    """Publish a message; return a sentence on what became of it."""
    try:
        await fabric.publish_data(data, headers, mandatory=True)
    except NoSubscriber as unrouted:
        return f"Published to no queue. {unrouted}"
    return "Published to at least one queue."
