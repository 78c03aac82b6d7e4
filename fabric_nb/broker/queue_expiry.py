"""Deletion of unused queues (RabbitMQ's `x-expires`)."""

from collections.abc import Callable

from fabric_nb.broker.queues import Clock, Queue, Timer


class QueueExpiry:
    """Timers of queues that have a time limit and no consumer.

    Args:
        clock: Source of time.
        delete: Called with an expired queue.
    """

    def __init__(self, clock: Clock, delete: Callable[[Queue], object]) -> None:
        self._clock = clock
        self._delete = delete
        self._timers: dict[Queue, Timer] = {}

    def watch(self, queue: Queue) -> None:
        """Start the timer of a queue at its last use; no effect without a time limit."""
        if queue.policy.expires is None or queue.consumers:
            return
        self.unwatch(queue)
        deadline = queue.last_used + queue.policy.expires / 1000
        self._timers[queue] = self._clock.call_at(deadline, lambda: self._on_timer(queue, deadline))

    def unwatch(self, queue: Queue) -> None:
        """Stop the timer of a queue."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, queue: Queue, deadline: float) -> None:
        del self._timers[queue]
        if queue.consumers:
            # The timer starts again when the last consumer is removed.
            return
        if queue.last_used + (queue.policy.expires or 0) / 1000 > deadline:
            self.watch(queue)
        else:
            self._delete(queue)
