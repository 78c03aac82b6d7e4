"""``%fabric_stream`` and ``%fabric_publish``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import KeywordProblem
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.cells import receiving_variable
from fabric_nb.notebook.magics.base import SessionMagics, reads_line, with_options
from fabric_nb.notebook.options import STREAM, STREAM_NAME, count, read_options, unquoted

if TYPE_CHECKING:
    from fabric_nb.fabric.connector import AmqBrokerConnector
    from fabric_nb.fabric.data.stream import Stream


@magics_class
class DataMagics(SessionMagics):
    """Data in and data out."""

    @reads_line
    @magic_arguments()
    @with_options(STREAM_NAME.also("-n"), *STREAM)
    @argument("--domain", "-d", type=unquoted, help="Domain of the stream.")
    @argument("--max-rows", type=count, help="Number of rows that are kept.")
    @argument("headers", nargs="*", help="name=value ... that messages must carry")
    @line_magic
    def fabric_stream(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Stream:
        """Let a data stream flow into a DataFrame; returns the stream.

        In [6]: tx = %fabric_stream msg_type=CUSTOMER_TRANSACTIONS currency=USD
        In [7]: tx.df.tail()
        In [8]: tx = %fabric_stream currency=USD --record dollars.parquet

        With `--durable` or `--replay-from` a RabbitMQ keeps the messages under the `--name`, until
        `await tx.delete()`.

        A cell that runs again closes the stream that it has assigned to the same variable before,
        unless something else still holds that.

        A recording is played again with `await fabric.replay("dollars.parquet")`.

        Header values are text, or Python literals such as 5 or True. `{expression}` and
        `$variable` are replaced, as in any magic; a text in a variable stays text.
        """
        with self._told(self.fabric_stream.parser):
            args = self._read(self.fabric_stream.parser, line, local_ns, expressions=True)
            args.max_rows = args.max_rows or self.max_rows
            return wait(
                self.session.open_stream(
                    arguments.headers(args.headers, scope=self._scope(local_ns)),
                    read_options(StreamOptions, args),
                    domain=args.domain,
                    variable=receiving_variable(),
                    record=args.record,
                )
            )

    @reads_line
    @magic_arguments()
    @argument("headers", nargs="*", help="name=value ... -- data")
    @line_magic
    def fabric_publish(self, line: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Publish a message: headers, two dashes, and the data as JSON or Python.

        In [7]: %fabric_publish msg_type=ALERT -- {"text": "hello", "value": x}

        Done when the broker has taken it.
        """
        with self._told(self.fabric_publish.parser):
            before, data = arguments.at_dashes(line) or ("", "")
            if not data.strip():
                raise KeywordProblem("The data is missing; it stands behind two dashes")
            args = self._read(self.fabric_publish.parser, before, local_ns, expressions=True)
            scope = self._scope(local_ns)
            value = arguments.payload(data.strip(), scope=scope)
            headers = arguments.headers(args.headers, scope=scope)
            wait(_publish(self.session.fabric, value, headers))


async def _publish(fabric: AmqBrokerConnector, data: Any, headers: Mapping[str, Any]) -> None:
    await fabric.publish_data(data, headers)
