"""Script `tests/install-programs`, which `make` runs before the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "install-programs"


def test_missing_programs_are_named(tmp_path: Path) -> None:
    """Without the programs and permission to install them, it names them and exits with 1."""
    for name, body in ("id", "echo 1000"), ("ls", "exit 2"), ("apt-get", "echo installed"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    hidden = ("RABBITMQ_HOME", "CHROMIUM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT)],
        env={**environment, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    for program in ("rabbitmq-server", "chromium", "nodejs", "RABBITMQ_HOME"):
        assert program in done.stderr
