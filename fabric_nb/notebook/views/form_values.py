"""Texts of a form's fields and the values that they mean, by the annotation of the argument. Pure.

Text is parsed, never evaluated.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Literal

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.rpc.annotations import allowed_values, is_choice, type_names

MAX_ARGUMENT = 100_000
"""Maximum characters of one argument."""

Kind = Literal["", "text", "date", "time", "texts"]
"""Empty for JSON or a literal; ``texts`` for several with commas; else the text is
the value, without quotes."""

_TEXT_TYPES = frozenset(("str", "date", "datetime", "time", "Path", "UUID", "None"))
_NUMBER_TYPES = frozenset(("int", "float", "Decimal", "None"))
_WORDS = re.compile(r"[^\W\d][^\[\](){}'\"]*")
"""Text that is no value of JSON or Python, and is taken as it is if no type is known."""
_TEXTS = re.compile(r"(?:list|List|Sequence|Iterable|set|tuple)\[str(?:, \.\.\.)?\]")
"""Annotation of several texts, which may be written without brackets, as in ``tea, milk``."""
_NO_VALUE = object()


class InvalidField(InvalidArgument):
    """A text of a form that means no value of its type; shown at its field.

    Attributes:
        field: name of the field.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def kind_of(annotation: str) -> Kind:
    """Return the kind of the field for an argument."""
    values = allowed_values(annotation)
    if is_choice(annotation):
        return "text" if all(isinstance(value, str) for value in values) else ""
    names = type_names(annotation) - {"None"}
    if names == {"date"}:
        return "date"
    if names == {"time"}:
        return "time"
    if _TEXTS.fullmatch(annotation):
        return "texts"
    return "text" if _is_text(annotation) else ""


def choices(annotation: str) -> tuple[str, ...]:
    """Return the texts of the values that are allowed, if they are all listed.

    Example:
        >>> choices("Literal['EUR', 'USD'] | None"), choices("str")
        (('EUR', 'USD', 'None'), ())
    """
    return tuple(map(value_text, allowed_values(annotation))) if is_choice(annotation) else ()


def value_text(value: object, kind: Kind = "text") -> str:
    """Return the text that means a value in a field of a kind.

    Raises:
        ValueError: it cannot be written as text.
    """
    if isinstance(value, str):
        is_plain = kind and value == value.strip() and value not in ("", "None", "null")
        return (
            value if is_plain and not _is_quoted(value) else json.dumps(value, ensure_ascii=False)
        )
    if value is None or isinstance(value, bool):
        return repr(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise ValueError(str(error)) from None


def parse(name: str, text: object, annotation: str = "") -> Any:
    """Return the value that a text means for an argument.

    Example:
        >>> parse("sku", "tea", "str"), parse("sku", "5", "str"), parse("amount", "5", "int")
        ('tea', '5', 5)

    Args:
        name: the argument, which errors name.
        text: what was entered.
        annotation: annotation of the argument, as text; empty if it is not known.

    Raises:
        InvalidField: the text means no value of that type.
    """
    if not isinstance(text, str) or len(text) > MAX_ARGUMENT:
        raise InvalidField(f"{name} is longer than {MAX_ARGUMENT:,} characters.", name)
    if is_choice(annotation):
        return _choice(name, text, annotation)
    value = _literal(text)
    if _TEXTS.fullmatch(annotation) and not isinstance(value, list | tuple | set):
        return _texts(name, text)
    if _is_text(annotation):
        is_none = value is None and "None" in type_names(annotation)
        return value if isinstance(value, str) or is_none else text
    is_number = bool(annotation) and type_names(annotation) <= _NUMBER_TYPES
    if is_number and not _is_number(value):
        raise InvalidField(f"{name} is a number: write it as in 5 or 2.5.", name)
    if value is not _NO_VALUE:
        return value
    if _WORDS.fullmatch(text) and (not annotation or "str" in type_names(annotation)):
        return text
    raise InvalidField(
        f'{name} is not a value: write JSON or a Python literal, as in 5, "text" or [1, 2].', name
    )


def _texts(name: str, text: str) -> list[str]:
    """Return the texts in a list without brackets, as in ``tea, milk``."""
    if text.strip()[:1] in ("[", "(", "{"):
        raise InvalidField(f'{name} is a list: write tea, milk or ["tea", "milk"].', name)
    return [item.strip() for item in text.split(",") if item.strip()]


def _choice(name: str, text: str, annotation: str) -> Any:
    allowed = allowed_values(annotation)
    literal = _literal(text)
    for value in allowed:
        is_same = type(literal) is type(value) and literal == value
        if text == value_text(value) or is_same:
            return value
    raise InvalidField(f"{name} is one of {', '.join(map(value_text, allowed))}.", name)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _NO_VALUE


def _is_text(annotation: str) -> bool:
    names = type_names(annotation)
    return bool(names) and names <= _TEXT_TYPES and names != {"None"}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]
