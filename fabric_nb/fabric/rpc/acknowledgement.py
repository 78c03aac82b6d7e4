"""Acknowledgement of long calls, before the broker delivers them to another instance."""

from __future__ import annotations

import asyncio
import logging
import time

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import NO_ACK
from fabric_nb.fabric.rpc.replies import Replies
from fabric_nb.fabric.rpc.running_calls import RunningCall, RunningCalls
from fabric_nb.fabric.rpc.served_methods import ServedMethod

log = logging.getLogger(__name__)

CHECK_EVERY = 0.25
"""Seconds between two checks of the running calls."""
MAX_WAIT = 1.0
"""Seconds that a call waits behind one that was acknowledged early; then it is requeued."""


class AcknowledgementInTime:
    """Acknowledges long calls of one server before the broker requeues them.

    The broker then delivers the next call. It waits for a worker, and is requeued after `MAX_WAIT`
    seconds for other instances.

    Args:
        service: full name of the service.
        connection: connection that the service is served on.
        channel: channel that the calls are consumed on.
        running: calls that are running.
        replies: replies of the server.
        requeues: True if waiting calls may be requeued, as a requeued call is delivered again.
    """

    def __init__(
        self,
        service: str,
        connection: Connection,
        channel: Channel,
        *,
        running: RunningCalls,
        replies: Replies,
        requeues: bool,
    ) -> None:
        self._service = service
        self._connection = connection
        self._channel = channel
        self._running = running
        self._replies = replies
        self._requeues = requeues

    async def run(self) -> None:
        """Check the running calls periodically, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            now = time.monotonic()
            for running in self._running:
                if now - running.since > self._channel.acknowledge_within - CHECK_EVERY:
                    self.check_limit(running)
                    self._replies.acknowledge(running)
                if not running.ended:
                    running.checked = now
            if not self._requeues:
                continue
            crowded = (one for one in self._running if one.acknowledged and one.worker is not None)
            for method in {running.method for running in crowded}:
                if method.consumer_tag:  # else it is leaving, and its queue may be gone
                    self._requeue_waiting(method, now)

    def check_limit(self, running: RunningCall) -> None:
        """Warn of a method whose calls run for longer than the broker allows, once.

        If the loop was blocked for so long, later calls are acknowledged when they begin, because
        they cannot be while they run.
        """
        limit, method = self._connection.capabilities.consumer_timeout, running.method
        if limit is None or running.acknowledged or time.monotonic() - running.since <= limit:
            return
        if running.checked - running.since < self._channel.acknowledge_within:
            method.blocks_too_long = True
        if not method.exceeds_limit:
            method.exceeds_limit = True
            log.warning(
                "%s.%s has run for longer than %g s, for which the broker waits for its"
                " acknowledgement (consumer_timeout), and another instance may have run the same"
                " call. From now on its calls are acknowledged %s, and are then lost if their"
                " instance is.",
                self._service,
                method.name,
                limit,
                "when they begin, because the event loop was blocked"
                if method.blocks_too_long
                else "before that",
            )

    def _requeue_waiting(self, method: ServedMethod, now: float) -> None:
        if not method.queue or method.crowded_since is None:
            method.crowded_since = now
        elif now - method.crowded_since >= MAX_WAIT:
            for delivery in [method.queue.get_nowait() for _ in range(len(method.queue))]:
                if delivery.generation == NO_ACK:  # of this instance only
                    method.queue.put(delivery)
                else:
                    self._channel.reject(delivery, requeue=True)
                method.queue.task_done()
