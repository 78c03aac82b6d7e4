"""Tab completion in magics and in Python: services, methods, arguments and options."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from IPython.core.completer import SimpleCompletion, SimpleMatcherResult

from fabric_nb.fabric.data.plotting import HOWS, KINDS
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.wire.logs import LEVELS
from fabric_nb.notebook.arguments import find_call, split_connection, words
from fabric_nb.notebook.call_completion import (
    calls,
    keywords,
    methods,
    services_and_instances,
    values,
)

_MAGIC = re.compile(r"(?:^|=|%time|%timeit)\s*%{1,2}(fabric(?:_\w+)?)\s(.*)\Z", re.DOTALL)
_COMMAND = re.compile(r"(?:^|=)\s*!{1,2}\s*fabric-nb\s+([a-z]+)\s(.*)\Z", re.DOTALL)
"""A line of the shell, in which names are completed as in a magic."""
_PYTHON = re.compile(
    r"""
    (?P<variable>[^\W\d]\w*) \s*\.\s* (?P<function>[a-z_]+) \(\s*
    (?P<quote>['"]) (?P<name>[^'"\n]*)
    (?: (?P=quote) \s* (?P<rest>[,)].*) )? \Z
    """,
    re.DOTALL | re.VERBOSE,
)
"""A call of a function with a name in quotes, up to the cursor."""
_TAKE_CALLS = frozenset(("call", "call_stream", "start", "map", "map_stream", "trace", "bench"))
_TAKE_FILES = frozenset(("--record",))
_WIDTHS = ("1s", "10s", "1min", "10min", "1h", "1D")
_OPTION_VALUES: dict[tuple[str, str], Sequence[str]] = {
    ("fabric_logs", "--level"): LEVELS,
    ("fabric_logs", "-l"): LEVELS,
    ("fabric_stream", "--kind"): KINDS,
    ("fabric_stream", "--how"): HOWS,
    ("fabric_stream", "--every"): _WIDTHS,
    ("fabric_stream", "--window"): _WIDTHS,
}
"""Values of options that take one of a few, or suggestions."""
_ARGUMENT = re.compile(r"[,\s]((?:[^\W\d]\w*=)?['\"]?\w*)\Z")
"""The argument of a call that is being typed."""
SECTIONS = ("services", "statistics", "calls", "serving", "streams", "logs", "graph")
"""Names of views."""
_KEYWORD = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
MAX_TEXT = 2_000
"""Characters before the cursor in which a call is looked for."""
_TAKE_SERVICES = frozenset(("service", "ping", "stats", "drain"))
MAX_COMPLETIONS = 200


@dataclass(frozen=True)
class Candidates:
    """Candidates for completion.

    Attributes:
        services: present services of the notebook's domain.
        own: services of this notebook, as ``type.id``, and variables of its streams.
        options: options by magic.
        services_of: returns the services that the connector in a variable knows; None if the
            variable holds no connector.
        connections: names of the notebook's connections.
        services_by: returns the services that a connection knows.
    """

    services: Sequence[Service]
    own: Sequence[str]
    options: Mapping[str, Sequence[str]]
    services_of: Callable[[str], Sequence[Service] | None] = lambda _: None
    connections: Sequence[str] = ()
    services_by: Callable[[str], Sequence[Service]] = lambda _: ()


@dataclass(frozen=True)
class Completion:
    """Completions of `fragment`, the text before the cursor.

    Attributes:
        complete: False if further completions are possible, those of Python.
    """

    fragment: str
    texts: Sequence[str]
    complete: bool = True


def complete(text: str, candidates: Candidates) -> Completion | None:
    """Return the completions of a cell's text up to the cursor; None outside of magics and calls.

    Example::

        complete("x = %fabric_call calc.mul", candidates).texts  # ["calc.multiply"]
        complete("await fabric.call('calc.mul", candidates).texts
    """
    line = text.rpartition("\n")[2]
    if (found := _MAGIC.search(line)) and found[1] in candidates.options:
        return _in_line(found[1], found[2], candidates)
    if found := _COMMAND.search(line):
        return _in_line(f"fabric_{found[1]}", found[2], replace(candidates, own=(), options={}))
    if found := _PYTHON.search(text[-MAX_TEXT:]):
        return _in_python(found, candidates)
    return None


def _in_line(magic: str, text: str, candidates: Candidates) -> Completion | None:
    typed = words(text)
    fragment = "" if not typed or text[-1:].isspace() else typed.pop()
    before = typed[-1] if typed else ""
    if before in _TAKE_FILES:
        return None  # IPython completes files
    return Completion(
        fragment, _starting(fragment, _candidates(magic, typed, before, fragment, candidates))
    )


def _in_python(found: re.Match[str], candidates: Candidates) -> Completion | None:
    variable, function, name, rest = found.group("variable", "function", "name", "rest")
    services = candidates.services_of(variable)
    if services is None or function not in _TAKE_CALLS | _TAKE_SERVICES:
        return None
    if rest is None:
        named = calls if function in _TAKE_CALLS else services_and_instances
        return Completion(name, _starting(name, named(name, services)))
    if function == "service":
        attribute = re.fullmatch(r"\)\s*\.\s*(\w*)", rest)
        texts = _starting(attribute[1], methods(name, services)) if attribute else []
        return Completion(attribute[1], texts) if attribute and texts else None
    argument = _ARGUMENT.search(rest)
    if function not in _TAKE_CALLS or argument is None or not _is_balanced(rest):
        return None
    given = _KEYWORD.findall(rest)
    texts = _starting(argument[1], _argument_candidates(name, given, argument[1], services))
    # Keywords of the function itself may follow, but the values are all.
    return Completion(argument[1], texts, complete="=" in argument[1]) if texts else None


def _is_balanced(text: str) -> bool:
    """Return whether all brackets are closed, so that a further argument may follow."""
    return sum(map(text.count, "([{")) == sum(map(text.count, ")]}"))


def _starting(fragment: str, candidates: Iterable[str]) -> list[str]:
    matching = dict.fromkeys(text for text in candidates if text.startswith(fragment))
    return list(islice(matching, MAX_COMPLETIONS))


def _candidates(
    magic: str, typed: Sequence[str], before: str, fragment: str, candidates: Candidates
) -> Iterator[str]:
    if fragment.startswith("-"):
        yield from sorted(candidates.options.get(magic, ()))
    elif values_of_option := _OPTION_VALUES.get((magic, before)):
        yield from values_of_option
    elif before in ("--service", "-s") and magic == "fabric_logs":
        yield from services_and_instances(fragment, candidates.services)
    elif magic == "fabric_stop":
        yield from sorted(candidates.own)
    elif magic in ("fabric", "fabric_report"):
        yield from (*SECTIONS, *sorted(candidates.own))
    elif magic == "fabric_stream":
        yield from sorted(_header_values(candidates.services))
    elif magic in ("fabric_use", "fabric_disconnect"):
        yield from candidates.connections
    elif magic == "fabric_ping":
        yield from _by_connection(services_and_instances, fragment, candidates)
    elif magic in ("fabric_call", "fabric_map", "fabric_bench", "fabric_trace"):
        yield from _call_candidates(typed, fragment, candidates)


def _call_candidates(typed: Sequence[str], fragment: str, candidates: Candidates) -> Iterator[str]:
    called = find_call(typed)
    if called is None:
        yield from islice(_by_connection(calls, fragment, candidates), MAX_COMPLETIONS)
        return
    given = {word.partition("=")[0] for word in typed if "=" in word}
    connection, call = split_connection(called)
    services = candidates.services_by(connection) if connection else candidates.services
    yield from _argument_candidates(call, given, fragment, services)


def _by_connection(
    named: Callable[[str, Sequence[Service]], Iterator[str]], fragment: str, candidates: Candidates
) -> Iterator[str]:
    """Yield names in the current connection, or behind the ``/`` of another one."""
    connection, rest = split_connection(fragment)
    if connection:
        found = named(rest, candidates.services_by(connection))
        yield from (f"{connection}/{name}" for name in found)
        return
    yield from named(fragment, candidates.services)
    if len(candidates.connections) > 1:
        yield from (f"{name}/" for name in candidates.connections)


def _argument_candidates(
    call: str, given: Collection[str], fragment: str, services: Sequence[Service]
) -> Iterator[str]:
    """Yield ``name=`` of the keywords that are not given, or ``name=value`` of the one typed."""
    keyword, equals, _ = fragment.partition("=")
    if equals:
        yield from (f"{keyword}={value!r}" for value in values(call, keyword, services))
    else:
        yield from (f"{name}=" for name in keywords(call, given, services))


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


def completions(text: str, candidates: Candidates) -> SimpleMatcherResult:
    """Return the completions of text up to the cursor, as the result of an IPython matcher."""
    completion = complete(text, candidates)
    if completion is None:
        return {"completions": []}
    return {
        "completions": [SimpleCompletion(text, type=_kind(text)) for text in completion.texts],
        "matched_fragment": completion.fragment,
        "suppress": completion.complete,
        "ordered": True,
    }
