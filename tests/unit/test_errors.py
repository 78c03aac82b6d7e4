"""Hierarchy of the errors, their rendering, and reconstruction of remote exceptions."""

from __future__ import annotations

import builtins
import copy
import importlib
import inspect
import pickle
import pkgutil
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fabric_nb
from fabric_nb import errors
from fabric_nb.errors import FabricError, RemoteError, remote_error

BUILTINS = sorted(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
)
NOT_REBUILT = {
    "BaseException",
    "BaseExceptionGroup",
    "Exception",
    "ExceptionGroup",
    "GeneratorExit",
    "KeyboardInterrupt",
    "StopAsyncIteration",
    "StopIteration",
    "SystemExit",
}
ARGUMENTS: list[list[Any]] = [
    [],
    ["no"],
    [2, "No such file", "name"],
    ["utf-8", "b'x'", 0, 1, "invalid"],
    ["bad", ["file", 3, 1, "text"]],
    [{"a": [1]}, None, 1.5],
    ["only", "two"],
]


# -- the tree


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Parse the tree in the docstring: the parent of each error, and its built-in base."""
    line = re.compile(r"    (?P<indent>[│ ]*)(?:[├└]── )?(?P<name>[A-Z]\w+)(?: \((?P<also>\w+)\))?")
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    drawing = str(errors.__doc__).partition("::\n")[2].partition("\nOnly ")[0]
    for text in filter(str.strip, drawing.splitlines()):
        found = line.match(text)
        assert found, text
        depth = (len(found["indent"]) // 4 + 1) if "──" in text else 0
        path = [*path[:depth], found["name"]]
        tree[found["name"]] = (path[-2] if depth else None, found["also"])
    return tree


def test_tree_in_the_docstring() -> None:
    """The tree in the docstring is the hierarchy of the classes."""
    there: dict[str, tuple[str | None, str | None]] = {}
    for name, cls in inspect.getmembers(errors, inspect.isclass):
        if cls.__module__ == errors.__name__ and issubclass(cls, FabricError):
            ours = [base.__name__ for base in cls.__bases__ if issubclass(base, FabricError)]
            also = [base.__name__ for base in cls.__bases__ if not issubclass(base, FabricError)]
            there[name] = (
                ours[0] if ours else None,
                also[0] if also and name != "FabricError" else None,
            )
    assert drawn_tree() == there


def subclasses(cls: type[FabricError]) -> Iterator[type[FabricError]]:
    """Yield all subclasses of a class."""
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


NEVER_LEAVE = {
    "DurabilityMismatch",
    "ExchangeNotDeclarable",
    "InvalidField",
    "TooLong",
    "Unroutable",
}
"""Errors by which two modules understand each other; callers get their public base or another
error."""


def test_all_errors_are_in_one_place() -> None:
    """Every error that a user can get is in `errors`, and can be imported from `fabric_nb`."""
    for module in pkgutil.walk_packages(fabric_nb.__path__, "fabric_nb."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [each for each in subclasses(FabricError) if not each.__name__.startswith("Remote")]
    own = {each for each in found if each.__module__.startswith("fabric_nb.")}
    elsewhere = {each.__name__ for each in own if each.__module__ != errors.__name__}
    assert elsewhere == NEVER_LEAVE
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, FabricError):
            assert name in fabric_nb.__all__
            assert getattr(fabric_nb, name) is value


def test_errors_of_calls_that_may_have_been_run() -> None:
    """Errors of calls that may have been run do not derive from that for calls that were not."""
    for error in (errors.ServiceLost, errors.ConnectionLost, errors.CallTimeout):
        assert not issubclass(error, errors.UnknownService)
        assert not issubclass(errors.UnknownService, error)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (errors.InvalidName("m"), AttributeError),
        (errors.CallTimeout("m", call="c", seconds=3), TimeoutError),
        (errors.ConnectionLost("m"), ConnectionError),
        (errors.LoginRefused("m"), ConnectionError),
        (errors.UnknownService("m", call="c"), LookupError),
        (errors.ServiceLost("m", call="c"), LookupError),
        (errors.WaitTimeout("m", seconds=3), TimeoutError),
        (errors.InvalidArgument("m"), ValueError),
        (errors.InvalidArgumentType("m"), TypeError),
        (errors.InvalidTimeout("m"), ValueError),
        (errors.UnknownLevel("m"), ValueError),
        (errors.UnusableQueue("m"), ValueError),
        (errors.BadArgument("m"), ValueError),
        (errors.NotListening("m"), AssertionError),
        (errors.NotRerun("m"), ValueError),
        (errors.DemoFailed("m"), RuntimeError),
    ],
)
def test_errors_are_caught_as_builtin_types(error: FabricError, also: type[Exception]) -> None:
    """Errors can be caught as a built-in type, and their text is their message."""
    assert isinstance(error, also)
    assert str(error) == "m"


def test_attributes_of_errors() -> None:
    """Errors have attributes with the values in their message."""
    assert errors.CallTimeout("m", call="a.b.c", seconds=3).seconds == 3
    assert errors.CallTimeout("m", call="a.b.c").call == "a.b.c"
    assert errors.MethodNotFound("m", close_matches=["x"]).close_matches == ("x",)
    assert errors.AmbiguousService("m", candidates=["d.a.x"]).candidates == ("d.a.x",)
    assert errors.BrokerRefused("m", code=404).code == 404


def test_rendering_shows_only_frames_of_the_user() -> None:
    """In a notebook an error is rendered as its message and the user's frames."""
    try:
        errors_raised_by_us()
    except FabricError as error:
        shown = error._render_traceback_()
    assert (
        shown[0] == "InvalidName: '' cannot be a service id: use 1 to 63 letters, digits, '-'"
        " or '_'."
    )
    assert any("errors_raised_by_us" in line for line in shown)
    assert not any("naming.py" in line for line in shown)


def errors_raised_by_us() -> None:
    from fabric_nb.fabric.wire.names import check_part

    check_part("", "id")


def test_rendering_removes_control_characters() -> None:
    """Remote text in an error cannot move the cursor or change colours."""
    error = errors.VersionMismatch("there is \x1b[2J1.0\x07")
    assert "\x1b" not in "".join(error._render_traceback_())
    remote = remote_error("ValueError", "\x1b[31mred", ["x"], "\x1b]0;title\x07\nline", "c")
    assert "\x1b" not in str(remote)
    assert "\x1b" not in "".join(remote._render_traceback_())
    assert "\nline" in remote._render_traceback_()[-1]


# -- remote errors


@pytest.mark.parametrize("prefix", ["", "builtins."])
@pytest.mark.parametrize("name", BUILTINS)
def test_builtin_exceptions_are_rebuilt(name: str, prefix: str) -> None:
    """A remote error can be caught as the built-in type that it names, whatever its arguments."""
    for args in ARGUMENTS:
        error = remote_error(f"{prefix}{name}", f"{name}(...)", args, "remote lines", "d.t.i.m")
        assert isinstance(error, RemoteError)
        assert isinstance(error, getattr(builtins, name)) or name in NOT_REBUILT
        assert error.remote_args == tuple(args)
        assert error.type == f"{prefix}{name}"
        assert str(error) == f"d.t.i.m: {name}(...)"
        shown = error._render_traceback_()
        assert shown[0] == f"RemoteError: d.t.i.m: {name}(...)"
        assert shown[-1] == "remote lines"
        with pytest.raises(RemoteError):
            raise error
        assert f"{name}(...)" in "".join(traceback.format_exception(error))
        assert repr(error)


@pytest.mark.parametrize("name", BUILTINS)
def test_remote_errors_can_be_copied(name: str) -> None:
    """A remote error can be pickled and copied, with its type and all attributes."""
    error = remote_error(name, f"{name}()", ["a", {"b": [1]}], "tb", "c.m")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (other.type, other.message, other.remote_args) == (
            name,
            f"{name}()",
            ("a", {"b": [1]}),
        )
        assert (other.remote_traceback, other.call, str(other)) == ("tb", "c.m", str(error))


@pytest.mark.parametrize("name", sorted(NOT_REBUILT))
def test_exceptions_with_a_meaning_for_the_interpreter_are_not_rebuilt(name: str) -> None:
    """A remote exit, interrupt or end of iteration is only a `RemoteError`."""
    error = remote_error(f"builtins.{name}", "m", ["x"])
    assert type(error) is RemoteError
    assert not isinstance(error, (SystemExit, KeyboardInterrupt, StopIteration, ExceptionGroup))


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "builtins.exec",
        "builtins.print",
        "builtins.type",
        "builtins.object",
        "builtins.__import__",
        "os.system",
        "posix.system",
        "os.error",
        "subprocess.CalledProcessError",
        "antigravity.Error",
        "fabric_nb.errors.CallTimeout",
        "CallTimeout",
        "FabricError",
        "RemoteError",
        "json.JSONDecodeError",
        "builtins.builtins.ValueError",
        "x.builtins.ValueError",
        ".ValueError.",
        "ValueError.__init__",
        "__class__",
        "",
        ".",
        "builtins.",
        "ValueError\0",
        "\ud800",
    ],
)
def test_no_other_name_is_looked_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of another type is data: nothing is imported or called because of it."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"looked up {args}")

    with monkeypatch.context() as patched:
        patched.setattr(importlib, "import_module", forbidden)
        patched.setattr(builtins, "eval", forbidden)
        patched.setattr(builtins, "__import__", forbidden)
        error = remote_error(name, "m", ["echo hello"])
    assert type(error) is RemoteError
    assert error.type == name
    assert error.remote_args == ("echo hello",)


@given(st.text(), st.text(), st.lists(st.integers() | st.text() | st.none()), st.text())
def test_any_remote_error(type_name: str, message: str, args: list[Any], remote: str) -> None:
    """Any text that a peer sends as an error becomes an error that can be rendered."""
    error = remote_error(type_name, message, args, remote, "call")
    assert isinstance(error, RemoteError)
    assert str(error).startswith("call: ")
    assert error._render_traceback_()[0].startswith("RemoteError: call: ")


def test_rebuilding_emits_no_warnings() -> None:
    """A remote error of a deprecated or unusual type emits no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in BUILTINS:
            remote_error(name, "m", [1, 2])


# -- tracebacks from elsewhere


TRACEBACK = """Traceback (most recent call last):
  File "/app/pricing.py", line 12, in quote
    return lookup(name)
  File "/usr/lib/python3.11/functools.py", line 30, in wrapper
    return f(*args)
           ^^^^^^^^
  File "/v/lib/python3.11/site-packages/pandas/core/frame.py", line 9, in get
    raise KeyError(key)
  File "/app/catalog.py", line 5, in price
    return PRICES[name]
KeyError: 'beer'
"""


def test_frames_of_libraries_are_folded() -> None:
    """The frames of a program are shown in a traceback, and those of libraries are counted."""
    assert errors.folded(TRACEBACK).splitlines() == [
        "Traceback (most recent call last):",
        '  File "/app/pricing.py", line 12, in quote',
        "    return lookup(name)",
        "  … 2 frames of functools, pandas",
        '  File "/app/catalog.py", line 5, in price',
        "    return PRICES[name]",
        "KeyError: 'beer'",
    ]


def test_an_error_in_a_library_keeps_its_frame() -> None:
    """If all frames belong to libraries, the last one is shown."""
    lines = [
        line for line in TRACEBACK.splitlines() if "/app/" not in line and "[name]" not in line
    ]
    lines.remove("    return lookup(name)")
    assert errors.folded("\n".join(lines)).splitlines() == [
        "Traceback (most recent call last):",
        "  … 1 frame of functools",
        '  File "/v/lib/python3.11/site-packages/pandas/core/frame.py", line 9, in get',
        "    raise KeyError(key)",
        "KeyError: 'beer'",
    ]


@given(st.text(), st.lists(st.sampled_from([*TRACEBACK.splitlines(), "", "x", "    y", " z"])))
def test_any_text_can_be_folded(text: str, lines: list[str]) -> None:
    """Text that is not a traceback is unchanged, except for its line separators."""
    assert errors.folded(text).split() == text.split() or "File" in text
    whole = "\n".join(lines)
    shown = errors.folded(whole)
    assert [one for one in shown.splitlines() if "/app/" in one] == [
        one for one in lines if "/app/" in one
    ]
