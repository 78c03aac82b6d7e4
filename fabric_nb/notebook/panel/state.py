"""State of the panel as plain data. Pure; remote text is truncated and sanitized here.

Remote names that could not be inserted into a cell are omitted: services and methods by the rules
of the wire contract, arguments unless they are ASCII identifiers.
"""

from __future__ import annotations

import keyword
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.notebook.pages import plain

MAX_SERVICES = 2000
MAX_METHODS = 100
MAX_INSTANCES = 50
MAX_RESULT = 4000
HIDDEN = "health_check"
EMBEDDED = "fabric_nb embedded broker"
"""Prefix of the embedded broker's name."""

Item = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """State of the notebook at one moment.

    Attributes:
        fabric: connector; None if the notebook is not connected.
        connection: see `connection`; empty if the notebook is not connected.
        serving: full names of its services.
        answered: methods that have replied, by full name of services that announce none.
    """

    fabric: Any = None
    connection: Item = field(default_factory=dict)
    serving: Collection[str] = ()
    answered: Mapping[str, Sequence[str]] = field(default_factory=dict)


def connection(fabric: FabricMember) -> Item:
    """Return the notebook's connection; the URI's password is masked."""
    return {
        "state": str(fabric.state),
        "domain": fabric.domain,
        "name": f"{fabric.name.type}.{fabric.name.id}",
        "broker": plain(fabric.broker),
        "uri": plain(fabric.uri),
        "embedded": fabric.broker.startswith(EMBEDDED),
        "join": _join(fabric),
    }


def _join(fabric: FabricMember) -> str:
    """Return the URI for %fabric_connect in another notebook, without password.

    Empty if %fabric_connect finds the broker without a URI.
    """
    uri = plain(fabric.uri)
    default = os.environ.get("AMQP_URL", "")
    if fabric.broker.startswith(EMBEDDED) or (default and _host(default) == _host(uri)):
        return ""
    return uri.replace(":***@", "@")


def _host(uri: str) -> str:
    return uri.rpartition("@")[2].rpartition("//")[2].rstrip("/")


def services(registry: Registry, answered: Mapping[str, Sequence[str]]) -> dict[str, Item]:
    """Return at most `MAX_SERVICES` services by full name, including gone ones if they fit."""
    now = registry.now
    known = registry.services(gone=True)
    if len(known) > MAX_SERVICES:
        known = registry.services()
    return {
        service.name.fqn: _service(service, now, answered.get(service.name.fqn, ()))
        for service in known[:MAX_SERVICES]
    }


def elsewhere(registry: Registry, snapshot: Snapshot) -> str:
    """Return a sentence on other domains of the broker if the notebook's has no other service."""
    if not snapshot.connection:
        return ""
    domain = snapshot.connection["domain"]
    own = {f"{domain}.{snapshot.connection['name']}", *snapshot.serving}
    alone = all(service.name.fqn in own for service in registry.services(domain=domain))
    return registry.describe_other_domains(domain) if alone else ""


def answered(registry: Registry) -> dict[str, list[str]]:
    """Return the methods that have replied to calls, of services that announce none."""
    found = {}
    for service in registry.services(gone=True):
        if not _announces_methods(service) and (methods := service.methods):
            found[service.name.fqn] = list(methods)
    return found


def _announces_methods(service: Service) -> bool:
    return any(
        each.announcement is not None and each.announcement.methods
        for each in service.instances.values()
    )


def _service(service: Service, now: float, answered: Iterable[str]) -> Item:
    name = service.name
    methods = service.methods if _announces_methods(service) else dict.fromkeys(answered, "")
    instances = list(service.instances.values())
    return {
        "domain": name.domain,
        "type": name.type,
        "id": name.id,
        "state": str(service.state(now)),
        "version": plain(" + ".join(service.versions(now)), 60),
        "instances": [
            {
                "id": plain(each.id, 40),
                "state": str(each.state(now)),
                "version": plain(each.version, 40),
            }
            for each in instances[:MAX_INSTANCES]
        ],
        "more_instances": max(0, len(instances) - MAX_INSTANCES),
        # Instances on amqp-fabric send no id: there may be more than one.
        "uncounted": any(not each.id for each in instances),
        "methods": _methods(tuple(methods.items())),
        "more_methods": max(
            (each.announcement.more_methods for each in instances if each.announcement is not None),
            default=0,
        ),
    }


@lru_cache(maxsize=4096)  # announcements repeat, and services of a type have the same methods
def _methods(signatures: tuple[tuple[str, str], ...]) -> Sequence[Item]:
    shown = sorted((name, text) for name, text in signatures if name != HIDDEN and is_method(name))
    return [
        {"name": name, "signature": plain(text), **parameters(text)}
        for name, text in shown[:MAX_METHODS]
    ]


def parameters(signature: str) -> Mapping[str, Any]:
    """Return the required and the optional arguments of a remote signature.

    Example:
        >>> parameters("(x: float, y=2)")
        {'required': ['x'], 'optional': ['y'], 'open': False}
    """
    every = list(remote_signature(signature).parameters.values())
    named = [
        each
        for each in every
        if each.kind is each.KEYWORD_ONLY
        and each.name.isascii()
        and each.name.isidentifier()
        and not keyword.iskeyword(each.name)
    ]
    return {
        "required": [each.name for each in named if each.default is each.empty],
        "optional": [each.name for each in named if each.default is not each.empty],
        "open": any(each.kind is each.VAR_KEYWORD for each in every),
    }
