"""Methods of a service: their names, descriptions and statistics. Pure."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from fabric_nb.errors import InvalidArgumentType, InvalidName, printable
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.wire.names import check_method, is_method

MAX_SIGNATURE = 300
"""Characters of a signature that is announced."""
MAX_DURATIONS = 1000
"""Calls whose durations are kept."""
MAX_METHODS = 1000
"""Methods of one service whose description is kept."""
MAX_TEXT = 4000
"""Characters of a signature or doc that are kept."""

Function = Callable[..., Any]


class AbstractServiceApi:
    """Base of an API whose public methods are served; has `health_check`, as in amqp-fabric.

    Example::

        class Calc(AbstractServiceApi):
            def multiply(self, x: float, y: float) -> float:
                return x * y

        await connector.rpc_register(Calc())
    """

    def health_check(self) -> bool:
        """Return whether the service works; override it to check its dependencies."""
        return True


def public_functions(api: object) -> dict[str, Function]:
    """Return the functions of an API: public methods of an object, or a mapping's items.

    `health_check` is added if there is none.

    Raises:
        InvalidName: a name of the mapping starts with an underscore or is no identifier.
        InvalidArgumentType: an item of the mapping cannot be called.
    """
    functions = dict(_mapping(api) if isinstance(api, Mapping) else _methods(api))
    functions.setdefault("health_check", AbstractServiceApi().health_check)
    return functions


def _mapping(api: Mapping[Any, Any]) -> Mapping[str, Function]:
    for name, function in api.items():
        if check_method(name).startswith("_"):
            raise InvalidName(f"{name!r} starts with an underscore, and such names are not served.")
        if not callable(function):
            raise InvalidArgumentType(
                f"{name!r} is a {type(function).__name__}, which cannot be called."
            )
    return api


def _methods(api: object) -> dict[str, Function]:
    found: dict[str, Function] = {}
    for name in dir(api):
        if name.startswith("_") or isinstance(inspect.getattr_static(api, name), property):
            continue
        value = getattr(api, name)
        if isinstance(value, (MethodType, FunctionType)):
            found[name] = value
    return found


def invoke(function: Function, kwargs: Mapping[str, Any]) -> Any:
    """Call a function with keywords, also for its positional-only parameters.

    Except for functions written in C, whose parameter names are not part of their interface.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_posonlyargcount and not hasattr(function, "__wrapped__"):
        return function(**kwargs)
    if isinstance(function, BuiltinFunctionType):
        return function(**kwargs)
    named = dict(kwargs)
    return function(*_positional(function, named), **named)


def _positional(function: Function, named: dict[str, Any]) -> list[Any]:
    """Pop the values of positional-only parameters from `named`, and return them."""
    values: list[Any] = []
    wanted = positional_only(function)
    while wanted and wanted[-1].name not in named:
        wanted.pop()
    for one in wanted:
        if one.name not in named and one.default is one.empty:
            break  # the function raises TypeError, which names it
        values.append(named.pop(one.name, one.default))
    return values


def positional_only(function: Function) -> list[inspect.Parameter]:
    """Return the positional-only parameters."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have no signature
        return []
    return [one for one in parameters if one.kind is one.POSITIONAL_ONLY]


class Verbatim:
    """Text that appears in a signature without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_of(function: Function) -> str:
    """Return the signature as text, as in ``(x: float, y: float = 2) -> float``."""
    try:
        signature = inspect.signature(function)
        parameters = [
            one.replace(annotation=_unquoted(one.annotation))
            for one in signature.parameters.values()
        ]
        text = str(
            signature.replace(
                parameters=parameters,
                return_annotation=_unquoted(signature.return_annotation),
            )
        )
    except Exception:  # noqa: BLE001 - a default's repr may raise anything
        return "(...)"
    return text if len(text) <= MAX_SIGNATURE else text[: MAX_SIGNATURE - 3] + "..."


def _unquoted(annotation: object) -> object:
    return Verbatim(annotation) if isinstance(annotation, str) else annotation


def doc_of(function: Function) -> str:
    """Return the docstring without indentation; empty if there is none."""
    return (inspect.getdoc(function) or "")[:MAX_TEXT]


@dataclass(slots=True)
class MethodStats:
    """Statistics of a method; durations are in milliseconds, of the last thousand calls."""

    calls: int = 0
    errors: int = 0
    cancelled: int = 0
    running: int = 0
    last_error: str = ""
    last_called: float | None = None
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DURATIONS))

    def record(
        self, seconds: float, error: BaseException | None, *, cancelled: bool = False
    ) -> None:
        """Count a call of `seconds` that ended with `error`, if any, or that was cancelled."""
        self.calls += 1
        self.cancelled += cancelled
        self.last_called = time.time()
        self._durations.append(seconds * 1000)
        if error is not None:
            self.errors += 1
            self.last_error = error_text(error)

    @property
    def mean_ms(self) -> float | None:
        """Mean duration; None before the first call."""
        return sum(self._durations) / len(self._durations) if self._durations else None

    @property
    def p95_ms(self) -> float | None:
        """95th percentile of the durations; None before the first call."""
        return percentile_95(self._durations)

    def newest_durations(self, count: int) -> list[float]:
        """Return the durations of the last calls, at most `MAX_DURATIONS`; from any thread."""
        while count > 0:
            try:
                return list(self._durations)[-count:]
            except RuntimeError:  # a call ended meanwhile, in a Python without a global lock
                continue
        return []


def percentile_95(values: Iterable[float]) -> float | None:
    """Return the 95th percentile of values; None if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] if ordered else None


def read_description(reply: object) -> dict[str, dict[str, str]]:
    """Return signature and doc by method name from the reply of a service's ``_describe``.

    The reply is not trusted: entries of another form are left out, as are those after the first
    `MAX_METHODS`; texts are cut at `MAX_TEXT` characters.
    """
    methods = reply.get("methods") if isinstance(reply, dict) else None
    first = islice(methods.items() if isinstance(methods, dict) else (), MAX_METHODS)
    return {
        method: {
            key: printable(text[:MAX_TEXT])
            for key in ("signature", "doc")
            if isinstance(text := described.get(key), str)
        }
        for method, described in first
        if is_method(method) and isinstance(described, dict)
    }
