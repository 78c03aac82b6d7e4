"""Arguments and result of a call in the history, as text, and a form that calls it again. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fabric_nb.errors import FabricError
from fabric_nb.fabric.discovery.services import Service, versions_of
from fabric_nb.fabric.rpc.call_contents import is_secret, masked
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.libraries import is_table
from fabric_nb.notebook.pages import glimpse
from fabric_nb.notebook.table import Field, Form
from fabric_nb.notebook.views.form_values import value_text
from fabric_nb.notebook.views.methods import MORE, argument_fields

MAX_LOGS = 30
"""Maximum number of log records of a call."""
MAX_PREFILLED = 1_000
"""Maximum characters of an argument in a form."""


def sizes(record: CallRecord) -> str:
    """Return the sizes of the arguments and of the result in one line; empty if there are none."""
    contents = record.contents
    if contents is None:
        return ""
    parts = (
        ("arguments", contents.request, contents.request_size),
        ("result", contents.reply, contents.reply_size),
    )
    return " · ".join(
        f"{name}: {size:,} bytes{'' if kept else ', not kept'}"
        for name, kept, size in parts
        if size is not None
    )


def contents_text(record: CallRecord) -> str:
    """Return the arguments and the result, each cut to a few lines, with secrets masked."""
    if record.contents is None:
        return ""
    number = record.number
    parts = [_section("Arguments", lambda: _assignments(record.arguments))]
    if record.contents.reply_size is not None:
        parts.append(_section("Result", lambda: [_shown(masked(record.result))]))
    return "\n".join([*parts, f"All of it: fabric.calls[{number}].arguments and .result"])


def owner_facts(record: CallRecord, service: Service | None) -> str:
    """Return what the owner of a service needs to look for a failed call.

    Args:
        record: the call.
        service: the called service, if it is known.
    """
    instances = [] if service is None else list(service.instances)
    instance = record.instance or (instances[0] if len(instances) == 1 else "")
    versions = [] if service is None else versions_of(service.instances.values())
    moment = time.localtime(record.time)
    facts = {
        "service": " ".join([record.service, *versions]),
        "method": record.method,
        "instance": instance,
        "call": record.call,
        "caller": record.caller,
        "time": f"{time.strftime('%Y-%m-%d %H:%M:%S %z', moment)}, after {record.ms:,.1f} ms",
    }
    width = max(map(len, facts)) + 2
    lines = [f"  {name:{width}}{value}" for name, value in facts.items() if value]
    return "\n".join(["For the owner of the service:", *lines])


def log_text(record: CallRecord, records: Iterable[LogRecord]) -> str:
    """Return the log records of a call, oldest first; the last `MAX_LOGS` of many."""
    found = [one for one in records if record.call and one.call == record.call]
    lines = [f"  {one.level:8} {one.service_id}  {one.message}" for one in found[-MAX_LOGS:]]
    more = [f"  ({len(found) - MAX_LOGS:,} earlier ones)"] if len(found) > MAX_LOGS else []
    return "\n".join(["Log:", *more, *lines]) if found else ""


def _section(title: str, lines: Callable[[], list[str]]) -> str:
    try:
        return "\n".join([f"{title}:", *(f"  {line}" for line in lines())])
    except FabricError as error:  # not kept, or not readable any more
        return f"{title}: {error}"


def _assignments(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_shown(value)}" for name, value in arguments.items()] or ["none"]


def _shown(value: object) -> str:
    return repr(value) if is_table(value) else glimpse(value)


def again_form(record: CallRecord, address: str, signature: str) -> Form | None:
    """Return a form that calls the method again, filled with the arguments of the call.

    Secrets must be entered again. There is none if an argument cannot be written in a form.

    Args:
        record: the call.
        address: name of the service, as a call is written.
        signature: signature of the method; empty if it is not known.
    """
    try:
        fields = list(_filled(argument_fields(signature), record.kwargs()))
    except (FabricError, ValueError):
        return None
    call = f"{address}.{record.method}"
    return Form(
        call,
        "Call again",
        "The arguments are those of this call, and can be edited.",
        fields,
        submit="Call",
        command=f"%fabric_call {call}",
        open=True,
    )


def _filled(fields: Sequence[Field], arguments: Mapping[str, Any]) -> Iterator[Field]:
    """Yield the fields of the method with the arguments, and a field for each further argument.

    Raises:
        ValueError: an argument is a table, or too long, or contains a secret.
    """
    by_name = {field.name: field for field in fields if field.name != MORE}
    for name, field in by_name.items():
        if name not in arguments:
            yield field
        elif is_secret(name):
            yield replace(field, hint="secret: enter it again", required=True)
        else:
            yield replace(field, value=_text(arguments[name], field))
    for name in arguments:
        if name not in by_name:
            yield from _filled([Field(name)], {name: arguments[name]})


def _text(value: object, field: Field) -> str:
    if is_table(value) or masked(value) != value:
        raise ValueError(field.name)
    text = value_text(value, "text" if field.kind or field.choices else "")
    if len(text) > MAX_PREFILLED:
        raise ValueError(field.name)
    return text
