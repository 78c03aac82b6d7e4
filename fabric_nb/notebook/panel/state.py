"""What the panel shows, as plain data. Pure; text from elsewhere is cut and cleaned here.

A remote name that could not be written into a cell is left out: services and methods by the rules
of the wire, arguments unless they are ASCII identifiers.
"""

from __future__ import annotations

import keyword
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fabric_nb.fabric.discovery.registry import Registry, Service
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.notebook.pages import plain

MAX_SERVICES = 2000
MAX_METHODS = 100
MAX_MEMBERS = 50
MAX_RESULT = 4000
HIDDEN = "health_check"
EMBEDDED = "fabric_nb embedded broker"
"""How the embedded broker names itself."""

Item = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The notebook's own state at a moment.

    Attributes:
        fabric: its connector, None when it is not connected.
        connection: who and where it is; empty when it is not connected.
        serving: the full names of its services.
        answered: methods that have answered, by the full names of services that tell none.
    """

    fabric: Any = None
    connection: Item = field(default_factory=dict)
    serving: Collection[str] = ()
    answered: Mapping[str, Sequence[str]] = field(default_factory=dict)


def connection(fabric: FabricMember) -> Item:
    """Who and where the notebook is; the URI's password is masked."""
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
    """Return what another notebook has to give %fabric_connect to come here; never a password."""
    uri = plain(fabric.uri)
    found = os.environ.get("AMQP_URL", "")
    if fabric.broker.startswith(EMBEDDED) or (found and _place(found) == _place(uri)):
        return ""
    return uri.replace(":***@", "@")


def _place(uri: str) -> str:
    return uri.rpartition("@")[2].rpartition("//")[2].rstrip("/")


def services(registry: Registry, answered: Mapping[str, Sequence[str]]) -> dict[str, Item]:
    """The services that were heard, by full name, gone ones included; `MAX_SERVICES` of them."""
    now = registry.now
    heard = registry.services(gone=True)
    if len(heard) > MAX_SERVICES:  # those that are there come first
        heard = registry.services()
    return {
        service.name.fqn: _service(service, now, answered.get(service.name.fqn, ()))
        for service in heard[:MAX_SERVICES]
    }


def elsewhere(registry: Registry, look: Look) -> str:
    """Return a sentence on other domains of the broker if the notebook is alone in its own."""
    if not look.connection:
        return ""
    domain = look.connection["domain"]
    own = {f"{domain}.{look.connection['name']}", *look.serving}
    alone = all(one.name.fqn in own for one in registry.services(domain=domain))
    return registry.elsewhere(domain) if alone else ""


def answered(registry: Registry) -> dict[str, list[str]]:
    """The methods that have answered calls, of services that tell none."""
    found = {}
    for service in registry.services(gone=True):
        if not _tells(service) and (methods := service.methods):
            found[service.name.fqn] = list(methods)
    return found


def _tells(service: Service) -> bool:
    return any(one.said is not None and one.said.methods for one in service.instances.values())


def _service(service: Service, now: float, has_answered: Iterable[str]) -> Item:
    name = service.name
    methods = service.methods if _tells(service) else dict.fromkeys(has_answered, "")
    members = list(service.instances.values())
    return {
        "domain": name.domain,
        "type": name.type,
        "id": name.id,
        "state": str(service.state(now)),
        "version": plain(" + ".join(service.versions(now)), 60),
        "members": [
            {
                "id": plain(one.id, 40),
                "state": str(one.state(now)),
                "version": plain(one.said.version, 40) if one.said else "",
            }
            for one in members[:MAX_MEMBERS]
        ],
        "more_members": max(0, len(members) - MAX_MEMBERS),
        # Members of amqp-fabric cannot be told apart: there may be more than one.
        "uncounted": any(not one.id for one in members),
        "methods": _methods(tuple(methods.items())),
        "more_methods": max(
            (one.said.more_methods for one in members if one.said is not None), default=0
        ),
    }


@lru_cache(maxsize=4096)  # services say the same again and again, and those of a type alike
def _methods(signatures: tuple[tuple[str, str], ...]) -> Sequence[Item]:
    shown = sorted((name, text) for name, text in signatures if name != HIDDEN and is_method(name))
    return [
        {"name": name, "signature": plain(text), **parameters(text)}
        for name, text in shown[:MAX_METHODS]
    ]


def parameters(signature: str) -> Mapping[str, Any]:
    """The arguments that a remote signature asks for and those that it allows.

    Example:
        >>> parameters("(x: float, y=2)")
        {'required': ['x'], 'optional': ['y'], 'open': False}
    """
    found = list(remote_signature(signature).parameters.values())
    named = [
        one
        for one in found
        if one.kind is one.KEYWORD_ONLY
        and one.name.isascii()
        and one.name.isidentifier()
        and not keyword.iskeyword(one.name)
    ]
    return {
        "required": [one.name for one in named if one.default is one.empty],
        "optional": [one.name for one in named if one.default is not one.empty],
        "open": any(one.kind is one.VAR_KEYWORD for one in found),
    }
