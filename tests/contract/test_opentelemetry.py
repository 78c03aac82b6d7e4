"""Spans for OpenTelemetry, where a program has configured its SDK."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace")

PROGRAM = Path(__file__).with_name("opentelemetry_program.py")


async def test_spans_of_opentelemetry(broker_uri: str) -> None:
    """Calls and messages are spans of the program's trace, with the attributes of messaging."""
    # A process of its own, as an SDK is configured once for all of a process.
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), broker_uri, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(out)
    assert found["result"] == 8
    spans: list[dict[str, Any]] = found["spans"]
    (cell,) = (one for one in spans if one["name"] == "cell")
    in_cell = [one for one in spans if one["trace"] == cell["trace"]]
    assert path(in_cell, "process d.app.back.double") == [
        "cell CLIENT call d.app.front.work",
        "SERVER process d.app.front.work",
        "INTERNAL thinking",
        "CLIENT call d.app.back.double",
        "SERVER process d.app.back.double",
    ]
    (message,) = (one for one in in_cell if one["kind"] == "PRODUCER")
    assert message["name"] == "publish d.data"
    assert parent(in_cell, message)["name"] == "process d.app.front.work"
    call = parent(in_cell, parent(in_cell, message))
    assert (
        call["attributes"].items()
        >= {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "call",
            "messaging.operation.type": "send",
            "messaging.destination.name": "d.api.app.front",
            "rpc.service": "d.app.front",
            "rpc.method": "work",
            "messaging.message.body.size": len('{"n":4}'),
        }.items()
    )
    assert {one["status"] for one in in_cell} == {"UNSET"}

    failed = [one for one in spans if one["status"] == "ERROR"]
    assert sorted(one["kind"] for one in failed) == ["CLIENT", "SERVER"]
    types = {one["kind"]: one["attributes"]["error.type"] for one in failed}
    assert types == {"CLIENT": "RemoteValueError", "SERVER": "ValueError"}
    (server,) = (one for one in failed if one["kind"] == "SERVER")
    assert server["events"] == ["exception"]

    assert found["traced"] == [[0, "work"], [1, "double"], [1, "DONE"]]
    traced = [one for one in spans if one["trace"] == found["trace"]]
    assert len(traced) == 6


def parent(spans: list[dict[str, Any]], span: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in spans if one["id"] == span["parent"])


def path(spans: list[dict[str, Any]], name: str) -> list[str]:
    """Return kinds and names from the first span of a trace to one of its spans."""
    (span,) = (one for one in spans if one["name"] == name)
    found = [f"{span['kind']} {span['name']}"]
    while span["parent"]:
        span = parent(spans, span)
        found.insert(0, f"{span['kind']} {span['name']}")
    assert found[0] == "INTERNAL cell"
    return [f"cell {found[1]}", *found[2:]]
