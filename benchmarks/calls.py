"""Calls: one after another, 16 and 64 in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.figures import Sample
from benchmarks.harness import Say, Worker, Workers, rounds, workers

REFERENCE = "aiormq"
REFERENCE_NARROW = "aiormq, prefetch 1"
OURS = "fabric_nb"
OURS_WIDE = "fabric_nb, prefetch 100"
SEED = "amqp_fabric"
OURS_TO_SEED = "fabric_nb to amqp_fabric"
SEED_TO_OURS = "amqp_fabric to fabric_nb"

IN_FLIGHT: Mapping[str, int] = {"sequential": 1, "16 in flight": 16, "64 in flight": 64}


@dataclass(frozen=True, slots=True)
class Server:
    """A service that is called; those who call it know it by its name."""

    peer: str
    prefetch: int

    @property
    def name(self) -> str:
        return f"{self.peer}-{self.prefetch}"


_FABRIC = Server("fabric_nb", 1)  # the default, and all that amqp-fabric has
_FABRIC_WIDE = Server("fabric_nb", 100)
_SEED = Server("amqp_fabric", 1)

KINDS: Mapping[str, tuple[str, Server]] = {
    OURS: ("fabric_nb", _FABRIC),
    REFERENCE: ("aiormq", Server("aiormq", 0)),
    REFERENCE_NARROW: ("aiormq", Server("aiormq", 1)),
    OURS_WIDE: ("fabric_nb", _FABRIC_WIDE),
    OURS_TO_SEED: ("fabric_nb", _SEED),
    SEED: ("amqp_fabric", _SEED),
    SEED_TO_OURS: ("amqp_fabric", _FABRIC),
    "aio_pika JsonRPC": ("aio_pika", Server("aio_pika", 100)),
    "faststream": ("faststream", Server("faststream", 100)),
    "nameko": ("nameko", Server("nameko", 100)),
}
"""Who calls whom, in the order in which they take turns."""

_OPTIONAL = {"faststream", "nameko"}


@dataclass(frozen=True, slots=True)
class _Pair:
    kind: str
    caller: Worker
    server: Worker


async def measure(uri: str, *, count: int, seconds: float, say: Say) -> list[Sample]:
    """Measure every kind under every load, `count` times for so many seconds each."""
    samples: list[Sample] = []
    async with workers(uri, say) as group:
        pairs = await _start(group, say)
        for each in rounds(count, say, "calls"):
            for load, in_flight in IN_FLIGHT.items():
                for pair in pairs:
                    sample = await _window(group, pair, each, load, in_flight, seconds)
                    if each:
                        samples.append(sample)
    return samples


async def _start(group: Workers, say: Say) -> list[_Pair]:
    servers: dict[Server, Worker | None] = {}
    pairs = []
    for kind, (caller, server) in KINDS.items():
        if not all(peers.installed(peer) for peer in (caller, server.peer)):
            say(f"left out: {kind} is not installed")
            continue
        start = group.start_if_it_runs if server.peer in _OPTIONAL else group.start
        if server not in servers:
            servers[server] = await start(
                server.peer, "serve", service=server.name, prefetch=server.prefetch
            )
        serving = servers[server]
        if serving is None:
            continue
        calling = await start(caller, "call", service=server.name)
        if calling is not None:
            pairs.append(_Pair(kind, calling, serving))
    return pairs


async def _window(
    group: Workers, pair: _Pair, each: int, load: str, in_flight: int, seconds: float
) -> Sample:
    await group.settle(pair.caller, pair.server)
    before = await pair.server.ask("usage")
    measured = await pair.caller.ask("load", in_flight=in_flight, seconds=seconds)
    server_cpu = await pair.server.ask("usage") - before
    calls = measured["count"]
    return Sample(
        kind=pair.kind,
        load=load,
        round=each,
        rate=calls / measured["seconds"],
        cpu_us=measured["cpu_us"] / calls,
        server_cpu_us=server_cpu / calls,
    )
