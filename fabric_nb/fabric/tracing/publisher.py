"""Publisher of the spans that other members collect."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.wire.names import span_exchange
from fabric_nb.fabric.wire.spans import MAX_SPANS, Span, spans_message

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Spans that wait to be published; further ones are dropped."""
FLUSH_AFTER = 0.02
"""Seconds in which ended spans are gathered into one message."""


class SpanPublisher:
    """Publishes ended spans for the members that collect them.

    Args:
        connection: connection to publish on.
        domain: domain of the member.
    """

    def __init__(self, connection: Connection, domain: str) -> None:
        self._connection = connection
        self._exchange = span_exchange(domain)
        self._waiting: dict[str, list[Span]] = {}
        self._count = 0
        self._channel: Channel | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._refused = False
        self.published = 0
        self.dropped = 0

    def add(self, span: Span, collector: str) -> None:
        """Publish a span soon."""
        if self._refused or self._count >= MAX_WAITING:
            self.dropped += 1
            return
        self._count += 1
        self._waiting.setdefault(collector, []).append(span)
        if self._flushing is None:
            if self._channel is None:
                self._channel = self._connection.channel(self._set_up, confirms=True).start()
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    async def close(self) -> None:
        """Publish what waits, and stop."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        self._waiting.clear()
        self._count = 0

    async def _set_up(self, channel: Channel) -> None:
        try:
            await channel.topology.declare_exchange(self._exchange, "headers", durable=True)
        except BrokerRefused as refused:
            self._on_outcome(1, refused)
            raise

    def _flush(self) -> None:
        self._flushing = None
        channel = self._channel
        if channel is None or self._refused:
            return
        if not channel.is_ready:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_AFTER * 5, self._flush)
            return
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for collector, spans in waiting.items():
            for start in range(0, len(spans), MAX_SPANS):
                some = spans[start : start + MAX_SPANS]
                try:
                    channel.send(
                        self._exchange,
                        "",
                        spans_message(some, collector),
                        on_outcome=partial(self._on_outcome, len(some)),
                    )
                except FabricError as error:
                    self._on_outcome(len(some), error)

    def _on_outcome(self, count: int, error: FabricError | None) -> None:
        if error is None:
            self.published += count
            return
        self.dropped += count
        if isinstance(error, BrokerRefused) and not self._refused:
            self._refused = True
            log.warning("Spans of sampled calls cannot be published: %s", error)
