"""What is written behind a magic: words, options, ``name=expression``. Pure."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.codec import decode

_CALL = re.compile(r"(?!-)(?:[A-Za-z0-9_-]+\.){1,3}[A-Za-z_][A-Za-z0-9_]*")
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


def words(line: str) -> list[str]:
    """Split at white space, but not inside quotes and brackets, which are kept.

    Example:
        >>> words('calc.echo value=[1, 2] text="a b"')
        ['calc.echo', 'value=[1, 2]', 'text="a b"']
    """
    found: list[str] = []
    word, quote, depth, escaped = "", "", 0, False
    for char in line:
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in _QUOTES:
            quote = char
        elif char.isspace() and depth <= 0:
            if word:
                found.append(word)
            word = ""
            continue
        else:
            depth += (char in _OPENING) - (char in _CLOSING)
        word += char
    return [*found, word] if word else found


def call_among(typed: Sequence[str]) -> str | None:
    """The word that names a call, among those behind a magic.

    Example:
        >>> call_among(["--timeout", "2.5", "calc.multiply", "x=5.0"])
        'calc.multiply'
    """
    return next((word for word in typed if _CALL.fullmatch(word)), None)


def parse(parser: MagicArgumentParser, line: str) -> Namespace:
    """The options and words of a magic's line; options may stand anywhere.

    Raises:
        UsageError: an option is unknown or wrong; the message ends with the usage line.
    """
    try:
        parsed: Namespace = parser.parse_intermixed_args(words(line))
    except UsageError as error:
        raise usage_error(parser, str(error)) from None
    return parsed


def usage_error(parser: MagicArgumentParser, problem: str) -> UsageError:
    """A `UsageError` that says what was wrong and how the magic is written."""
    usage = " ".join(parser.format_usage().split()).removeprefix("::").strip()
    return UsageError(f"{problem.rstrip('.')}.\nUsage: {usage}")


class KeywordProblem(ValueError):
    """Keywords that cannot be read; the message says which and why."""


def keywords(text: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate ``name=expression name=expression`` in the user's scope.

    Expressions may hold spaces; commas between keywords are allowed.

    Example:
        >>> keywords("x=5 y=a + 1", scope={"a": 6})
        {'x': 5, 'y': 7}

    Raises:
        KeywordProblem: not of that form, a name twice, or an expression that fails.
    """
    values: dict[str, Any] = {}
    for name, source in _split_keywords(text):
        if name in values:
            raise KeywordProblem(f"{name} is given twice")
        values[name] = evaluate(source, scope, what=name)
    return values


def assigned(body: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    r"""Run a cell's text in a copy of the user's scope and return what it assigns at its top.

    Names that start with an underscore are its own. What it raises is raised here.

    Example:
        >>> assigned("x = 5\n_half = x / 2\ny = [_half]", scope={})
        {'x': 5, 'y': [2.5]}

    Raises:
        KeywordProblem: it is not Python.
    """
    try:
        tree = ast.parse(body)
    except SyntaxError as error:
        raise KeywordProblem(
            f"line {error.lineno} of the cell is not Python: {error.msg}"
        ) from None
    names = [
        node.id
        for statement in tree.body
        for target in _targets(statement)
        for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    namespace = dict(scope)
    exec(compile(tree, "<cell>", "exec"), namespace)  # noqa: S102 - the user's own cell
    return {name: namespace[name] for name in names if not name.startswith("_")}


def _targets(statement: ast.stmt) -> Sequence[ast.expr]:
    match statement:
        case ast.Assign():
            return statement.targets
        case ast.AnnAssign() | ast.AugAssign():
            return [statement.target]
    return []


def evaluate(source: str, scope: Mapping[str, Any], *, what: str) -> Any:
    """The value of one expression.

    Raises:
        KeywordProblem: it is no expression, or it raised; names `what` it was for.
    """
    try:
        code = compile(source.strip(), f"<{what}>", "eval")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise KeywordProblem(f"{what}={source.strip()} is not a Python expression") from None
    try:
        return eval(code, dict(scope))  # noqa: S307 - the user's own text, as in any cell
    except Exception as error:
        raise KeywordProblem(
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


def headers(assignments: list[str]) -> dict[str, Any]:
    """Header values from ``name=value`` words: Python literals, or plain text.

    Example:
        >>> headers(["currency=USD", "priority=3", "paid=True"])
        {'currency': 'USD', 'priority': 3, 'paid': True}

    Raises:
        KeywordProblem: a word is not of that form.
    """
    values: dict[str, Any] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise KeywordProblem(f"{word!r} is not of the form name=value")
        values[name] = _literal(text)
    return values


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
    """
    try:
        return decode(text.encode(errors="surrogatepass"))
    except MalformedMessage:
        return evaluate(text, scope, what="data")
