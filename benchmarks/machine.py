"""Where and with what the figures were taken."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiormq

import fabric_nb

_PACKAGES = (
    "amqp-fabric",
    "aio-pika",
    "aiormq",
    "pamqp",
    "orjson",
    "numpy",
    "pandas",
    "faststream",
    "nameko",
    "streamz",
)


def facts() -> dict[str, Any]:
    """The machine, its Python and its packages, now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {"fabric_nb": fabric_nb.__version__, **_installed()},
        "load": load(),
    }


def load() -> list[float]:
    """How many processes wanted to run over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


async def broker(uri: str) -> str:
    """The broker's product and version."""
    connection = await aiormq.connect(uri)
    try:
        told = connection.server_properties
        return f"{_text(told.get('product'))} {_text(told.get('version'))}"
    finally:
        await connection.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _cpu() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
