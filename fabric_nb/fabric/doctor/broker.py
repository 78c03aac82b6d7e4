"""The broker: whether it is there, what it is, and how safe the way to it is."""

from __future__ import annotations

import asyncio
import ipaddress
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
"""Seconds for one exchange with the broker from which on it is called slow."""
SHORT_HEARTBEAT = 60
"""Seconds; a cell that computes for longer than two or three of these costs the connection."""
EXPIRES_SOON = 14 * 86_400.0
"""Seconds."""
_LEFT_FOR = {"x-expires": 60_000}
"""Should the doctor be killed, what it has made goes after so many milliseconds."""


def unreachable(error: BrokerUnavailable) -> Finding:
    """Why there is no connection."""
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
                "Ask the broker's operator which virtual host is yours (rabbitmqctl list_vhosts),"
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
    """What the broker is and how fast it answers.

    Args:
        connection: to it.
        took: seconds that connecting took.
    """
    async with connection.channel() as channel:
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            await channel.topology.has_exchange("amq.direct")
            taken.append(time.perf_counter() - began)
    found = (
        f"{connection.broker or 'A broker'} at {connection.masked_uri}: connected in"
        f" {took * 1000:.0f} ms, answers in {min(taken) * 1000:.1f} ms."
    )
    slow = min(taken) > SLOW
    advice = "Every call takes several of these: use a broker that is nearer." if slow else ""
    yield Finding("broker", Severity.WARNING if slow else Severity.OK, found, advice)
    yield Finding("login", Severity.OK, "The broker lets this user into the virtual host.")


async def transient_queues(connection: Connection) -> Finding:
    """Whether there may be queues that are neither durable nor exclusive, by making one."""
    check = "transient queues"
    try:
        async with connection.channel() as channel:
            # The broker names it: that name is one that every user may configure.
            queue = await channel.topology.declare_queue(auto_delete=True, arguments=_LEFT_FOR)
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
    """Whether others can read along, and for how long the certificate of each node is good.

    Args:
        target: who connects to them.
        timeout: seconds that the nodes may take, all at once, to show their certificates; None:
            they are not asked.
    """
    urls = map(parse_uri, split_uris(target.uri))
    found = await asyncio.gather(*(_way_to(url, timeout) for url in urls))
    return [finding for finding in found if finding is not None]


async def _way_to(url: URL, timeout: float | None) -> Finding | None:
    check, where = "tls", f"{url.host}:{url.port}"
    if url.scheme != "amqps":
        if await _is_here(url):
            found = f"Without TLS to {where}, which is this machine."
            return Finding(check, Severity.OK, found)
        return Finding(
            check,
            Severity.WARNING,
            f"The password and everything else travel to {where} in the clear.",
            "Use amqps:// and the broker's TLS port, usually 5671.",
        )
    if not is_verified(url):
        return Finding(
            check,
            Severity.WARNING,
            f"The certificate of {where} is not verified: anybody in between can read along.",
            "Take no_verify_ssl out of the URI, and give the authority's file as ?cafile=.",
        )
    return None if timeout is None else await _certificate(url, timeout)


async def _is_here(url: URL) -> bool:
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
        told = await read_certificate(url, mask(str(url)), timeout)
    except BrokerUnavailable as error:
        advice = "Nobody can connect to it, or move there from another node: look into this one."
        return Finding("tls", Severity.WARNING, str(error), advice)
    until = str(told["notAfter"])
    left = ssl.cert_time_to_seconds(until) - time.time()
    found = (
        f"TLS with {url.host}:{url.port}; its certificate is good until {until},"
        f" for {left / 86_400:.0f} days"
    )
    if left > EXPIRES_SOON:
        return Finding("tls", Severity.OK, f"{found}.")
    return Finding(
        "tls",
        Severity.WARNING,
        f"{found} only; then nobody can connect.",
        "Have the broker's operator renew it.",
    )


def heartbeat(target: Target) -> Finding:
    """Whether a cell that computes may cost the connection."""
    told = parse_uri(split_uris(target.uri)[0]).query.get("heartbeat", "")
    seconds = int(told) if told.isdecimal() else target.heartbeat
    if seconds == 0:
        return Finding(
            "heartbeat",
            Severity.WARNING,
            "There are no heartbeats: proxies between here and the broker may drop a connection"
            " that is silent.",
            "Set it to 600 s: %config FabricMagics.heartbeat, heartbeat= in the URI or in code.",
        )
    if seconds < SHORT_HEARTBEAT:
        return Finding(
            "heartbeat",
            Severity.WARNING,
            f"Every {seconds} s: a cell that computes for more than {2 * seconds} s can cost the"
            " connection, and with it the calls that wait.",
            "Set it to 600 s: %config FabricMagics.heartbeat, heartbeat= in the URI or in code.",
        )
    return Finding("heartbeat", Severity.OK, f"Every {seconds} s, longer than cells usually take.")


def limits(capabilities: BrokerCapabilities) -> list[Finding]:
    """Return what is known of the sizes and times that the broker allows."""
    if capabilities.max_message_size is not None:
        size = f"The broker takes messages up to {capabilities.max_message_size:,} bytes."
    else:
        size = (
            f"Not met yet; messages up to {capabilities.accepted_size:,} bytes were taken. RabbitMQ"
            " 4 takes 16 MiB by default, earlier ones 128 MiB."
        )
    if capabilities.consumer_timeout is None:
        return [
            Finding("message size", Severity.OK, size),
            Finding("consumer timeout", Severity.OK, "Not met yet; 30 minutes on most RabbitMQs."),
        ]
    seconds = capabilities.consumer_timeout
    return [
        Finding("message size", Severity.OK, size),
        Finding(
            "consumer timeout",
            Severity.WARNING,
            f"The broker takes back what is not acknowledged within {seconds:g} s: calls that run"
            " for longer are acknowledged before they end, and are not run again when their"
            " service dies.",
            "Have its operator set a longer consumer_timeout, in milliseconds, in rabbitmq.conf.",
        ),
    ]


_NUMBERS = count(1)


def probe_name() -> str:
    """A name for something that is made to see whether it can be, like no other."""
    return f"doctor_{secrets.token_hex(4)}_{next(_NUMBERS)}"
