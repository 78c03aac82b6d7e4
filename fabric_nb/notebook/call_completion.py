"""Completion of calls: services, instances, methods, keywords and their values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from inspect import Parameter
from operator import itemgetter
from typing import Any

from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.rpc.annotations import allowed_values
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.names import ALL_INSTANCES


def services_and_instances(fragment: str, services: Sequence[Service]) -> Iterator[str]:
    """Yield the services that start with a fragment, or their instances after an ``@``."""
    for name, service in _spelled(fragment, services):
        if fragment.startswith(f"{name}@"):
            yield from (f"{name}@{instance}" for instance in _instances(service))
        elif name.startswith(fragment):
            yield name


def calls(fragment: str, services: Sequence[Service]) -> Iterator[str]:
    """Yield the calls that start with a fragment, sorted by name.

    Lazy, because a domain may have thousands of methods.
    """
    for name, service in _spelled(fragment, services):
        if f"{name}.".startswith(fragment) or fragment.startswith(f"{name}."):
            names = (f"{name}.{method}" for method in sorted(service.methods) or ("",))
            yield from (call for call in names if call.startswith(fragment))
        elif fragment.startswith(f"{name}@"):
            names = (
                f"{name}@{instance}.{method}"
                for instance in [*_instances(service), *ALL_INSTANCES]
                for method in sorted(service.methods)
            )
            yield from (call for call in names if call.startswith(fragment))


def keywords(call: str, given: Collection[str], services: Sequence[Service]) -> list[str]:
    """Return the keywords of a method that are not given yet, required ones first.

    Example::

        keywords("pricing.quote", {"sku"}, services)  # ["amount", "currency"]
    """
    missing = [one for one in _parameters(call, services) if one.name not in given]
    required = [one.name for one in missing if one.default is Parameter.empty]
    return [*required, *(one.name for one in missing if one.default is not Parameter.empty)]


def values(call: str, keyword: str, services: Sequence[Service]) -> list[Any]:
    """Return the values that a keyword may have: those of a ``Literal``, booleans or None.

    The annotation is parsed, not evaluated.
    """
    for parameter in _parameters(call, services):
        if parameter.name == keyword and parameter.annotation is not Parameter.empty:
            return allowed_values(str(parameter.annotation))
    return []


def short_name(services: Sequence[Service]) -> Callable[[Service], str]:
    """Return a function for the shortest unambiguous name: ``id``, or ``type.id``."""
    ids = Counter(service.name.id for service in services)

    def short(service: Service) -> str:
        name = service.name
        return name.id if ids[name.id] == 1 else name.local

    return short


def methods(target: str, services: Sequence[Service]) -> list[str]:
    """Return the methods of the services that a name may mean, sorted."""
    return sorted({name for one in _meant(target, services) for name in one.methods})


def _meant(target: str, services: Sequence[Service]) -> Iterator[Service]:
    target, _, _ = target.partition("@")
    yield from (one for one in services if f".{one.name.fqn}".endswith(f".{target}"))


def _parameters(call: str, services: Sequence[Service]) -> Iterator[Parameter]:
    """Yield the parameters of the methods that a call may mean, each name once."""
    target, _, method = call.rpartition(".")
    names = set()
    for service in _meant(target, services):
        for parameter in remote_signature(service.methods.get(method, "")).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in names:
                names.add(parameter.name)
                yield parameter


def _instances(service: Service) -> list[str]:
    return sorted(each for each in service.instances if each)


def _spelled(fragment: str, services: Sequence[Service]) -> list[tuple[str, Service]]:
    """Return services with the form of their names that is being typed, sorted by it.

    That is the shortest unambiguous one, ``type.id``, or the full one.
    """
    short = short_name(services)
    named = []
    for service in services:
        spellings = (short(service), service.name.local, service.name.fqn)
        typed = (
            text
            for text in spellings
            if text.startswith(fragment) or fragment.startswith((f"{text}.", f"{text}@"))
        )
        named.append((next(typed, spellings[0]), service))
    return sorted(named, key=itemgetter(0))
