"""Queues: ordering, dispatch to consumers, expiry and length limits.

No I/O. Time comes from a `Clock`, which an asyncio event loop implements; a queue sets a timer only
while it contains a message that can expire.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from fabric_nb.broker.arguments import QueuePolicy, compared_queue_arguments
from fabric_nb.broker.field_table import Table, Value
from fabric_nb.broker.messages import Message

_EXPIRY_BATCH = 500


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """Time and scheduled calls, as in an asyncio event loop."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call `callback` at a time of this clock."""


class QueuedMessage:
    """A message in one queue.

    Attributes:
        position: Position in the order of arrival, restored by a requeue.
        expires_at: Time of expiry on the queue's clock; None for no expiry.
        redelivered: True if it was delivered before.
    """

    __slots__ = ("expires_at", "message", "position", "redelivered")

    def __init__(self, message: Message, position: int, expires_at: float | None) -> None:
        self.message = message
        self.position = position
        self.expires_at = expires_at
        self.redelivered = False


class Consumer(Protocol):
    """A consumer of a queue."""

    priority: int
    exclusive: bool

    def is_ready(self) -> bool:
        """Return whether it can receive a message now."""

    def deliver(self, queued: QueuedMessage) -> None:
        """Deliver a message; called only if `is_ready`."""

    def cancelled_by_server(self) -> None:
        """Handle the deletion of the queue."""


class ReadyMessages:
    """Ready messages of a queue, by priority and then by position.

    Args:
        levels: Number of priorities; higher priorities of messages count as the highest.
    """

    def __init__(self, levels: int) -> None:
        self._highest = levels - 1
        self._levels: dict[int, deque[QueuedMessage]] = {}
        self._order: list[int] = []
        self._count = 0
        self._expiring = 0
        self.body_bytes = 0

    def __len__(self) -> int:
        return self._count

    def _level(self, priority: int) -> deque[QueuedMessage]:
        priority = min(priority, self._highest)
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            self._order = sorted(self._levels, reverse=True)
        return level

    def _count_added(self, queued: QueuedMessage) -> None:
        self._count += 1
        self.body_bytes += len(queued.message.body)
        self._expiring += queued.expires_at is not None

    def append(self, queued: QueuedMessage) -> None:
        """Append a new message to its priority."""
        self._level(queued.message.priority).append(queued)
        self._count_added(queued)

    def restore(self, messages: Iterable[QueuedMessage]) -> None:
        """Put messages back at their positions."""
        returning: dict[int, list[QueuedMessage]] = {}
        for queued in messages:
            priority = min(queued.message.priority, self._highest)
            returning.setdefault(priority, []).append(queued)
            self._count_added(queued)
        for priority, group in returning.items():
            level = self._level(priority)
            last = max(queued.position for queued in group)
            while level and level[0].position < last:
                group.append(level.popleft())
            group.sort(key=lambda queued: queued.position, reverse=True)
            level.extendleft(group)

    def pop(self) -> QueuedMessage:
        """Remove and return the next message: the first of the highest priority."""
        levels = self._levels
        return self._popleft(next(levels[index] for index in self._order if levels[index]))

    def _popleft(self, level: deque[QueuedMessage]) -> QueuedMessage:
        queued = level.popleft()
        self._count -= 1
        self.body_bytes -= len(queued.message.body)
        self._expiring -= queued.expires_at is not None
        return queued

    def pop_expired(self, now: float) -> Iterator[QueuedMessage]:
        """Remove and yield the expired messages at the heads.

        As in RabbitMQ ("Time-To-Live and Expiration", section "Caveats"), an expired message
        behind one that has not expired stays until it reaches the head.
        """
        # A list, because dead letters may add levels to this queue, via other queues.
        for level in list(self._levels.values()):
            while level and (deadline := level[0].expires_at) is not None and deadline <= now:
                yield self._popleft(level)

    def next_expiry(self) -> float | None:
        """Return the earliest expiry of the heads; None if there is none."""
        if not self._expiring:
            return None
        heads = (level[0].expires_at for level in self._levels.values() if level)
        return min((deadline for deadline in heads if deadline is not None), default=None)

    def clear(self) -> list[QueuedMessage]:
        """Remove and return all messages."""
        messages = [queued for level in self._levels.values() for queued in level]
        for level in self._levels.values():
            level.clear()
        self._count = self._expiring = self.body_bytes = 0
        return messages


DeadLetterHandler = Callable[["Queue", Message, str], None]


class Queue:
    """A queue with its consumers, expiry and length limits.

    Args:
        name: Name in the virtual host.
        policy: Policy set by its arguments.
        clock: Source of time.
        on_dead_letter: Called with the queue, a dropped message, and RabbitMQ's name of the
            reason: "rejected", "expired" or "maxlen".
        durable: Stored for comparison with redeclarations; nothing survives the broker.
        auto_delete: Whether the queue is deleted with its last consumer.
        owner: Connection to which the queue is exclusive, or None.
        arguments: Arguments of the declaration.
    """

    def __init__(
        self,
        name: str,
        policy: QueuePolicy,
        clock: Clock,
        on_dead_letter: DeadLetterHandler,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        owner: object | None = None,
        arguments: Table | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments = arguments or {}
        self.consumers: list[Consumer] = []
        self._active: Consumer | None = None
        self.deleted = False
        self.last_used = clock.time()
        self._clock = clock
        self._on_dead_letter = on_dead_letter
        self._ready = ReadyMessages(policy.max_priority + 1)
        self._position = 0
        self._timer: Timer | None = None
        self._timer_at = 0.0

    @property
    def attributes(self) -> dict[str, Value]:
        """Attributes that a redeclaration must repeat."""
        return {
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            **compared_queue_arguments(self.arguments),
        }

    @property
    def message_count(self) -> int:
        """Number of ready messages."""
        return len(self._ready)

    def touch(self) -> None:
        """Record a use of the queue, for `x-expires`."""
        self.last_used = self._clock.time()

    def publish(self, message: Message) -> bool:
        """Accept a message; return False if the queue is full and rejects it."""
        if self._is_full_for(message) and self.policy.overflow != "drop-head":
            if self.policy.overflow == "reject-publish-dlx":
                self._on_dead_letter(self, message, "maxlen")
            return False
        self._position += 1
        message.add_reference()
        queued = QueuedMessage(message, self._position, self._deadline(message))
        # While messages are ready, no consumer is. A ready consumer receives even a message that
        # expires immediately: a time to live of 0 means "now or never".
        consumer = None if self._ready else self._next_consumer()
        if consumer is not None:
            consumer.deliver(queued)
        else:
            self._ready.append(queued)
            self._drop_overflow()
            if queued.expires_at is not None:
                self._drop_expired()
                self._schedule_expiry()
        return True

    def _deadline(self, message: Message) -> float | None:
        ttl = message.expiration
        if self.policy.message_ttl is not None:
            ttl = self.policy.message_ttl if ttl is None else min(ttl, self.policy.message_ttl)
        return None if ttl is None else self._clock.time() + ttl / 1000

    def _is_full_for(self, message: Message) -> bool:
        policy, ready = self.policy, self._ready
        return (policy.max_length is not None and len(ready) >= policy.max_length) or (
            policy.max_length_bytes is not None
            and ready.body_bytes + len(message.body) > policy.max_length_bytes
        )

    def _drop_overflow(self) -> None:
        policy, ready = self.policy, self._ready
        if policy.overflow != "drop-head":
            # Such a queue rejects new messages; requeued messages may exceed its limits.
            return
        if policy.max_length is not None:
            while len(ready) > policy.max_length:
                self._dead_letter(ready.pop(), "maxlen")
        if policy.max_length_bytes is not None:
            while ready.body_bytes > policy.max_length_bytes:
                self._dead_letter(ready.pop(), "maxlen")

    def _dead_letter(self, queued: QueuedMessage, reason: str) -> None:
        self._on_dead_letter(self, queued.message, reason)
        queued.message.remove_reference()

    def dispatch(self) -> None:
        """Deliver ready messages to ready consumers, and drop expired ones."""
        ready = self._ready
        self._drop_expired()
        while ready and (consumer := self._next_consumer()) is not None:
            consumer.deliver(ready.pop())
            self._drop_expired()
        self._schedule_expiry()

    def _next_consumer(self) -> Consumer | None:
        """Return the next ready consumer: round-robin by priority, or the single active one."""
        active, consumers = self._active, self.consumers
        if active is not None:
            return active if active.is_ready() else None
        for index, consumer in enumerate(consumers):
            if consumer.is_ready():
                if len(consumers) > 1:
                    del consumers[index]
                    self._insert_consumer(consumer)
                return consumer
        return None

    def _insert_consumer(self, consumer: Consumer) -> None:
        consumers = self.consumers
        index = len(consumers)
        while index and consumers[index - 1].priority < consumer.priority:
            index -= 1
        consumers.insert(index, consumer)

    def _drop_expired(self) -> None:
        if self._ready.next_expiry() is None:
            return
        for queued in self._ready.pop_expired(self._clock.time()):
            self._dead_letter(queued, "expired")

    def _schedule_expiry(self) -> None:
        deadline = self._ready.next_expiry()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer = self._clock.call_at(deadline, self._expire)
        self._timer_at = deadline

    def _expire(self) -> None:
        self._timer = None
        # In batches, so that a whole queue that expires at once does not block the event loop.
        expired = self._ready.pop_expired(self._clock.time())
        for queued in itertools.islice(expired, _EXPIRY_BATCH):
            self._dead_letter(queued, "expired")
        self._schedule_expiry()

    def add_consumer(self, consumer: Consumer) -> None:
        """Add a consumer."""
        self._insert_consumer(consumer)
        if self.policy.single_active_consumer and self._active is None:
            self._active = consumer

    def remove_consumer(self, consumer: Consumer) -> None:
        """Remove a consumer; its unacknowledged deliveries remain."""
        self.consumers.remove(consumer)
        if consumer is self._active:
            self._active = self.consumers[0] if self.consumers else None
        self.touch()
        self.dispatch()

    def get(self) -> QueuedMessage | None:
        """Remove and return the next message, for Basic.Get; None if there is none."""
        self.touch()
        self._drop_expired()
        queued = self._ready.pop() if self._ready else None
        # The message count in the reply must not include expired messages.
        self._drop_expired()
        return queued

    def settle(self, messages: Iterable[QueuedMessage]) -> None:
        """Release messages that were acknowledged, or delivered without acknowledgement."""
        for queued in messages:
            queued.message.remove_reference()

    def reject(self, messages: Iterable[QueuedMessage]) -> None:
        """Dead-letter messages that a client rejected."""
        for queued in messages:
            if self.deleted:
                queued.message.remove_reference()
            else:
                self._dead_letter(queued, "rejected")

    def requeue(self, messages: Iterable[QueuedMessage]) -> None:
        """Put unacknowledged messages back at their positions."""
        if self.deleted:
            for queued in messages:
                queued.message.remove_reference()
            return
        returning = list(messages)
        for queued in returning:
            queued.redelivered = True
        self._ready.restore(returning)
        self._drop_overflow()
        self.dispatch()

    def purge(self) -> int:
        """Drop ready messages without dead lettering, and return their number."""
        messages = self._ready.clear()
        for queued in messages:
            queued.message.remove_reference()
        return len(messages)

    def delete(self) -> int:
        """Drop all messages and cancel the consumers; return the number of ready messages."""
        self.deleted = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        consumers, self.consumers = self.consumers, []
        for consumer in consumers:
            consumer.cancelled_by_server()
        return self.purge()
