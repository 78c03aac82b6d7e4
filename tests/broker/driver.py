"""Driver that performs operations on a broker and records the observations of a client.

The same operations on two equivalent brokers give the same observations. After each operation the
driver waits, on every channel, for some rounds of passive declarations of every queue: by then all
effects of the operation have arrived.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from pamqp.commands import Basic, Channel, Confirm, Exchange, Queue, Tx

from tests.broker.rawclient import RawClient

Observation = dict[str, Any]

_ROUNDS = 3
CHANNELS = 2


@dataclass
class ChannelState:
    """State of one channel on a separate connection.

    Attributes:
        unacked: Bodies of unacknowledged deliveries by delivery tag.
        consumers: Whether each consumer is without acknowledgement, by consumer tag.
        confirmed: Last confirmed sequence number, or None unless in confirm mode.
        sequence: Number of published messages.
    """

    client: RawClient
    unacked: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    consumers: dict[str, bool] = field(default_factory=dict)
    confirmed: int | None = None
    sequence: int = 0


class Driver:
    """Driver of some channels of one broker.

    Args:
        uri: URI of the broker.
        prefix: Prefix of all queues and exchanges, which keeps runs apart.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self.prefix = prefix
        self.queues: set[str] = set()
        self.exchanges: set[str] = set()
        self._stack = ExitStack()
        self.channels = [
            ChannelState(self._stack.enter_context(RawClient(uri)).open()) for _ in range(CHANNELS)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def delete_all(self) -> None:
        """Delete all queues and exchanges."""
        client = self.channels[0].client
        for queue in self.queues:
            client.send(1, Queue.Delete(queue=queue, nowait=True))
        for exchange in self.exchanges:
            client.send(1, Exchange.Delete(exchange=exchange, nowait=True))
        self.queues.clear()
        self.exchanges.clear()
        self._barrier([])

    # Operations

    def declare_queue(self, channel: int, name: str, arguments: dict[str, Any]) -> Observation:
        name = self.prefix + name
        return self._perform(
            channel, Queue.Declare(queue=name, arguments=self._with_prefix(arguments))
        )

    def declare_exchange(self, channel: int, name: str, kind: str, **options: Any) -> Observation:
        name = self.prefix + name
        return self._perform(
            channel, Exchange.Declare(exchange=name, exchange_type=kind, **options)
        )

    def delete_queue(self, channel: int, name: str, **options: bool) -> Observation:
        return self._perform(channel, Queue.Delete(queue=self.prefix + name, **options))

    def delete_exchange(self, channel: int, name: str, **options: bool) -> Observation:
        return self._perform(channel, Exchange.Delete(exchange=self.prefix + name, **options))

    def bind(
        self, channel: int, queue: str, exchange: str, key: str, arguments: Any
    ) -> Observation:
        method = Queue.Bind(0, self.prefix + queue, self.prefix + exchange, key, False, arguments)
        return self._perform(channel, method)

    def unbind(
        self, channel: int, queue: str, exchange: str, key: str, arguments: Any
    ) -> Observation:
        method = Queue.Unbind(0, self.prefix + queue, self.prefix + exchange, key, arguments)
        return self._perform(channel, method)

    def bind_exchange(self, channel: int, destination: str, source: str, key: str) -> Observation:
        method = Exchange.Bind(0, self.prefix + destination, self.prefix + source, key)
        return self._perform(channel, method)

    def publish(
        self, channel: int, exchange: str, key: str, body: bytes, mandatory: bool, **properties: Any
    ) -> Observation:
        if exchange:
            exchange = self.prefix + exchange
        elif key:
            key = self.prefix + key
        state = self.channels[channel]
        state.sequence += 1
        state.client.publish(1, key, body, exchange=exchange, mandatory=mandatory, **properties)
        return self._perform(channel, None)

    def consume(
        self, channel: int, queue: str, tag: str, no_ack: bool, **options: Any
    ) -> Observation:
        if tag in self.channels[channel].consumers:
            return {}
        self.channels[channel].consumers[tag] = no_ack
        method = Basic.Consume(
            queue=self.prefix + queue, consumer_tag=tag, no_ack=no_ack, **options
        )
        return self._perform(channel, method)

    def cancel(self, channel: int, tag: str) -> Observation:
        self.channels[channel].consumers.pop(tag, None)
        return self._perform(channel, Basic.Cancel(consumer_tag=tag))

    def get(self, channel: int, queue: str, no_ack: bool) -> Observation:
        return self._perform(channel, Basic.Get(queue=self.prefix + queue, no_ack=no_ack))

    def qos(self, channel: int, count: int, for_channel: bool) -> Observation:
        return self._perform(channel, Basic.Qos(prefetch_count=count, global_=for_channel))

    def settle(self, channel: int, index: int, outcome: str, multiple: bool) -> Observation:
        """Settle the unacknowledged delivery number `index`, modulo their number."""
        unacked = self.channels[channel].unacked
        if not unacked:
            return {}
        tag = list(unacked)[index % len(unacked)]
        if outcome == "reject":
            multiple = False
        for settled in [
            number for number in unacked if number == tag or (multiple and number < tag)
        ]:
            del unacked[settled]
        method = {
            "ack": Basic.Ack(tag, multiple),
            "requeue": Basic.Nack(tag, multiple, requeue=True),
            "drop": Basic.Nack(tag, multiple, requeue=False),
            "reject": Basic.Reject(tag, requeue=False),
        }[outcome]
        return self._perform(channel, method, has_reply=False)

    def settle_unknown(self, channel: int) -> Observation:
        return self._perform(channel, Basic.Ack(999_999), has_reply=False)

    def recover(self, channel: int) -> Observation:
        self.channels[channel].unacked.clear()
        return self._perform(channel, Basic.Recover(requeue=True))

    def purge(self, channel: int, queue: str) -> Observation:
        return self._perform(channel, Queue.Purge(queue=self.prefix + queue))

    def confirm(self, channel: int) -> Observation:
        if self.channels[channel].confirmed is None:
            self.channels[channel].confirmed = self.channels[channel].sequence = 0
        return self._perform(channel, Confirm.Select())

    def transaction(self, channel: int, step: str) -> Observation:
        method = {"select": Tx.Select, "commit": Tx.Commit, "rollback": Tx.Rollback}[step]
        return self._perform(channel, method())

    def reopen(self, channel: int) -> Observation:
        """Close the channel and reopen it."""
        client = self.channels[channel].client
        client.send(1, Channel.Close(200, "", 0, 0))
        while not isinstance(self._receive(channel), Channel.CloseOk):
            pass
        client.open_channel(1)
        self._reset(channel)
        return self._perform(channel, None)

    # Observations

    def _with_prefix(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.prefix + value if name.startswith("x-dead-letter") and value else value
            for name, value in arguments.items()
        }

    def _reset(self, channel: int) -> None:
        self.channels[channel] = ChannelState(self.channels[channel].client)

    def _perform(self, channel: int, method: Any, *, has_reply: bool = True) -> Observation:
        frames: list[tuple[int, Any]] = []
        client = self.channels[channel].client
        if method is not None:
            client.send(1, method)
        if method is not None and has_reply:
            self._await_reply(channel, method, frames)
        counts = self._barrier(frames)
        return {**self._observation(frames), "counts": counts}

    def _await_reply(self, channel: int, method: Any, frames: list[tuple[int, Any]]) -> None:
        while True:
            reply = self._receive(channel)
            frames.append((channel, reply))
            kind = getattr(reply, "method", reply)
            if kind.name in method.valid_responses or isinstance(kind, Channel.Close):
                break
        if isinstance(kind, Queue.DeclareOk):
            self.queues.add(kind.queue)
        elif isinstance(kind, Queue.DeleteOk):
            self.queues.discard(method.queue)
        elif isinstance(kind, Exchange.DeclareOk):
            self.exchanges.add(method.exchange)

    def _receive(self, channel: int) -> Any:
        client = self.channels[channel].client
        _, reply = client.receive()
        if isinstance(reply, Basic.Deliver | Basic.GetOk | Basic.Return):
            return client.receive_content(reply)
        if isinstance(reply, Channel.Close):
            client.send(1, Channel.CloseOk())
            client.open_channel(1)
            self._reset(channel)
        return reply

    def _barrier(self, frames: list[tuple[int, Any]]) -> dict[str, tuple[int, int]]:
        counts = {}
        for _ in range(_ROUNDS):
            for channel in range(CHANNELS):
                counts.update(self._round(channel, frames))
        return counts

    def _round(self, channel: int, frames: list[tuple[int, Any]]) -> dict[str, tuple[int, int]]:
        client, queues = self.channels[channel].client, sorted(self.queues)
        probes = [Queue.Declare(queue=queue, passive=True) for queue in queues]
        client.send(1, *probes, Channel.Flow(True))
        counts = {}
        while True:
            reply = self._receive(channel)
            if isinstance(reply, Channel.FlowOk):
                return counts
            if isinstance(reply, Queue.DeclareOk):
                counts[reply.queue.removeprefix(self.prefix)] = (
                    reply.message_count,
                    reply.consumer_count,
                )
                continue
            frames.append((channel, reply))
            if isinstance(reply, Channel.Close):
                # Caused by the operation; the remaining probes are lost.
                assert reply.class_id != Queue.frame_id, reply.reply_text
                return self._round(channel, frames)

    def _observation(self, frames: list[tuple[int, Any]]) -> Observation:
        seen: Observation = {}
        for channel, value in frames:
            kind, text = self._describe(channel, value)
            if text is not None:
                seen.setdefault(f"{channel} {kind}", []).append(text)
        return seen

    def _describe(self, channel: int, value: Any) -> tuple[str, Any]:
        method = getattr(value, "method", value)
        if isinstance(method, Basic.Ack | Basic.Nack):
            return "confirms", self._confirms(channel, method)
        if isinstance(method, Channel.Close):
            return "reply", ("closed", method.reply_code, method.class_id, method.method_id)
        if method is value:
            fields = [item for _, item in method if not isinstance(item, str)]
            return "reply", (method.name, fields)
        content = (value.body, self._properties(value.properties))
        route = (self._without_prefix(method.exchange), self._without_prefix(method.routing_key))
        if isinstance(method, Basic.Return):
            return "returns", (method.reply_code, route, content)
        no_ack = False
        if isinstance(method, Basic.Deliver):
            no_ack = self.channels[channel].consumers.get(method.consumer_tag, False)
        if not no_ack:
            self.channels[channel].unacked[method.delivery_tag] = value.body
        kind = method.consumer_tag if isinstance(method, Basic.Deliver) else "get"
        return f"delivered {kind}", (method.redelivered, route, content)

    def _confirms(self, channel: int, method: Any) -> Any:
        """Return the confirmed sequence numbers, independent of the number of frames."""
        first = method.delivery_tag
        if method.multiple:
            first = (self.channels[channel].confirmed or 0) + 1
        self.channels[channel].confirmed = max(
            self.channels[channel].confirmed or 0, method.delivery_tag
        )
        return (method.name, list(range(first, method.delivery_tag + 1)))

    def _without_prefix(self, text: str) -> str:
        return text.replace(self.prefix, "")

    def _properties(self, properties: Any) -> Any:
        headers = properties.headers or {}
        deaths = [
            {
                name: self._without_prefix(str(value))
                for name, value in death.items()
                if name != "time"
            }
            for death in headers.get("x-death", [])
        ]
        plain = {
            name: self._without_prefix(str(value))
            for name, value in headers.items()
            if name != "x-death"
        }
        return plain, deaths, properties.priority, properties.expiration
