"""Times on the command line and in magics."""

from __future__ import annotations

import math
import subprocess
import sys
from argparse import ArgumentTypeError

import pytest

from fabric_nb.notebook.options import duration, seconds, time_limit

BAD = ["nan", "-1", "-inf", "5s", "", "soon", "1e400x"]


@pytest.mark.parametrize("word", BAD)
def test_invalid_times(word: str) -> None:
    """NaN, negative times and text are refused."""
    for read in (seconds, time_limit, duration):
        with pytest.raises(ArgumentTypeError, match="is not a time in seconds"):
            read(word)


def test_times() -> None:
    """A limit may be infinite, and a duration may be 0; other times may be neither."""
    assert (time_limit("5"), time_limit("inf"), time_limit("Infinity")) == (5, math.inf, math.inf)
    assert (duration("0"), duration("0.0"), duration("2.5"), seconds("1e3")) == (0, 0, 2.5, 1000)
    for read, word in ((seconds, "inf"), (seconds, "0"), (duration, "inf"), (time_limit, "0")):
        with pytest.raises(ArgumentTypeError):
            read(word)


@pytest.mark.parametrize(
    "options", [["--timeout", "nan"], ["--timeout=-1"], ["--wait", "nan"], ["--wait=-1"]]
)
def test_command_line_refuses_invalid_times(options: list[str]) -> None:
    """`fabric-nb` reports an invalid time without connecting."""
    command = [sys.executable, "-m", "fabric_nb.cli", "services", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "is not a time in seconds" in done.stderr
