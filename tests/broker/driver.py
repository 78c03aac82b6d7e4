"""Drives a broker with small operations and tells what a client can see of each.

The same operations on two brokers give the same observations, if the brokers behave alike. After
each operation the driver waits, on every channel, until every queue has answered some rounds of
passive declarations: by then all that the operation has set off has arrived.
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
class Seat:
    """One channel on a connection of its own.

    Attributes:
        unsettled: Delivery tags by the body of the message delivered.
        sequence: Messages published since the channel confirms, or None while it does not.
    """

    client: RawClient
    unsettled: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    consumers: dict[str, bool] = field(default_factory=dict)
    confirmed: int | None = None
    sequence: int = 0


class Driver:
    """Some channels of one broker, and a few queues and exchanges with names of their own.

    Args:
        uri: The broker.
        prefix: Begins all names, so that runs do not meet.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self.prefix = prefix
        self.queues: set[str] = set()
        self.exchanges: set[str] = set()
        self._stack = ExitStack()
        self.seats = [
            Seat(self._stack.enter_context(RawClient(uri)).open()) for _ in range(CHANNELS)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def clean_up(self) -> None:
        """Delete what is left."""
        client = self.seats[0].client
        for queue in self.queues:
            client.send(1, Queue.Delete(queue=queue, nowait=True))
        for exchange in self.exchanges:
            client.send(1, Exchange.Delete(exchange=exchange, nowait=True))
        self.queues.clear()
        self.exchanges.clear()
        self._barrier([])

    # Operations: each sends frames, and names the answer that it waits for

    def declare_queue(self, seat: int, name: str, arguments: dict[str, Any]) -> Observation:
        name = self.prefix + name
        return self._perform(seat, Queue.Declare(queue=name, arguments=self._named(arguments)))

    def declare_exchange(self, seat: int, name: str, kind: str, **options: Any) -> Observation:
        name = self.prefix + name
        return self._perform(seat, Exchange.Declare(exchange=name, exchange_type=kind, **options))

    def delete_queue(self, seat: int, name: str, **options: bool) -> Observation:
        return self._perform(seat, Queue.Delete(queue=self.prefix + name, **options))

    def delete_exchange(self, seat: int, name: str, **options: bool) -> Observation:
        return self._perform(seat, Exchange.Delete(exchange=self.prefix + name, **options))

    def bind(self, seat: int, queue: str, exchange: str, key: str, arguments: Any) -> Observation:
        method = Queue.Bind(0, self.prefix + queue, self.prefix + exchange, key, False, arguments)
        return self._perform(seat, method)

    def unbind(self, seat: int, queue: str, exchange: str, key: str, arguments: Any) -> Observation:
        method = Queue.Unbind(0, self.prefix + queue, self.prefix + exchange, key, arguments)
        return self._perform(seat, method)

    def bind_exchange(self, seat: int, destination: str, source: str, key: str) -> Observation:
        method = Exchange.Bind(0, self.prefix + destination, self.prefix + source, key)
        return self._perform(seat, method)

    def publish(
        self, seat: int, exchange: str, key: str, body: bytes, mandatory: bool, **properties: Any
    ) -> Observation:
        if exchange:
            exchange = self.prefix + exchange
        elif key:
            key = self.prefix + key
        channel = self.seats[seat]
        channel.sequence += 1
        channel.client.publish(1, key, body, exchange=exchange, mandatory=mandatory, **properties)
        return self._perform(seat, None)

    def consume(self, seat: int, queue: str, tag: str, no_ack: bool, **options: Any) -> Observation:
        if tag in self.seats[seat].consumers:
            return {}
        self.seats[seat].consumers[tag] = no_ack
        method = Basic.Consume(
            queue=self.prefix + queue, consumer_tag=tag, no_ack=no_ack, **options
        )
        return self._perform(seat, method)

    def cancel(self, seat: int, tag: str) -> Observation:
        self.seats[seat].consumers.pop(tag, None)
        return self._perform(seat, Basic.Cancel(consumer_tag=tag))

    def get(self, seat: int, queue: str, no_ack: bool) -> Observation:
        return self._perform(seat, Basic.Get(queue=self.prefix + queue, no_ack=no_ack))

    def qos(self, seat: int, count: int, for_channel: bool) -> Observation:
        return self._perform(seat, Basic.Qos(prefetch_count=count, global_=for_channel))

    def settle(self, seat: int, which: int, how: str, multiple: bool) -> Observation:
        """Settle the unsettled delivery number `which`, counted round and round."""
        unsettled = self.seats[seat].unsettled
        if not unsettled:
            return {}
        tag = list(unsettled)[which % len(unsettled)]
        if how == "reject":
            multiple = False
        for other in [other for other in unsettled if other == tag or (multiple and other < tag)]:
            del unsettled[other]
        method = {
            "ack": Basic.Ack(tag, multiple),
            "requeue": Basic.Nack(tag, multiple, requeue=True),
            "drop": Basic.Nack(tag, multiple, requeue=False),
            "reject": Basic.Reject(tag, requeue=False),
        }[how]
        return self._perform(seat, method, answered=False)

    def settle_unknown(self, seat: int) -> Observation:
        return self._perform(seat, Basic.Ack(999_999), answered=False)

    def recover(self, seat: int) -> Observation:
        self.seats[seat].unsettled.clear()
        return self._perform(seat, Basic.Recover(requeue=True))

    def purge(self, seat: int, queue: str) -> Observation:
        return self._perform(seat, Queue.Purge(queue=self.prefix + queue))

    def confirm(self, seat: int) -> Observation:
        if self.seats[seat].confirmed is None:
            self.seats[seat].confirmed = self.seats[seat].sequence = 0
        return self._perform(seat, Confirm.Select())

    def transaction(self, seat: int, step: str) -> Observation:
        method = {"select": Tx.Select, "commit": Tx.Commit, "rollback": Tx.Rollback}[step]
        return self._perform(seat, method())

    def reopen(self, seat: int) -> Observation:
        """Close the channel and open it again."""
        client = self.seats[seat].client
        client.send(1, Channel.Close(200, "", 0, 0))
        while not isinstance(self._receive(seat), Channel.CloseOk):
            pass
        client.open_channel(1)
        self._forget(seat)
        return self._perform(seat, None)

    # Observing

    def _named(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.prefix + value if name.startswith("x-dead-letter") and value else value
            for name, value in arguments.items()
        }

    def _forget(self, seat: int) -> None:
        self.seats[seat] = Seat(self.seats[seat].client)

    def _perform(self, seat: int, method: Any, *, answered: bool = True) -> Observation:
        frames: list[tuple[int, Any]] = []
        client = self.seats[seat].client
        if method is not None:
            client.send(1, method)
        if method is not None and answered:
            self._await_answer(seat, method, frames)
        counts = self._barrier(frames)
        return {**self._described(frames), "counts": counts}

    def _await_answer(self, seat: int, method: Any, frames: list[tuple[int, Any]]) -> None:
        while True:
            answer = self._receive(seat)
            frames.append((seat, answer))
            kind = getattr(answer, "method", answer)
            if kind.name in method.valid_responses or isinstance(kind, Channel.Close):
                break
        if isinstance(kind, Queue.DeclareOk):
            self.queues.add(kind.queue)
        elif isinstance(kind, Queue.DeleteOk):
            self.queues.discard(method.queue)
        elif isinstance(kind, Exchange.DeclareOk):
            self.exchanges.add(method.exchange)

    def _receive(self, seat: int) -> Any:
        client = self.seats[seat].client
        _, answer = client.receive()
        if isinstance(answer, Basic.Deliver | Basic.GetOk | Basic.Return):
            return client.receive_content(answer)
        if isinstance(answer, Channel.Close):
            client.send(1, Channel.CloseOk())
            client.open_channel(1)
            self._forget(seat)
        return answer

    def _barrier(self, frames: list[tuple[int, Any]]) -> dict[str, tuple[int, int]]:
        counts = {}
        for _ in range(_ROUNDS):
            for seat in range(CHANNELS):
                counts.update(self._round(seat, frames))
        return counts

    def _round(self, seat: int, frames: list[tuple[int, Any]]) -> dict[str, tuple[int, int]]:
        client, queues = self.seats[seat].client, sorted(self.queues)
        probes = [Queue.Declare(queue=queue, passive=True) for queue in queues]
        client.send(1, *probes, Channel.Flow(True))
        counts = {}
        while True:
            answer = self._receive(seat)
            if isinstance(answer, Channel.FlowOk):
                return counts
            if isinstance(answer, Queue.DeclareOk):
                counts[answer.queue.removeprefix(self.prefix)] = (
                    answer.message_count,
                    answer.consumer_count,
                )
                continue
            frames.append((seat, answer))
            if isinstance(answer, Channel.Close):
                # It was meant for what came before; the probes behind it are lost.
                assert answer.class_id != Queue.frame_id, answer.reply_text
                return self._round(seat, frames)

    def _described(self, frames: list[tuple[int, Any]]) -> Observation:
        seen: Observation = {}
        for seat, value in frames:
            kind, text = self._describe(seat, value)
            if text is not None:
                seen.setdefault(f"{seat} {kind}", []).append(text)
        return seen

    def _describe(self, seat: int, value: Any) -> tuple[str, Any]:
        method = getattr(value, "method", value)
        if isinstance(method, Basic.Ack | Basic.Nack):
            return "confirms", self._confirms(seat, method)
        if isinstance(method, Channel.Close):
            return "answer", ("closed", method.reply_code, method.class_id, method.method_id)
        if method is value:
            fields = [item for _, item in method if not isinstance(item, str)]
            return "answer", (method.name, fields)
        content = (value.body, self._properties(value.properties))
        where = (self._plain(method.exchange), self._plain(method.routing_key))
        if isinstance(method, Basic.Return):
            return "returns", (method.reply_code, where, content)
        no_ack = False
        if isinstance(method, Basic.Deliver):
            no_ack = self.seats[seat].consumers.get(method.consumer_tag, False)
        if not no_ack:
            self.seats[seat].unsettled[method.delivery_tag] = value.body
        kind = method.consumer_tag if isinstance(method, Basic.Deliver) else "got"
        return f"delivered {kind}", (method.redelivered, where, content)

    def _confirms(self, seat: int, method: Any) -> Any:
        """Which messages were confirmed, however many frames that took."""
        first = method.delivery_tag
        if method.multiple:
            first = (self.seats[seat].confirmed or 0) + 1
        self.seats[seat].confirmed = max(self.seats[seat].confirmed or 0, method.delivery_tag)
        return (method.name, list(range(first, method.delivery_tag + 1)))

    def _plain(self, text: str) -> str:
        return text.replace(self.prefix, "")

    def _properties(self, properties: Any) -> Any:
        headers = properties.headers or {}
        deaths = [
            {name: self._plain(str(value)) for name, value in death.items() if name != "time"}
            for death in headers.get("x-death", [])
        ]
        plain = {
            name: self._plain(str(value)) for name, value in headers.items() if name != "x-death"
        }
        return plain, deaths, properties.priority, properties.expiration
