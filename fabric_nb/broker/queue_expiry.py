"""Queues that go when nobody has used them for a time (RabbitMQ's `x-expires`)."""

from collections.abc import Callable

from fabric_nb.broker.queues import Clock, Queue, Timer


class QueueExpiry:
    """Watches the queues that have no consumer and a time limit for that.

    Args:
        clock: Where time comes from.
        delete: Called with a queue whose time is over.
    """

    def __init__(self, clock: Clock, delete: Callable[[Queue], object]) -> None:
        self._clock = clock
        self._delete = delete
        self._timers: dict[Queue, Timer] = {}

    def watch(self, queue: Queue) -> None:
        """Watch a queue from its last use on; one without a time limit is left alone."""
        if queue.policy.expires is None or queue.consumers:
            return
        self.unwatch(queue)
        deadline = queue.last_used + queue.policy.expires / 1000
        self._timers[queue] = self._clock.call_at(deadline, lambda: self._on_timer(queue, deadline))

    def unwatch(self, queue: Queue) -> None:
        """Watch a queue no longer."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, queue: Queue, deadline: float) -> None:
        del self._timers[queue]
        if queue.consumers:
            # It is watched again when the last of them goes.
            return
        if queue.last_used + (queue.policy.expires or 0) / 1000 > deadline:
            self.watch(queue)
        else:
            self._delete(queue)
