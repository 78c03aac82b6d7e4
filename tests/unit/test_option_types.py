"""Times on the command line and in magics: what is one, and what is refused with the word."""

from __future__ import annotations

import math
import subprocess
import sys
from argparse import ArgumentTypeError

import pytest

from fabric_nb.notebook.options import duration, seconds, time_limit

BAD = ["nan", "-1", "-inf", "5s", "", "soon", "1e400x"]


@pytest.mark.parametrize("word", BAD)
def test_words_that_are_no_time(word: str) -> None:
    """NaN, negative times and what is no number are refused."""
    for read in (seconds, time_limit, duration):
        with pytest.raises(ArgumentTypeError, match="is not a time in seconds"):
            read(word)


def test_times() -> None:
    """A limit may be infinite, a duration may be none, and a time to listen is neither."""
    assert (time_limit("5"), time_limit("inf"), time_limit("Infinity")) == (5, math.inf, math.inf)
    assert (duration("0"), duration("0.0"), duration("2.5"), seconds("1e3")) == (0, 0, 2.5, 1000)
    for read, word in ((seconds, "inf"), (seconds, "0"), (duration, "inf"), (time_limit, "0")):
        with pytest.raises(ArgumentTypeError):
            read(word)


@pytest.mark.parametrize(
    "options", [["--timeout", "nan"], ["--timeout=-1"], ["--wait", "nan"], ["--wait=-1"]]
)
def test_the_command_line_refuses_them(options: list[str]) -> None:
    """`fabric-nb` says which word is no time, and connects to nothing."""
    command = [sys.executable, "-m", "fabric_nb.cli", "services", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "is not a time in seconds" in done.stderr
