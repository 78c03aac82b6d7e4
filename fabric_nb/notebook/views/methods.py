"""Forms for remote methods; what is entered is parsed, never evaluated."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import islice
from typing import Any

from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.libraries import is_table
from fabric_nb.notebook.pages import glimpse
from fabric_nb.notebook.table import Field, Form
from fabric_nb.notebook.views.form_values import InvalidField, choices, kind_of, parse

MAX_FORMS = 30
_FURTHER = '{"name": value}'
METHOD = "method()"
"""Name of the field for the method, where none is known; no argument has such a name."""
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


def unknown_method_form(address: str) -> Form:
    """Return a form for a method of a service that announces none, such as one on amqp-fabric."""
    return Form(
        f"{address}.",
        "Call a method",
        "The service does not announce its methods: enter the name of one, and its arguments.",
        [Field(METHOD, "name of the method", required=True, kind="text"), Field(MORE, _FURTHER)],
        submit="Call",
    )


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
    """Return a field for each argument of a remote signature, required ones first.

    Example:
        >>> [(field.name, field.hint, field.required) for field in argument_fields("(x: int, y=2)")]
        [('x', 'int', True), ('y', '= 2', False)]
    """
    fields = [_field(parameter) for parameter in remote_signature(signature).parameters.values()]
    return sorted(fields, key=lambda field: not field.required)


def _field(parameter: inspect.Parameter) -> Field:
    if parameter.kind is parameter.VAR_KEYWORD:
        return Field(MORE, _FURTHER)
    required = parameter.default is parameter.empty
    annotation = _annotation(parameter)
    listed = choices(annotation)
    default = "" if required else f"= {parameter.default!r}"
    return Field(
        parameter.name,
        default if listed else f"{annotation} {default}".strip(),
        required,
        kind=kind_of(annotation),
        choices=listed,
    )


def _annotation(parameter: inspect.Parameter) -> str:
    return "" if parameter.annotation is parameter.empty else repr(parameter.annotation)


def parse_arguments(texts: Mapping[str, Any], signature: str = "") -> dict[str, Any]:
    """Parse the texts of a form's fields, as the signature of the method says; see `parse`.

    Raises:
        InvalidField: a text means no value of its type, or a name is given twice.
    """
    annotations = {
        parameter.name: _annotation(parameter)
        for parameter in remote_signature(signature).parameters.values()
    }
    values = {
        name: parse(name, text, annotations.get(name, ""))
        for name, text in texts.items()
        if name != MORE
    }
    if MORE in texts:
        more = parse(MORE, texts[MORE])
        if not isinstance(more, dict) or not all(isinstance(name, str) for name in more):
            raise InvalidField('Write further arguments by their names, as in {"x": 5}.', MORE)
        if twice := more.keys() & values.keys():
            raise InvalidField(f"{min(twice)} is given twice.", MORE)
        values |= more
    return values


def result_text(result: object) -> str:
    """Return a result as text, in bounded time however large it is."""
    if is_table(result):
        return repr(result)
    return result if isinstance(result, str) and "\n" in result else glimpse(result)
