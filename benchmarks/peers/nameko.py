"""nameko: RPC between a service on eventlet and a blocking caller; it has no data streams."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import payloads
from benchmarks.payloads import REQUEST

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")  # at each import


@contextmanager
def serve(uri: str, service: str, prefetch: int) -> Iterator[None]:
    import eventlet  # type: ignore[import-not-found, import-untyped, unused-ignore]

    eventlet.monkey_patch()  # as in `nameko run`, and only in the server
    from nameko.rpc import rpc  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from nameko.runners import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        ServiceRunner,
    )

    class Echo:
        name = service

        @rpc  # type: ignore[untyped-decorator, unused-ignore]
        def echo(self, text: str, number: int) -> dict[str, Any]:
            return payloads.echo(text, number)

    runner = ServiceRunner({"AMQP_URI": uri, "max_workers": prefetch})
    runner.add_service(Echo)
    runner.start()
    try:
        yield
    finally:
        runner.stop()


@contextmanager
def call(uri: str, service: str) -> Iterator[Callable[[int, float], int]]:
    from nameko.standalone.rpc import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        ClusterRpcProxy,
    )

    with ClusterRpcProxy({"AMQP_URI": uri}) as cluster:
        echo = cluster[service].echo

        def make_calls(in_flight: int, seconds: float) -> int:
            """Make calls for some seconds, and return their number."""
            ends = time.perf_counter() + seconds
            calls = 0
            pending = deque(echo.call_async(**REQUEST) for _ in range(in_flight))
            while pending:
                assert pending.popleft().result() == REQUEST
                calls += 1
                if time.perf_counter() < ends:
                    pending.append(echo.call_async(**REQUEST))
            return calls

        yield make_calls
