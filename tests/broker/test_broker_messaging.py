"""Queues, exchanges, publishing and consuming, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pamqp import body, header
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from tests.broker.rawclient import RawClient

if TYPE_CHECKING:
    from tests.broker.process import BrokerProcess


def declare(client: RawClient, name: str, channel: int = 1, **arguments: Any) -> None:
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    answer = client.call(channel, Queue.Declare(queue=name, exclusive=True, arguments=named))
    assert isinstance(answer, Queue.DeclareOk), answer


def consume(client: RawClient, name: str, tag: str = "t", channel: int = 1, **options: Any) -> None:
    method = Basic.Consume(queue=name, consumer_tag=tag, **options)
    assert isinstance(client.call(channel, method), Basic.ConsumeOk)


def count(client: RawClient, name: str, channel: int = 1) -> int:
    return client.call(channel, Queue.Declare(queue=name, passive=True)).message_count


# Queues


def test_a_server_named_queue_is_the_channels_current_one(client: RawClient) -> None:
    """An empty name means the queue declared last, for binding, consuming and getting."""
    declared = client.call(1, Queue.Declare(queue="", exclusive=True))
    assert declared.queue.startswith("amq.gen-")
    client.call(1, Queue.Bind(queue="", exchange="amq.direct", routing_key=""))
    client.publish(1, declared.queue, b"bound", exchange="amq.direct")
    assert isinstance(client.call(1, Basic.Get(queue="")), Basic.GetOk)


def test_an_exclusive_queue_is_deleted_with_its_connection(
    broker: BrokerProcess, client: RawClient, name: str
) -> None:
    """Other connections receive 405 for it, and 404 after its connection was closed."""
    with RawClient(broker.uri).open() as owner:
        declare(owner, name)
        for method in (
            Queue.Declare(queue=name, passive=True),
            Queue.Declare(queue=name, exclusive=True),
            Basic.Get(queue=name),
            Queue.Delete(queue=name),
        ):
            assert client.call(1, method).reply_code == 405
            client.send(1, Channel.CloseOk())
            client.open_channel(1)
        assert isinstance(owner.call(0, Connection.Close(200, "", 0, 0)), Connection.CloseOk)
    assert client.call(1, Queue.Declare(queue=name, passive=True)).reply_code == 404


def test_an_auto_delete_queue_is_deleted_with_its_last_consumer(
    client: RawClient, name: str
) -> None:
    """It is not deleted before its first consumer, nor while a consumer is left."""
    client.call(1, Queue.Declare(queue=name, auto_delete=True))
    consume(client, name, "one")
    consume(client, name, "two")
    client.call(1, Basic.Cancel("one"))
    assert count(client, name) == 0
    client.call(1, Basic.Cancel("two"))
    assert client.call(1, Queue.Declare(queue=name, passive=True)).reply_code == 404


def test_an_unused_queue_expires(client: RawClient, name: str) -> None:
    """It expires `x-expires` after its last use, but not while it has a consumer."""
    declare(client, name, expires=200)
    graves = f"{name}-graves"
    declare(client, graves)
    consume(client, graves, "alarm", no_ack=True, channel=2)
    # A message to this queue returns well after the expiry of the tested queue.
    declare(
        client,
        f"{name}-bell",
        message_ttl=500,
        dead_letter_exchange="",
        dead_letter_routing_key=graves,
    )
    consume(client, name)
    client.publish(1, f"{name}-bell")
    client.receive_message()
    assert count(client, name) == 0
    client.call(1, Basic.Cancel("t"))
    client.publish(1, f"{name}-bell")
    client.receive_message()
    assert client.call(1, Queue.Declare(queue=name, passive=True)).reply_code == 404


def test_deleting_with_conditions(client: RawClient, name: str) -> None:
    """`if_empty` and `if_unused` are checked; deletion is idempotent."""
    declare(client, name)
    client.publish(1, name, b"x")
    assert client.call(1, Queue.Delete(queue=name, if_empty=True)).reply_code == 406
    client.send(1, Channel.CloseOk())
    client.open_channel(1)
    consume(client, name, channel=2)
    client.receive_message()
    assert client.call(1, Queue.Delete(queue=name, if_unused=True)).reply_code == 406
    client.send(1, Channel.CloseOk())
    client.open_channel(1)
    client.send(1, Queue.Delete(queue=name))
    answers = {value.name for _, value in (client.receive(), client.receive())}
    assert answers == {"Basic.Cancel", "Queue.DeleteOk"}
    assert client.call(1, Queue.Delete(queue=name)).message_count == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"durable": True}, {"durable": False}),
        ({"auto_delete": True}, {}),
        ({"arguments": {"x-message-ttl": 1000}}, {"arguments": {"x-message-ttl": 2000}}),
        ({"arguments": {"x-max-length": 5}}, {}),
        ({}, {"arguments": {"x-dead-letter-exchange": ""}}),
    ],
)
def test_a_redeclaration_must_be_equivalent(
    client: RawClient, name: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """A difference in an attribute or argument is an error 406."""
    assert isinstance(client.call(1, Queue.Declare(queue=name, **first)), Queue.DeclareOk)
    assert isinstance(client.call(1, Queue.Declare(queue=name, **first)), Queue.DeclareOk)
    answer = client.call(1, Queue.Declare(queue=name, **second))
    assert answer.reply_code == 406
    assert "inequivalent arg" in answer.reply_text
    client.call(2, Queue.Delete(queue=name))


# Exchanges


def test_exchanges_are_deleted_as_declared(client: RawClient, name: str) -> None:
    """`auto_delete` applies at the last binding, also along a chain; `if_unused` is checked."""
    for suffix in ("a", "b"):
        client.call(
            1,
            Exchange.Declare(exchange=name + suffix, exchange_type="fanout", auto_delete=True),
        )
    declare(client, name)
    client.call(1, Exchange.Bind(destination=name + "b", source=name + "a"))
    client.call(1, Queue.Bind(queue=name, exchange=name + "b", routing_key=""))
    client.publish(1, "", b"along", exchange=name + "a")
    client.send(1, Basic.Get(queue=name, no_ack=True))
    assert client.receive_message().body == b"along"
    assert client.call(2, Exchange.Delete(exchange=name + "b", if_unused=True)).reply_code == 406
    client.call(1, Queue.Delete(queue=name))
    assert client.call(1, Exchange.Declare(exchange=name + "a", passive=True)).reply_code == 404


def test_clients_cannot_publish_to_an_internal_exchange(client: RawClient, name: str) -> None:
    """Publishing to it is an error 403."""
    client.call(1, Exchange.Declare(exchange=name, exchange_type="fanout", internal=True))
    client.publish(1, "", exchange=name)
    assert client.receive()[1].reply_code == 403
    client.call(2, Exchange.Delete(exchange=name))


def test_an_alternate_exchange_receives_unroutable_messages(client: RawClient, name: str) -> None:
    """A mandatory message that it routes is not returned."""
    client.call(
        1,
        Exchange.Declare(
            exchange=name, exchange_type="direct", arguments={"alternate-exchange": "amq.fanout"}
        ),
    )
    declare(client, name)
    client.call(1, Queue.Bind(queue=name, exchange="amq.fanout", routing_key=""))
    client.publish(1, "nobody", b"x", exchange=name, mandatory=True)
    client.send(1, Basic.Get(queue=name, no_ack=True))
    assert client.receive_message().body == b"x"
    client.call(1, Exchange.Delete(exchange=name))


# Publishing


def test_an_unroutable_mandatory_message_is_returned(client: RawClient) -> None:
    """It is returned with 312, before its confirm."""
    client.call(1, Confirm.Select())
    client.publish(1, "nobody", b"back", mandatory=True, correlation_id="c")
    returned = client.receive_message()
    assert (returned.method.reply_code, returned.method.routing_key) == (312, "nobody")
    assert (returned.body, returned.properties.correlation_id) == (b"back", "c")
    assert isinstance(client.receive()[1], Basic.Ack)


def test_confirms_cover_every_message_once(client: RawClient, name: str) -> None:
    """A frame may confirm several messages; a rejected message is nacked."""
    declare(client, name, max_length=3, overflow="reject-publish")
    client.call(1, Confirm.Select())
    for _ in range(5):
        client.publish(1, name, b"x")
    answers: dict[int, type] = {}
    while len(answers) < 5:
        _, answer = client.receive()
        first = 1 if answer.multiple else answer.delivery_tag
        for number in range(first, answer.delivery_tag + 1):
            answers.setdefault(number, type(answer))
    assert answers == {1: Basic.Ack, 2: Basic.Ack, 3: Basic.Ack, 4: Basic.Nack, 5: Basic.Nack}


def test_a_message_that_is_too_large_closes_the_channel(client: RawClient) -> None:
    """The error 406 follows the content header; the body is ignored."""
    client.send(
        1,
        Basic.Publish(routing_key="q"),
        header.ContentHeader(0, 1 << 40, Basic.Properties()),
        body.ContentBody(b"first of many"),
    )
    assert client.receive()[1].reply_code == 406
    assert isinstance(client.call(2, Basic.Qos()), Basic.QosOk)


@pytest.mark.parametrize(
    "properties", [{"expiration": "soon"}, {"expiration": "-1"}, {"user_id": "another-user"}]
)
def test_expiration_and_user_id_are_validated(
    client: RawClient, properties: dict[str, Any]
) -> None:
    """An expiration must be a number, and a user id that of the connection."""
    client.publish(1, "q", **properties)
    assert client.receive()[1].reply_code == 406


# Consuming


def test_prefetch_limits_each_consumer(client: RawClient, name: str) -> None:
    """An acknowledgement allows one more delivery."""
    declare(client, name)
    for number in range(6):
        client.publish(1, name, b"%d" % number)
    client.call(1, Basic.Qos(prefetch_count=2))
    consume(client, name, "one")
    first = [client.receive_message().body for _ in range(2)]
    assert first == [b"0", b"1"]
    consume(client, name, "two")
    assert [client.receive_message().body for _ in range(2)] == [b"2", b"3"]
    assert count(client, name) == 2
    client.send(1, Basic.Ack(2, multiple=True))
    assert [client.receive_message().body for _ in range(2)] == [b"4", b"5"]


def test_prefetch_of_the_channel_counts_all_its_consumers(client: RawClient, name: str) -> None:
    """This is RabbitMQ's meaning of `global`; deliveries without acknowledgement do not count."""
    declare(client, name)
    client.call(1, Basic.Qos(prefetch_count=3, global_=True))
    consume(client, name, "one")
    consume(client, name, "two")
    for number in range(4):
        client.publish(1, name, b"%d" % number)
    tags = [client.receive_message().method.delivery_tag for _ in range(3)]
    assert count(client, name) == 1
    client.send(1, Basic.Ack(tags[0]))
    assert client.receive_message().body == b"3"


def test_flow_cannot_be_paused(client: RawClient) -> None:
    """As in RabbitMQ, Channel.Flow is confirmed, but a pause is an error 540."""
    assert client.call(1, Channel.Flow(True)).active is True
    assert client.call(1, Channel.Flow(False)).reply_code == 540


@pytest.mark.parametrize("exclusive_first", [True, False])
def test_an_exclusive_consumer_excludes_others(
    client: RawClient, name: str, exclusive_first: bool
) -> None:
    """An exclusive consumer beside others, and others beside it, are an error 403."""
    declare(client, name)
    consume(client, name, exclusive=exclusive_first)
    answer = client.call(2, Basic.Consume(queue=name, exclusive=not exclusive_first))
    assert answer.reply_code == 403


def test_closing_a_channel_requeues_its_messages(client: RawClient, name: str) -> None:
    """They are redelivered in order, whichever of its consumers had received them."""
    declare(client, name)
    consume(client, name, "one")
    consume(client, name, "two")
    for number in range(4):
        client.publish(1, name, b"%d" % number)
        client.receive_message()
    consume(client, name, channel=2, arguments={"x-priority": -1})
    client.send(1, Channel.Close(200, "", 0, 0))
    again = []
    while len(again) < 4:
        _, answer = client.receive()
        if isinstance(answer, Basic.Deliver):
            again.append(client.receive_content(answer))
    assert [message.body for message in again] == [b"0", b"1", b"2", b"3"]
    assert all(message.method.redelivered for message in again)


def test_recover_requeues_unacknowledged_messages(client: RawClient, name: str) -> None:
    """RecoverOk precedes the redelivered messages."""
    declare(client, name)
    consume(client, name)
    client.publish(1, name, b"x")
    client.receive_message()
    assert isinstance(client.call(1, Basic.Recover(requeue=True)), Basic.RecoverOk)
    assert client.receive_message().method.redelivered


def test_consumers_of_a_deleted_queue_are_notified(
    broker: BrokerProcess, client: RawClient, name: str
) -> None:
    """Basic.Cancel is sent only to clients with the capability `consumer_cancel_notify`."""
    client.call(1, Queue.Declare(queue=name))
    consume(client, name)
    with RawClient(broker.uri).open() as deaf:
        consume(deaf, name)
        assert isinstance(deaf.call(1, Queue.Delete(queue=name)), Queue.DeleteOk)
    _, close = client.receive()
    assert (close.name, close.consumer_tag) == ("Basic.Cancel", "t")


def test_get_returns_the_remaining_count(client: RawClient, name: str) -> None:
    """Basic.GetOk contains the number of remaining messages."""
    declare(client, name)
    assert isinstance(client.call(1, Basic.Get(queue=name)), Basic.GetEmpty)
    client.publish(1, name, b"a")
    client.publish(1, name, b"b")
    client.send(1, Basic.Get(queue=name))
    first = client.receive_message()
    assert (first.body, first.method.message_count) == (b"a", 1)


# Dead letters


def test_dead_letters_have_death_headers(client: RawClient, name: str) -> None:
    """The `x-death` header counts deaths by queue and reason, the last one first."""
    graves = f"{name}-graves"
    declare(client, graves)
    declare(
        client, name, dead_letter_exchange="", dead_letter_routing_key=graves, message_ttl=60_000
    )
    client.publish(1, name, b"x", headers={"kept": 1.5}, expiration="30000", priority=3)
    for _ in range(2):
        client.send(1, Basic.Get(queue=name))
        message = client.receive_message()
        client.send(1, Basic.Reject(message.method.delivery_tag, requeue=False))
        client.send(1, Basic.Get(queue=graves, no_ack=True))
        dead = client.receive_message()
        client.publish(1, name, dead.body, headers=dead.properties.headers)
    headers: Any = dead.properties.headers
    assert headers["kept"] == 1.5
    assert headers["x-first-death-queue"] == name
    assert headers["x-first-death-reason"] == "rejected"
    (death,) = headers["x-death"]
    assert (death["count"], death["queue"], death["reason"]) == (2, name, "rejected")
    assert (death["exchange"], death["routing-keys"]) == ("", [name])
    assert dead.properties.expiration is None


def test_an_expired_call_is_dead_lettered_to_its_caller(client: RawClient, name: str) -> None:
    """This is the mechanism of call timeouts: dead letters go through a headers exchange."""
    client.call(1, Exchange.Declare(exchange=name, exchange_type="headers", auto_delete=True))
    declare(client, f"{name}-results")
    client.call(
        1,
        Queue.Bind(
            queue=f"{name}-results",
            exchange=name,
            arguments={"x-match": "any", "From": f"{name}-results"},
        ),
    )
    declare(client, name, dead_letter_exchange=name)
    consume(client, f"{name}-results", no_ack=True)
    client.publish(1, name, b"call", expiration="50", headers={"From": f"{name}-results"})
    dead = client.receive_message()
    headers: Any = dead.properties.headers
    assert dead.body == b"call"
    assert headers["x-death"][0]["original-expiration"] == "50"


def test_a_dead_letter_cycle_drops_the_message(client: RawClient, name: str) -> None:
    """A queue may be its own dead letter target without an endless loop."""
    declare(client, name, dead_letter_exchange="", max_length=1)
    for number in range(2):
        client.publish(1, name, b"%d" % number)
    assert count(client, name) == 1
    declare(client, f"{name}-ttl", dead_letter_exchange="", message_ttl=0)
    client.publish(1, f"{name}-ttl", b"x")
    assert count(client, f"{name}-ttl") == 0


# Transactions


def test_a_transaction_is_atomic(client: RawClient, name: str) -> None:
    """Publishes and acknowledgements take effect only at the commit."""
    declare(client, name, channel=2)
    client.call(1, Tx.Select())
    client.publish(1, name, b"dropped")
    client.call(1, Tx.Rollback())
    client.publish(1, name, b"kept")
    assert count(client, name, 2) == 0
    client.call(1, Tx.Commit())
    client.send(1, Basic.Get(queue=name))
    message = client.receive_message()
    assert message.body == b"kept"
    client.send(1, Basic.Ack(message.method.delivery_tag))
    client.call(1, Tx.Rollback())
    # The acknowledgement was rolled back: closing the channel requeues the message.
    client.call(1, Channel.Close(200, "", 0, 0))
    assert count(client, name, 2) == 1


# Direct reply-to


def test_direct_reply_to_needs_no_queue(
    broker: BrokerProcess, client: RawClient, name: str
) -> None:
    """A caller consumes the pseudo-queue; the server publishes to the address in the request."""
    with RawClient(broker.uri).open() as server:
        server.call(1, Queue.Declare(queue=name, exclusive=True))
        consume(server, name, no_ack=True)
        consume(client, "amq.rabbitmq.reply-to", no_ack=True)
        client.publish(1, name, b"?", reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        request = server.receive_message()
        address = request.properties.reply_to
        assert address
        assert address != "amq.rabbitmq.reply-to"
        server.publish(1, address, b"!", correlation_id=request.properties.correlation_id)
        reply = client.receive_message()
        assert (reply.body, reply.properties.correlation_id) == (b"!", "1")
        client.call(1, Basic.Cancel("t"))
        server.publish(1, address, b"late", mandatory=True)
        assert server.receive_message().method.reply_code == 312


def test_direct_reply_to_requires_its_consumer(client: RawClient) -> None:
    """A request without a reply consumer is an error 406."""
    client.publish(1, "q", reply_to="amq.rabbitmq.reply-to")
    assert client.receive()[1].reply_code == 406
