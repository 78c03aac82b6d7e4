"""Parser of the text behind a magic: words, options and ``name=expression``. Pure."""

from __future__ import annotations

import ast
import builtins
import io
import re
import threading
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
_parsing = threading.Lock()
"""Held while a line is parsed, because argparse changes the parser while it parses."""
_CALL = re.compile(
    r"(?!-)(?:[A-Za-z0-9_-]+/)?"  # connection
    r"(?:[A-Za-z0-9_-]+\.){0,2}[A-Za-z0-9_-]+"  # service
    r"(?:@(?:[A-Za-z0-9_-]+|\*))?"  # instance
    r"\.[A-Za-z_][A-Za-z0-9_]*"  # method
)
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


def words(line: str) -> list[str]:
    """Split a line at white space outside quotes and brackets; these are kept.

    Example:
        >>> words('calc.echo value=[1, 2] text="a b"')
        ['calc.echo', 'value=[1, 2]', 'text="a b"']
    """
    return [line[start:end] for start, end in _spans(line)]


def _spans(line: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each word."""
    start: int | None = None
    quote, depth, escaped = "", 0, False
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in _QUOTES:
            quote = char
        elif char.isspace() and depth <= 0:
            if start is not None:
                yield start, index
            start = None
            continue
        else:
            depth += (char in _OPENING) - (char in _CLOSING)
        start = index if start is None else start
    if start is not None:
        yield start, len(line)


def split_at_dashes(line: str) -> tuple[str, str] | None:
    """Split a line at its first word ``--``; None if there is none.

    Example:
        >>> split_at_dashes("text='a -- b' -- [1, 2]")
        ("text='a -- b' ", ' [1, 2]')
    """
    dashes = next((span for span in _spans(line) if line[slice(*span)] == "--"), None)
    return None if dashes is None else (line[: dashes[0]], line[dashes[1] :])


def split_connection(name: str) -> tuple[str, str]:
    """Split a name at the ``/`` behind the name of a connection, which is empty if there is none.

    Example:
        >>> split_connection("staging/my_app.multiply"), split_connection("my_app.multiply")
        (('staging', 'my_app.multiply'), ('', 'my_app.multiply'))
    """
    connection, slash, rest = name.partition("/")
    return (connection, rest) if slash else ("", name)


def find_call(typed: Sequence[str]) -> str | None:
    """Return the word that names a call, among those behind a magic; None if there is none.

    Example:
        >>> find_call(["--timeout", "2.5", "calc.multiply", "x=5.0"])
        'calc.multiply'
    """
    return next((word for word in typed if _CALL.fullmatch(word)), None)


def parse(
    parser: MagicArgumentParser,
    line: str,
    *,
    scope: Mapping[str, Any] | None = None,
    expressions: bool = False,
    texts: int | None = None,
) -> Namespace:
    """Parse the line of a magic.

    Values begin with the first word ``name=``. After it an option needs two dashes, and ends the
    value before it. Any other word is part of a value, even if it begins with a dash. A word that
    could be either is an error.

    Args:
        parser: parser of the magic.
        line: text behind the magic.
        scope: variables that replace ``{expression}`` and ``$name``; None for no replacement.
        expressions: replace nothing in values, because they are Python or are replaced later.
        texts: number of words before the values, besides options, that are text; further ones are
            values. None: all are text.

    Raises:
        UsageError: an option is unknown, wrong or ambiguous; the message ends with the usage line.
        BadArgument: ``{expression}`` or ``$name`` cannot be replaced.
    """
    try:
        typed, values = _options_and_values(parser, words(line), texts)
        if scope is not None:
            typed = [expand(word, scope) for word in typed]
            values = values if expressions else [expand(word, scope) for word in values]
        # argparse reads a word that begins with a space as a value.
        guarded = [f" {word}" if word.startswith("-") else word for word in values]
        with _parsing:
            parser.allow_abbrev = False  # `--s` does not mean `--stream`
            parsed: Namespace = parser.parse_intermixed_args([*typed, *guarded])
    except (UsageError, InvalidLine) as error:
        raise usage_error(parser, str(error)) from None
    return parsed


def _options_and_values(
    parser: MagicArgumentParser, line: Sequence[str], texts: int | None
) -> tuple[list[str], list[str]]:
    """Split words into options with `texts` words before the first ``name=``, and values."""
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no public name for it
    typed: list[str] = []
    values: list[str] = []
    named = False  # True from the first ``name=`` on
    found = 0  # words in `typed` that belong to no option
    option = ""  # the option just before this word
    index = 0
    while index < len(line):
        word = line[index]
        name, equals, _ = word.partition("=")
        if word.startswith("--") or (word in known and not named):
            if named and name not in known:
                raise InvalidLine(f"unrecognized arguments: {word}")
            takes_next = name in known and not equals and known[name].nargs != 0
            typed += line[index : index + 1 + takes_next]
            index += 1 + takes_next
            option = name
            continue
        if word in known:
            raise InvalidLine(_ambiguous(word, known[word].option_strings))
        begins = _begins_value(line, index)
        if named and option and not begins:
            raise InvalidLine(f"{word!r} behind {option} is part of no value")
        named = named or begins
        is_text = not named and (texts is None or found < texts)
        (typed if is_text else values).append(word)
        found += is_text
        option = ""
        index += 1
    return typed, values


def _ambiguous(word: str, spellings: Sequence[str]) -> str:
    long = next(name for name in spellings if name.startswith("--"))
    return (
        f"{word} behind a value may be an option or a part of the value: write {long}, or put"
        " brackets around the value"
    )


def _begins_value(line: Sequence[str], index: int = 0) -> bool:
    """Return whether a value begins at a word: ``name=``, also with white space before ``=``."""
    if _NAME.match(line[index]):
        return True
    after = line[index + 1] if index + 1 < len(line) else ""
    return line[index].isidentifier() and bool(_EQUALS.match(after))


def _has_unpaired_brace(word: str, error: Exception) -> bool:
    return isinstance(error, ValueError) and word.count("{") != word.count("}")


def expand(word: str, scope: Mapping[str, Any]) -> str:
    """Replace ``{expression}`` and ``$name`` in a word, as IPython does in magics.

    A word with an unpaired brace is returned unchanged, and so is a URI in which an expression
    cannot be evaluated, because passwords may contain these characters.

    Raises:
        BadArgument: the expression or name cannot be evaluated.
    """
    return format(_expanded_value(word, scope))


def _expanded_value(word: str, scope: Mapping[str, Any]) -> Any:
    """Return the expanded word; if it is one expression and no more, the value itself."""
    field = _single_field(word)
    try:
        if field is not None:
            return eval(field, dict(scope))  # noqa: S307 - the user's own text, as in any cell
        return str(DollarFormatter().vformat(word, (), dict(scope)))
    except Exception as error:
        if "://" in word or _has_unpaired_brace(word, error):
            return word
        raise BadArgument(
            f"{{expression}} or $name raised {type(error).__name__}: {error}; {{{{ and $$ stand for"
            " these characters themselves."
        ) from error


def _single_field(word: str) -> str | None:
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
    """Return an error of the problem and the usage line of the magic."""
    # Python 3.14 and later colour the line where the output may be a terminal.
    parser.color = False  # type: ignore[attr-defined]
    usage = " ".join(parser.format_usage().split()).removeprefix("::").strip()
    error = UsageError(f"{problem.rstrip('.')}.\nUsage: {usage}")
    # Not a subclass, because IPython shows only `UsageError` itself as one line.
    error.of_fabric_nb = True  # type: ignore[attr-defined]
    return error


def split_rows(values: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Split the values of a line into an expression before the first ``name=``, and the others.

    Example:
        >>> split_rows(['df[["sku"]]', "x=5"]), split_rows(["x", "=5"])
        (('df[["sku"]]', ['x=5']), (None, ['x', '=5']))
    """
    if not values or _begins_value(values):
        return None, values
    return values[0], values[1:]


class InvalidLine(ValueError):
    """Error in the line or cell of a magic; it is shown with the usage line."""


def keywords(text: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate ``name=expression name=expression`` in the user's scope.

    Expressions may contain spaces; commas between keywords are allowed.

    Example:
        >>> keywords("x=5 y=a + 1", scope={"a": 6})
        {'x': 5, 'y': 7}

    Raises:
        InvalidLine: the text has another form, repeats a name, or is not an expression.
        BadArgument: an expression raised an error.
    """
    values: dict[str, Any] = {}
    for name, source in split_keywords(text):
        if name in values:
            raise InvalidLine(f"{name} is given twice")
        values[name] = evaluate(source, scope, name=name)
    return values


def cell_assignments(body: str, *, scope: Mapping[str, Any]) -> dict[str, Any]:
    r"""Run a cell's text in a copy of the user's scope and return the variables it assigns.

    These are its global variables at the end, also those assigned inside `if`, `for`, `with`,
    `try` or `match`. Omitted are names that start with an underscore, and names only bound by an
    import, `def`, `class`, `for` or `with ... as`.

    Errors of the cell are raised.

    Example:
        >>> cell_assignments("x = 5\nif x > 2:\n    _half = x / 2\n    y = [_half]", scope={})
        {'x': 5, 'y': [2.5]}

    Raises:
        InvalidLine: the text is not Python, or has a star import.
    """
    try:
        tree = ast.parse(body)
        code = compile(tree, "<cell>", "exec")
    except (SyntaxError, ValueError) as error:
        line, message = getattr(error, "lineno", None), getattr(error, "msg", error)
        raise InvalidLine(f"line {line or 1} of the cell is not Python: {message}") from None
    bound = list(bindings(tree))
    if ("*", False) in bound:
        raise InvalidLine("the cell imports names with a star: name those that are needed")
    # As builtins the user's variables can be read, but are not among the assigned globals.
    namespace: dict[str, Any] = {"__builtins__": {**vars(builtins), **scope}}
    exec(code, namespace)  # noqa: S102 - the user's own cell
    unassigned = {name for name, _ in bound} - {name for name, by_value in bound if by_value}
    return {
        name: value
        for name, value in namespace.items()
        if name not in unassigned and not name.startswith("_")
    }


def bindings(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield each name that is bound outside of functions, and whether an assignment binds it."""
    target: object = None  # bound by a loop, comprehension or `with`
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
            target = node.target
        case ast.withitem():
            target = node.optional_vars
    for child in ast.iter_child_nodes(node):
        for name, assigned in bindings(child):
            yield name, assigned and child is not target


def evaluate(source: str, scope: Mapping[str, Any], *, name: str = "") -> Any:
    """Return the value of an expression.

    Args:
        source: the expression.
        scope: the user's variables.
        name: name of the value, for errors; empty for a value without one.

    Raises:
        InvalidLine: it is not an expression.
        BadArgument: it raised an error.
    """
    shown = f"{name}={source.strip()}" if name else source.strip()
    try:
        code = compile(source.strip(), f"<{name or 'line'}>", "eval")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise InvalidLine(f"{shown} is not a Python expression") from None
    try:
        return eval(code, dict(scope))  # noqa: S307 - the user's own text, as in any cell
    except Exception as error:
        raise BadArgument(f"{shown} raised {type(error).__name__}: {error}") from error


def split_keywords(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the expression of each keyword, unevaluated.

    Raises:
        InvalidLine: the text is no sequence of keywords.
    """
    starts = list(_keyword_starts(text))
    if text.strip() and (not starts or text[: starts[0][0]].strip()):
        first = text[: starts[0][0]] if starts else text
        raise InvalidLine(f"{first.strip()!r} is not of the form name=expression")
    for index, (_, name, begin) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(text)
        source = text[begin:end].strip()
        if index + 1 < len(starts):
            source = source.removesuffix(",")
        if not source.strip():
            raise InvalidLine(f"{name}= has no value")
        yield name, source


def _keyword_starts(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield each ``name=`` outside brackets: its start, its name, and the start of its value."""
    depth = 0
    previous: tokenize.TokenInfo | None = None
    offsets = [0]
    for row in io.StringIO(text):  # rows as `tokenize` counts them
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
                    and previous.string.isidentifier()  # since 3.12 a name may be any text
                ):
                    begin = offsets[previous.start[0] - 1] + previous.start[1]
                    yield begin, previous.string, offsets[token.end[0] - 1] + token.end[1]
            previous = token
    except (tokenize.TokenError, SyntaxError, UnicodeError) as error:
        raise InvalidLine(f"{text.strip()!r} cannot be read ({error.args[0]})") from None


def headers(assignments: list[str], *, scope: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of ``name=value`` words: Python literals, variables, or plain text.

    The text of a variable stays text even if it looks like a number.

    Example:
        >>> headers(["currency={c}", "priority=3", "paid=True"], scope={"c": "5"})
        {'currency': '5', 'priority': 3, 'paid': True}

    Args:
        assignments: the words.
        scope: variables that replace ``{expression}`` and ``$name``; None for no replacement.

    Raises:
        InvalidLine: a word has another form, or a name is given twice.
        BadArgument: ``{expression}`` or ``$name`` cannot be replaced.
    """
    values: dict[str, Any] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise InvalidLine(f"{word!r} is not of the form name=value")
        name = unquoted(name if scope is None else expand(name, scope))
        if name in values:
            raise InvalidLine(f"{name} is given twice")
        values[name] = _literal(text) if scope is None else _header(text, scope)
    return values


def _header(text: str, scope: Mapping[str, Any]) -> Any:
    value = _expanded_value(text, scope)
    is_value = _single_field(text) is not None and isinstance(value, (str, int, float, bool))
    return value if is_value else _literal(format(value))


def _literal(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, (str, int, float, bool)) else text


def payload(text: str, *, scope: Mapping[str, Any]) -> Any:
    """Return the value of JSON or a Python expression.

    Raises:
        InvalidLine: the text is neither.
        BadArgument: the expression raised an error.
    """
    try:
        return decode(text.encode(errors="surrogatepass"))
    except MalformedMessage:
        return evaluate(text, scope, name="data")
