"""Members that join and leave while others do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika

from tests.support.fabric import KEEP_ALIVE
from tests.support.rabbitmq import deletes_declared_exchanges

if TYPE_CHECKING:
    from fabric_nb.fabric.amqp.channel import Channel
    from tests.support.fabric import Members

ROUNDS = 25


@deletes_declared_exchanges
async def test_members_that_come_and_go_do_not_refuse_each_other(members: Members) -> None:
    """A connector opens and serves while leaving members delete shared exchanges and queues."""

    async def come_and_go(service_id: str) -> None:
        for _ in range(ROUNDS):
            connector = members.connector(service_id, keep_alive_seconds=KEEP_ALIVE)
            async with connector:
                await connector.serve({"one": lambda: 1}, id="shared")

    await asyncio.gather(*(come_and_go(f"m{number}") for number in range(3)))


async def test_an_exchange_deleted_before_its_use(members: Members, broker_uri: str) -> None:
    """A setup is repeated if its auto-delete exchange is deleted before it is bound."""
    one = await members.join("one")
    async with await aio_pika.connect(broker_uri) as connection:
        raw = await connection.channel()
        setups = 0

        async def set_up(channel: Channel) -> None:
            nonlocal setups
            setups += 1
            queue = await channel.topology.declare_exclusive_queue()
            await channel.topology.declare_exchange("gone", "direct", auto_delete=True)
            if setups < 4:
                await (await raw.get_exchange("gone", ensure=False)).delete()
            await channel.topology.bind(queue, "gone", "key")

        async with one.member.connection.channel(set_up):
            assert setups == 4
