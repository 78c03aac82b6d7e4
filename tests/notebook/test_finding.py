"""Domains that the form lists, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import FabricError
from fabric_nb.fabric.amqp.credentials import complete_each
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_message
from fabric_nb.fabric.wire.names import ServiceName, discovery_exchange
from fabric_nb.notebook.connect.finder import MAX_DOMAINS, BrokerFinder

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMq

SECRET = "s3cretword"


@pytest.fixture
def own_place(rabbitmq: RabbitMq) -> Iterator[str]:
    """Virtual host of a test, because a list of domains has all of it."""
    with rabbitmq.private_vhost() as vhost:
        yield vhost


def new_finder() -> BrokerFinder:
    """Return a finder without a configured login."""
    return BrokerFinder(lambda uri, password: complete_each(uri, password=password, environment={}))


async def test_many_domains_are_listed_in_part(rabbitmq: RabbitMq, own_place: str) -> None:
    """Of 500 domains those with the most services are listed, with a sentence on the others."""
    uri = rabbitmq.uri_for(vhost=own_place)
    async with AmqBrokerConnector(uri, "d000", "many", "origin", 60) as fabric:
        channel = await fabric.member.connection.channel().open()
        listing = asyncio.create_task(new_finder().answer("domains", {"uri": uri}))
        while not listing.done():  # also before it listens
            for number in range(500):
                for count in range(3 if number == 250 else 1):
                    name = ServiceName(f"d{number:03}", "many", f"s{count}")
                    message = keep_alive_message(name, Announcement(instance="i", interval=60.0))
                    await channel.publish(discovery_exchange(), "", message)
            await asyncio.wait([listing], timeout=0.2)
    answer = await listing
    assert answer["domains"][0] == ("d250", 3)
    assert len(answer["domains"]) == MAX_DOMAINS
    assert answer["note"] == "… and 470 more domains, with fewer services: type the one you need."
    assert "@" in answer["uri"]
    assert rabbitmq.uri_for(vhost=own_place) != answer["uri"]  # without the password


async def test_an_empty_broker(rabbitmq: RabbitMq, own_place: str) -> None:
    """A sentence says why a service may be missing if none is announced."""
    answer = await new_finder().answer("domains", {"uri": rabbitmq.uri_for(vhost=own_place)})
    assert answer["domains"] == []
    assert "No service was announced within 2 seconds" in answer["note"]


async def test_refusals_are_sentences(rabbitmq: RabbitMq, own_place: str) -> None:
    """A user without permissions, a wrong password, none, and no broker have one sentence each."""
    user = f"viewer-{own_place}"
    uri = rabbitmq.add_user(user, SECRET, vhost=own_place, configure="^$", write="^$", read="^$")
    bare = uri.replace(f":{SECRET}", "")
    try:
        for values, text in (
            ({"uri": uri}, "msc.discovery"),
            ({"uri": bare, "password": "wrong"}, "login"),
            ({"uri": bare}, "has no password"),
            ({"uri": "amqp://ann:s3cretword@127.0.0.1:1/"}, "nothing listens on 127.0.0.1:1"),
        ):
            with pytest.raises(FabricError) as refused:
                await new_finder().answer("domains", values)
            assert text in str(refused.value), refused.value
            assert len(str(refused.value).splitlines()) == 1
            assert SECRET not in str(refused.value)
    finally:
        rabbitmq.delete_user(user)
