"""Served methods: selection, descriptions, statistics, and proxies."""

from __future__ import annotations

import asyncio
import inspect
import keyword
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabric_nb.errors import InvalidName, NotInNotebook
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.rpc.methods import (
    MAX_DURATIONS,
    MAX_SIGNATURE,
    AbstractServiceApi,
    MethodStats,
    doc_of,
    public_functions,
    read_description,
    signature_of,
)
from fabric_nb.fabric.rpc.proxy import ServiceProxy, remote_signature
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern


class Api(AbstractServiceApi):
    constant = 5

    def __init__(self) -> None:
        self.attribute = len

    def multiply(self, x: float, y: float = 2) -> float:
        """Multiply."""
        return x * y

    async def later(self, *, seconds: float) -> None: ...

    @staticmethod
    def fixed() -> int:
        return 1

    @classmethod
    def made(cls) -> str:
        return cls.__name__

    @property
    def broken(self) -> int:
        raise RuntimeError("a property is not looked at")

    def _private(self) -> None: ...


# -- selection


def test_public_methods_are_served() -> None:
    """Only public methods are served: plain, async, static and class methods."""
    functions = public_functions(Api())
    assert sorted(functions) == ["fixed", "health_check", "later", "made", "multiply"]
    assert functions["multiply"](3, 4) == 12
    assert functions["made"]() == "Api"


def test_health_check_is_added() -> None:
    """`health_check` is added to an API that does not define it."""

    class Plain:
        def run(self) -> int:
            return 1

    class Sick:
        def health_check(self) -> bool:
            return False

    assert public_functions(Plain())["health_check"]() is True
    assert public_functions(Sick())["health_check"]() is False
    assert public_functions({})["health_check"]() is True


def test_mapping_of_functions() -> None:
    """All functions of a mapping are served, also lambdas and other callables."""
    functions = public_functions({"double": lambda x: 2 * x, "add": partial(max, 1)})
    assert functions["double"](2) == 4
    assert functions["add"](5) == 5


@pytest.mark.parametrize(
    ("api", "error", "words"),
    [
        ({"_hidden": len}, InvalidName, "starts with an underscore"),
        ({"a b": len}, InvalidName, "cannot be a method"),
        ({5: len}, InvalidName, "cannot be a method"),
        ({"x": 5}, TypeError, "'x' is a int, which cannot be called"),
    ],
)
def test_invalid_names_and_values(api: object, error: type[Exception], words: str) -> None:
    """An invalid name, or a value that is not callable, is refused with its name."""
    with pytest.raises(error, match=words):
        public_functions(api)


# -- signatures and docs


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def many(**defaults: object) -> Callable[..., None]:
    def function() -> None: ...

    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in defaults.items()
        ]
    )
    return function


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (Api().multiply, "(x: 'float', y: 'float' = 2) -> 'float'".replace("'", "")),
        (lambda x, /, y=[1], *rest, z: 0, "(x, /, y=[1], *rest, z)"),
        (partial(lambda x, y: 0, 1), "(y)"),
        (len, "(obj, /)"),
        (many(x=Hostile()), "(...)"),
        (object(), "(...)"),
    ],
)
def test_signature_as_text(function: Any, text: str) -> None:
    """A signature is formatted as it was written, and never raises."""
    assert signature_of(function) == text


def test_long_signature_is_truncated() -> None:
    """A long signature is truncated, so that keep-alives stay small."""
    text = signature_of(many(**{f"x{i}": "long default" for i in range(100)}))
    assert len(text) == MAX_SIGNATURE
    assert text.endswith("...")


def test_doc() -> None:
    """A docstring has no indentation, and is truncated if it is long."""

    def function() -> None:
        """First.

        Second.
        """

    assert doc_of(function) == "First.\n\nSecond."
    assert doc_of(lambda: None) == ""
    function.__doc__ = "x" * 10_000
    assert len(doc_of(function)) == 4000


# -- statistics


def test_statistics() -> None:
    """Statistics have counts of calls and errors, and mean and 95th percentile of times."""
    stats = MethodStats()
    assert (stats.calls, stats.mean_ms, stats.p95_ms) == (0, None, None)
    for millisecond in range(100):
        stats.record(millisecond / 1000, None)
    assert stats.calls == 100
    assert stats.mean_ms == pytest.approx(49.5)
    assert stats.p95_ms == pytest.approx(95)
    stats.record(0.001, ValueError("no"))
    assert (stats.calls, stats.errors, stats.last_error) == (101, 1, "ValueError: no")
    assert stats.last_called is not None


def test_statistics_of_one_call() -> None:
    """After one call its time is the mean and the percentile."""
    stats = MethodStats()
    stats.record(0.5, None)
    assert (stats.mean_ms, stats.p95_ms) == (500, 500)


def test_statistics_are_of_the_last_thousand_calls() -> None:
    """Times are of the last thousand calls; all calls are counted."""
    stats = MethodStats()
    for _ in range(MAX_DURATIONS):
        stats.record(100, None)
    for _ in range(MAX_DURATIONS):
        stats.record(0.001, None)
    assert stats.calls == 2 * MAX_DURATIONS
    assert stats.mean_ms == pytest.approx(1)


def test_statistics_of_an_error_without_text() -> None:
    """An exception with a broken text is counted like any other."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    stats = MethodStats()
    stats.record(0.1, Broken())
    stats.record(0.1, ValueError("x" * 1000))
    assert stats.errors == 2
    assert len(stats.last_error) == 300


# -- remote signatures


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(x: float, y: float = 2) -> float", "(*, x: float, y: float = 2)"),
        ("()", "()"),
        ("(a, /, b, *, c=None)", "(*, a, b, c=None)"),
        ("(df: pandas.DataFrame, how='inner')", "(*, df: pandas.DataFrame, how='inner')"),
        ("(x=__import__('os').system('true'))", "(*, x=__import__('os').system('true'))"),
        ("(x): ...\nimport os\ndef f(y)", "(*, x)"),
        ("(x=lambda: 1, y={1: [2]})", "(*, x=lambda: 1, y={1: [2]})"),
        ("(x, *rest, y, **more: int)", "(*, x, y, **more)"),
        ("(**options)", "(**options)"),
    ],
)
def test_remote_signature(text: str, shown: str) -> None:
    """The parameters of a remote signature are keyword-only; defaults are text, never run."""
    signature = remote_signature(text)
    assert str(signature) == shown
    kinds = {one.kind for one in signature.parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "(...)",
        "(x",
        "(x, x)",
        "(x y)",
        "(class)",
        "(x=<object at 0x7f>)",
        "(x: int, y=...",
        "\0",
        "(\ud800)",
        "(x=" + "(" * 1500 + ")" * 1500 + ")",
        "(x=" + "-" * 3900 + "1)",
        "(" + ", ".join(f"x{i}" for i in range(1000)) + ")",
        "(x" * 1000,
        "import os",
        ": ...",
    ],
    ids=lambda text: text[:12].encode("ascii", "replace").decode(),
)
def test_unreadable_signature(text: str) -> None:
    """A signature that cannot be parsed accepts any keyword."""
    assert str(remote_signature(text)) == "(**kwargs)"


@given(
    st.text(max_size=40) | st.text("()x=,:*/ '\"\\[]{}1.#\n", max_size=40).map(lambda t: f"({t})")
)
@example("(x='\\d')")
@example("(x=1if 2else 3)")
@example("(x=5 is 5)")
def test_any_text_as_a_signature(text: str) -> None:
    """Any text is converted to a signature without an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert isinstance(remote_signature(text), inspect.Signature)
    assert caught == []


@given(st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), unique=True, max_size=5))
def test_signatures_arrive_equal(names: list[str]) -> None:
    """A signature that is sent has the same parameters at the receiver."""
    good = [name for name in names if not keyword.iskeyword(name)]
    function = many(**dict.fromkeys(good, 1))
    assert list(remote_signature(signature_of(function)).parameters) == good


# -- descriptions


def test_description() -> None:
    """The description of a service is read; invalid parts are omitted."""
    description = {
        "methods": {"f": {"signature": "(x)", "doc": "y" * 100_000, "odd": 5}, "a b": {}, "g": 1}
    }
    read = read_description(description)
    assert list(read) == ["f"]
    assert read["f"]["signature"] == "(x)"
    assert "odd" not in read["f"]
    assert len(read["f"]["doc"]) < 10_000


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        "text",
        {},
        {"methods": []},
        {"methods": {"f": None}},
        {"methods": {"f": []}},
    ],
)
def test_invalid_description(description: object) -> None:
    """An invalid description is empty."""
    assert read_description(description) == {}


def test_deep_description() -> None:
    """Deep nesting in a description is omitted, like other invalid parts."""
    description = {"methods": {"f": {"doc": decode(b"[" * 1000 + b"]" * 1000)}}}
    assert read_description(description) == {"f": {}}


# -- proxies


class Fabric:
    """Replacement for the client that a proxy uses."""

    def __init__(self, docs: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.docs = docs or {}
        self.called: list[tuple[Any, ...]] = []
        self.registry = Registry()

    async def call(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        version: str | None,
        idempotent: bool,
        cancel_on_timeout: bool,
    ) -> Any:
        options = (timeout, version, idempotent, cancel_on_timeout)
        self.called.append((str(pattern), method, dict(kwargs), *options))
        return "result"

    def known(self, pattern: ServicePattern) -> Service | None:
        return next(iter(self.registry.find(pattern)), None)

    async def describe(self, pattern: ServicePattern) -> Mapping[str, Mapping[str, str]]:
        return self.docs


PATTERN = ServicePattern("d", "calc", "c1")


async def test_proxy_calls() -> None:
    """A proxy calls the methods of its service, with any keyword, including `self`."""
    fabric = Fabric()
    proxy = ServiceProxy(fabric, PATTERN, version=">=1", timeout=5, idempotent=True)
    assert await proxy.multiply(x=1, self=2, method=3) == "result"
    keywords = {"x": 1, "self": 2, "method": 3}
    assert fabric.called == [("d.calc.c1", "multiply", keywords, 5, ">=1", True, True)]
    with pytest.raises(TypeError):
        await proxy.multiply(1)  # type: ignore[call-arg]


async def test_coroutine_of_a_call_is_named() -> None:
    """The coroutine of a call has its name, in its `repr` and in the warning of Python."""
    method = ServiceProxy(Fabric(), PATTERN).multiply
    coroutine = method(x=1)
    assert repr(coroutine).startswith("<coroutine object d.calc.c1.multiply at ")
    with pytest.warns(RuntimeWarning, match=r"'d\.calc\.c1\.multiply' was never awaited"):
        del coroutine
    assert await asyncio.create_task(method(x=1)) == "result"
    assert await asyncio.gather(method(x=1), method(x=2)) == ["result", "result"]


def test_plain_code_of_a_program_cannot_wait() -> None:
    """Without a notebook `sync` raises, makes no call, and says what to write instead."""
    fabric = Fabric()
    with pytest.raises(NotInNotebook, match=r"`await multiply\(\.\.\.\)` in a coroutine"):
        ServiceProxy(fabric, PATTERN).multiply.sync(x=1)
    assert fabric.called == []


def test_proxy_of_a_known_service() -> None:
    """A proxy lists the methods that its service announced, with their parameters."""
    fabric = Fabric()
    assert repr(ServiceProxy(fabric, PATTERN)) == "<Service d.calc.c1: no keep-alive received yet>"
    announcement = Announcement(instance="i", methods={"multiply": "(x, y=2)"})
    fabric.registry.receive(KeepAlive(ServiceName("d", "calc", "c1"), announcement))
    proxy = ServiceProxy(fabric, PATTERN)
    assert dir(proxy) == ["load", "multiply"]
    assert repr(proxy) == "<Service d.calc.c1: multiply>"
    assert str(inspect.signature(proxy.multiply)) == "(*, x, y=2)"
    assert repr(proxy.multiply) == "<Remote method d.calc.c1.multiply(x, y=2)>"
    assert str(inspect.signature(proxy.unheard)) == "(**kwargs)"


async def test_proxy_with_docs() -> None:
    """A loaded proxy has the docstrings of the service."""
    fabric = Fabric({"multiply": {"doc": "Multiply.", "signature": "(x)"}})
    proxy = await ServiceProxy(fabric, PATTERN).load()
    assert proxy.multiply.__doc__ == "Multiply."
    assert str(inspect.signature(proxy.multiply)) == "(*, x)"
    assert "Remote method d.calc.c1.other" in str(proxy.other.__doc__)


@pytest.mark.parametrize("name", ["_ipython_display_", "__len__", "_private", "größe", "a b"])
def test_unknown_attributes_of_a_proxy(name: str) -> None:
    """A name that is not a valid method raises `AttributeError`."""
    assert not hasattr(ServiceProxy(Fabric(), PATTERN), name)
