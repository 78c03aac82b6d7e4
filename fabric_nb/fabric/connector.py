"""`AmqBrokerConnector`: a member of the fabric with the API of amqp-fabric."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self

from fabric_nb.errors import InvalidArgumentType, InvalidName, NotConnected, NotListening
from fabric_nb.fabric.amqp.connection import DEFAULT_HEARTBEAT, State
from fabric_nb.fabric.core.tasks import Failures, failures
from fabric_nb.fabric.core.timeouts import finite_limit, time_limit
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.core.waiting import named
from fabric_nb.fabric.data.queues import Start
from fabric_nb.fabric.data.stream_options import DEFAULT_MAX_ROWS, DEFAULT_PREFETCH, StreamOptions
from fabric_nb.fabric.discovery.announcer import REPLY_WITHIN, Presence
from fabric_nb.fabric.discovery.listener import KeepAliveCallback
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.doctor.target import LISTEN
from fabric_nb.fabric.logs.handler import AmqpHandler
from fabric_nb.fabric.member import OPEN_TIMEOUT, FabricMember
from fabric_nb.fabric.rpc.bench_options import DEFAULT_IN_FLIGHT as DEFAULT_BENCH_IN_FLIGHT
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.fabric.rpc.bench_result import BenchResult
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.current_call import enclosing_call
from fabric_nb.fabric.rpc.instance_statistics import graph_frame, statistics_frame
from fabric_nb.fabric.rpc.instances import ping_frame
from fabric_nb.fabric.rpc.map_calls import DEFAULT_IN_FLIGHT, MapOptions, OnError
from fabric_nb.fabric.rpc.map_rows import row_source
from fabric_nb.fabric.rpc.mapping import MapHandle
from fabric_nb.fabric.rpc.methods import public_functions
from fabric_nb.fabric.rpc.proxy import ServiceProxy
from fabric_nb.fabric.rpc.serve_options import Ack, Redelivered, ServeOptions
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.rpc.traced_call import TracedCall
from fabric_nb.fabric.timeline.events import window_seconds
from fabric_nb.fabric.timeline.timeline import Timeline
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.data_encoding import Compression, Format, data_message
from fabric_nb.fabric.wire.names import (
    ALL_INSTANCES,
    ServiceName,
    ServicePattern,
    check_exchange,
    check_queue,
    data_exchange,
    parse_call,
)
from fabric_nb.fabric.wire.names import (
    discovery_exchange as default_discovery_exchange,
)

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.data.recording import Replay
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.fabric.doctor.findings import Diagnosis
    from fabric_nb.frames.time_conversion import Unit

DEFAULT_TIMEOUT = 30.0
"""Default timeout of a call, in seconds."""
_EVERY = "keep_alive_seconds"


class AmqBrokerConnector:
    """Connection of a service to the fabric.

    The first eight arguments, and the methods of `amqp-fabric <https://pypi.org/project/amqp-fabric/>`_,
    are those of its connector; a program written for it runs with only its imports changed.

    Example::

        async with AmqBrokerConnector(
            "amqp://guest:guest@localhost/", "my_project", "client_app", "my_client",
            keep_alive_seconds=5, keep_alive_listen=True,
        ) as fabric:
            await fabric.call("my_app.multiply", x=5, y=7)

    Args:
        amqp_uri: URI of the broker, ``amqp://`` or ``amqps://``. For a cluster, a list of the
            nodes or one URI with several hosts (``amqp://a,b,c/``), which are tried in turn.
        service_domain: group of services to which this one belongs.
        service_type: services of one type have one API.
        service_id: distinguishes services of one type; instances with the same three names share
            the calls.
        keep_alive_seconds: seconds between two keep-alives; False: the service is not announced.
        keep_alive_listen: receive the keep-alives of other services, which short names, `registry`
            and `list_services` need.
        discovery_cache_ttl: seconds without a keep-alive after which `list_services` omits a
            service; None: three of its own intervals.
        discovery_exchange: exchange of keep-alives; ``DISCOVERY_EXCHANGE_NAME`` or
            ``msc.discovery``.
        service_version: version of the service, which its keep-alives carry.
        timeout: default timeout of a call, in seconds; None: no limit.
        heartbeat: seconds between AMQP heartbeats.
        presence: where keep-alives are sent from: ``loop``, or ``thread`` so that they continue
            while the loop is blocked.
        connection_name: connection name at the broker.

    Attributes:
        member: parts of the connector.
        name: address of the service.
        version: version of the service.
        instance: id of this process among the instances of the service.
        registry: known services.
        calls: record of the calls made and served.
        rejected: record of messages that could not be read, or were refused.
        publisher: publisher of data.
        logs: log feeds; call it to open one.
        traces: traces of sampled calls.

    Raises:
        InvalidName: domain, type or id is not 1 to 63 letters, digits, ``-`` or ``_``, or an
            exchange cannot have its name.
        InvalidUri: the URI cannot be used.
        InvalidTimeout: `timeout` or `keep_alive_seconds` is negative, NaN or not a number.
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
        presence: Presence = "loop",
        connection_name: str | None = None,
    ) -> None:
        self.member = FabricMember(
            amqp_uri,
            ServiceName(service_domain, service_type, service_id),
            version=service_version,
            keep_alive=_interval(keep_alive_seconds),
            listen=bool(keep_alive_listen),
            discovery_exchange=check_exchange(discovery_exchange or default_discovery_exchange()),
            timeout=timeout,
            heartbeat=heartbeat,
            presence=presence,
            connection_name=connection_name,
        )
        self.name = self.member.name
        self.version = self.member.version
        self.instance = self.member.instance
        self.registry = self.member.registry
        self.calls = self.member.calls
        self.rejected = self.member.rejected
        self.publisher = self.member.publisher
        self.logs = self.member.logs
        self.traces = self.member.traces
        self._cache_ttl = discovery_cache_ttl

    # -- opening and closing

    async def open(
        self, timeout: float | EllipsisType | None = ..., *, retry: bool = True, **_: Any
    ) -> Self:
        """Connect, and start to announce and to listen; do nothing if already open.

        Args:
            timeout: seconds in which connecting to an unreachable broker is retried, None for no
                limit; left out: connect once, within 10 seconds.
            retry: False to connect once, within `timeout` seconds.

        Raises:
            InvalidTimeout: `timeout` is negative, NaN or not a number.
            BrokerUnavailable: the broker cannot be reached or refuses the login; subclasses
                name the reason.
            BrokerRefused: the broker refuses an exchange or a queue.
            NotConnected: the connector was closed in the meantime.
        """
        await self.member.open(timeout, retry=retry)
        return self

    async def close(self, grace: float | None = 0.0) -> None:
        """Withdraw the services, send waiting data and log records, and close.

        In-flight calls may end within `grace` seconds (None: without limit); later ones are
        redelivered to other instances.

        Raises:
            InvalidTimeout: `grace` is negative, NaN or not a number.
        """
        await self.member.close(grace)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # -- state

    @property
    def domain(self) -> str:
        """The service's domain."""
        return self.name.domain

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

    @property
    def uri(self) -> str:
        """URI of the broker, or of the cluster's node in use, with the password masked."""
        return self.member.uri

    @property
    def broker(self) -> str:
        """Product and version of the broker."""
        return self.member.broker

    @property
    def timeout(self) -> float | None:
        """Default timeout of a call, in seconds; None: no limit."""
        return self.member.rpc.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self.member.rpc.timeout = seconds

    @property
    def state(self) -> State:
        """State of the connection, and whether the broker accepts messages."""
        return self.member.state

    def on_state(self, listener: Callable[[State], object]) -> None:
        """Call `listener` with `state` whenever it changes."""
        self.member.on_state(listener)

    @property
    def failures(self) -> Failures:
        """Errors in background work of this process, which no caller receives."""
        return failures

    @property
    def servers(self) -> tuple[Server, ...]:
        """Services that this connector serves, each with its functions and statistics."""
        return self.member.servers

    @property
    def transient_queues_refused(self) -> bool:
        """True if the broker has refused the transient queues that amqp-fabric peers need."""
        return self.member.transient_queues_refused

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.uri}: {self.state}>"

    async def diagnose(
        self,
        *,
        seconds: float = LISTEN,
        timeout: float = OPEN_TIMEOUT,
        subscriptions: Collection[str] = (),
    ) -> Diagnosis:
        """Check the broker, this user's permissions and the other members for faults.

        Uses a separate connection, works on a closed connector too, and leaves nothing behind on
        the broker.

        Example::

            print(await fabric.diagnose())

        Args:
            seconds: duration for which keep-alives are received.
            timeout: maximum seconds for connecting, and again for the checks after it.
            subscriptions: names of shared streams to check, in addition to those of this connector.
        """
        from fabric_nb.fabric.doctor.checks import diagnose

        for subscription in subscriptions:
            check_queue(subscription)
        return await diagnose(
            self.member.target(sorted(subscriptions)),
            seconds=finite_limit(seconds, "seconds"),
            timeout=finite_limit(timeout),
        )

    # -- calls

    def call(
        self,
        call: str,
        /,
        *,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a remote method; await it for its result.

        Example::

            await fabric.call("my_app.multiply", x=5, y=7)

        Args:
            call: ``id.method``, ``type.id.method`` or ``domain.type.id.method``.
            timeout: seconds; None: the connector's timeout, infinity: no limit.
            version: version that the service must have, as in ``>=1.2,<2``.
            idempotent: safe to run twice: retry, within `timeout`, if the service or the
                connection is lost during the call.
            cancel_on_timeout: cancel the call at its service when `timeout` is over. With False it
                raises `CallTimeout` as well, and the call continues if it has begun; the error
                names the instance. A call that is cancelled, as by an interrupt, is always
                cancelled at its service.
            kwargs: the method's arguments; use `call_service` for any of the names above.

        Raises:
            CallError: the call failed; subclasses name the reason.
            ConnectionLost: the connection was lost; whether the method ran is not known.
            NotSerializable: an argument cannot be sent.
            InvalidTimeout: `timeout` is negative, NaN or not a number.
            InvalidName: the call is not written as above.
        """
        pattern, method = parse_call(call, domain=self.domain)
        coroutine = self.member.rpc.call(
            pattern,
            method,
            kwargs,
            timeout=timeout,
            version=version,
            idempotent=idempotent,
            cancel_on_timeout=cancel_on_timeout,
        )
        return named(coroutine, call)

    def start(
        self,
        call: str,
        /,
        *,
        output: bool = False,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> CallHandle:
        """Call a remote method, and return a handle with its progress at once.

        Example::

            call = fabric.start("reports.make", day="2026-11-24")
            while not await call.ended(1):
                print(call.progress)
            report = await call

        Options and errors are those of `call`, whose errors are raised where the result is
        requested.

        Args:
            call: ``id.method``, ``type.id.method`` or ``domain.type.id.method``.
            output: receive what the method prints and logs, in ``report.lines`` of the handle.
            timeout: seconds; None: the connector's timeout, infinity: no limit.
            version: version that the service must have.
            idempotent: safe to run twice.
            cancel_on_timeout: cancel the call when `timeout` is over, or let it continue.
            kwargs: the method's arguments.

        Raises:
            WrongLoop: no event loop is running in this thread.
            InvalidName: the call is not written as above.
        """
        pattern, method = parse_call(call, domain=self.domain)
        return self.member.rpc.start(
            pattern,
            method,
            kwargs,
            output=output,
            timeout=timeout,
            version=version,
            idempotent=idempotent,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def trace(
        self,
        call: str,
        /,
        *,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> TracedCall:
        """Call a remote method, and return the call with the spans of all services on its way.

        Example::

            traced = await fabric.trace("my_app.report", day=1)
            print(traced.text)          # a waterfall: service, instance, duration, error
            traced.result

        Each fabric_nb service publishes its part to ``{domain}.spans``; of one on amqp-fabric, its
        caller's part is there. A call that fails raises its error where `TracedCall.result` is
        read. Arguments are those of `call`.

        Raises:
            BrokerRefused: the user lacks permission to receive spans.
            FabricError: the call was not sent.
        """
        pattern, method = parse_call(call, domain=self.domain)
        options = {
            "timeout": timeout,
            "version": version,
            "idempotent": idempotent,
            "cancel_on_timeout": cancel_on_timeout,
        }
        return await self.member.rpc.trace(TracedCall(call), pattern, method, kwargs, **options)

    def call_stream(
        self,
        call: str,
        /,
        *,
        timeout: float | None = None,
        version: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        """Call a remote generator and yield its items as they arrive.

        Example::

            async for row in fabric.call_stream("reports.rows", day="2026-11-24"):
                ...

        The remote generator runs ahead by a few items only, and is closed when this one is closed:
        by ``break``, by its ``aclose``, or because this process has ended. A method that is not a
        generator, or a method of an amqp-fabric service, yields its reply at once: the items of a
        list, or a single value.

        Arguments and errors are those of `call`, except that `timeout` is for each item.
        """
        pattern, method = parse_call(call, domain=self.domain)
        time_limit(timeout)  # refuses an invalid one at once, not with the first item
        return self.member.rpc.stream(pattern, method, kwargs, timeout=timeout, version=version)

    def map(
        self,
        call: str,
        rows: pd.DataFrame | Iterable[Any] | AsyncIterable[Any] | None = None,
        /,
        *,
        in_flight: int = DEFAULT_IN_FLIGHT,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        retries: int = 0,
        on_error: OnError = "keep",
        spread: bool = True,
        **kwargs: Any,
    ) -> MapHandle:
        """Call a remote method for each row; await the handle for a DataFrame of the results.

        Example::

            prices = await fabric.map("pricing.quote", orders[["sku", "amount"]], country="DE")
            prices = await fabric.map("pricing.quote", sku=orders.sku, in_flight=64)
            orders.join(prices)

        The calls begin at once. A row that fails keeps its error and stops nothing; `MapHandle`
        describes the results, and how to cancel a map, continue it and retry failed rows.

        Args:
            call: ``id.method``, ``type.id.method`` or ``domain.type.id.method``.
            rows: a DataFrame, whose columns are keywords and whose index is that of the results; or
                mappings of keywords in an iterable or an async iterable, of which rows are taken
                only when they can be called.
            in_flight: see `MapOptions` for this and the following arguments.
            timeout: seconds for each row.
            version: version that the service must have.
            idempotent: safe to run twice.
            cancel_on_timeout: cancel a row when `timeout` is over, or let it continue.
            retries: number of further calls of a row that fails.
            on_error: ``keep`` the error of a row, or ``raise`` the first one, after the other rows
                under way have ended.
            spread: the items of a dict result become columns.
            kwargs: arguments that all calls have; a row's own value of a name comes first. Without
                `rows`, those that are a Series, an array of one dimension, a list or another
                sequence are columns, and the first Series has the index of the results. Use
                `map_service` for any of the names above.

        Raises:
            InvalidName: the call is not written as above.
            InvalidArgument: an option or the rows cannot be used; the message says why.
            WrongLoop: no event loop is running.
        """
        pattern, method = parse_call(call, domain=self.domain)
        options = MapOptions(
            in_flight=in_flight,
            timeout=timeout,
            version=version,
            idempotent=idempotent,
            cancel_on_timeout=cancel_on_timeout,
            retries=retries,
            on_error=on_error,
            spread=spread,
        )
        return self.member.maps.start(pattern, method, row_source(rows, kwargs), options)

    def map_stream(
        self,
        call: str,
        rows: pd.DataFrame | Iterable[Any] | AsyncIterable[Any] | None = None,
        /,
        *,
        in_flight: int = DEFAULT_IN_FLIGHT,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        retries: int = 0,
        on_error: OnError = "keep",
        **kwargs: Any,
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """Call a remote method for each row, and yield each row with its result.

        Example::

            async for row, result in fabric.map_stream("pricing.quote", read_orders()):
                if isinstance(result, Exception):
                    ...

        Rows are yielded in the order in which they end, so that a slow one delays no other. They
        are taken only as their results are consumed: at most twice `in_flight` rows are in memory,
        and the iterable may be endless. A row is yielded as given, or as a dict of its columns. The
        result of a row that failed is its exception; with ``on_error="raise"`` the first one is
        raised, after the results of the other rows under way.

        The rows under way are cancelled when this generator is closed. Close it with
        `contextlib.aclosing` if you may leave the loop early.

        Arguments are those of `map`, and errors those of `call`, which end it if no row can be
        called; an error of the iterable is raised as it is.
        """
        pattern, method = parse_call(call, domain=self.domain)
        options = MapOptions(
            in_flight=in_flight,
            timeout=timeout,
            version=version,
            idempotent=idempotent,
            cancel_on_timeout=cancel_on_timeout,
            retries=retries,
            on_error=on_error,
        )
        return self.member.maps.stream(pattern, method, row_source(rows, kwargs), options)

    def map_service(
        self,
        pattern: ServicePattern,
        method: str,
        rows: pd.DataFrame | Iterable[Any] | AsyncIterable[Any] | None,
        kwargs: Mapping[str, Any],
        **options: Any,
    ) -> MapHandle:
        """Call a method for each row, with the name in parts and the arguments in a mapping.

        Options and errors are those of `map`.
        """
        return self.member.maps.start(
            pattern, method, row_source(rows, kwargs), MapOptions(**options)
        )

    @property
    def last_map(self) -> MapHandle | None:
        """Handle of the newest map; None if there was none.

        A notebook keeps it until the next map begins. A program keeps it as long as it refers to
        it, because the results may be large.
        """
        return self.member.maps.last

    async def bench(
        self,
        call: str,
        /,
        *,
        in_flight: int = DEFAULT_BENCH_IN_FLIGHT,
        seconds: float | None = None,
        calls: int | None = None,
        rate: float | None = None,
        warmup: float | None = None,
        timeout: float | None = None,
        version: str | None = None,
        repeatable: bool = False,
        **kwargs: Any,
    ) -> BenchResult:
        """Measure a remote method: call it again and again, and return rate, latencies and errors.

        Example::

            result = await fabric.bench("my_app.quote", sku="tea", seconds=10, repeatable=True)
            result.rate, result.p95_ms, result.errors_by_type
            result.df.plot(x="second", y="rate")
            await fabric.bench("my_app@7f3a.health_check", rate=200)

        The method is called alone first, and its error is raised. Then `in_flight` calls are under
        way at the same time, until the time or the number of calls is over; those under way at the
        end may end within two seconds. It ends early, with `reason` in the result, if calls only
        fail for three seconds. The calls are not in `calls`. If it is cancelled, `last_bench` has
        the result so far.

        Args:
            call: ``id.method``, ``type.id.method`` or ``domain.type.id.method``; ``id@7f3a.method``
                measures one instance.
            in_flight: see `BenchOptions` for this and the following arguments.
            seconds: duration; 10 if there are no `calls`.
            calls: number of calls.
            rate: calls that are due per second; their latencies count from that time.
            warmup: seconds at the start whose calls are not counted.
            timeout: seconds for each call.
            version: version that the service must have.
            repeatable: the method may be called thousands of times; `health_check` always may.
            kwargs: the method's arguments; use `bench_service` for any of the names above.

        Raises:
            InvalidArgument: the method is not `repeatable`, or an option has an invalid value.
            InvalidName: the call is not written as above, or means all instances.
            CallError: the first call failed, as without a service.
            NotSerializable: an argument cannot be sent.
        """
        pattern, method = parse_call(call, domain=self.domain)
        return await self.bench_service(
            pattern,
            method,
            kwargs,
            in_flight=in_flight,
            seconds=seconds,
            calls=calls,
            rate=rate,
            warmup=warmup,
            timeout=timeout,
            version=version,
            repeatable=repeatable,
        )

    async def bench_service(
        self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any], **options: Any
    ) -> BenchResult:
        """Measure a method, with the name in parts and the arguments in a mapping.

        Options and errors are those of `bench`.
        """
        benchmarks = self.member.benchmarks
        return await benchmarks.run(
            benchmarks.create(pattern, method, kwargs, BenchOptions(**options))
        )

    @property
    def last_bench(self) -> BenchResult | None:
        """Result of the newest benchmark, so far if it is under way; None if there was none."""
        return self.member.benchmarks.last

    async def call_service(
        self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any], **options: Any
    ) -> Any:
        """Call a method, with the name in parts and the arguments in a mapping.

        Options and errors are those of `call`.
        """
        return await self.member.rpc.call(pattern, method, kwargs, **options)

    def service(
        self,
        service: str,
        *,
        version: str | None = None,
        timeout: float | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
    ) -> ServiceProxy:
        """Return a proxy of a service, by ``id``, ``type.id`` or ``domain.type.id``.

        With ``@`` and the beginning of the id of an instance, it is a proxy of that instance.
        """
        return ServiceProxy(
            self.member.rpc,
            self._addressed(service),
            version=version,
            timeout=timeout,
            idempotent=idempotent,
            cancel_on_timeout=cancel_on_timeout,
            maps=self.member.maps,
        )

    async def rpc_proxy(
        self, service_domain: str, service_id: str, service_type: str
    ) -> ServiceProxy:
        """Return a proxy of a service; amqp-fabric's form of `service`."""
        name = ServiceName(service_domain, service_type, service_id)
        return ServiceProxy(
            self.member.rpc,
            ServicePattern(name.domain, name.type, name.id),
            bare=True,
            maps=self.member.maps,
        )

    # -- instances

    async def ping(self, service: str) -> pd.DataFrame:
        """Ping the instances of a service, and return a row for each.

        Example::

            (await fabric.ping("my_app")).sort_values("rtt_ms")

        Columns: instance, host, pid, version, rtt_ms (milliseconds from the ping to its answer),
        clock_ms (milliseconds by which its clock is ahead, within half of `rtt_ms`), up_since
        (UTC). An instance that has not answered within a second has a row without figures: its loop
        may be blocked.

        Args:
            service: ``id``, ``type.id`` or ``domain.type.id``, and with ``@`` one instance.

        Raises:
            UnknownService: there is no such service.
            InstanceNotFound: it runs on amqp-fabric, which does not answer.
        """
        return ping_frame(await self.member.instances.ping(self._addressed(service)))

    async def stats(self, service: str) -> pd.DataFrame:
        """Return the statistics of a service, with a row for each instance and method.

        Example::

            stats = await fabric.stats("my_app")
            stats.groupby("method")[["calls", "errors"]].sum()

        Columns: instance, those of `MethodStatistics` (method, calls, errors, cancelled, running,
        waiting, mean_ms, p95_ms, last_error, last_called) and up, the seconds that the instance
        has counted for. An instance that gives no answer within 5 s has a row without a method,
        whose ``last_error`` is the reason.

        Args:
            service: ``id``, ``type.id`` or ``domain.type.id``, and with ``@`` one instance.

        Raises:
            UnknownService: there is no such service.
            InstanceNotFound: it runs on amqp-fabric, which does not count.
        """
        return statistics_frame(await self.member.instances.statistics(self._addressed(service)))

    async def drain(self, service: str) -> list[str]:
        """Ask an instance to answer its calls and leave; return the ids of those that begin to.

        Example::

            await fabric.drain("my_app@7f3a")

        An instance that drains takes no more calls. It leaves when its last call is answered;
        its process goes on.

        Args:
            service: service and instance, as in ``my_app@7f3a``; ``my_app@*`` is all instances.

        Raises:
            InvalidName: no instance is named.
            InstanceNotFound: there is no such instance, or it runs on amqp-fabric.
            RemoteError: the service does not allow it (`PermissionError`): it was served without
                ``remote_drain=True``, or does not accept calls of this user.
        """
        pattern = self._addressed(service)
        if not pattern.instance:
            raise InvalidName(
                f"{service!r} names no instance: write {service}@ and the beginning of its id, or"
                f" {service}@{ALL_INSTANCES} for all."
            )
        return await self.member.instances.drain(pattern)

    async def graph(self, domain: str | None = None) -> pd.DataFrame:
        """Return who calls whom in a domain, with a row for each caller, service and method.

        Columns are those of `Edge`: caller (empty for callers on amqp-fabric, which send no name),
        service, method, calls and errors since the instances of the service began to serve,
        calls_s and errors_s. Services count their calls themselves, so those on amqp-fabric appear
        as callers only. ``frame.attrs["unanswered"]`` has the services that gave no statistics,
        with the reason.

        Example::

            graph = await fabric.graph()
            graph.groupby(["caller", "service"]).calls_s.sum()

        Args:
            domain: domain of the called services; None: the connector's.

        Raises:
            InvalidName: the domain cannot be one.
        """
        found = await self.member.instances.graph(domain or self.domain)
        frame = graph_frame(found.edges)
        frame.attrs["unanswered"] = {name.fqn: why for name, why in found.unanswered.items()}
        return frame

    # -- timeline

    def timeline(self, last: float | str | timedelta = "5min") -> Timeline:
        """Return what happened lately: calls, instances, streams and logs on one time axis.

        Example::

            fabric.timeline(last="30s")           # in a notebook, its picture
            fabric.timeline().df.query("level == 'failed'")

        It is made of what this connector keeps anyway: its last 1,000 calls, the calls in
        `traces`, the last 1,000 instances that came or went, the arrivals of open streams, and the
        records of open log feeds. So it knows nothing from before the connector was opened.

        Args:
            last: its length: ``"30s"``, ``"5min"``, ``"1h"``, a number of seconds or a
                `timedelta`, from a second to a week.

        Raises:
            InvalidArgument: `last` is none of these.
        """
        return Timeline.of(self.member, window_seconds(last))

    def _addressed(self, service: str) -> ServicePattern:
        return ServicePattern.parse(service, domain=self.domain, instances=True)

    # -- serving

    async def serve(
        self,
        api: object,
        *,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        version: str = "",
        prefetch: int = 1,
        threads: bool = False,
        single_active: bool = False,
        redelivered: Redelivered = "run",
        ack: Ack = "reply",
        allow: Collection[str] | None = None,
        exchanges: Collection[str] = (),
        reply_queues: Collection[str] = (),
        remote_drain: bool = False,
        trace_slow: float | None = None,
        replacing: Server | None = None,
    ) -> Server:
        """Serve an API, under this service's address or another one of its domain.

        Example::

            server = await fabric.serve({"double": lambda x: 2 * x}, type="math", id="m1")
            await server.replace({"double": better_double})

        Args:
            api: an object with public methods, or a mapping from names to functions.
            type: the service's type; that of this connector if left out.
            id: the service's id; that of this connector if left out.
            version: see `ServeOptions` for this and the following arguments.
            prefetch: concurrent calls of one method.
            threads: run plain functions in threads, off the loop.
            single_active: one instance receives all calls, and the others stand by.
            redelivered: ``run`` or ``refuse`` a call that was delivered before.
            ack: acknowledge a call with its ``reply``, or when it begins (``begin``).
            allow: users of the broker whose calls are accepted; None: all users.
            exchanges: additional exchanges whose messages are accepted as calls.
            reply_queues: additional names of reply queues.
            trace_slow: seconds from which a call is kept in `traces`; failed ones are kept too.
            remote_drain: callers may ask an instance to leave (`drain`).
            replacing: the current server of this address; no call is lost, and it finishes its
                in-flight calls.

        Raises:
            InvalidName: type or id cannot be part of an address, or it is served already.
            InvalidArgument: an option has an invalid value.
            BrokerRefused: a queue exists with other properties, or the user lacks permission to
                declare it; or the broker does not verify users, so that `allow` cannot be enforced.
        """
        options = ServeOptions(
            version=version,
            prefetch=prefetch,
            threads=threads,
            single_active=single_active,
            redelivered=redelivered,
            ack=ack,
            allow=allow,
            exchanges=exchanges,
            reply_queues=reply_queues,
            remote_drain=remote_drain,
            trace_slow=trace_slow,
        )
        name = ServiceName(self.domain, type or self.name.type, id or self.name.id)
        functions = public_functions(api)
        return await self.member.host.serve(name, functions, options, replacing=replacing)

    async def rpc_register(self, api: object) -> None:
        """Serve the public methods of `api` under this service's own name.

        Methods are plain or async; `health_check` is added. Call it again to serve more methods.

        Raises:
            BrokerRefused: a queue exists with other properties, or the user lacks permission to
                declare it.
        """
        server = self.member.host.server(self.name)
        functions = public_functions(api)
        if server is None:
            await self.serve(functions, version=self.version)
        else:
            await server.replace({**server.functions, **functions})
            self.member.host.announce()

    # -- discovery

    def list_services(
        self,
        service_domain: str | None = None,
        service_type: str | None = None,
        health_check: bool = True,
    ) -> list[dict[str, str]]:
        """Return the services that are present, as dicts with domain, type and id.

        Names match exactly; the list is empty without ``keep_alive_listen``. The order is
        amqp-fabric's: by the first keep-alive, or the first after the service was gone.
        """
        now = self.registry.now
        found = self.registry.services(domain=service_domain, type=service_type)
        return [
            {"domain": service.name.domain, "type": service.name.type, "id": service.name.id}
            for service in self._in_order_of_arrival(found)
            if self._cache_ttl is None or now - service.last_seen <= self._cache_ttl
        ]

    def _in_order_of_arrival(self, found: list[Service]) -> list[Service]:
        """Return services in the order in which amqp-fabric would have received their keep-alives.

        amqp-fabric receives its own first keep-alive an interval after it was opened. Here it is
        sent at once, so this service is sorted after the members that answer a new member, and
        after those of amqp-fabric whose first keep-alive arrived within that interval.
        """
        itself, announcer = self.registry.get(self.name), self.member.announcer
        if itself is None or announcer is None or itself.instances.keys() != {self.instance}:
            return sorted(found, key=attrgetter("since"))
        begun = itself.since + announcer.interval
        behind = [itself.since + min(REPLY_WITHIN, announcer.interval)]
        behind += [service.since for service in found if service.instances.keys() == {""}]
        last = max(since for since in behind if since <= begun)
        return sorted(
            found,
            key=lambda service: (last, 1) if service.name == self.name else (service.since, 0),
        )

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
        if not self.member.listener.listening:
            raise NotListening(
                "Keep-alives are only received with keep_alive_listen=True: give it to the"
                " connector."
            )
        wanted = {
            "service_domain": service_domain,
            "service_type": service_type,
            "service_id": service_id,
        }
        headers = {header: value for header, value in wanted.items() if value}
        self.member.listener.subscribe(callback, headers)

    # -- data

    def publish_data(
        self,
        data: object = None,
        headers: Mapping[str, Any] | None = None,
        *,
        items: object = None,
        format: Format | None = None,  # noqa: A002 - the field's word for it
        compression: Compression | None = None,
        mandatory: bool = False,
    ) -> Awaitable[None]:
        """Publish to the domain's data exchange.

        Bytes are sent unchanged, other data as JSON. Await the returned object to wait until the
        broker has confirmed the message, or ignore it, as in amqp-fabric; failures that are not
        awaited are counted and logged. While the broker is unreachable or blocks publishers, a
        limited number of messages wait, for a minute at most; see `Publisher`.

        Example::

            fabric.publish_data({"total": 55}, headers={"msg_type": "ORDER"})
            fabric.publish_data(frame, headers={"msg_type": "TICKS"}, format="arrow")

        Args:
            data: the data; a DataFrame becomes a list of records, with its index as further fields
                unless it is a `RangeIndex` without a name.
            headers: headers by which subscribers select messages.
            items: the data, under the name in amqp-fabric's documentation.
            format: for rows: ``arrow`` (extra ``arrow``; by far the fastest), ``json-columns`` or
                ``json``. amqp-fabric subscribers read JSON only. Rows are a mapping of values (one
                row), mappings, a mapping of lists (columns), a DataFrame, or a table of pyarrow,
                polars or another library that exports Arrow.
            compression: ``gzip``, or ``zstd`` (extra ``zstd``).
            mandatory: a message that no queue receives fails, with `NoSubscriber`.

        Raises:
            InvalidArgumentType: data is missing, or given twice.
            NotSerializable: the data cannot be encoded in this format.
            UnusableHeader: a header cannot be sent: brokers accept text, numbers, booleans, None,
                bytes, times, and lists and mappings of these.
            NotConnected: not open.
        """
        payload = items if data is None else data
        if payload is None or (data is not None and items is not None):
            raise InvalidArgumentType("publish_data needs the data, once: as data, or as items=.")
        if self.state is State.CLOSED:
            raise NotConnected(f"{self.fqn} is not open: open the connector first.")
        message = data_message(payload, headers, self.name, form=format, compression=compression)
        outer = enclosing_call()
        kind = str((headers or {}).get("msg_type", ""))
        parent = None if outer is None else outer.span
        span = self.member.tracer.begin_message(parent, self.fqn, kind)
        if span is None:
            return self.publisher.publish(message, mandatory=mandatory)
        message.headers = {**message.headers, **span.headers()}
        span.request = len(message.body)
        confirmation = self.publisher.publish(message, mandatory=mandatory)
        confirmation.add_done_callback(partial(_end_message, span))
        return confirmation

    async def subscribe_data(
        self,
        subscriber_name: str,
        headers: Mapping[str, Any],
        callback: Callable[[Any], Awaitable[object]],
    ) -> None:
        """Await `callback` with each matching message, an `aio_pika.IncomingMessage`.

        Subscribers that share a name share the messages. The callback acknowledges, for
        example by ``async with message.process():``. A message that it has not acknowledged within
        four fifths of the broker's ``consumer_timeout`` (30 minutes, unless the broker has shown
        another limit) is acknowledged automatically, because the broker would deliver it again, or
        lose it with the queue.

        Raises:
            UnusableHeader: a header is invalid, so that no message has it.
            UnusableQueue: the name is invalid for a queue.
        """
        await self.member.streams.subscribe(subscriber_name, headers, callback)

    async def stream(
        self,
        headers: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        durable: bool = False,
        replay_from: Start | None = None,
        domain: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_rows: int | None = DEFAULT_MAX_ROWS,
        max_bytes: int | None = None,
        index: str | None = None,
        unit: Mapping[str, Unit] | None = None,
        with_headers: bool | Sequence[str] = False,
        arrival: bool | str = False,
        paused: bool = False,
        **more_headers: Any,
    ) -> Stream:
        """Open a data stream, whose rows accumulate into a DataFrame.

        Example::

            orders = await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS", currency="USD")
            orders.df

        See `StreamOptions` for the arguments; further keywords are headers too.
        """
        options = StreamOptions(
            name=name,
            durable=durable,
            replay_from=replay_from,
            prefetch=prefetch,
            max_rows=max_rows,
            max_bytes=max_bytes,
            index=index,
            unit=unit,
            with_headers=with_headers,
            arrival=arrival,
            paused=paused,
        )
        wanted = {**(headers or {}), **more_headers}
        return await self.member.streams.open(wanted, options, domain=domain)

    async def replay(
        self,
        path: str | Path,
        *,
        speed: float = 1.0,
        headers: Mapping[str, Any] | None = None,
    ) -> Replay:
        """Publish a recording in this domain, with its headers and at its original pace.

        Example::

            replay = await fabric.replay("orders.parquet", speed=10)
            await replay

        Args:
            path: a file that `Stream.record` wrote.
            speed: multiple of the recorded speed; 0: as fast as possible.
            headers: additional headers of each message; they replace headers of the same name.

        Raises:
            RecordingError: the file is not a recording, or `speed` is not a valid factor.
        """
        return await self.member.streams.play(path, speed=speed, headers=headers)

    # -- logs

    async def init_logging_handler(self, handler: AmqpHandler) -> None:
        """Publish the records of `handler` to the domain's log exchange."""
        await self.member.logs.publish_from(handler)


def _end_message(span: ActiveSpan, confirmation: asyncio.Future[None]) -> None:
    error = None if confirmation.cancelled() else confirmation.exception()
    span.end("ok" if error is None else "failed", "" if error is None else error_text(error))


def _interval(seconds: float | bool) -> float | None:
    """Return the seconds between keep-alives: None for none; True is 1, as in amqp-fabric."""
    return time_limit(float(seconds) if isinstance(seconds, bool) else seconds, _EVERY) or None
