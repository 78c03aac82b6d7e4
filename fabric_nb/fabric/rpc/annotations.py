"""Types in the signatures of remote methods, which are untrusted text: parsed, never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def allowed_values(annotation: str) -> list[Any]:
    """Return the values that an annotation lists: those of a ``Literal``, booleans or None.

    Example:
        >>> allowed_values("Literal['EUR', 'USD'] | None")
        ['EUR', 'USD', None]
    """
    found: list[Any] = []
    for one in _members(annotation):
        found += [value for value in _constants(one) if not any(value is each for each in found)]
    return found


def is_choice(annotation: str) -> bool:
    """Return whether an annotation lists all values that are allowed."""
    members = _members(annotation)
    return any(_constants(one) not in ([], [None]) for one in members) and all(
        map(_constants, members)
    )


def type_names(annotation: str) -> frozenset[str]:
    """Return the names of the types in a union, without their modules and parameters.

    Example:
        >>> sorted(type_names("Optional[list[int]] | datetime.date"))
        ['None', 'date', 'list']
    """
    return frozenset(_name(one) for one in _members(annotation))


def _members(annotation: str) -> list[ast.expr]:
    """Return the members of an annotation that is a union, or the annotation itself.

    It is parsed, not evaluated.
    """
    try:
        return list(_flat(ast.parse(annotation, mode="eval").body)) if annotation else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _flat(annotation: ast.expr) -> Iterator[ast.expr]:
    match annotation:
        case ast.BinOp(left, ast.BitOr(), right):
            yield from _flat(left)
            yield from _flat(right)
        case ast.Subscript(generic, inner) if _name(generic) == "Optional":
            yield from _flat(inner)
            yield ast.Constant(None)
        case ast.Subscript(generic, ast.Tuple(members)) if _name(generic) == "Union":
            for member in members:
                yield from _flat(member)
        case ast.Constant(str(text)):  # a forward reference
            yield from _members(text)
        case _:
            yield annotation


def _constants(member: ast.expr) -> list[Any]:
    match member:
        case ast.Name("bool"):
            return [True, False]
        case ast.Constant(None):
            return [None]
        case ast.Subscript(generic, inner) if _name(generic) == "Literal":
            listed = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return [one.value for one in listed if isinstance(one, ast.Constant)]
    return []


def _name(member: ast.expr) -> str:
    match member:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(generic, _):
            return _name(generic)
        case ast.Constant(None):
            return "None"
    return ""
