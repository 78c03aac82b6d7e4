"""Calls: sequential, 16 and 64 in flight."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.figures import Sample
from benchmarks.harness import Progress, Worker, Workers, rounds, workers

REFERENCE = "aiormq"
REFERENCE_PREFETCH_1 = "aiormq, prefetch 1"
FABRIC_NB = "fabric_nb"
FABRIC_NB_WIDE = "fabric_nb, prefetch 100"
FABRIC_NB_MAP = "fabric_nb, map, prefetch 100"
FABRIC_NB_BENCH = "fabric_nb, bench, prefetch 100"
FABRIC_NB_REPORTS = "fabric_nb, reports, prefetch 100"
AMQP_FABRIC = "amqp_fabric"
FABRIC_NB_TO_AMQP_FABRIC = "fabric_nb to amqp_fabric"
AMQP_FABRIC_TO_FABRIC_NB = "amqp_fabric to fabric_nb"
GO = "amqp091-go"
GO_WIDE = "amqp091-go, prefetch 100"

IN_FLIGHT: Mapping[str, int] = {"sequential": 1, "16 in flight": 16, "64 in flight": 64}


@dataclass(frozen=True, slots=True)
class Server:
    """A service to call."""

    peer: str
    prefetch: int

    @property
    def name(self) -> str:
        return f"{self.peer}-{self.prefetch}"


_FABRIC_NB_SERVER = Server("fabric_nb", 1)  # the default, and all that amqp-fabric has
_FABRIC_NB_SERVER_WIDE = Server("fabric_nb", 100)
_AMQP_FABRIC_SERVER = Server("amqp_fabric", 1)

KINDS: Mapping[str, tuple[str, Server]] = {
    FABRIC_NB: ("fabric_nb", _FABRIC_NB_SERVER),
    REFERENCE: ("aiormq", Server("aiormq", 0)),
    REFERENCE_PREFETCH_1: ("aiormq", Server("aiormq", 1)),
    FABRIC_NB_WIDE: ("fabric_nb", _FABRIC_NB_SERVER_WIDE),
    FABRIC_NB_MAP: ("fabric_nb", _FABRIC_NB_SERVER_WIDE),
    FABRIC_NB_BENCH: ("fabric_nb", _FABRIC_NB_SERVER_WIDE),
    FABRIC_NB_REPORTS: ("fabric_nb", _FABRIC_NB_SERVER_WIDE),
    GO: ("amqp091-go", Server("amqp091-go", 1)),
    GO_WIDE: ("amqp091-go", Server("amqp091-go", 100)),
    FABRIC_NB_TO_AMQP_FABRIC: ("fabric_nb", _AMQP_FABRIC_SERVER),
    AMQP_FABRIC: ("amqp_fabric", _AMQP_FABRIC_SERVER),
    AMQP_FABRIC_TO_FABRIC_NB: ("amqp_fabric", _FABRIC_NB_SERVER),
    "aio_pika JsonRPC": ("aio_pika", Server("aio_pika", 100)),
    "faststream": ("faststream", Server("faststream", 100)),
    "nameko": ("nameko", Server("nameko", 100)),
}
"""Caller and server of each kind, in the order of measurement."""

_ROLES = {
    FABRIC_NB_MAP: "map",
    FABRIC_NB_BENCH: "bench",
    FABRIC_NB_REPORTS: "call with reports",
}
"""Roles of callers that do not just call."""
CANCELLED_CALLS = 20
"""Calls that are cancelled in each round."""
_OPTIONAL = {"faststream", "nameko"}


@dataclass(frozen=True, slots=True)
class _Pair:
    kind: str
    caller: Worker
    server: Worker


async def measure(uri: str, *, count: int, seconds: float, progress: Progress) -> list[Sample]:
    """Measure every kind under every load, `count` times for `seconds` each."""
    samples: list[Sample] = []
    async with workers(uri, progress) as group:
        pairs = await _start(group, progress)
        for round_number in rounds(count, progress, "calls"):
            for load, in_flight in IN_FLIGHT.items():
                for pair in pairs:
                    sample = await _window(group, pair, round_number, load, in_flight, seconds)
                    if round_number:
                        samples.append(sample)
    return samples


async def _start(group: Workers, progress: Progress) -> list[_Pair]:
    servers: dict[Server, Worker | None] = {}
    pairs = []
    for kind, (caller, server) in KINDS.items():
        if missing := peers.missing(caller) or peers.missing(server.peer):
            progress(f"left out: {missing}")
            continue
        start = group.start_if_it_runs if server.peer in _OPTIONAL else group.start
        if server not in servers:
            servers[server] = await start(
                server.peer, "serve", service=server.name, prefetch=server.prefetch
            )
        serving = servers[server]
        if serving is None:
            continue
        role = _ROLES.get(kind, "call")
        calling = await start(caller, role, service=server.name)
        if calling is not None:
            pairs.append(_Pair(kind, calling, serving))
    return pairs


async def _window(
    group: Workers, pair: _Pair, round_number: int, load: str, in_flight: int, seconds: float
) -> Sample:
    await group.settle(pair.caller, pair.server)
    before = await pair.server.request("usage")
    measured = await pair.caller.request("load", in_flight=in_flight, seconds=seconds)
    server_cpu = await pair.server.request("usage") - before
    calls = measured["count"]
    return Sample(
        kind=pair.kind,
        load=load,
        round=round_number,
        rate=calls / measured["seconds"],
        cpu_us=measured["cpu_us"] / calls,
        server_cpu_us=server_cpu / calls,
    )


async def measure_cancelling(uri: str, *, count: int, progress: Progress) -> list[float]:
    """Return the seconds from a cancellation to the end of the served coroutine, per round."""
    async with workers(uri, progress) as group:
        server = _FABRIC_NB_SERVER
        await group.start(server.peer, "serve", service=server.name, prefetch=server.prefetch)
        caller = await group.start(server.peer, "cancel", service=server.name)
        medians = []
        for round_number in rounds(count, progress, "cancelling"):
            measured = await caller.request("cancel", count=CANCELLED_CALLS)
            if round_number:
                medians.append(statistics.median(measured["seconds"]))
        return medians
