"""Instances and waiting calls of services on amqp-fabric, from the queues of their methods.

Keep-alives of amqp-fabric have no instance id, so that a clique of any size looks like one
instance. But each of its instances consumes the queue of each method, and a passive declaration
tells the numbers of consumers and of waiting messages, where this user may ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from itertools import islice

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import QueueCounts, Service

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two rounds."""
MAX_SERVICES = 4
"""Services whose queues are counted in one round."""
MAX_QUEUES = 10
"""Queues that are counted of one service."""
RETRY = 600.0
"""Seconds after which the broker is asked again for something that it has refused or that does not
exist, because each refusal costs a channel and a line of the broker's log."""
MAX_REFUSED = 1000
"""Refusals that are remembered before those that are over are forgotten."""
HEALTH_CHECK = "health_check"
"""Method that every service has."""


class QueueCounter:
    """Counts the queues of services on amqp-fabric while a view wants that; see `Registry`.

    Args:
        connection: connection to ask on.
        registry: registry of the services, which receives the counts.
    """

    def __init__(self, connection: Connection, registry: Registry) -> None:
        self._connection = connection
        self._registry = registry
        self._refused: dict[str, float] = {}
        """Domains and queues that are not asked for, until a time of `time.monotonic`."""

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            services = self._registry.uncounted(MAX_SERVICES, self._is_refused)
            if services:
                with contextlib.suppress(FabricError):  # counted again in a later round
                    async with self._connection.channel() as channel:
                        for service in services:
                            await self._count(channel, service)

    def _is_refused(self, name: str) -> bool:
        return self._refused.get(name, 0.0) > time.monotonic()

    def _refuse(self, name: str) -> None:
        now = time.monotonic()
        if len(self._refused) >= MAX_REFUSED:
            self._refused = {name: until for name, until in self._refused.items() if until > now}
        self._refused[name] = now + RETRY

    async def _count(self, channel: Channel, service: Service) -> None:
        """Count the queue of `health_check` for instances, and others for waiting calls too."""
        counts = None
        methods = dict.fromkeys((HEALTH_CHECK, *service.replied_methods))
        for method in islice(methods, MAX_QUEUES):
            queue = service.name.method_queue(method)
            if self._is_refused(queue):
                continue
            try:
                messages, consumers = await channel.topology.count(queue)
            except BrokerRefused as refused:
                missing = refused.code == NOT_FOUND
                log.debug("The broker does not count %s: %s", queue, refused)
                self._refuse(queue if missing else service.name.domain)
                if not missing:
                    break
            else:
                counts = (counts or QueueCounts()).plus(messages, consumers)
        self._registry.record_counts(service, counts)
