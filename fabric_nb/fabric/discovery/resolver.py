"""From the name a person writes to the service that is meant, by what the registry knows."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from fabric_nb.errors import (
    AmbiguousService,
    CallError,
    CallTimeout,
    InvalidName,
    MethodNotFound,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.discovery.registry import Registry, Service, ServiceState
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern

PATIENCE = 6.0
"""Seconds after the connection was made, or made again, during which a service may still announce
itself; a little more than the interval that amqp-fabric's documentation proposes."""
_LONG = 1e9
"""Seconds."""


class Resolver:
    """Finds services by name and says why one cannot be had.

    Args:
        registry: what is known.
        listening: whether keep-alives are heard at all.
        own: the name of whoever looks for others.
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
        """The address that a name means.

        Waits for it to be heard, right after the connection was made and while there is none.

        Raises:
            CallTimeout: there was no connection within `timeout` seconds.
            UnknownService: nobody of that name was heard.
            AmbiguousService: the name fits several services.
            VersionMismatch: it is there, but not as `version` requires.
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
        service = await self._heard(pattern, timeout)
        if required is not None:
            self._check_version(service, required)
        return service.name

    async def _heard(self, pattern: ServicePattern, timeout: float | None) -> Service:
        found = await self._found(pattern, timeout)
        if not found:
            if self._registry.deaf:
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
                f"{pattern} fits several services: {_listed(names)}; write type.id.",
                call=str(pattern),
                candidates=names,
            )
        return found[0]

    async def _found(self, pattern: ServicePattern, timeout: float | None) -> list[Service]:
        registry, clock = self._registry, asyncio.get_running_loop().time
        ends = float("inf") if timeout is None else clock() + timeout
        while not (found := registry.find(pattern)):
            left = ends - clock()
            # Without a connection no keep-alive arrives, which says nothing about the services.
            patience = left if registry.deaf else min(left, PATIENCE - registry.hears_for)
            try:
                async with asyncio.timeout(max(0.0, patience) if patience < _LONG else None):
                    await registry.changed()
            except TimeoutError:
                if not registry.deaf or clock() >= ends:
                    return registry.find(pattern)
        return found

    def _check_version(self, service: Service, required: SpecifierSet) -> None:
        now = self._registry.now
        versions = [one.said.version if one.said else "" for one in service.present(now)]
        wrong = sorted({version for version in versions if not _satisfies(version, required)})
        if wrong:
            there = ", ".join(version or "an untold version" for version in wrong)
            raise VersionMismatch(
                f"{service.name} is there in {there}, and {required} is required.",
                call=service.name.fqn,
            )

    def unknown(self, pattern: ServicePattern, call: str = "") -> UnknownService:
        """The error for a service that is not there, with what is there instead."""
        call = call or str(pattern)
        gone = [
            service
            for service in self._registry.services(gone=True)
            if pattern.matches(service.name)
        ]
        if gone:
            ago = self._registry.now - gone[0].last_seen
            return UnknownService(
                f"{gone[0].name} is gone; it was last heard {ago:.0f} s ago.", call=call
            )
        known = [service.name for service in self._registry.services(domain=pattern.domain)]
        ids = [name.id for name in known]
        close = difflib.get_close_matches(pattern.id, ids, n=3, cutoff=0.6)
        if close:
            there = f"did you mean {_listed(close)}?"
        elif known:
            there = f"in {pattern.domain} there are {_listed([f'{n.type}.{n.id}' for n in known])}."
        else:
            there = f"nobody was heard in {pattern.domain} yet."
        elsewhere = "" if close else self._elsewhere(pattern, known)
        return UnknownService(
            f"No service {pattern} is known: {there} {elsewhere}".rstrip(), call=call
        )

    def _elsewhere(self, pattern: ServicePattern, known: Sequence[ServiceName]) -> str:
        """Name other domains where this one seems to be the wrong one.

        It is when an id of that name is known elsewhere, or it has only services of our own type.
        """
        own_type = self._own.type if self._own is not None else None
        alone = all(name.type == own_type for name in known)
        if alone or self._registry.services(id=pattern.id):
            return self._registry.elsewhere(pattern.domain, pattern.id)
        return ""

    def not_served(self, name: ServiceName, method: str, why: Unroutable) -> CallError:
        """The error for a call that no queue took: an unknown service, or only its method."""
        label = f"{name.fqn}.{method}"
        service = self._registry.get(name)
        if service is None:
            if why.exchange_missing and self._listening:
                return self.unknown(ServicePattern(name.domain, name.type, name.id), label)
            return UnknownService(
                f"Nobody serves {label}: {name} is not there, or has no such method.", call=label
            )
        if self._registry.state(service) is ServiceState.GONE:
            return self.unknown(ServicePattern(name.domain, name.type, name.id), label)
        if why.exchange_missing or method in service.methods:
            return UnknownService(f"{name} has just left: nobody serves it any more.", call=label)
        return self._no_method(service, method, label)

    def _no_method(self, service: Service, method: str, label: str) -> MethodNotFound:
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
    try:
        if isinstance(version, str):
            return SpecifierSet(version)
    except InvalidSpecifier:
        pass
    raise InvalidName(f"{version!r} is not a version requirement: write for example '>=1.2,<2'.")


def _satisfies(version: str, required: SpecifierSet) -> bool:
    try:
        return Version(version) in required
    except InvalidVersion:
        return False


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
