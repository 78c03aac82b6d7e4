"""Parser of the text behind a magic."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from argparse import ArgumentTypeError
from concurrent.futures import ThreadPoolExecutor
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

from fabric_nb.errors import BadArgument, NotServed
from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import (
    InvalidLine,
    cell_assignments,
    evaluate,
    expand,
    headers,
    keywords,
    parse,
    payload,
    split_at_dashes,
    usage_error,
    words,
)
from fabric_nb.notebook.options import count, seconds, unquoted
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
def test_joined_words_are_split_again(parts: list[str], between: str) -> None:
    """Words joined by white space are split again, whatever text their quotes contain."""
    assert words(between.join(parts)) == parts
    assert words(between + between.join(parts) + between) == parts


@given(st.text(max_size=30))
def test_nothing_is_lost_between_words(line: str) -> None:
    """Splitting removes nothing but white space."""
    assert "".join("".join(words(line)).split()) == "".join(line.split())


# -- options


def parser() -> MagicArgumentParser:
    def fabric_test() -> None: ...

    decorated: Any = fabric_test
    for decorate in (
        argument("rest", nargs="*", help="the rest"),
        argument("--id", type=unquoted, help="the id"),
        argument("--prefetch", type=count, default=1, help="calls at once"),
        argument("--timeout", "-t", type=seconds, default=30.0, help="seconds"),
        argument("--idempotent", "-i", action="store_true", help="no harm"),
        magic_arguments(),
    ):
        decorated = decorate(decorated)
    constructed: MagicArgumentParser = construct_parser(decorated)
    return constructed


PARSER = parser()


def test_options_anywhere() -> None:
    """Options may appear anywhere in the line."""
    for line in (
        "--timeout 2 --id 'a b' m x=1",
        "m --timeout 2 x=1 --id 'a b'",
        "m x=1 --timeout=2 --id='a b'",
    ):
        parsed = parse(PARSER, line)
        assert (parsed.timeout, parsed.id, parsed.rest) == (2.0, "a b", ["m", "x=1"])


@pytest.mark.parametrize(
    ("line", "values", "timeout", "idempotent"),
    [
        ("m x=b -c", "m x=b -c", 30, False),
        ("m x = -2 y = -(a)", "m x = -2 y = -(a)", 30, False),
        ("m x=b -t5", "m x=b -t5", 30, False),
        ("m x=b -index", "m x=b -index", 30, False),
        ("m x=[b, -i] -1 --idempotent", "m x=[b, -i] -1", 30, True),
        ("m -i -t 5 x=b -c", "m x=b -c", 5, True),
        ("m x=b -c --timeout=5 y=2 --idempotent z=-3", "m x=b -c y=2 z=-3", 5, True),
        ("m x='--idempotent' y=2", "m x='--idempotent' y=2", 30, False),
        ("--id a=b m x=1", "m x=1", 30, False),
    ],
)
def test_values_and_options(line: str, values: str, timeout: float, idempotent: bool) -> None:
    """After the first `name=` options need two dashes; all other words belong to values."""
    parsed = parse(PARSER, line)
    assert " ".join(" ".join(parsed.rest).split()) == values
    assert (parsed.timeout, parsed.idempotent) == (timeout, idempotent)


expressions = st.lists(
    st.sampled_from(["a", "-i", "-b", "-1", "+", "-t", "- 2", "-(i)", "-t5", "[-i]"]), max_size=4
)


@given(expressions, st.sampled_from(["", "--idempotent", "--timeout 5"]))
def test_no_part_of_a_value_is_lost(parts: list[str], option: str) -> None:
    """All text after `name=` is in the value, or the line is refused."""
    line = " ".join(["m x=a", *parts, option])
    try:
        parsed = parse(PARSER, line)
    except UsageError:
        assert {"-i", "-t"}.intersection(parts)
    else:
        assert "".join("".join(parsed.rest).split()) == "".join(["mx=a", *parts]).replace(" ", "")


@pytest.mark.parametrize(
    ("line", "values", "timeout"),
    [
        ("{m} df[{'a': 1}['a']] x={'b': 2}", ["df[{'a': 1}['a']]", "x={'b': 2}"], 30),
        ("{m} [{'a': 1}, {'a': 2}] -t 5 -i", ["[{'a': 1}, {'a': 2}]"], 5),
        ("-i {m} $df --timeout {t} y=$df", ["$df", "y=$df"], 2),
        ("{m} df more", ["df", "more"], 30),
        ("{m} x =5", ["x", "=5"], 30),
        ("{m}", [], 30),
    ],
)
def test_expressions_behind_a_text(line: str, values: list[str], timeout: float) -> None:
    """With one word of text, the next is an expression, in which nothing is replaced."""
    scope = {"m": "calc.add", "t": 2, "df": "replaced"}
    parsed = parse(PARSER, line, scope=scope, expressions=True, texts=1)
    assert parsed.rest == ["calc.add", *values]
    assert parsed.timeout == timeout
    assert parsed.idempotent == ("-i" in line)


def test_dashes() -> None:
    """A word `--` splits a line, but not inside quotes."""
    assert split_at_dashes("a=1 -- 2 -- 3") == ("a=1 ", " 2 -- 3")
    assert split_at_dashes("-- 2") == ("", " 2")
    assert split_at_dashes("a='b -- c' -- d") == ("a='b -- c' ", " d")
    assert split_at_dashes("a=1 --b") is None


# -- {expression} and $name


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("{kind}", "A B"),
        ("$kind", "A B"),
        ("kind={kind}", "kind=A B"),
        ("{svc}.m", "calc.m"),
        ("{n + 1}", "6"),
        ("{rows[0]!r}", "'x'"),
        ("{{kind}}", "{kind}"),
        ("$$kind", "$kind"),
        ("{", "{"),
        ("a}", "a}"),
        ("amqp://u:p$nix@h/", "amqp://u:p$nix@h/"),
        ("amqp://u:{nix}@h/", "amqp://u:{nix}@h/"),
        ("amqp://{svc}@h/", "amqp://calc@h/"),
    ],
)
def test_expansion(word: str, text: str) -> None:
    """Variables are expanded as in all magics; a URI with unknown names is unchanged."""
    scope = {"kind": "A B", "svc": "calc", "n": 5, "rows": ["x"]}
    assert expand(word, scope) == text


@pytest.mark.parametrize(
    "word", ["{nix}", "$nix", "kind={1 / 0}", "{n.nix}", "{}", "{1 +}", "{n:.2f}", "{int('x')}"]
)
def test_failed_expansion(word: str) -> None:
    """An unknown name is refused, and not sent as text."""
    with pytest.raises(BadArgument, match=r"raised \w+Error: .*; {{ and \$\$ stand"):
        expand(word, {"n": 5})


def test_expanded_value_is_one_word() -> None:
    """An expanded value remains one word; expressions are not expanded."""
    scope = {"kind": "a --id b", "x": 1}
    parsed = parse(PARSER, "m {kind} --id={kind}", scope=scope)
    assert (parsed.rest, parsed.id) == (["m", "a --id b"], "a --id b")
    parsed = parse(PARSER, "{x}.m y={x} --timeout {x}", scope=scope, expressions=True)
    assert (parsed.rest, parsed.timeout) == (["1.m", "y={x}"], 1)


@pytest.mark.parametrize(
    ("line", "words_of_it"),
    [
        ("--tiemout 5", "--tiemout"),
        ("--timeout", "--timeout"),
        ("--timeout soon", "'soon' is not a time in seconds"),
        ("--timeout -1", "--timeout"),
        ("--timeout nan", "'nan' is not a time in seconds"),
        ("--prefetch 0", "'0' is not a number from 1 upward"),
        ("--idem m", "--idem"),
        ("m x=1 --tiemout 5", "--tiemout"),
        ("m x=1 --idem", "--idem"),
        ("m x=1 -- 2", "--"),
        (
            "m x=b -i",
            "-i behind a value may be an option or a part of the value: write --idempotent",
        ),
        ("m x = b -i", "write --idempotent"),
        ("m x=b y=-1 -t 5", "write --timeout"),
        ("m x=1 --idempotent + 1", "'+' behind --idempotent is part of no value"),
        ("m x=1 --timeout 5 6", "'6' behind --timeout is part of no value"),
    ],
)
def test_invalid_options(line: str, words_of_it: str) -> None:
    """An invalid option is refused with the problem and the usage line."""
    with pytest.raises(UsageError) as caught:
        parse(PARSER, line)
    problem, _, usage = str(caught.value).partition("\n")
    assert words_of_it in problem
    assert usage.startswith("Usage: %fabric_test")


def test_usage_error() -> None:
    """The message is the problem, with one full stop, and the usage line."""
    error = usage_error(PARSER, "That is wrong.")
    assert str(error).startswith("That is wrong.\nUsage: %fabric_test [")


@pytest.mark.parametrize(("word", "value"), [("1", 1), ("0.5", 0.5), ("1e3", 1000)])
def test_seconds(word: str, value: float) -> None:
    """A time is a number of seconds."""
    assert seconds(word) == value


@pytest.mark.parametrize("word", ["", "0", "-1", "nan", "inf", "1 s", "x"])
def test_invalid_seconds(word: str) -> None:
    """Any other text is refused as a time."""
    with pytest.raises(ArgumentTypeError):
        seconds(word)


@pytest.mark.parametrize("word", ["", "0", "-1", "1.5", "x", "²", "\u0661", " 1"])
def test_invalid_count(word: str) -> None:
    """A count is an integer from one upward, in ASCII digits."""
    with pytest.raises(ArgumentTypeError):
        count(word)


def test_count_and_quotes() -> None:
    """Counts are parsed, and the value of an option may be quoted."""
    assert (count("1"), count("20")) == (1, 20)
    assert unquoted("'a b'") == unquoted('"a b"') == unquoted("a b") == "a b"
    assert (count('"5"'), seconds("'2.5'")) == (5, 2.5)
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
        ("x=" + "-" * 100_000 + "1", "is not a Python expression"),
        ("x=\0", ""),
        ("x=\ud800", ""),
    ],
)
def test_invalid_keywords(text: str, problem: str) -> None:
    """Keywords that cannot be parsed or evaluated are refused with their name and the reason."""
    with pytest.raises(InvalidLine) as caught:
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
    """The `repr` of any values is parsed to the same values."""
    text = between.join(f"{name}={value!r}" for name, value in values.items())
    assert keywords(text, scope={}) == values


@given(st.text(max_size=30) | st.text("xy=()[]{}'\" ,1\n#\\", max_size=20))
@example("\x80=0")
def test_any_text_as_keywords(text: str) -> None:
    """Any text is parsed as keywords, or refused with `InvalidLine`."""
    with contextlib.suppress(InvalidLine):  # nothing is evaluated here
        pairs = list(arguments.split_keywords(text))
        assert all(name.isidentifier() and source.strip() for name, source in pairs)


def test_evaluate() -> None:
    """The error of an expression has the name of the value, and its cause."""
    assert evaluate(" a + 1 ", {"a": 1}, name="x") == 2
    with pytest.raises(BadArgument, match="x=a raised NameError: name 'a' is not") as caught:
        keywords("y=1 x=a", scope={})
    assert isinstance(caught.value.__cause__, NameError)


# -- assignments of a cell


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("x = 5\ny = x + a", {"x": 5, "y": 8}),
        ("x: int = 5\nn += 1", {"x": 5, "n": 2}),
        ("if a:\n    x = 1\nelse:\n    y = 2", {"x": 1}),
        ("if not a:\n    a = 1\nx = 2", {"x": 2}),
        ("with open('/dev/null') as file:\n    x = file.read()", {"x": ""}),
        ("for i in range(3):\n    x = i\nelse:\n    y = i", {"x": 2, "y": 2}),
        ("for i in range(3):\n    pass\ni = i", {"i": 2}),
        ("while True:\n    x = 1\n    break", {"x": 1}),
        (
            "try:\n    x = 1 / 0\nexcept ZeroDivisionError as e:\n    y = 1\nfinally:\n    z = 2",
            {"y": 1, "z": 2},
        ),
        ("match [1, 2, 3]:\n    case [x, *y]:\n        z = 0", {"x": 1, "y": [2, 3], "z": 0}),
        ("match {'x': 1, 'y': 2}:\n    case {'x': x, **rest}: pass", {"x": 1, "rest": {"y": 2}}),
        ("(x, [y]), *z = (1, [2]), 3, 4", {"x": 1, "y": 2, "z": [3, 4]}),
        ("x = y = 1\ndel x", {"y": 1}),
        ("if (x := 5) > 1: pass\n[y := i for i in range(2)]", {"x": 5, "y": 1}),
        ("import math\nfrom os import path as p\nx = math.floor(1.5)", {"x": 1}),
        ("def f(k=1):\n    inner = k\n    return inner\nx = f()", {"x": 1}),
        ("class C:\n    inner = 1\nx = C.inner", {"x": 1}),
        ("def f():\n    global x\n    x = 1\nf()", {"x": 1}),
        ("x = [a for a in [5]] + [(lambda k: k)(1)]", {"x": [5, 1]}),
        ("_x = 1\ny = _x", {"y": 1}),
        ("exec('x = 5')", {"x": 5}),
    ],
)
def test_cell_assignments(body: str, values: dict[str, Any]) -> None:
    """The arguments are the variables that the cell has assigned, in any statement."""
    scope = {"a": 3, "n": 1}
    assert cell_assignments(body, scope=scope) == values
    assert scope == {"a": 3, "n": 1}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("x =", "line 1 of the cell is not Python"),
        ("x = 1\nreturn x", "line 2 of the cell is not Python"),
        ("x = await f()", "line 1 of the cell is not Python"),
        ("from math import *", "names with a star"),
        ("x = '\0'", "is not Python"),
    ],
)
def test_invalid_cell(body: str, problem: str) -> None:
    """A cell that is not Python, or has a star import, is refused."""
    with pytest.raises(InvalidLine, match=problem):
        cell_assignments(body, scope={})


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
    """The value of a header is a number, a bool or text; nothing is evaluated."""
    found = headers([word])
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a={text}", "5"),
        ("a=$text", "5"),
        ("a='{text}'", "5"),
        ("a={number}", 5),
        ("a=$number", 5),
        ("a={number}{number}", 55),
        ("a=x{text}", "x5"),
        ("a={number > 4}", True),
        ("a={rows[:1]}", "['x']"),
        ("a={text!r}", "5"),
        ("a={none}", "None"),
        ("a=$spaced", "a b"),
    ],
)
def test_header_from_a_variable(word: str, value: object) -> None:
    """The value of a variable keeps its type: text that looks like a number stays text."""
    scope = {"text": "5", "number": 5, "rows": ["x", "y"], "none": None, "spaced": "a b"}
    found = headers([word], scope=scope)
    assert found == {"a": value}
    assert type(found["a"]) is type(value)
    assert headers(["{text}=1"], scope={"text": "kind"}) == {"kind": 1}


def test_header_in_quotes() -> None:
    """Quotes around the name of a header are removed."""
    assert headers(['"msg type"=5'], scope=None) == {"msg type": 5}


def test_header_given_twice() -> None:
    """A header that is given twice is refused, because only one could be sent."""
    with pytest.raises(InvalidLine, match="a is given twice"):
        headers(["a=1", "b=2", "a=3"])


@pytest.mark.parametrize("word", ["a", "a=", "=a", "=", ""])
def test_invalid_header(word: str) -> None:
    """A word of another form than name=value is refused."""
    with pytest.raises(InvalidLine, match="is not of the form name=value"):
        headers(["good=1", word])


@given(st.text(max_size=20))
def test_any_header(text: str) -> None:
    """Any text is parsed as a header, or refused."""
    try:
        [value] = headers([f"a={text}"]).values()
    except InvalidLine:
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
def test_payload(text: str, value: object) -> None:
    """Published data is JSON, or a Python expression."""
    assert payload(text, scope={"x": 5}) == value


@pytest.mark.parametrize("text", ["", "{", "hello there", "unknown", "1/0", "\ud800"])
def test_invalid_payload(text: str) -> None:
    """Text that is neither JSON nor Python is refused."""
    with pytest.raises((InvalidLine, BadArgument), match="data="):
        payload(text, scope={})


# -- what a cell serves


def test_functions_to_serve() -> None:
    """The functions that a cell defines are served, or those of `--only`."""
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
    """A cell without functions to serve is refused with the reason."""
    with pytest.raises(NotServed, match=problem):
        functions_to_serve({"f": len, "_h": min, "x": math.pi}, defined, only)


def test_lines_are_parsed_in_several_threads() -> None:
    """Threads that use one magic at the same time each receive the arguments of their own line."""
    lines = [f"calc.{n} x={n} --timeout {n}" for n in range(1, 5)]
    expected = [vars(parse(PARSER, line)) for line in lines]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(lines)) as pool:
            for _ in range(100):
                assert list(pool.map(lambda line: vars(parse(PARSER, line)), lines)) == expected
    finally:
        sys.setswitchinterval(interval)
