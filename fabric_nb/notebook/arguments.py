"""What is written behind a magic: words, options, ``name=expression``. Pure."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser
from IPython.utils.text import DollarFormatter

from fabric_nb.errors import BadArgument, MalformedMessage
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.notebook.options import unquoted

_NAME, _EQUALS = re.compile(r"[^\W\d]\w*=(?!=)"), re.compile(r"=(?!=)")
_CALL = re.compile(r"(?!-)(?:[A-Za-z0-9_-]+\.){1,3}[A-Za-z_][A-Za-z0-9_]*")
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


def words(line: str) -> list[str]:
    """Split at white space, but not inside quotes and brackets, which are kept.

    Example:
        >>> words('calc.echo value=[1, 2] text="a b"')
        ['calc.echo', 'value=[1, 2]', 'text="a b"']
    """
    return [line[start:end] for start, end in _spans(line)]


def _spans(line: str) -> Iterator[tuple[int, int]]:
    """Yield where each word begins and ends."""
    start: int | None = None
    quote, depth, escaped = "", 0, False
    for place, char in enumerate(line):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in _QUOTES:
            quote = char
        elif char.isspace() and depth <= 0:
            if start is not None:
                yield start, place
            start = None
            continue
        else:
            depth += (char in _OPENING) - (char in _CLOSING)
        start = place if start is None else start
    if start is not None:
        yield start, len(line)


def at_dashes(line: str) -> tuple[str, str] | None:
    """Split a line at its first word ``--``; None if there is none.

    Example:
        >>> at_dashes("text='a -- b' -- [1, 2]")
        ("text='a -- b' ", ' [1, 2]')
    """
    dashes = next((span for span in _spans(line) if line[slice(*span)] == "--"), None)
    return None if dashes is None else (line[: dashes[0]], line[dashes[1] :])


def call_among(typed: Sequence[str]) -> str | None:
    """The word that names a call, among those behind a magic.

    Example:
        >>> call_among(["--timeout", "2.5", "calc.multiply", "x=5.0"])
        'calc.multiply'
    """
    return next((word for word in typed if _CALL.fullmatch(word)), None)


def parse(
    parser: MagicArgumentParser,
    line: str,
    *,
    scope: Mapping[str, Any] | None = None,
    expressions: bool = False,
) -> Namespace:
    """Return the options and words of a magic's line.

    Values begin with the first word ``name=``. From there on an option is written with two
    dashes and ends the value before it; any other word is part of a value, also one that begins
    with a dash. A word that could be either is refused.

    Args:
        parser: the magic's own.
        line: the text behind the magic.
        scope: variables for ``{expression}`` and ``$name``, which are replaced; None replaces none.
        expressions: nothing is replaced in values: they are Python, or it is done later.

    Raises:
        UsageError: an option is unknown, wrong or ambiguous; the message ends with the usage line.
        BadArgument: ``{expression}`` or ``$name`` cannot be replaced.
    """
    try:
        typed, values = _options_and_values(parser, words(line))
        if scope is not None:
            typed = [expanded(word, scope) for word in typed]
            values = values if expressions else [expanded(word, scope) for word in values]
        # argparse takes what begins with a space for a value.
        guarded = [f" {word}" if word.startswith("-") else word for word in values]
        parser.allow_abbrev = False  # `--s` is no `--stream`
        parsed: Namespace = parser.parse_intermixed_args([*typed, *guarded])
    except (UsageError, KeywordProblem) as error:
        raise usage_error(parser, str(error)) from None
    return parsed


def _options_and_values(
    parser: MagicArgumentParser, found: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Split words into options, with the words before the first ``name=``, and values."""
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no public name for it
    typed: list[str] = []
    values: list[str] = []
    option = ""  # that stands before this word
    place = 0
    while place < len(found):
        word = found[place]
        name, equals, _ = word.partition("=")
        if word.startswith("--") or (word in known and not values):
            if values and name not in known:
                raise KeywordProblem(f"unrecognized arguments: {word}")
            takes_next = name in known and not equals and known[name].nargs != 0
            typed += found[place : place + 1 + takes_next]
            place += 1 + takes_next
            option = name
            continue
        if word in known:
            raise KeywordProblem(_ambiguous(word, known[word].option_strings))
        begins = _begins_value(found, place)
        if values and option and not begins:
            raise KeywordProblem(f"{word!r} behind {option} is part of no value")
        (values if values or begins else typed).append(word)
        option = ""
        place += 1
    return typed, values


def _ambiguous(word: str, spellings: Sequence[str]) -> str:
    long = next(one for one in spellings if one.startswith("--"))
    return (
        f"{word} behind a value may be an option or a part of the value: write {long}, or put"
        " brackets around the value"
    )


def _begins_value(found: Sequence[str], place: int) -> bool:
    """Return whether ``name=`` stands there, in one word or with white space around its ``=``."""
    if _NAME.match(found[place]):
        return True
    after = found[place + 1] if place + 1 < len(found) else ""
    return found[place].isidentifier() and bool(_EQUALS.match(after))


def _is_half(word: str, error: Exception) -> bool:
    return isinstance(error, ValueError) and word.count("{") != word.count("}")


def expanded(word: str, scope: Mapping[str, Any]) -> str:
    """Replace ``{expression}`` and ``$name`` in a word, as IPython does in magics.

    A bracket without its other half stays as it is, and so does a URI in which something cannot be
    replaced: passwords may hold these characters.

    Raises:
        BadArgument: the expression or name cannot be evaluated.
    """
    return format(_filled_in(word, scope))


def _filled_in(word: str, scope: Mapping[str, Any]) -> Any:
    """As `expanded`; of a word that is nothing else, the value itself."""
    field = _only_field(word)
    try:
        if field is not None:
            return eval(field, dict(scope))  # noqa: S307 - the user's own text, as in any cell
        return str(DollarFormatter().vformat(word, (), dict(scope)))
    except Exception as error:
        if "://" in word or _is_half(word, error):
            return word
        raise BadArgument(
            f"{{expression}} or $name raised {type(error).__name__}: {error}; {{{{ and $$ stand for"
            " these characters themselves."
        ) from error


def _only_field(word: str) -> str | None:
    """Return the expression of a word that is one ``{expression}`` or ``$name`` and no more."""
    try:
        parts = [part for part in DollarFormatter().parse(word) if part[0] or part[1] is not None]
    except ValueError:
        return None
    if len(parts) != 1 or parts[0][0] or parts[0][1] is None or parts[0][3]:
        return None
    _, field, more, _ = parts[0]
    return f"{field}:{more}" if more else str(field)


def usage_error(parser: MagicArgumentParser, problem: str) -> UsageError:
    """A `UsageError` that says what was wrong and how the magic is written."""
    usage = " ".join(parser.format_usage().split()).removeprefix("::").strip()
    error = UsageError(f"{problem.rstrip('.')}.\nUsage: {usage}")
    # A subclass would do, but IPython shows only `UsageError` itself as one line.
    error.of_fabric_nb = True  # type: ignore[attr-defined]
    return error


class KeywordProblem(ValueError):
    """Keywords that cannot be read; the message says which and why."""


def keywords(text: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate ``name=expression name=expression`` in the user's scope.

    Expressions may hold spaces; commas between keywords are allowed.

    Example:
        >>> keywords("x=5 y=a + 1", scope={"a": 6})
        {'x': 5, 'y': 7}

    Raises:
        KeywordProblem: not of that form, a name twice, or no expression.
        BadArgument: an expression raised.
    """
    values: dict[str, Any] = {}
    for name, source in _split_keywords(text):
        if name in values:
            raise KeywordProblem(f"{name} is given twice")
        values[name] = evaluate(source, scope, what=name)
    return values


def assigned(body: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    r"""Run a cell's text in a copy of the user's scope and return what it assigns.

    These are the global variables that Python has when it has run, also those that are assigned
    inside `if`, `for`, `with`, `try` or `match`. Left out are the cell's own: names that start with
    an underscore, and what is only bound by an import, `def`, `class`, `for` or `with ... as`.

    What it raises is raised here.

    Example:
        >>> assigned("x = 5\nif x > 2:\n    _half = x / 2\n    y = [_half]", scope={})
        {'x': 5, 'y': [2.5]}

    Raises:
        KeywordProblem: it is not Python, or imports names with a star.
    """
    try:
        tree = ast.parse(body)
        code = compile(tree, "<cell>", "exec")
    except (SyntaxError, ValueError) as error:
        line, said = getattr(error, "lineno", None), getattr(error, "msg", error)
        raise KeywordProblem(f"line {line or 1} of the cell is not Python: {said}") from None
    bound = list(bindings(tree))
    if ("*", False) in bound:
        raise KeywordProblem("the cell imports names with a star: name those that are needed")
    # Found behind the globals, the user's variables can be read, and are not what was assigned.
    namespace: dict[str, Any] = {"__builtins__": {**vars(builtins), **scope}}
    exec(code, namespace)  # noqa: S102 - the user's own cell
    tools = {name for name, _ in bound} - {name for name, by_value in bound if by_value}
    return {
        name: value
        for name, value in namespace.items()
        if name not in tools and not name.startswith("_")
    }


def bindings(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield each name that is bound outside of functions, and whether an assignment binds it."""
    own: object = None  # what a loop or the like binds
    match node:
        case ast.Name(id=str(name), ctx=ast.Store()):
            yield name, True
        case (
            ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
        ):
            yield name, True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name, False
            return
        case ast.Lambda():
            return
        case ast.alias():
            yield node.asname or node.name.partition(".")[0], False
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            own = node.target
        case ast.withitem():
            own = node.optional_vars
    for child in ast.iter_child_nodes(node):
        for name, assigned in bindings(child):
            yield name, assigned and child is not own


def evaluate(source: str, scope: Mapping[str, Any], *, what: str) -> Any:
    """The value of one expression.

    Raises:
        KeywordProblem: it is no expression; names `what` it was for.
        BadArgument: it raised.
    """
    try:
        code = compile(source.strip(), f"<{what}>", "eval")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise KeywordProblem(f"{what}={source.strip()} is not a Python expression") from None
    try:
        return eval(code, dict(scope))  # noqa: S307 - the user's own text, as in any cell
    except Exception as error:
        raise BadArgument(
            f"{what}={source.strip()} raised {type(error).__name__}: {error}"
        ) from error


def _split_keywords(text: str) -> Iterator[tuple[str, str]]:
    starts = list(_keyword_starts(text))
    if text.strip() and (not starts or text[: starts[0][0]].strip()):
        first = text[: starts[0][0]] if starts else text
        raise KeywordProblem(f"{first.strip()!r} is not of the form name=expression")
    for index, (_, name, begin) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(text)
        source = text[begin:end].strip()
        if index + 1 < len(starts):
            source = source.removesuffix(",")
        if not source.strip():
            raise KeywordProblem(f"{name}= has no value")
        yield name, source


def _keyword_starts(text: str) -> Iterator[tuple[int, str, int]]:
    """Where each ``name=`` outside brackets begins, its name, and where its value begins."""
    depth = 0
    previous: tokenize.TokenInfo | None = None
    offsets = [0]
    for row in io.StringIO(text):  # the rows that `tokenize` counts
        offsets.append(offsets[-1] + len(row))
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP:
                depth += (token.string in _OPENING) - (token.string in _CLOSING)
                if (
                    token.string == "="
                    and depth == 0
                    and previous is not None
                    and previous.type == tokenize.NAME
                    and previous.string.isidentifier()  # from 3.12 on, a name may be any text
                ):
                    begin = offsets[previous.start[0] - 1] + previous.start[1]
                    yield begin, previous.string, offsets[token.end[0] - 1] + token.end[1]
            previous = token
    except (tokenize.TokenError, SyntaxError, UnicodeError) as error:
        raise KeywordProblem(f"{text.strip()!r} cannot be read ({error.args[0]})") from None


def headers(assignments: list[str], *, scope: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Header values from ``name=value`` words: Python literals, variables, or plain text.

    A variable's text stays text, also if it looks like a number.

    Example:
        >>> headers(["currency={c}", "priority=3", "paid=True"], scope={"c": "5"})
        {'currency': '5', 'priority': 3, 'paid': True}

    Args:
        assignments: the words.
        scope: variables for ``{expression}`` and ``$name``; None replaces none.

    Raises:
        KeywordProblem: a word is not of that form, or a name is given twice.
        BadArgument: ``{expression}`` or ``$name`` cannot be replaced.
    """
    values: dict[str, Any] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise KeywordProblem(f"{word!r} is not of the form name=value")
        name = unquoted(name if scope is None else expanded(name, scope))
        if name in values:
            raise KeywordProblem(f"{name} is given twice")
        values[name] = _literal(text) if scope is None else _header(text, scope)
    return values


def _header(text: str, scope: Mapping[str, Any]) -> Any:
    value = _filled_in(text, scope)
    itself = _only_field(text) is not None and isinstance(value, (str, int, float, bool))
    return value if itself else _literal(format(value))


def _literal(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, (str, int, float, bool)) else text


def payload(text: str, *, scope: Mapping[str, Any]) -> Any:
    """What is to be published: JSON, or a Python expression.

    Raises:
        KeywordProblem: it is neither.
        BadArgument: the expression raised.
    """
    try:
        return decode(text.encode(errors="surrogatepass"))
    except MalformedMessage:
        return evaluate(text, scope, what="data")
