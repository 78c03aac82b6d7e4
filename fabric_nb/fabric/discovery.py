"""From the name a person writes to the service that is meant, by what the registry knows."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from fabric_nb.errors import (
    AmbiguousService,
    CallError,
    InvalidName,
    MethodNotFound,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.amqp import Unroutable
from fabric_nb.fabric.naming import ServiceName, ServicePattern
from fabric_nb.fabric.registry import Registry, Service, ServiceState

PATIENCE = 6.0
"""Seconds after opening during which an unknown service may still announce itself; a little
more than the interval that amqp-fabric's documentation proposes."""


class Discovery:
    """Finds services by name and says why one cannot be had.

    Args:
        registry: what is known.
        listening: whether keep-alives are heard at all.
    """

    def __init__(self, registry: Registry, *, listening: bool) -> None:
        self._registry = registry
        self._listening = listening
        self._opened_at = time.monotonic()

    def opened(self) -> None:
        """Listening starts now."""
        self._opened_at = time.monotonic()

    async def resolve(
        self,
        pattern: ServicePattern,
        *,
        version: str | None = None,
        timeout: float | None = None,
    ) -> ServiceName:
        """The address that a name means; waits for it to be heard right after opening.

        Raises:
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
        patience = PATIENCE - (time.monotonic() - self._opened_at)
        patience = max(0.0, patience if timeout is None else min(patience, timeout))
        try:
            async with asyncio.timeout(patience):
                while not (found := self._registry.find(pattern)):
                    await self._registry.changed()
        except TimeoutError:
            found = self._registry.find(pattern)
        if not found:
            raise self.unknown(pattern)
        if len(found) > 1:
            names = [service.name.fqn for service in found]
            raise AmbiguousService(
                f"{pattern} fits several services: {_listed(names)}; write type.id.",
                call=str(pattern),
                candidates=names,
            )
        return found[0]

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
        return UnknownService(f"No service {pattern} is known: {there}", call=call)

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
        return SpecifierSet(version)
    except InvalidSpecifier:
        raise InvalidName(
            f"{version!r} is not a version requirement: write for example '>=1.2,<2'."
        ) from None


def _satisfies(version: str, required: SpecifierSet) -> bool:
    try:
        return Version(version) in required
    except InvalidVersion:
        return False


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
