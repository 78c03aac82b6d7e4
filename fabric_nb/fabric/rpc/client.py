"""Client of other services: resolves names, sends calls, retries safe ones, and records all."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from fabric_nb.errors import CallError, CallTimeout, ConnectionLost, FabricError, ServiceLost
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.tasks import check_loop_runs
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.current_call import enclosing_call
from fabric_nb.fabric.rpc.history import CallLog, MadeCall
from fabric_nb.fabric.rpc.methods import read_description
from fabric_nb.fabric.rpc.pings import Answers
from fabric_nb.fabric.rpc.queues import DESCRIBE
from fabric_nb.fabric.rpc.requester import Requester, new_correlation_id
from fabric_nb.fabric.rpc.retry import retry
from fabric_nb.fabric.rpc.running_calls import RunningCall
from fabric_nb.fabric.rpc.traced_call import TracedCall
from fabric_nb.fabric.tracing.tracer import OTEL_SDK, ActiveSpan, Tracer
from fabric_nb.fabric.tracing.traces import Traces
from fabric_nb.fabric.wire.calls import INSTANCE, OUTPUT, PROGRESS
from fabric_nb.fabric.wire.names import ALL_INSTANCES, ServiceName, ServicePattern

COMPLETE_WITHIN = 1.0
"""Seconds after a call in which the spans of the services on its way arrive."""
ANNOUNCED_WITHIN = 1.0
"""Seconds after connecting in which all instances on fabric_nb have announced themselves."""
MAX_ERROR_LINES = 20
"""Lines of output that the error of a call has."""


class RpcClient:
    """Calls the methods of other services.

    Args:
        connection: connection that requests are sent on.
        requester: sender of requests, which receives their replies.
        resolver: resolver of short names.
        registry: known services.
        history: record of the calls.
        tracer: tracer of the calls.
        traces: traces that the member collects.
        timeout: default timeout of a call, in seconds; None: no limit.

    Attributes:
        on_cancel: functions that are called with each handle that is cancelled.
    """

    def __init__(
        self,
        connection: Connection,
        requester: Requester,
        *,
        resolver: Resolver,
        registry: Registry,
        history: CallLog,
        tracer: Tracer,
        traces: Traces,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._tracer = tracer
        self._traces = traces
        self.requester = requester
        self._resolver = resolver
        self._registry = registry
        self._history = history
        self._timeout = time_limit(timeout)
        self.on_cancel: list[Callable[[CallHandle], object]] = []

    async def open(self) -> None:
        """Declare the reply queue and consume it."""
        await self.requester.open()

    @property
    def pending(self) -> int:
        """Number of calls that are in flight."""
        return self.requester.pending

    @property
    def timeout(self) -> float | None:
        """Default timeout of a call, in seconds; None: no limit."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = time_limit(seconds)

    async def call(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        cancel_on_timeout: bool = True,
        report: CallReport | None = None,
        traced: Callable[[ActiveSpan], object] | None = None,
    ) -> Any:
        """Call a method of the service that a name means; see `AmqBrokerConnector.call`.

        Args:
            pattern: name of the service.
            method: the method's name.
            kwargs: its keyword arguments.
            timeout: seconds; None: the client's timeout.
            version: version that the service must have.
            idempotent: safe to run twice.
            cancel_on_timeout: cancel the call at its timeout, or let it continue.
            report: receives the instance that answers, and what else it asks for.
            traced: called with the span of the call, which is then sampled in any case.
        """
        if self._connection.in_other_loop:  # another thread's loop, as in a subshell of JupyterLab
            work = self.call(
                pattern,
                method,
                kwargs,
                timeout=timeout,
                version=version,
                idempotent=idempotent,
                cancel_on_timeout=cancel_on_timeout,
                report=report,
                traced=traced,
            )
            return await self._connection.run_in_own_loop(work)
        if pattern.instance == ALL_INSTANCES:
            return await self._call_all(
                pattern,
                method,
                kwargs,
                timeout=timeout,
                version=version,
                idempotent=idempotent,
                cancel_on_timeout=cancel_on_timeout,
            )
        seconds = self.timeout if timeout is None else time_limit(timeout)
        if (outer := enclosing_call()) is not None:
            seconds = _inherited(seconds, outer, f"{pattern}.{method}")
            report = _forwarded(outer, report)
        with self._history.record_made(pattern, method) as made:
            began, left = monotonic(), seconds
            name = pattern.exact if version is None else None
            if name is None:
                name = await self._resolver.resolve(pattern, version=version, timeout=seconds)
                left = _left(seconds, began)
            made.service, made.report = name, report
            made.correlation_id = new_correlation_id()
            span = None
            if outer or traced or self._traces.share or OTEL_SDK in sys.modules:
                made.span = span = self._begin_span(outer, name, method, traced)
            instance = pattern.instance and self._resolver.resolve_instance(name, pattern.instance)
            failed: FabricError | None = None
            try:
                try:
                    result = await self.requester.call(
                        name,
                        method,
                        kwargs,
                        timeout=left,
                        given=seconds,
                        cancel_on_timeout=cancel_on_timeout,
                        report=report,
                        correlation_id=made.correlation_id,
                        instance=instance,
                        span=span,
                        contents=made.contents,
                    )
                except (ConnectionLost, ServiceLost, Unroutable) as error:
                    if instance and not isinstance(error, ConnectionLost):
                        raise  # an instance that has left does not come back
                    failed = error
                if failed is not None:
                    again = partial(
                        self._call_again,
                        made,
                        name,
                        instance,
                        method,
                        kwargs,
                        given=seconds,
                        cancel_on_timeout=cancel_on_timeout,
                    )
                    left = _left(seconds, began)
                    result = await retry(
                        failed, again, left, self._connection, idempotent=idempotent
                    )
            except Unroutable as error:
                raise self._resolver.not_served(name, method, error, instance) from None
        self._registry.record_reply(name, method)
        return result

    def _call_again(
        self,
        made: MadeCall,
        name: ServiceName,
        instance: str,
        method: str,
        kwargs: Mapping[str, Any],
        left: float | None,
        *,
        given: float | None,
        cancel_on_timeout: bool,
    ) -> Coroutine[Any, Any, Any]:
        made.correlation_id = new_correlation_id()
        if made.report is not None:
            made.report.reset()
        return self.requester.call(
            name,
            method,
            kwargs,
            timeout=left,
            given=given,
            cancel_on_timeout=cancel_on_timeout,
            report=made.report,
            correlation_id=made.correlation_id,
            instance=instance,
            span=made.span,
            contents=made.contents,
        )

    def _begin_span(
        self,
        outer: RunningCall | None,
        name: ServiceName,
        method: str,
        traced: Callable[[ActiveSpan], object] | None = None,
    ) -> ActiveSpan | None:
        """Begin the span of a call, if it is sampled."""
        if traced is not None:
            span = self._tracer.begin_trace(name.fqn, method)
            traced(span)
            return span
        parent = None if outer is None else outer.span
        return self._tracer.begin_call(parent, name.fqn, method, nested=outer is not None)

    async def trace(
        self,
        traced: TracedCall,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        **options: Any,
    ) -> TracedCall:
        """Call a method, and collect the spans of the services on the way; see `TracedCall`.

        Raises:
            BrokerRefused: the user lacks permission to receive spans.
            FabricError: the call was not sent.
        """
        if self._connection.in_other_loop:
            work = self.trace(traced, pattern, method, kwargs, **options)
            await self._connection.run_in_own_loop(work)
            return traced
        try:
            await self._trace(traced, pattern, method, kwargs, options)
        except BaseException as error:
            traced.error = error
            raise
        finally:
            traced.done = True
        return traced

    async def _trace(
        self,
        traced: TracedCall,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        name = await self._resolver.resolve(pattern, timeout=self.timeout)
        await self._traces.listen([name.domain])

        def begin(span: ActiveSpan) -> None:
            traced.trace = self._traces.begin(span.context.trace_id)

        try:
            result = await self.call(pattern, method, kwargs, traced=begin, **options)
            traced.succeed(result)
        except FabricError as error:
            if traced.trace is None or not traced.trace.spans:
                raise
            traced.error = error
        if traced.trace is not None:
            await self._traces.complete(traced.trace, COMPLETE_WITHIN)

    async def _call_all(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        version: str | None,
        **options: Any,
    ) -> dict[str, Any]:
        """Call a method of all instances, and return the results by instance.

        The result of an instance that fails is its exception.
        """
        name = await self._resolver.resolve(pattern, version=version, timeout=self.timeout)
        found = sorted((await self.ping(name)).by_instance)
        calls = (
            self.call(replace(pattern, instance=instance), method, kwargs, **options)
            for instance in found
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        return dict(zip(found, results, strict=True))

    async def resolve(
        self, pattern: ServicePattern, *, version: str | None, timeout: float | None
    ) -> tuple[ServiceName, str]:
        """Return the service that a name means, and the id of the instance that it names if any.

        Raises:
            CallError: the service or instance is not known; subclasses name the reason.
        """
        name = await self._resolver.resolve(pattern, version=version, timeout=timeout)
        if not pattern.instance:
            return name, ""
        return name, self._resolver.resolve_instance(name, pattern.instance)

    async def call_once(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        instance: str,
        timeout: float | None,
        report: CallReport,
    ) -> Any:
        """Call a method of a resolved service, without retries and without a record of the call."""
        try:
            result = await self.requester.call(
                name, method, kwargs, timeout=timeout, report=report, instance=instance
            )
        except Unroutable as error:
            raise self._resolver.not_served(name, method, error, instance) from None
        self._registry.record_reply(name, method)
        return result

    async def ping(self, name: ServiceName) -> Answers:
        """Ping the instances of a service, and return their answers.

        Raises:
            UnknownService: there is no such service.
            InstanceNotFound: it runs on amqp-fabric.
        """
        settled = self._registry.connected_for > ANNOUNCED_WITHIN
        known = self._resolver.instances(name) if settled else ()
        answers = await self.requester.pings.collect(name, known)
        if not answers.exists and not self._resolver.instances(name):
            raise self._resolver.unknown(ServicePattern(name.domain, name.type, name.id))
        if not answers.routed:
            raise self._resolver.not_addressable(name)
        return answers

    def start(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        output: bool = False,
        **options: Any,
    ) -> CallHandle:
        """Call a method in a task of its own; see `AmqBrokerConnector.start`."""
        check_loop_runs("A call with a handle begins")
        report = CallReport(OUTPUT if output else PROGRESS)
        call = self.call(pattern, method, kwargs, report=report, **options)
        return CallHandle(
            f"{pattern}.{method}",
            _with_output(call, report),
            pattern.id,
            report,
            on_cancel=self._on_cancel,
        )

    def _on_cancel(self, handle: CallHandle) -> None:
        for listener in self.on_cancel:
            listener(handle)

    async def stream(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        version: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield the items of a generator; see `AmqBrokerConnector.call_stream`."""
        self._connection.check_loop()
        seconds = self.timeout if timeout is None else time_limit(timeout)
        if (outer := enclosing_call()) is not None:
            seconds = _inherited(seconds, outer, f"{pattern}.{method}")
        with self._history.record_made(pattern, method) as made:
            name = await self._resolver.resolve(pattern, version=version, timeout=seconds)
            made.service, made.correlation_id = name, new_correlation_id()
            made.span = self._begin_span(outer, name, method)
            instance = pattern.instance and self._resolver.resolve_instance(name, pattern.instance)
            items = self.requester.stream(
                name,
                method,
                kwargs,
                timeout=seconds,
                correlation_id=made.correlation_id,
                instance=instance,
                span=made.span,
                contents=made.contents,
            )
            try:
                async with aclosing(items):
                    async for item in items:
                        yield item
                self._registry.record_reply(name, method)
            except Unroutable as error:
                raise self._resolver.not_served(name, method, error, instance) from None

    def known(self, pattern: ServicePattern) -> Service | None:
        """Return the one service in the registry that a name means, or None."""
        found = self._registry.find(pattern)
        return found[0] if len(found) == 1 else None

    async def describe(self, pattern: ServicePattern) -> Mapping[str, Mapping[str, str]]:
        """Return signature and doc of each method; empty for an amqp-fabric service."""
        if self._connection.in_other_loop:
            return await self._connection.run_in_own_loop(self.describe(pattern))
        name = await self._resolver.resolve(pattern, timeout=self.timeout)
        try:
            reply = await self.requester.call(name, DESCRIBE, {}, timeout=self.timeout)
        except Unroutable:
            return {}
        return read_description(reply)


async def _with_output(call: Coroutine[Any, Any, Any], report: CallReport) -> Any:
    """Return the result of a call; its error has the last lines of its output."""
    try:
        return await call
    except CallError as error:
        error.output = [line.text for line in report.lines][-MAX_ERROR_LINES:]
        raise


def _left(seconds: float | None, began: float) -> float | None:
    """Return what is left of a timeout that began at a time of `monotonic`."""
    return None if seconds is None else max(0.0, began + seconds - monotonic())


def _inherited(seconds: float | None, outer: RunningCall, label: str) -> float | None:
    """Return the timeout of a call that a served function makes: not more than its own caller's.

    Raises:
        CallTimeout: that caller does not wait any more.
    """
    left = outer.remaining
    if not left:
        raise CallTimeout(
            f"{label} was not called: {outer.method.name}, which calls it, has no time left.",
            call=label,
        )
    return seconds if left == math.inf else min(left, math.inf if seconds is None else seconds)


def _forwarded(outer: RunningCall, report: CallReport | None) -> CallReport | None:
    """Return a report whose progress becomes that of the call that makes it, if that is wanted.

    Args:
        outer: the call whose function makes this one.
        report: report that the function itself asks for, if any.
    """
    reporter = outer.reporter
    if reporter is None or (report is not None and report.level == INSTANCE):
        return report

    wanted = CallReport(PROGRESS) if report is None else report

    def forward() -> None:
        if wanted.progress is not None and not outer.reports_progress:
            reporter.progress(wanted.progress)

    wanted.listen(forward)
    return wanted
