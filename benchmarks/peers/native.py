"""Peers that are programs in other languages, built on demand into `build/bench`.

Each is a worker by itself: it reads and writes the same lines as `benchmarks.worker`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_SOURCES = Path(__file__).parent
_BUILD = Path("build/bench/peers")
_GO_SOURCES = "/usr/share/gocode"
"""Folder of Debian's packages of Go libraries."""


@dataclass(frozen=True, slots=True)
class Native:
    """A program, and the command that builds it.

    Attributes:
        source: path of its source, in this folder.
        compiler: program that builds it, and its arguments before the output.
        packages: Debian's packages that it needs.
        libraries: arguments after the source.
        environment: environment variables for the compiler.
    """

    source: str
    compiler: tuple[str, ...]
    packages: str
    libraries: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


PROGRAMS: Mapping[str, Native] = {
    "amqp091-go": Native(
        "amqp091_go/main.go",
        ("go", "build", "-o"),
        "golang-go golang-github-rabbitmq-amqp091-go-dev",
        environment={"GO111MODULE": "off", "GOPATH": _GO_SOURCES},
    ),
    "librabbitmq": Native(
        "librabbitmq/main.c",
        ("cc", "-O2", "-Wall", "-o"),
        "gcc librabbitmq-dev",
        ("-lrabbitmq",),
    ),
}


@cache
def build(peer: str) -> Path | None:
    """Build a program and return its path; None if it cannot be built on this machine."""
    native = PROGRAMS[peer]
    if shutil.which(native.compiler[0]) is None:
        return None
    program = (_BUILD / peer).absolute()
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [*native.compiler, program, _SOURCES / native.source, *native.libraries]
    built = subprocess.run(
        command, env={**os.environ, **native.environment}, capture_output=True, check=False
    )
    return program if built.returncode == 0 else None
