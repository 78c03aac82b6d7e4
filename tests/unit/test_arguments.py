"""What is written behind a magic: read as it was meant, or refused with what was wrong."""

from __future__ import annotations

import contextlib
import json
import math
from argparse import ArgumentTypeError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.error import UsageError
from IPython.core.magic_arguments import (
    MagicArgumentParser,
    argument,
    construct_parser,
    magic_arguments,
)

from fabric_nb.errors import NotServed
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import (
    KeywordProblem,
    evaluate,
    headers,
    keywords,
    parse,
    payload,
    usage_error,
    words,
)
from fabric_nb.notebook.option_types import count, seconds, unquoted
from fabric_nb.notebook.serving import functions_to_serve

# -- words


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", []),
        ("  \t ", []),
        ("a b  c", ["a", "b", "c"]),
        ("calc.echo x=[1, 2] y={'a': (1, 2)}", ["calc.echo", "x=[1, 2]", "y={'a': (1, 2)}"]),
        ("x='a b' y=\"it's\"", ["x='a b'", 'y="it\'s"']),
        (r"x='it\'s here' y", [r"x='it\'s here'", "y"]),
        (r"x='\\' y", [r"x='\\'", "y"]),
        ("x='[' y", ["x='['", "y"]),
        ("a) b", ["a)", "b"]),
        ("x='open end", ["x='open end"]),
        ("x=(open end", ["x=(open end"]),
        ("a\nb\u00a0c", ["a", "b", "c"]),
    ],
)
def test_words(line: str, found: list[str]) -> None:
    """A line is split at white space, but not inside quotes and brackets."""
    assert words(line) == found


plain_words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)
quoted_words = st.text(max_size=6).map(repr) | st.text(max_size=6).map(json.dumps)
bracketed = st.lists(st.text(max_size=3) | st.integers(), max_size=3).map(repr)
some_words = st.lists(
    plain_words | quoted_words | bracketed | st.builds("{}={}".format, plain_words, bracketed)
)


@given(some_words, st.sampled_from([" ", "  ", "\t", " \n "]))
def test_words_joined_are_found_again(parts: list[str], between: str) -> None:
    """Words that are joined by white space are found again, whatever their quotes hold."""
    assert words(between.join(parts)) == parts
    assert words(between + between.join(parts) + between) == parts


@given(st.text(max_size=30))
def test_nothing_is_lost_between_words(line: str) -> None:
    """Of any line only white space is taken away."""
    assert "".join("".join(words(line)).split()) == "".join(line.split())


# -- options


def parser() -> MagicArgumentParser:
    def fabric_test() -> None: ...

    decorated: Any = fabric_test
    for decorate in (
        argument("rest", nargs="*", help="the rest"),
        argument("--id", type=unquoted, help="the id"),
        argument("--prefetch", type=count, default=1, help="calls at once"),
        argument("--timeout", type=seconds, default=30.0, help="seconds"),
        magic_arguments(),
    ):
        decorated = decorate(decorated)
    made: MagicArgumentParser = construct_parser(decorated)
    return made


PARSER = parser()


def test_options_anywhere() -> None:
    """Options may stand anywhere in the line."""
    for line in (
        "--timeout 2 --id 'a b' m x=1",
        "m --timeout 2 x=1 --id 'a b'",
        "m x=1 --timeout=2 --id='a b'",
    ):
        parsed = parse(PARSER, line)
        assert (parsed.timeout, parsed.id, parsed.rest) == (2.0, "a b", ["m", "x=1"])


@pytest.mark.parametrize(
    ("line", "words_of_it"),
    [
        ("--tiemout 5", "--tiemout"),
        ("--timeout", "--timeout"),
        ("--timeout soon", "'soon' is not a time in seconds"),
        ("--timeout -1", "--timeout"),
        ("--timeout nan", "'nan' is not a time in seconds"),
        ("--prefetch 0", "'0' is not a number from 1 upward"),
    ],
)
def test_wrong_options(line: str, words_of_it: str) -> None:
    """A wrong option is refused with what was wrong and how the magic is written."""
    with pytest.raises(UsageError) as caught:
        parse(PARSER, line)
    problem, _, usage = str(caught.value).partition("\n")
    assert words_of_it in problem
    assert usage.startswith("Usage: %fabric_test")


def test_usage_error() -> None:
    """A problem is told with one full stop and the usage line."""
    error = usage_error(PARSER, "That is wrong.")
    assert str(error).startswith("That is wrong.\nUsage: %fabric_test [")


@pytest.mark.parametrize(("word", "value"), [("1", 1), ("0.5", 0.5), ("1e3", 1000)])
def test_seconds(word: str, value: float) -> None:
    """A time is a number of seconds."""
    assert seconds(word) == value


@pytest.mark.parametrize("word", ["", "0", "-1", "nan", "inf", "1 s", "x"])
def test_no_seconds(word: str) -> None:
    """Anything else is no time."""
    with pytest.raises(ArgumentTypeError):
        seconds(word)


@pytest.mark.parametrize("word", ["", "0", "-1", "1.5", "x", "²", "\u0661", " 1"])
def test_no_count(word: str) -> None:
    """A count is a number from one upward, in plain digits."""
    with pytest.raises(ArgumentTypeError):
        count(word)


def test_count_and_quotes() -> None:
    """Counts are read, and an option's value may be quoted."""
    assert (count("1"), count("20")) == (1, 20)
    assert unquoted("'a b'") == unquoted('"a b"') == unquoted("a b") == "a b"
    assert unquoted("'") == "'"
    assert unquoted("'a\"") == "'a\""


# -- name=expression


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("  ", {}),
        ("x=5", {"x": 5}),
        ("  x=5", {"x": 5}),
        ("x=5 y=a+1", {"x": 5, "y": 7}),
        ("x=5, y=7", {"x": 5, "y": 7}),
        ("x = 5 y = a + 1", {"x": 5, "y": 7}),
        ("x=a == 6 y=a>=1", {"x": True, "y": True}),
        ("x=dict(p=1, q=2) y=[b for b in range(a)][-1]", {"x": {"p": 1, "q": 2}, "y": 5}),
        ("x='y=5' z=\"k=v\"", {"x": "y=5", "z": "k=v"}),
        ("x=(lambda v=1: v)() y=2", {"x": 1, "y": 2}),
        ("x=f'{a=}' y=1", {"x": "a=6", "y": 1}),
        ("x=-1 y=not a z=a if a else 0", {"x": -1, "y": False, "z": 6}),
        ("x={'a': 1}['a'] y=(1,\n 2)", {"x": 1, "y": (1, 2)}),
        ("x=1\ny=2", {"x": 1, "y": 2}),
        ("x='é🎉' y='\u2028' z=3", {"x": "é🎉", "y": "\u2028", "z": 3}),
        ("x='''a\n\u2028b''' y=3\nz='\x0c' w=4", {"x": "a\n\u2028b", "y": 3, "z": "\x0c", "w": 4}),
        ("größe=1", {"größe": 1}),
        ("class=1 if=2", {"class": 1, "if": 2}),
    ],
)
def test_keywords(text: str, values: dict[str, Any]) -> None:
    """Keywords are evaluated in the user's scope, with or without commas and spaces."""
    scope = {"a": 6}
    assert keywords(text, scope=scope) == values
    assert scope == {"a": 6}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5", "'5' is not of the form name=expression"),
        ("x", "'x' is not of the form name=expression"),
        ("5 x=1", "'5' is not of the form name=expression"),
        ("=5", "'=5' is not of the form name=expression"),
        ("*args", "'*args' is not of the form name=expression"),
        ("x=", "x= has no value"),
        ("x= y=1", "x= has no value"),
        ("x=, y=1", "x= has no value"),
        ("x=1 x=2", "x is given twice"),
        ("x=1 y", "x=1 y is not a Python expression"),
        ("x=a b", "x=a b is not a Python expression"),
        ("x=import os", "x=import os is not a Python expression"),
        ("x=await f()", "x=await f() is not a Python expression"),
        ("x=1 o.y=2", "x=1 o. is not a Python expression"),
        ("x=(1", "cannot be read"),
        ("x='''a", "cannot be read"),
        ("x=1\n  y=2\n z=3", "cannot be read"),
        ("x=unknown", "x=unknown raised NameError: name 'unknown' is not defined"),
        ("x=1/0", "x=1/0 raised ZeroDivisionError: division by zero"),
        ("x=" + "-" * 100_000 + "1", "is not a Python expression"),
        ("x=\0", ""),
        ("x=\ud800", ""),
    ],
)
def test_bad_keywords(text: str, problem: str) -> None:
    """Keywords that cannot be read or evaluated are refused with which one and why."""
    with pytest.raises(KeywordProblem) as caught:
        keywords(text, scope={"a": 6, "b": 7})
    assert problem in str(caught.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@given(st.dictionaries(names, json_values, max_size=4), st.sampled_from([" ", ", ", "  "]))
@example({"x": "\x0c\u2028\x85 y=1", "y": 2}, " ")
def test_any_values_as_keywords(values: dict[str, Any], between: str) -> None:
    """Any values written as Python writes them are read back under their names."""
    text = between.join(f"{name}={value!r}" for name, value in values.items())
    assert keywords(text, scope={}) == values


@given(st.text(max_size=30) | st.text("xy=()[]{}'\" ,1\n#\\", max_size=20))
@example("\x80=0")
def test_any_text_as_keywords(text: str) -> None:
    """Any text at all is keywords or a problem that can be told."""
    with contextlib.suppress(KeywordProblem):  # nothing is evaluated here
        pairs = list(arguments._split_keywords(text))
        assert all(name.isidentifier() and source.strip() for name, source in pairs)


def test_evaluating() -> None:
    """An expression that raises is told with what it was for, and keeps its cause."""
    assert evaluate(" a + 1 ", {"a": 1}, what="x") == 2
    with pytest.raises(KeywordProblem, match="x=a raised NameError") as caught:
        evaluate("a", {}, what="x")
    assert isinstance(caught.value.__cause__, NameError)


# -- headers and data


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=USD", "USD"),
        ("a='USD'", "USD"),
        ("a=3", 3),
        ("a=-1.5", -1.5),
        ("a=True", True),
        ("a=true", "true"),
        ("a=None", "None"),
        ("a=[1]", "[1]"),
        ("a={[]: 1}", "{[]: 1}"),
        ("a=007", "007"),
        ("a=b=c", "b=c"),
        ("a=__import__('os')", "__import__('os')"),
        ("a=" + "(" * 500, "(" * 500),
        ("a=" + "-" * 50_000 + "1", "-" * 50_000 + "1"),
    ],
)
def test_header(word: str, value: object) -> None:
    """A header's value is a number, a truth value or text; nothing is evaluated."""
    found = headers([word])
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize("word", ["a", "a=", "=a", "=", ""])
def test_bad_header(word: str) -> None:
    """What is not name=value is refused."""
    with pytest.raises(KeywordProblem, match="is not of the form name=value"):
        headers(["good=1", word])


@given(st.text(max_size=20))
def test_any_header(text: str) -> None:
    """Any text is a header's value, or refused."""
    try:
        [value] = headers([f"a={text}"]).values()
    except KeywordProblem:
        assert not text
    else:
        assert isinstance(value, (str, int, float))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"text": "hello", "n": null}', {"text": "hello", "n": None}),
        ("{'a': x}", {"a": 5}),
        ("[1, 2]", [1, 2]),
        ("x", 5),
        ("b'bytes'", b"bytes"),
        ("true", True),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_data(text: str, value: object) -> None:
    """What is published is JSON, or a Python expression."""
    assert payload(text, scope={"x": 5}) == value


@pytest.mark.parametrize("text", ["", "{", "hello there", "unknown", "1/0", "\ud800"])
def test_bad_data(text: str) -> None:
    """What is neither is refused."""
    with pytest.raises(KeywordProblem, match="data="):
        payload(text, scope={})


# -- what a cell serves


def test_functions_to_serve() -> None:
    """The functions that a cell defined are served, or those that were named."""
    namespace: dict[str, Any] = {"f": len, "g": max, "_h": min, "x": 5}
    assert functions_to_serve(namespace, ["f", "_h"], []) == {"f": len}
    assert functions_to_serve(namespace, ["f"], ["g"]) == {"g": max}
    assert functions_to_serve(namespace, ["f", "deleted", "x"], []) == {"f": len}


@pytest.mark.parametrize(
    ("defined", "only", "problem"),
    [
        ([], [], "defines no function to serve"),
        (["_h"], [], "defines no function to serve"),
        (["f"], ["_h"], "_h starts with an underscore"),
        (["f"], ["missing"], "--only names missing, and there is no function of that name"),
        (["f"], ["x"], "--only names x"),
    ],
)
def test_nothing_to_serve(defined: list[str], only: list[str], problem: str) -> None:
    """Where there is nothing to serve, it is said why."""
    with pytest.raises(NotServed, match=problem):
        functions_to_serve({"f": len, "_h": min, "x": math.pi}, defined, only)
