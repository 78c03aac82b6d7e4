"""Tab completion in magics: services, methods, arguments and options."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from IPython.core.completer import SimpleCompletion, SimpleMatcherResult

from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.logs import LEVELS
from fabric_nb.fabric.wire.names import ALL_INSTANCES
from fabric_nb.notebook.arguments import find_call, words

_MAGIC = re.compile(r"(?:^|=)\s*%{1,2}(fabric_\w+)\s(.*)\Z", re.DOTALL)
MAX_COMPLETIONS = 200


@dataclass(frozen=True)
class Candidates:
    """Candidates for completion.

    Attributes:
        services: present services of the notebook's domain.
        own: services of this notebook, as ``type.id``, and variables of its streams.
        options: options by magic.
    """

    services: Sequence[Service]
    own: Sequence[str]
    options: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Completion:
    """Completions of `fragment`, the text before the cursor."""

    fragment: str
    texts: Sequence[str]


def complete(line: str, candidates: Candidates) -> Completion | None:
    """Return the completions of a line up to the cursor; None if it is not a fabric magic.

    Example::

        complete("x = %fabric_call calc.mul", candidates).texts  # ["calc.multiply"]
    """
    found = _MAGIC.search(line)
    if found is None or found[1] not in candidates.options:
        return None
    magic, text = found.groups()
    typed = words(text)
    fragment = "" if not typed or text[-1:].isspace() else typed.pop()
    before = typed[-1] if typed else ""
    return Completion(
        fragment, _starting(fragment, _candidates(magic, typed, before, fragment, candidates))
    )


def _starting(fragment: str, candidates: Iterator[str]) -> list[str]:
    matching = sorted({text for text in candidates if text.startswith(fragment)})
    return matching[:MAX_COMPLETIONS]


def _candidates(
    magic: str, typed: Sequence[str], before: str, fragment: str, candidates: Candidates
) -> Iterator[str]:
    if fragment.startswith("-"):
        yield from candidates.options[magic]
    elif before in ("--level", "-l") and magic == "fabric_logs":
        yield from LEVELS
    elif before in ("--service", "-s") and magic == "fabric_logs":
        yield from map(_short_name(candidates.services), candidates.services)
    elif magic == "fabric_stop":
        yield from candidates.own
    elif magic == "fabric_stream":
        yield from _header_values(candidates.services)
    elif magic in ("fabric_call", "fabric_map", "fabric_bench", "fabric_trace"):
        yield from _call_candidates(typed, fragment, candidates)


def _call_candidates(typed: Sequence[str], fragment: str, candidates: Candidates) -> Iterator[str]:
    called = find_call(typed)
    if called is None:
        yield from islice(_calls(fragment, candidates.services), MAX_COMPLETIONS)
        return
    for service in candidates.services:
        target, _, method = called.rpartition(".")
        target, _, _ = target.partition("@")
        if f".{service.name.fqn}".endswith(f".{target}"):
            given = {word.partition("=")[0] for word in typed if "=" in word}
            for parameter in remote_signature(service.methods.get(method, "")).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in given:
                    yield f"{parameter.name}="


def _calls(fragment: str, services: Sequence[Service]) -> Iterator[str]:
    """Yield the calls that start with a fragment, sorted by name.

    Lazy, because a domain may have thousands of methods.
    """
    short = _short_name(services)
    spelled = ((_spelled(service, fragment, short), service) for service in services)
    named = sorted(spelled, key=itemgetter(0))
    for name, service in named:
        if f"{name}.".startswith(fragment) or fragment.startswith(f"{name}."):
            calls = (f"{name}.{method}" for method in sorted(service.methods) or ("",))
            yield from (call for call in calls if call.startswith(fragment))
        elif fragment.startswith(f"{name}@"):
            ids = sorted(each for each in service.instances if each)
            calls = (
                f"{name}@{instance}.{method}"
                for instance in [*ids, *ALL_INSTANCES]
                for method in sorted(service.methods)
            )
            yield from (call for call in calls if call.startswith(fragment))


def _spelled(service: Service, fragment: str, short: Callable[[Service], str]) -> str:
    """Return the form of a service's name that is being typed: short, ``type.id`` or full."""
    name = service.name
    spellings = (short(service), name.local, name.fqn)
    return next(
        (
            text
            for text in spellings
            if text.startswith(fragment) or fragment.startswith((f"{text}.", f"{text}@"))
        ),
        spellings[0],
    )


def _short_name(services: Sequence[Service]) -> Callable[[Service], str]:
    """Return a function for the shortest unambiguous name: ``id``, or ``type.id``."""
    ids = Counter(service.name.id for service in services)

    def short(service: Service) -> str:
        name = service.name
        return name.id if ids[name.id] == 1 else name.local

    return short


def _header_values(services: Sequence[Service]) -> Iterator[str]:
    yield "msg_type="
    for service in services:
        yield f"service_id={service.name.id}"
        yield f"service_type={service.name.type}"


def _kind(text: str) -> str:
    """Return the type of a completion, which front ends show."""
    if text.startswith("-"):
        return "keyword"
    if "=" in text:
        return "param"
    return "function" if "." in text else "instance"


def completions(line: str, candidates: Candidates) -> SimpleMatcherResult:
    """Return the completions of a line up to the cursor, as the result of an IPython matcher."""
    completion = complete(line, candidates)
    if completion is None:
        return {"completions": []}
    return {
        "completions": [SimpleCompletion(text, type=_kind(text)) for text in completion.texts],
        "matched_fragment": completion.fragment,
        "suppress": True,
    }
