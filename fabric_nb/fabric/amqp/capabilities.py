"""Limits and refusals of a broker, learned from its answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fabric_nb.errors import FabricError, MessageTooLarge, NotAcknowledgedInTime

log = logging.getLogger(__name__)

DEFAULT_CONSUMER_TIMEOUT = 1800.0
"""Seconds; RabbitMQ's default of `consumer_timeout` since 3.8.17."""


@dataclass
class BrokerCapabilities:
    """Limits and refusals of a broker, learned from its answers.

    Attributes:
        consumer_timeout: seconds after which the broker closes a channel that has not acknowledged
            a delivery; None: not known.
        accepted_size: bytes of the largest body that the broker is known to accept.
        max_message_size: bytes of the largest body that it accepts; None: not known.
        transient_queues_refused: True if it refuses queues that are neither durable nor exclusive.
        durable_queues: durability of shared queues that exist with another one than expected.
        passive_exchanges: exchanges that this user may use but not declare (RabbitMQ's permission
            to configure); they are declared passively.
        unverified_exchanges: those of them that this user may not even declare passively, as in
            RabbitMQ 4.3; they are assumed to exist.
    """

    consumer_timeout: float | None = None
    accepted_size: int = 4 * 1024
    max_message_size: int | None = None
    transient_queues_refused: bool = False
    durable_queues: dict[str, bool] = field(default_factory=dict)
    passive_exchanges: set[str] = field(default_factory=set)
    unverified_exchanges: set[str] = field(default_factory=set)

    @property
    def acknowledge_within(self) -> float:
        """Seconds within which to acknowledge a delivery; the broker checks at intervals."""
        return 0.8 * (self.consumer_timeout or DEFAULT_CONSUMER_TIMEOUT)

    def record(self, error: FabricError, broker: str) -> None:
        """Record the limit that an error names, if it names one.

        Args:
            error: error with which the broker has closed a channel.
            broker: its URI without a password.
        """
        if isinstance(error, MessageTooLarge):
            self.max_message_size = self.accepted_size = error.limit
        if isinstance(error, NotAcknowledgedInTime) and self.consumer_timeout != error.seconds:
            self.consumer_timeout = error.seconds
            log.warning(
                "%s requeues what is not acknowledged within %g s (its consumer_timeout), and"
                " closes the channel: calls that run for longer are acknowledged before they end",
                broker,
                error.seconds,
            )
