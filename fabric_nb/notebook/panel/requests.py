"""Validation and dispatch of a panel's requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric_nb.errors import InvalidArgument
from fabric_nb.notebook.panel.watcher import Watcher

MAX_ARGUMENTS = 50


def dispatch(watcher: Watcher, request: str, data: Mapping[str, Any]) -> None:
    """Start the operation that a panel requests.

    Args:
        watcher: performs the operation and pushes its result.
        request: id of the request.
        data: the request, as received.

    Raises:
        InvalidArgument: the request is malformed.
    """
    match data.get("do"):
        case "state":
            watcher.push_all()
        case "call":
            watcher.call(request, _call(data), _arguments(data))
        case "describe":
            watcher.describe(request, _call(data))
        case "act":
            table, name = text(data, "table", 40), text(data, "name", 400)
            watcher.act(request, table, name, _row(data), _value(data))
        case "open":
            row = _row(data)
            if row is not None:
                watcher.open_row(text(data, "table", 40), row)
        case "cancel":
            watcher.cancel(text(data, "request", 80))
        case "broker":
            watcher.find_broker(request, text(data, "name", 40), _arguments(data))
        case "logs" | "demo" as name:
            start = watcher.receive_logs if name == "logs" else watcher.start_demo
            start(request)
        case _:
            raise InvalidArgument("fabric_nb in this kernel is too old or too new for this panel.")


def text(data: Mapping[str, Any], name: str, longest: int) -> str:
    """Return a string of a request; empty if it is missing.

    Raises:
        InvalidArgument: it is not a string, or longer than `longest`.
    """
    value = data.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidArgument(f"{name} is not a text of up to {longest} characters.")
    return value


def _call(data: Mapping[str, Any]) -> str:
    return text(data, "call", 400)


def _row(data: Mapping[str, Any]) -> int | None:
    row = data.get("row")
    if row is not None and not isinstance(row, int):
        raise InvalidArgument("row is not the number of a row.")
    return row


def _value(data: Mapping[str, Any]) -> str | dict[str, Any] | None:
    """Return the value of an action: an option, the texts of a form, or None for a button."""
    if isinstance(data.get("value"), dict):
        return _texts(data["value"])
    return text(data, "value", 100) if data.get("value") is not None else None


def _arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    return _texts(data.get("arguments"))


def _texts(texts: object) -> dict[str, Any]:
    if not isinstance(texts, dict) or len(texts) > MAX_ARGUMENTS:
        raise InvalidArgument(f"A call has up to {MAX_ARGUMENTS} arguments.")
    return texts
