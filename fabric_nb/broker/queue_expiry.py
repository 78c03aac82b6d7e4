"""Queues that go when nobody has used them for a time (RabbitMQ's `x-expires`)."""

from collections.abc import Callable

from fabric_nb.broker.queues import Alarm, Clock, Queue


class UnusedQueues:
    """Watches the queues that have no consumer and a time limit for that.

    Args:
        clock: Where time comes from.
        delete: Called with a queue whose time is over.
    """

    def __init__(self, clock: Clock, delete: Callable[[Queue], object]) -> None:
        self._clock = clock
        self._delete = delete
        self._alarms: dict[Queue, Alarm] = {}

    def watch(self, queue: Queue) -> None:
        """Watch a queue from its last use on; one without a time limit is left alone."""
        if queue.policy.expires is None or queue.consumers:
            return
        self.forget(queue)
        deadline = queue.used_at + queue.policy.expires / 1000
        self._alarms[queue] = self._clock.call_at(deadline, lambda: self._ring(queue, deadline))

    def forget(self, queue: Queue) -> None:
        """Watch a queue no longer."""
        alarm = self._alarms.pop(queue, None)
        if alarm is not None:
            alarm.cancel()

    def _ring(self, queue: Queue, deadline: float) -> None:
        del self._alarms[queue]
        if queue.consumers:
            # It is watched again when the last of them goes.
            return
        if queue.used_at + (queue.policy.expires or 0) / 1000 > deadline:
            self.watch(queue)
        else:
            self._delete(queue)
