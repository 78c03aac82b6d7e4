"""Description of the machine, its software and the broker."""

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
    """Return the machine, its Python and its packages."""
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
    """Return the load averages over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


async def broker(uri: str) -> str:
    """Return the broker's product and version."""
    connection = await aiormq.connect(uri)
    try:
        properties = connection.server_properties
        return f"{_text(properties.get('product'))} {_text(properties.get('version'))}"
    finally:
        await connection.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _installed() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
