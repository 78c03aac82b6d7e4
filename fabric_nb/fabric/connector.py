"""`AmqBrokerConnector`: a member of the fabric with the API of amqp-fabric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from fabric_nb.errors import InvalidArgumentType, NotConnected, NotListening
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import DEFAULT_HEARTBEAT, State
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.core.timeouts import finite_limit, time_limit
from fabric_nb.fabric.data.queues import StreamQueue
from fabric_nb.fabric.discovery.announcer import ANSWERED_WITHIN, Where
from fabric_nb.fabric.discovery.listener import KeepAliveCallback
from fabric_nb.fabric.discovery.registry import Service
from fabric_nb.fabric.doctor import LISTEN, Diagnosis, Target, diagnose
from fabric_nb.fabric.logs.feed import AmqpHandler, ship_logs
from fabric_nb.fabric.member import DEFAULT_TIMEOUT, OPEN_TIMEOUT, FabricMember
from fabric_nb.fabric.rpc.methods import public_functions
from fabric_nb.fabric.rpc.proxy import ServiceProxy
from fabric_nb.fabric.wire.data_encoding import Compression, Format, data_message
from fabric_nb.fabric.wire.names import (
    ServiceName,
    ServicePattern,
    check_exchange,
    check_queue,
    data_exchange,
    match_all,
)
from fabric_nb.fabric.wire.names import (
    discovery_exchange as default_discovery_exchange,
)


class AmqBrokerConnector(FabricMember):
    """Connects a service to the fabric.

    The first eight arguments and the methods of this class are amqp-fabric's; a program
    written for it runs with its imports changed. What goes beyond is in `FabricMember`.

    Example::

        async with AmqBrokerConnector(
            "amqp://guest:guest@localhost/", "my_project", "client_app", "my_client",
            keep_alive_seconds=5, keep_alive_listen=True,
        ) as fabric:
            await fabric.call("my_app.multiply", x=5, y=7)

    Args:
        amqp_uri: where the broker is, ``amqp://`` or ``amqps://``. Of a cluster, a list of the
            nodes or one URI with several hosts (``amqp://a,b,c/``): they are tried in turn.
        service_domain: the group of services this one belongs to.
        service_type: services of one type have one API.
        service_id: tells services of one type apart; members with the same three names share
            the calls.
        keep_alive_seconds: announce this service so often; False: never.
        keep_alive_listen: hear the keep-alives of others, which short names, `registry` and
            `list_services` need.
        discovery_cache_ttl: `list_services` leaves out who was not heard for so many seconds;
            None: who missed three of its own intervals.
        discovery_exchange: ``DISCOVERY_EXCHANGE_NAME`` or ``msc.discovery``.
        service_version: told in keep-alives.
        timeout: seconds for a call that gives none of its own; None: no limit.
        heartbeat: seconds between AMQP heartbeats.
        presence: where keep-alives are sent from: ``loop``, or ``thread`` so that they go on
            while the loop is blocked.
        connection_name: what the broker's own tools show.

    Raises:
        InvalidName: domain, type or id is not 1 to 63 letters, digits, ``-`` or ``_``, or an
            exchange cannot have its name.
        InvalidUri: the URI cannot be used.
        InvalidTimeout: `timeout` or `keep_alive_seconds` is negative, NaN or no number.
    """

    def __init__(
        self,
        amqp_uri: str | Sequence[str],
        service_domain: str,
        service_type: str,
        service_id: str,
        keep_alive_seconds: float | bool = False,
        keep_alive_listen: bool = False,
        discovery_cache_ttl: float | None = None,
        discovery_exchange: str | None = None,
        *,
        service_version: str = "",
        timeout: float | None = DEFAULT_TIMEOUT,
        heartbeat: int = DEFAULT_HEARTBEAT,
        presence: Where = "loop",
        connection_name: str | None = None,
    ) -> None:
        self._discovery_exchange = check_exchange(
            discovery_exchange or default_discovery_exchange()
        )
        super().__init__(
            amqp_uri,
            ServiceName(service_domain, service_type, service_id),
            version=service_version,
            keep_alive=_interval(keep_alive_seconds),
            listen=bool(keep_alive_listen),
            discovery_exchange=self._discovery_exchange,
            timeout=timeout,
            heartbeat=heartbeat,
            presence=presence,
            connection_name=connection_name,
        )
        self._cache_ttl = discovery_cache_ttl
        self._handlers: list[AmqpHandler] = []
        self._subscribed: set[str] = set()

    async def close(self, grace: float | None = 0.0) -> None:
        """As `FabricMember.close`; what was published and logged last is sent before."""
        for handler in self._handlers if self.state is State.CONNECTED else ():
            await handler.flushed()
        self._handlers.clear()
        await super().close(grace)

    @property
    def service_type(self) -> str:
        """The service's type."""
        return self.name.type

    @property
    def service_id(self) -> str:
        """The service's id."""
        return self.name.id

    @property
    def fqn(self) -> str:
        """The full name, ``{domain}.{type}.{id}``."""
        return self.name.fqn

    @property
    def data_exchange(self) -> str:
        """The exchange of the domain's data streams."""
        return data_exchange(self.domain)

    def observer(self) -> FabricMember:
        """Return a member that receives and calls but is not announced; not yet open.

        It is for the companion thread, where it shares the connection of the announcements; without
        those it has one of its own.
        """
        return FabricMember(
            self._uri,
            self.name,
            version="",
            keep_alive=None,
            listen=True,
            discovery_exchange=self._discovery_exchange,
            timeout=self.timeout,
            heartbeat=self._heartbeat,
            presence="loop",
            connection_name=f"{self._connection_name} observer",
            connection=self._presence.companion_connection if self._presence else None,
        )

    async def diagnose(
        self,
        *,
        seconds: float = LISTEN,
        timeout: float = OPEN_TIMEOUT,
        subscriptions: Collection[str] = (),
    ) -> Diagnosis:
        """Look for what is wrong with the broker, this user's rights and the other members.

        Works whether this is open or not, over a connection of its own, and leaves nothing
        behind at the broker.

        Example::

            print(await fabric.diagnose())

        Args:
            seconds: how long to listen for others.
            timeout: seconds that connecting may take, and so many again what is tried then.
            subscriptions: names that streams share, besides those of this connector's own.
        """
        for subscription in subscriptions:
            check_queue(subscription)
        target = Target(
            uri=self._uri,
            name=self.name,
            instance=self.instance,
            discovery_exchange=self._discovery_exchange,
            heartbeat=self._heartbeat,
            interval=self._presence.interval if self._presence is not None else None,
            subscriptions=sorted({*self._streams.names, *self._subscribed, *subscriptions}),
            rejected=self.rejected,
            capabilities=self._connection.capabilities,
        )
        return await diagnose(
            target, seconds=finite_limit(seconds, "seconds"), timeout=finite_limit(timeout)
        )

    # -- calls

    async def rpc_register(self, api: object) -> None:
        """Serve the public methods of `api` under this service's own name.

        Plain and async methods; `health_check` is added. May be called again to serve more.

        Raises:
            BrokerRefused: a queue exists with other properties, or may not be made.
        """
        server = self._host.server(self.name)
        functions = public_functions(api)
        if server is None:
            await self.serve(functions, version=self.version)
        else:
            await server.replace({**server.functions, **functions})
            self._host.announce()

    async def rpc_proxy(
        self, service_domain: str, service_id: str, service_type: str
    ) -> ServiceProxy:
        """A remote service as an object; amqp-fabric's form of `service`."""
        name = ServiceName(service_domain, service_type, service_id)
        return ServiceProxy(
            self._client, ServicePattern(name.domain, name.type, name.id), bare=True
        )

    # -- discovery

    def list_services(
        self,
        service_domain: str | None = None,
        service_type: str | None = None,
        health_check: bool = True,
    ) -> list[dict[str, str]]:
        """Return the services that are present, as dicts with domain, type and id.

        Names match exactly; empty without ``keep_alive_listen``. The order is amqp-fabric's: as
        they were first heard, or heard again after they were gone.
        """
        now = self.registry.now
        found = self.registry.services(domain=service_domain, type=service_type)
        return [
            {"domain": service.name.domain, "type": service.name.type, "id": service.name.id}
            for service in self._as_heard(found)
            if self._cache_ttl is None or now - service.last_seen <= self._cache_ttl
        ]

    def _as_heard(self, found: list[Service]) -> list[Service]:
        """Return services as amqp-fabric would have heard them, new ones always last.

        amqp-fabric hears itself an interval after it was opened. Here the first keep-alive is sent
        at once, so this service is put behind the members that answer a newcomer, and behind
        those of amqp-fabric that are heard within that interval.
        """
        itself = self.registry.get(self.name)
        if itself is None or self._presence is None or itself.instances.keys() != {self.instance}:
            return sorted(found, key=attrgetter("since"))
        begun = itself.since + self._presence.interval
        behind = [itself.since + min(ANSWERED_WITHIN, self._presence.interval)]
        behind += [one.since for one in found if one.instances.keys() == {""}]
        last = max(since for since in behind if since <= begun)
        return sorted(found, key=lambda one: (last, 1) if one.name == self.name else (one.since, 0))

    def subscribe_service_keepalives(
        self,
        subscriber_name: str,
        callback: KeepAliveCallback,
        service_domain: str | None = None,
        service_type: str | None = None,
        service_id: str | None = None,
    ) -> None:
        """Await `callback` with the headers of each keep-alive of the services that match.

        Raises:
            NotListening: the connector does not listen (``keep_alive_listen``).
        """
        if not self._listener.listening:
            raise NotListening(
                "Keep-alives are only heard with keep_alive_listen=True: give it to the connector."
            )
        wanted = {
            "service_domain": service_domain,
            "service_type": service_type,
            "service_id": service_id,
        }
        headers = {header: value for header, value in wanted.items() if value}
        self._listener.subscribe(callback, headers)

    # -- data and logs

    def publish_data(
        self,
        data: object = None,
        headers: Mapping[str, Any] | None = None,
        *,
        items: object = None,
        format: Format | None = None,  # noqa: A002 - the field's word for it
        compression: Compression | None = None,
    ) -> Awaitable[None]:
        """Publish to the domain's data exchange.

        Bytes go as they are, anything else as JSON. What is returned may be awaited, and is
        done when the broker has the message, or ignored, as in amqp-fabric; failures that
        nobody awaits are counted and logged. While the broker is away or takes no messages, some
        wait, for a minute at most; see `Publisher`.

        Example::

            fabric.publish_data({"total": 55}, headers={"msg_type": "ORDER"})
            fabric.publish_data(frame, headers={"msg_type": "TICKS"}, format="arrow")

        Args:
            data: the data; a DataFrame becomes a list of records, with its index as further fields
                unless it only counts.
            headers: what subscribers choose by.
            items: the data, under the name of amqp-fabric's documentation.
            format: for rows: ``arrow`` (extra ``arrow``; by far the fastest), ``json-columns`` or
                ``json``. amqp-fabric subscribers read JSON only. Rows are a mapping of values (one
                row), mappings, a mapping of lists (columns), a DataFrame, or a table of pyarrow,
                polars or whatever else exports Arrow.
            compression: ``gzip``, or ``zstd`` (extra ``zstd``).

        Raises:
            InvalidArgumentType: there are no data, or they are given twice.
            NotSerializable: the data cannot be put into that form.
            UnusableHeader: a header cannot be sent: brokers take text, numbers, booleans, None,
                bytes, times, and lists and mappings of these.
            NotConnected: not open.
        """
        payload = items if data is None else data
        if payload is None or (data is not None and items is not None):
            raise InvalidArgumentType("publish_data needs the data, once: as data, or as items=.")
        if self.state is State.CLOSED:
            raise NotConnected(f"{self.fqn} is not open: open the connector first.")
        message = data_message(payload, headers, self.name, form=format, compression=compression)
        return self.publisher.publish(message)

    async def subscribe_data(
        self,
        subscriber_name: str,
        headers: Mapping[str, Any],
        callback: Callable[[Any], Awaitable[object]],
    ) -> None:
        """Await `callback` with each matching message, an `aio_pika.IncomingMessage`.

        Subscribers that share a name share the messages. The callback acknowledges, for
        example by ``async with message.process():``. What it has not acknowledged within four
        fifths of the broker's ``consumer_timeout`` (30 minutes, unless another one was met) is
        acknowledged for it: the broker would deliver it again, or lose it with the queue.

        Raises:
            UnusableHeader: a header cannot be one, so that no message has it.
            UnusableQueue: no queue can have this name.
        """
        shared = StreamQueue(subscriber_name)
        wanted = checked(match_all(headers), "filter")

        async def set_up(channel: Channel) -> None:
            await channel.topology.declare_exchange(self.data_exchange, "headers", durable=True)
            queue = await shared.declare(channel)
            await channel.topology.bind(queue, self.data_exchange, arguments=wanted)
            await channel.consume_messages(queue, callback)

        await self._reading.channel(set_up).open()
        self._subscribed.add(subscriber_name)

    async def init_logging_handler(self, handler: AmqpHandler) -> None:
        """Let `handler` publish to the domain's log exchange."""
        await ship_logs(self._background, self._connection, handler, self.name, self.instance)
        self._handlers.append(handler)


def _interval(seconds: float | bool) -> float | None:
    """Seconds between two keep-alives; None for none, True for one second, as in amqp-fabric."""
    return time_limit(float(seconds) if isinstance(seconds, bool) else seconds, _EVERY) or None


_EVERY = "keep_alive_seconds"
