"""Queues: messages in order, who gets the next one, and what becomes of those nobody took.

Without I/O. Time comes from a `Clock`, which an asyncio event loop is as it stands; a queue sets an
timer on it only while it holds a message that can expire.
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
    """A call set for later."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock(Protocol):
    """Time, and calls at a time. An asyncio event loop is one."""

    def time(self) -> float:
        """Seconds, from any fixed beginning."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call back at a time of this clock."""


class QueuedMessage:
    """A message in one queue.

    Attributes:
        position: Its place in the order of arrival; a requeued message returns to it.
        expires_at: When it dies, on the queue's clock; None when it does not.
        redelivered: Whether a client had it before.
    """

    __slots__ = ("expires_at", "message", "position", "redelivered")

    def __init__(self, message: Message, position: int, expires_at: float | None) -> None:
        self.message = message
        self.position = position
        self.expires_at = expires_at
        self.redelivered = False


class Consumer(Protocol):
    """A client's standing order for the messages of a queue."""

    priority: int
    exclusive: bool

    def is_ready(self) -> bool:
        """Whether it can take a message now."""

    def deliver(self, queued: QueuedMessage) -> None:
        """Take a message; called only when it is ready."""

    def cancelled_by_server(self) -> None:
        """Learn that the queue is gone."""


class ReadyMessages:
    """The messages that wait, by priority and then by position.

    Args:
        levels: How many priorities there are; a message above the highest counts as the highest.
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
        """Put a message that has just arrived behind the others of its priority."""
        self._level(queued.message.priority).append(queued)
        self._count_added(queued)

    def restore(self, messages: Iterable[QueuedMessage]) -> None:
        """Put messages back to where their positions say."""
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
        """Take the next message: the first of the highest priority."""
        levels = self._levels
        return self._popleft(next(levels[index] for index in self._order if levels[index]))

    def _popleft(self, level: deque[QueuedMessage]) -> QueuedMessage:
        queued = level.popleft()
        self._count -= 1
        self.body_bytes -= len(queued.message.body)
        self._expiring -= queued.expires_at is not None
        return queued

    def pop_expired(self, now: float) -> Iterator[QueuedMessage]:
        """Take out the messages at the heads that have died.

        Only heads are looked at: as in RabbitMQ ("Time-To-Live and Expiration", section
        "Caveats"), a message behind one that ttl longer waits for its turn to die.
        """
        # A list, since what dies may come to new levels of this queue by way of other queues.
        for level in list(self._levels.values()):
            while level and (deadline := level[0].expires_at) is not None and deadline <= now:
                yield self._popleft(level)

    def next_expiry(self) -> float | None:
        """When the first head dies; None when none does."""
        if not self._expiring:
            return None
        heads = (level[0].expires_at for level in self._levels.values() if level)
        return min((deadline for deadline in heads if deadline is not None), default=None)

    def clear(self) -> list[QueuedMessage]:
        """Take out all messages."""
        messages = [queued for level in self._levels.values() for queued in level]
        for level in self._levels.values():
            level.clear()
        self._count = self._expiring = self.body_bytes = 0
        return messages


DeadLetterHandler = Callable[["Queue", Message, str], None]


class Queue:
    """A queue, its consumers, and its rules for what waits too long or is too much.

    Args:
        name: Its name in the virtual host.
        policy: What its arguments ask for.
        clock: Where time comes from.
        on_dead_letter: Called with the queue, a message that died there, and RabbitMQ's name of the
            reason: "rejected", "expired" or "maxlen".
        durable: Kept for comparison with redeclarations; nothing survives the broker.
        auto_delete: Whether it goes with its last consumer.
        owner: The connection that it is exclusive to, or None.
        arguments: As declared.
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
        """What a redeclaration has to repeat."""
        return {
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            **compared_queue_arguments(self.arguments),
        }

    @property
    def message_count(self) -> int:
        """Messages that wait to be delivered."""
        return len(self._ready)

    def touch(self) -> None:
        """Note that the queue is used, for `x-expires`."""
        self.last_used = self._clock.time()

    def publish(self, message: Message) -> bool:
        """Take a message; False when the queue is full and rejects it."""
        if self._is_full_for(message) and self.policy.overflow != "drop-head":
            if self.policy.overflow == "reject-publish-dlx":
                self._on_dead_letter(self, message, "maxlen")
            return False
        self._position += 1
        message.add_reference()
        queued = QueuedMessage(message, self._position, self._deadline(message))
        # Where messages wait, no consumer is ready. One that is ready gets even what expires at
        # once: a time to live of 0 means "now or never".
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
            # Such a queue refuses what is new; what comes back to it may exceed its limits.
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
        """Hand out what waits to the consumers that are ready, and see to what can expire."""
        ready = self._ready
        self._drop_expired()
        while ready and (consumer := self._next_consumer()) is not None:
            consumer.deliver(ready.pop())
            self._drop_expired()
        self._schedule_expiry()

    def _next_consumer(self) -> Consumer | None:
        """Choose by priority, and in turn among equals; or the single active one."""
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
        # In portions, so that a whole queue that dies at once does not stop messages else.
        expired = self._ready.pop_expired(self._clock.time())
        for queued in itertools.islice(expired, _EXPIRY_BATCH):
            self._dead_letter(queued, "expired")
        self._schedule_expiry()

    def add_consumer(self, consumer: Consumer) -> None:
        """Give a consumer its share from now on."""
        self._insert_consumer(consumer)
        if self.policy.single_active_consumer and self._active is None:
            self._active = consumer

    def remove_consumer(self, consumer: Consumer) -> None:
        """Give this consumer nothing more; what it has stays with it."""
        self.consumers.remove(consumer)
        if consumer is self._active:
            self._active = self.consumers[0] if self.consumers else None
        self.touch()
        self.dispatch()

    def get(self) -> QueuedMessage | None:
        """Take the next message outside any subscription; None when there is none."""
        self.touch()
        self._drop_expired()
        queued = self._ready.pop() if self._ready else None
        # What has expired behind it is not counted with the answer.
        self._drop_expired()
        return queued

    def settle(self, messages: Iterable[QueuedMessage]) -> None:
        """Forget messages that a client has acknowledged or taken without acknowledgement."""
        for queued in messages:
            queued.message.remove_reference()

    def reject(self, messages: Iterable[QueuedMessage]) -> None:
        """Let messages die that a client refused."""
        for queued in messages:
            if self.deleted:
                queued.message.remove_reference()
            else:
                self._dead_letter(queued, "rejected")

    def requeue(self, messages: Iterable[QueuedMessage]) -> None:
        """Take back messages that were delivered and not acknowledged, to their old places."""
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
        """Drop what waits, without dead letters; the number of messages dropped."""
        messages = self._ready.clear()
        for queued in messages:
            queued.message.remove_reference()
        return len(messages)

    def delete(self) -> int:
        """Drop messages and tell the consumers; the number of messages that waited."""
        self.deleted = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        consumers, self.consumers = self.consumers, []
        for consumer in consumers:
            consumer.cancelled_by_server()
        return self.purge()
