"""Resolver of short service names, by the services in the registry."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fabric_nb.errors import (
    AmbiguousService,
    CallError,
    CallTimeout,
    InstanceNotFound,
    InvalidName,
    MethodNotFound,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import Service, ServiceState
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

DISCOVERY_TIME = 6.0
"""Seconds after a connection is made in which services announce themselves for the first time; a
little more than the interval that amqp-fabric's documentation proposes."""
_MAX_TIMEOUT = 1e9
"""Seconds; a longer wait has no timeout."""


class Resolver:
    """Resolves the names of services, and explains errors about them.

    Args:
        registry: known services.
        listening: False if no keep-alives are received, so that short names are unknown.
        own: name of the member that calls.
    """

    def __init__(
        self, registry: Registry, *, listening: bool, own: ServiceName | None = None
    ) -> None:
        self._own = own
        self._registry = registry
        self._listening = listening

    async def resolve(
        self,
        pattern: ServicePattern,
        *,
        version: str | None = None,
        timeout: float | None = None,
    ) -> ServiceName:
        """Return the full name of a service.

        Right after a connection was made, and while there is none, it waits for the service to
        announce itself.

        Raises:
            CallTimeout: there was no connection within `timeout` seconds.
            UnknownService: no service of that name is known.
            AmbiguousService: several services match.
            VersionMismatch: the service does not have the required `version`.
        """
        required = _requirement(version)
        if (exact := pattern.exact) is not None and required is None:
            return exact
        if not self._listening:
            raise UnknownService(
                f"{pattern} must be written as domain.type.id here: this connector does not listen"
                " to keep-alives (keep_alive_listen=True).",
                call=str(pattern),
            )
        service = await self._find_one(pattern, timeout)
        if required is not None:
            self._check_version(service, required)
        return service.name

    async def _find_one(self, pattern: ServicePattern, timeout: float | None) -> Service:
        found = await self._wait_for(pattern, timeout)
        if not found:
            if self._registry.stale:
                raise CallTimeout(
                    f"{pattern} could not be looked up within {timeout or 0:g} s, because the"
                    " connection to the broker is lost and not back yet.",
                    call=str(pattern),
                    seconds=timeout or 0.0,
                )
            raise self.unknown(pattern)
        if len(found) > 1:
            names = [service.name.fqn for service in found]
            raise AmbiguousService(
                f"{pattern} matches several services: {_listed(names)}; write type.id.",
                call=str(pattern),
                candidates=names,
            )
        return found[0]

    async def _wait_for(self, pattern: ServicePattern, timeout: float | None) -> list[Service]:
        registry, clock = self._registry, asyncio.get_running_loop().time
        deadline = float("inf") if timeout is None else clock() + timeout
        while not (found := registry.find(pattern)):
            wait = deadline - clock()
            if not registry.stale:  # without a connection, services cannot announce themselves
                wait = min(wait, DISCOVERY_TIME - registry.connected_for)
            try:
                async with asyncio.timeout(max(0.0, wait) if wait < _MAX_TIMEOUT else None):
                    await registry.changed()
            except TimeoutError:
                if not registry.stale or clock() >= deadline:
                    return registry.find(pattern)
        return found

    def resolve_instance(self, name: ServiceName, beginning: str) -> str:
        """Return the id of an instance whose id begins with this text.

        Without keep-alives of the service, that text is taken as the whole id.

        Raises:
            InstanceNotFound: the service has no such instance, or runs on amqp-fabric.
            AmbiguousService: several instances match.
        """
        ids = self.instances(name)
        matching = [beginning] if beginning in ids else [i for i in ids if i.startswith(beginning)]
        if len(matching) == 1:
            return matching[0]
        label = f"{name}@{beginning}"
        if matching:
            raise AmbiguousService(
                f"{label} matches several instances: {_listed(matching)}; write more of the id.",
                call=label,
                candidates=[f"{name}@{each}" for each in matching],
            )
        if ids:
            raise InstanceNotFound(
                f"{name} has no instance {beginning}: it has {_listed(ids)}.", call=label
            )
        service = self._registry.get(name)
        if service is not None and service.present(self._registry.now):
            raise self.not_addressable(name)
        return beginning

    def not_addressable(self, name: ServiceName) -> InstanceNotFound:
        """Return the error for a single instance of a service that has none to be called."""
        if self.instances(name):
            return InstanceNotFound(f"{name} serves no methods.", call=name.fqn)
        return InstanceNotFound(
            f"{name} runs on amqp-fabric, whose instances have no ids and share all calls: call"
            f" {name.local} without @.",
            call=name.fqn,
        )

    def instances(self, name: ServiceName) -> list[str]:
        """Return the ids of the present instances of a service that have one."""
        service = self._registry.get(name)
        if service is None:
            return []
        return sorted(each.id for each in service.present(self._registry.now) if each.id)

    def answering_instances(self, name: ServiceName) -> list[str]:
        """Return the ids of all present instances of a service, if all of them answer pings.

        None are returned if one is on amqp-fabric, or has announced that its loop is blocked.
        """
        now, service = self._registry.now, self._registry.get(name)
        present = () if service is None else service.present(now)
        if any(instance.is_busy or not instance.id for instance in present):
            return []
        return sorted(instance.id for instance in present)

    def _check_version(self, service: Service, required: SpecifierSet) -> None:
        now = self._registry.now
        versions = {each.version for each in service.present(now)}
        wrong = sorted(version for version in versions if not _satisfies(version, required))
        if wrong:
            found = ", ".join(version or "unknown" for version in wrong)
            raise VersionMismatch(
                f"The version of {service.name} is {found}, but {required} is required.",
                call=service.name.fqn,
            )

    def unknown(self, pattern: ServicePattern, call: str = "") -> UnknownService:
        """Return the error for an unknown service, which names similar or other services."""
        call = call or str(pattern)
        gone = [
            service
            for service in self._registry.services(gone=True)
            if pattern.matches(service.name)
        ]
        if gone:
            ago = self._registry.now - gone[0].last_seen
            return UnknownService(
                f"{gone[0].name} is gone; its last keep-alive was {ago:.0f} s ago.", call=call
            )
        known = [service.name for service in self._registry.services(domain=pattern.domain)]
        ids = [name.id for name in known]
        close = difflib.get_close_matches(pattern.id, ids, n=3, cutoff=0.6)
        if close:
            hint = f"did you mean {_listed(close)}?"
        elif known:
            hint = f"in {pattern.domain} there are {_listed([name.local for name in known])}."
        else:
            hint = f"no service has announced itself in {pattern.domain} yet."
        others = "" if close else self._other_domains(pattern, known)
        return UnknownService(f"No service {pattern} is known: {hint} {others}".rstrip(), call=call)

    def _other_domains(self, pattern: ServicePattern, known: Sequence[ServiceName]) -> str:
        """Return a sentence on other domains, if the domain seems to be wrong; else nothing.

        It seems so if another domain has a service of that id, or if this one only has services
        of the caller's own type, such as other notebooks.
        """
        own_type = self._own.type if self._own is not None else None
        alone = all(name.type == own_type for name in known)
        if alone or self._registry.services(id=pattern.id):
            return self._registry.describe_other_domains(pattern.domain, pattern.id)
        return ""

    def not_served(
        self, name: ServiceName, method: str, cause: Unroutable, instance: str = ""
    ) -> CallError:
        """Return the error for an unroutable call: an unknown service, instance or method."""
        label = f"{name.fqn}.{method}"
        service = self._registry.get(name)
        if instance and not cause.exchange_missing:
            return InstanceNotFound(
                f"{name} has no instance {instance}, or it has left.", call=label
            )
        if service is None:
            if cause.exchange_missing and self._listening:
                return self.unknown(ServicePattern(name.domain, name.type, name.id), label)
            return UnknownService(
                f"{label} is not served: {name} is not running, or has no such method.", call=label
            )
        if self._registry.state(service) is ServiceState.GONE:
            return self.unknown(ServicePattern(name.domain, name.type, name.id), label)
        if cause.exchange_missing or method in service.methods:
            return UnknownService(f"{name} has just left: it is no longer served.", call=label)
        return self._unknown_method(service, method, label)

    def _unknown_method(self, service: Service, method: str, label: str) -> MethodNotFound:
        methods = list(service.methods)
        close = difflib.get_close_matches(method, methods, n=3, cutoff=0.6)
        if close:
            hint = f": did you mean {_listed(close)}?"
        elif methods:
            hint = f": it has {_listed(methods)}."
        else:
            hint = "."
        return MethodNotFound(
            f"{service.name} has no method {method!r}{hint}", call=label, close_matches=close
        )


def _requirement(version: str | None) -> SpecifierSet | None:
    if version is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # only a few calls need it

    try:
        if isinstance(version, str):
            return SpecifierSet(version)
    except InvalidSpecifier:
        pass
    raise InvalidName(f"{version!r} is not a version requirement: write for example '>=1.2,<2'.")


def _satisfies(version: str, required: SpecifierSet) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) in required
    except InvalidVersion:
        return False


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
