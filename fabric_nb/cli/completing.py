"""Tab completion of names: services, calls, keywords, their values, and domains.

A shell runs the command at each Tab. It connects, listens for a moment, and prints nothing else.
Services on amqp-fabric, which announce themselves every few seconds, may be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from collections.abc import Iterable
from typing import Any

import orjson

from fabric_nb.cli.connecting import configured_or_embedded_uri, fabric_domain
from fabric_nb.errors import FabricError
from fabric_nb.fabric.amqp.translation import silence_client_logs
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.notebook import call_completion

CONNECT_TIME = 2.0
"""Seconds that connecting may take."""
LISTEN_TIME = 0.8
"""Seconds to listen; members of fabric_nb announce themselves on request within half a second."""
SETTLING = 0.2
"""Seconds without a further keep-alive after which it listens no longer."""


def calls(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return calls of the fabric, as ``id.method``."""
    return call_completion.calls(prefix, _services_of_domain(parsed_args))


def services(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return names of services, and after an ``@`` of their instances."""
    return call_completion.services_and_instances(prefix, _services_of_domain(parsed_args))


def keywords(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return ``name=`` of the called method's keywords, or ``name=value`` of the one typed."""
    known = _services_of_domain(parsed_args)
    keyword, equals, _value = prefix.partition("=")
    if equals:
        allowed = call_completion.values(parsed_args.call, keyword, known)
        return [f"{keyword}={_argument(value)}" for value in allowed]
    given = {text.partition("=")[0] for text in parsed_args.keywords or ()}
    return [f"{name}=" for name in call_completion.keywords(parsed_args.call, given, known)]


def domains(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return the domains with present services."""
    return sorted({service.name.domain for service in _services(parsed_args)})


def types(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return the types of services, of the given domain if there is one."""
    return sorted({service.name.type for service in _services(parsed_args, parsed_args.domain)})


def ids(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return the ids of services, of the given domain and type if there are any."""
    return sorted(
        {
            service.name.id
            for service in _services(parsed_args, parsed_args.domain)
            if parsed_args.type in (None, service.name.type)
        }
    )


def _argument(value: Any) -> str:
    """Return a value as an argument: text as it is, unless it would be read as JSON."""
    if isinstance(value, str):
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return json.dumps(value, default=str)


def _services_of_domain(options: argparse.Namespace) -> list[Service]:
    return _services(options, fabric_domain(options))


def _services(options: argparse.Namespace, domain: str | None = None) -> list[Service]:
    """Return the services that are heard; none if the broker cannot be reached."""
    silence_client_logs()
    try:
        return asyncio.run(_heard(options, domain))
    except (FabricError, OSError, KeyboardInterrupt):
        return []


async def _heard(options: argparse.Namespace, domain: str | None) -> list[Service]:
    fabric = AmqBrokerConnector(
        amqp_uri=configured_or_embedded_uri(options, prompt=False),
        service_domain=fabric_domain(options),
        service_type="cli",
        service_id=f"cli-{secrets.token_hex(3)}",
        keep_alive_listen=True,
    )
    await fabric.open(timeout=CONNECT_TIME, retry=False)
    try:
        async with asyncio.timeout(LISTEN_TIME):
            await fabric.registry.changed()
            while True:
                async with asyncio.timeout(SETTLING):
                    await fabric.registry.changed()
    except TimeoutError:
        return fabric.registry.services(domain=domain)
    finally:
        await fabric.close()
