"""Checks of the broker: availability, latency, limits, and the security of the connection."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator
from itertools import count

from yarl import URL

from fabric_nb.errors import (
    BrokerRefused,
    BrokerUnavailable,
    LoginRefused,
    TlsFailed,
    TransientQueuesRefused,
    VirtualHostRefused,
)
from fabric_nb.fabric.amqp.capabilities import BrokerCapabilities
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.tls import is_verified
from fabric_nb.fabric.amqp.transport import read_certificate
from fabric_nb.fabric.amqp.uri import mask, parse_uri, split_uris
from fabric_nb.fabric.doctor.findings import Finding, Severity
from fabric_nb.fabric.doctor.target import Target

SLOW = 0.25
"""Seconds of a round trip to the broker above which it counts as slow."""
SHORT_HEARTBEAT = 60
"""Seconds; a cell that computes for longer than two or three heartbeats costs the connection."""
EXPIRES_SOON = 14 * 86_400.0
"""Seconds of remaining validity of a certificate below which the doctor warns."""
OLDEST_RABBITMQ = (3, 10)
"""Oldest version of RabbitMQ that fabric_nb is tested with."""
EMBEDDED = "fabric_nb embedded broker"
_RABBITMQ = re.compile(r"RabbitMQ (\d+)\.(\d+)", re.ASCII)
_EXPIRES = {"x-expires": 60_000}
"""Arguments of a test queue: milliseconds after which it is deleted if the doctor was killed."""


def unreachable(error: BrokerUnavailable) -> Finding:
    """Return the finding for a broker that cannot be connected to."""
    match error:
        case LoginRefused():
            check = "login"
            advice = (
                "Give the right user and password. RabbitMQ's user guest may log in from the"
                " broker's own host only: have its operator make you a user of your own."
            )
        case VirtualHostRefused():
            check = "login"
            advice = (
                "Ask the broker's operator for the right virtual host (rabbitmqctl list_vhosts),"
                " and for permissions in it (rabbitmqctl set_permissions)."
            )
        case TlsFailed():
            check = "tls"
            advice = "The section TLS of fabric_nb's page on security lists what to give."
        case _:
            check = "broker"
            advice = "Check that it runs, and that its host and port can be reached from here."
    return Finding(check, Severity.ERROR, str(error), advice)


async def broker(connection: Connection, took: float) -> AsyncIterator[Finding]:
    """Check latency and version of the broker.

    Args:
        connection: connection to it.
        took: seconds that connecting took.
    """
    async with connection.channel() as channel:
        round_trips = []
        for _ in range(3):
            began = time.perf_counter()
            await channel.topology.has_exchange("amq.direct")
            round_trips.append(time.perf_counter() - began)
    found = (
        f"{connection.broker or 'A broker'} at {connection.masked_uri}: connected in"
        f" {took * 1000:.0f} ms, answers in {min(round_trips) * 1000:.1f} ms."
    )
    slow = min(round_trips) > SLOW
    advice = "Every call takes several round trips: use a broker that is nearer." if slow else ""
    yield Finding("broker", Severity.WARNING if slow else Severity.OK, found, advice)
    yield broker_support(connection.broker)
    yield Finding("login", Severity.OK, "The broker admits this user to the virtual host.")


def broker_support(product: str) -> Finding:
    """Check that the broker is one that fabric_nb supports.

    Args:
        product: its product and version.
    """
    check = "product"
    if product.startswith(EMBEDDED):
        return Finding(check, Severity.OK, f"{product}, for development.")
    found = _RABBITMQ.match(product)
    if found is not None and tuple(map(int, found.groups())) >= OLDEST_RABBITMQ:
        return Finding(check, Severity.OK, f"{product} is supported.")
    oldest = "RabbitMQ " + ".".join(map(str, OLDEST_RABBITMQ))
    return Finding(
        check,
        Severity.WARNING,
        f"{product or 'A broker of an unknown product'} is not supported: {oldest} and later are.",
        f"Use {oldest} or later, or the embedded broker for development.",
    )


async def transient_queues(connection: Connection) -> Finding:
    """Check that queues that are neither durable nor exclusive are permitted, by declaring one."""
    check = "transient queues"
    try:
        async with connection.channel() as channel:
            # With a name chosen by the broker, which every user may configure.
            queue = await channel.topology.declare_queue(auto_delete=True, arguments=_EXPIRES)
            await channel.topology.delete_queue(queue)
    except TransientQueuesRefused:
        connection.capabilities.transient_queues_refused = True
        return Finding(
            check,
            Severity.WARNING,
            "The broker refuses queues that are neither durable nor exclusive, as RabbitMQ 4.3"
            " does: services on amqp-fabric cannot run on it. fabric_nb uses durable ones.",
            "To run amqp-fabric here, write deprecated_features.permit.transient_nonexcl_queues ="
            " true into rabbitmq.conf and restart the broker.",
        )
    except BrokerRefused as refused:
        return Finding(check, Severity.UNKNOWN, f"It could not be tried: {refused}")
    return Finding(check, Severity.OK, "Permitted, as amqp-fabric needs it.")


async def security(target: Target, timeout: float | None) -> list[Finding]:
    """Check encryption of the connection to each node, and the validity of its certificate.

    Args:
        target: the member that connects to them.
        timeout: seconds for reading the certificates of all nodes concurrently; None: they are
            not read.
    """
    urls = map(parse_uri, split_uris(target.uri))
    found = await asyncio.gather(*(_encryption(url, timeout) for url in urls))
    return [finding for finding in found if finding is not None]


async def _encryption(url: URL, timeout: float | None) -> Finding | None:
    check, where = "tls", f"{url.host}:{url.port}"
    if url.scheme != "amqps":
        if await _is_loopback(url):
            found = f"Without TLS to {where}, which is this machine."
            return Finding(check, Severity.OK, found)
        return Finding(
            check,
            Severity.WARNING,
            f"The password and all data are sent to {where} in the clear.",
            "Use amqps:// and the broker's TLS port, usually 5671.",
        )
    if not is_verified(url):
        return Finding(
            check,
            Severity.WARNING,
            f"The certificate of {where} is not verified: the connection can be intercepted.",
            "Remove no_verify_ssl from the URI, and give the authority's file as ?cafile=.",
        )
    return None if timeout is None else await _certificate(url, timeout)


async def _is_loopback(url: URL) -> bool:
    try:
        return ipaddress.ip_address(url.host or "").is_loopback
    except ValueError:
        pass
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


async def _certificate(url: URL, timeout: float) -> Finding:
    try:
        certificate = await read_certificate(url, mask(str(url)), timeout)
    except BrokerUnavailable as error:
        advice = "No client can connect to this node, or fail over to it: check the node."
        return Finding("tls", Severity.WARNING, str(error), advice)
    until = str(certificate["notAfter"])
    remaining = ssl.cert_time_to_seconds(until) - time.time()
    found = (
        f"TLS with {url.host}:{url.port}; its certificate is valid until {until},"
        f" for {remaining / 86_400:.0f} days"
    )
    if remaining > EXPIRES_SOON:
        return Finding("tls", Severity.OK, f"{found}.")
    return Finding(
        "tls",
        Severity.WARNING,
        f"{found} only; after that no client can connect.",
        "Have the broker's operator renew it.",
    )


def heartbeat(target: Target) -> Finding:
    """Check that the heartbeat is long enough for cells that compute."""
    in_uri = parse_uri(split_uris(target.uri)[0]).query.get("heartbeat", "")
    seconds = int(in_uri) if in_uri.isdecimal() else target.heartbeat
    if seconds == 0:
        return Finding(
            "heartbeat",
            Severity.WARNING,
            "There are no heartbeats: proxies between here and the broker may drop an idle"
            " connection.",
            "Set it to 600 s: %config FabricMagics.heartbeat, heartbeat= in the URI or in code.",
        )
    if seconds < SHORT_HEARTBEAT:
        return Finding(
            "heartbeat",
            Severity.WARNING,
            f"Every {seconds} s: a cell that computes for more than {2 * seconds} s can cost the"
            " connection, and with it the calls in flight.",
            "Set it to 600 s: %config FabricMagics.heartbeat, heartbeat= in the URI or in code.",
        )
    return Finding("heartbeat", Severity.OK, f"Every {seconds} s, longer than cells usually take.")


def limits(capabilities: BrokerCapabilities) -> list[Finding]:
    """Report the known limits of the broker: message size and consumer timeout."""
    if capabilities.max_message_size is not None:
        size = f"The broker accepts messages up to {capabilities.max_message_size:,} bytes."
    else:
        size = (
            f"Not known yet; messages up to {capabilities.accepted_size:,} bytes were accepted."
            " RabbitMQ 4 accepts 16 MiB by default, earlier versions 128 MiB."
        )
    if capabilities.consumer_timeout is None:
        known = "Not known yet; 30 minutes by default on RabbitMQ."
        return [
            Finding("message size", Severity.OK, size),
            Finding("consumer timeout", Severity.OK, known),
        ]
    seconds = capabilities.consumer_timeout
    return [
        Finding("message size", Severity.OK, size),
        Finding(
            "consumer timeout",
            Severity.WARNING,
            f"The broker requeues what is not acknowledged within {seconds:g} s: calls that run for"
            " longer are acknowledged before they end, and are not run again when their service"
            " dies.",
            "Have its operator set a longer consumer_timeout, in milliseconds, in rabbitmq.conf.",
        ),
    ]


_NUMBERS = count(1)


def probe_name() -> str:
    """Return a unique name for a test object on the broker."""
    return f"doctor_{secrets.token_hex(4)}_{next(_NUMBERS)}"
