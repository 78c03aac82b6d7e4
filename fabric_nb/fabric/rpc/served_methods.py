"""Methods that a server serves, and the workers that run their calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fabric_nb.fabric.rpc.call_queue import CallQueue
from fabric_nb.fabric.rpc.methods import Function, MethodStats


@dataclass(eq=False, slots=True)
class ServedMethod:
    """A served method.

    Attributes:
        origin: `Delivery.origin` of its calls.
        queue: calls that wait for a worker.
        consumed: True once its consumer was started with all others of its channel.
        generation: opening of the channel in which its consumer was started last.
        shared_since: opening since which its queue has other consumers. Calls of earlier openings
            are with other instances.
        created: time at which its queue was created by this instance, in seconds of
            `time.monotonic`; None if there were other consumers.
        crowded_since: time since which calls wait behind one that was acknowledged early.
        takes_long: True once a call has run for longer than `BEGIN_AFTER`.
        exceeds_limit: True once a call has run for longer than the broker waits for an
            acknowledgement.
        blocks_too_long: True if it could not be acknowledged meanwhile, because the loop was
            blocked.
    """

    name: str
    function: Function
    origin: bytes
    stats: MethodStats = field(default_factory=MethodStats)
    queue: CallQueue = field(default_factory=CallQueue)
    workers: set[Worker] = field(default_factory=set)
    consumer_tag: str = ""
    consumed: bool = False
    generation: int = 0
    shared_since: int = 0
    created: float | None = None
    crowded_since: float | None = None
    takes_long: bool = False
    exceeds_limit: bool = False
    blocks_too_long: bool = False

    @property
    def may_take_long(self) -> bool:
        """True if calls have taken long, or none has ended yet."""
        return self.takes_long or not self.stats.calls


@dataclass(eq=False, slots=True)
class Worker:
    """Task that runs the calls of one method, one at a time."""

    task: asyncio.Task[None] | None = None
    busy: bool = False
    retired: bool = False

    def retire(self) -> None:
        """End, after the current call if there is one."""
        self.retired = True
        if not self.busy and self.task is not None:
            self.task.cancel()
