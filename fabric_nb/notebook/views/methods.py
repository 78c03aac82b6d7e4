"""Forms for remote methods; what is entered is parsed, never evaluated."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.libraries import is_table
from fabric_nb.notebook.pages import glimpse
from fabric_nb.notebook.table import Field, Form

MAX_FORMS = 30
MAX_ARGUMENT = 100_000
"""Maximum characters of one argument."""
MORE = "**"
"""Name of the field for further keyword arguments."""


def method_forms(
    address: str, signatures: Mapping[str, str], docs: Mapping[str, Mapping[str, str]]
) -> list[Form]:
    """Return a form for each of the first `MAX_FORMS` methods.

    Args:
        address: name of the service in a call, such as ``calc.c1``.
        signatures: signature by method name; empty if it is not known.
        docs: description by method name; the docstring is under ``doc``.
    """
    return [
        _form(address, name, text, docs.get(name, {}).get("doc", ""))
        for name, text in islice(signatures.items(), MAX_FORMS)
        if is_method(name)
    ]


def _form(address: str, method: str, signature: str, doc: str) -> Form:
    return Form(
        name=f"{address}.{method}",
        title=f"{method}{signature}",
        text=doc,
        fields=argument_fields(signature),
        submit="Call",
        command=f"%fabric_call {address}.{method}",
    )


def argument_fields(signature: str) -> list[Field]:
    """Return a field for each argument of a remote signature, with its type and default.

    Example:
        >>> [(field.name, field.hint, field.required) for field in argument_fields("(x: int, y=2)")]
        [('x', 'int', True), ('y', '= 2', False)]
    """
    return [_field(parameter) for parameter in remote_signature(signature).parameters.values()]


def _field(parameter: inspect.Parameter) -> Field:
    if parameter.kind is parameter.VAR_KEYWORD:
        return Field(MORE, '{"name": value}')
    required = parameter.default is parameter.empty
    annotation = "" if parameter.annotation is parameter.empty else repr(parameter.annotation)
    default = "" if required else f"= {parameter.default!r}"
    return Field(parameter.name, f"{annotation} {default}".strip(), required)


def parse_arguments(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the texts of a form's fields.

    Raises:
        InvalidArgument: a text is neither JSON nor a Python literal, or a name is given twice.
    """
    values = {name: _value(name, text) for name, text in texts.items() if name != MORE}
    if MORE in texts:
        more = _value(MORE, texts[MORE])
        if not isinstance(more, dict) or not all(isinstance(name, str) for name in more):
            raise InvalidArgument('Write further arguments by their names, as in {"x": 5}.')
        if twice := more.keys() & values.keys():
            raise InvalidArgument(f"{min(twice)} is given twice.")
        values |= more
    return values


def _value(name: str, text: object) -> Any:
    if not isinstance(text, str) or len(text) > MAX_ARGUMENT:
        raise InvalidArgument(f"{name} is longer than {MAX_ARGUMENT:,} characters.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InvalidArgument(
            f'{name} is not a value: write JSON or a Python literal, as in 5, "text" or [1, 2].'
        ) from None


def result_text(result: object) -> str:
    """Return a result as text, in bounded time however large it is."""
    if is_table(result):
        return repr(result)
    return result if isinstance(result, str) and "\n" in result else glimpse(result)
