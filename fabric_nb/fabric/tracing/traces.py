"""Traces that a member collects."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from fabric_nb.errors import FabricError, InvalidArgument
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.core.values import shown
from fabric_nb.fabric.wire.names import ServiceName, span_exchange
from fabric_nb.fabric.wire.spans import COLLECTOR_HEADER, Span, read_spans
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MAX_TRACES = 500
"""Traces that are kept; the oldest one is dropped first."""
MAX_TRACE_SPANS = 20_000
"""Spans of one trace that are kept."""
MAX_ALL_SPANS = 100_000
"""Spans of all traces that are kept."""


@dataclass(eq=False, slots=True)
class Trace:
    """Spans of one trace, in the order in which they arrived.

    Attributes:
        id: id of the trace.
        spans: spans by their ids.
        dropped: number of spans beyond `MAX_TRACE_SPANS`.
        changes: number of spans that have arrived.
    """

    id: str
    spans: dict[str, Span] = field(default_factory=dict)
    dropped: int = 0
    changes: int = 0

    @property
    def df(self) -> pd.DataFrame:
        """The spans as a DataFrame, as `Traces.df`."""
        return spans_frame(self.spans.values())

    def __len__(self) -> int:
        return len(self.spans)


class Traces:
    """Traces of the member's own sampled calls, and of served calls that are kept.

    Example::

        fabric.traces.sample = 0.01
        ...
        fabric.traces.df.groupby(["service", "method"]).ms.describe()

    Args:
        connection: connection to receive spans on.
        name: address of the member.
        member: its full name and instance.
        rejected: record of messages that cannot be read.
        background: tasks of the member.

    Attributes:
        share: `sample`, as the tracer reads it for each call.
        changes: number of spans that have arrived.
        dropped: number of spans that were dropped, because there were too many.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        member: str,
        *,
        rejected: RejectedMessages,
        background: Background,
    ) -> None:
        self._connection = connection
        self._name = name
        self._member = member
        self._rejected = rejected
        self._background = background
        self.share = 0.0
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._count = 0
        self._domains: set[str] = set()
        self._channel: Channel | None = None
        self._queue = ""
        self._listening = asyncio.Lock()
        self._arrived = asyncio.Event()
        self.changes = 0
        self.dropped = 0

    @property
    def sample(self) -> float:
        """Share of the member's own calls that are sampled, from 0, the default, to 1.

        Raises:
            InvalidArgument: it is set to anything else.
        """
        return self.share

    @sample.setter
    def sample(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise InvalidArgument(f"sample={shown(share)} is no share: write a number from 0 to 1.")
        self.share = float(share)

    # -- receiving

    async def listen(self, domains: Collection[str]) -> None:
        """Receive the spans that services of these domains, and its own, publish for this member.

        Raises:
            BrokerRefused: the user lacks permission for the exchange of spans of a domain.
        """
        async with self._listening:
            for domain in sorted({*domains, self._name.domain} - self._domains):
                if self._channel is None:
                    self._channel = await self._connection.channel(self._set_up).open()
                await self._channel.amend(partial(self._bind, domain))
                self._domains.add(domain)

    async def close(self) -> None:
        """Stop to receive; the traces are kept."""
        self._domains.clear()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _set_up(self, channel: Channel) -> None:
        self._queue = await channel.topology.declare_exclusive_queue()
        for domain in tuple(self._domains):
            await self._bind(domain, channel)
        await channel.consumers.start(self._queue, self._on_spans, no_ack=True)

    async def _bind(self, domain: str, channel: Channel) -> None:
        exchange = span_exchange(domain)
        await channel.topology.declare_exchange(exchange, "headers", durable=True)
        arguments = {"x-match": "all", COLLECTOR_HEADER: self._member}
        await channel.topology.bind(self._queue, exchange, arguments=arguments)

    def _on_spans(self, delivery: Delivery) -> None:
        try:
            spans = read_spans(delivery)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one message
            self._rejected.add("span", error, delivery)
            return
        for span in spans:
            if span.trace in self._traces:
                self.add(span)
            else:  # of no call of this member
                self.dropped += 1

    def begin(self, trace: str) -> Trace:
        """Collect the spans of a trace from now on."""
        found = self._traces.get(trace)
        if found is None:
            found = self._traces[trace] = Trace(trace)
            if not self._domains and self.share:
                self._background.spawn(self._listen_if_allowed(), name="traces")
            while len(self._traces) > MAX_TRACES or self._count > MAX_ALL_SPANS:
                _, oldest = self._traces.popitem(last=False)
                self._count -= len(oldest)
        return found

    async def _listen_if_allowed(self) -> None:
        try:
            await self.listen(())
        except FabricError as error:
            self.share = 0.0
            log.warning("Calls are not sampled any more, as no spans can be received: %s", error)

    def add(self, span: Span) -> None:
        """Add a span; one that has arrived before is replaced."""
        trace = self.begin(span.trace)
        self.changes += 1
        if span.id not in trace.spans:
            if len(trace) >= MAX_TRACE_SPANS or self._count >= MAX_ALL_SPANS:
                trace.dropped += 1
                self.dropped += 1
                return
            self._count += 1
        trace.spans[span.id] = span
        trace.changes += 1
        self._arrived.set()

    async def complete(self, trace: Trace, seconds: float) -> None:
        """Wait until each call in a trace has the span of its service, for `seconds` at most."""
        try:
            async with asyncio.timeout(seconds):
                while not _is_complete(trace):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            log.debug("Trace %s has calls without the span of their service", trace.id)

    # -- traces

    def get(self, trace: str) -> Trace | None:
        """Return the trace with this id."""
        return self._traces.get(trace)

    @property
    def all(self) -> tuple[Trace, ...]:
        """The traces that are kept, oldest first."""
        return tuple(self._traces.values())

    @property
    def df(self) -> pd.DataFrame:
        """The spans of all traces as a DataFrame, a row for each; `start` is UTC.

        Columns are those of `Span`, with domain, type and id of the service.
        """
        return spans_frame(span for trace in self.all for span in trace.spans.values())

    def __len__(self) -> int:
        return len(self._traces)

    def __repr__(self) -> str:
        return f"<Traces: {len(self._traces):,} with {self._count:,} spans>"


def _is_complete(trace: Trace) -> bool:
    served = {span.parent for span in trace.spans.values() if span.kind == "server"}
    calls = [span.id for span in trace.spans.values() if span.kind == "client"]
    return bool(calls) and served.issuperset(calls)


def spans_frame(spans: Iterable[Span]) -> pd.DataFrame:
    """Return spans as a DataFrame, a row for each; see `Traces.df`."""
    with importing("pandas"):
        import pandas as pd

        from fabric_nb.frames.time_conversion import utc_times
    fields = list(Span.__dataclass_fields__)
    rows = [[getattr(span, name) for name in fields] for span in spans]
    frame = pd.DataFrame(rows, columns=fields)
    numbers = {"start": "float64", "ms": "float64", "request": "Int64", "reply": "Int64"}
    texts = {name: "str" for name in fields if name not in numbers}
    frame = frame.astype({**texts, **numbers})
    frame["start"] = utc_times(frame["start"])
    return frame
