"""What a shell is told, and the command's other name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from shlex import quote

import pytest

COMMANDS = {"broker", "services", "call", "stream", "logs", "publish", "serve", "completion"}


@cache
def script(shell: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "fabric_nb.cli", "completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def completed(words: str) -> set[str]:
    """What bash offers for the last of these words."""
    line = f"fabric-nb {words}".split(" ")
    quoted = " ".join(map(quote, line))
    asks = (
        f"{script('bash')}\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(line) - 1}\n"
        '_fabric_nb; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asks], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_bash_completes_commands() -> None:
    """Tab after the command's name offers its commands, and only those that fit."""
    assert completed("") >= COMMANDS
    assert completed("se") == {"services", "serve"}


def test_bash_completes_options_and_choices() -> None:
    """Tab offers a command's own options, and words that it takes, but none that are hidden."""
    assert completed("call --ti") == {"--timeout"}
    assert "--level" in completed("logs --")
    assert "--level" not in completed("call --")
    assert completed("completion f") == {"fish"}
    assert "--linger" not in completed("broker --")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell: str) -> None:
    """Zsh and fish are told the same; where the shell is installed, it accepts the script."""
    text = script(shell)
    for command in COMMANDS:
        assert command in text
    if program := shutil.which(shell):
        done = subprocess.run(
            [program, "--no-execute" if shell == "fish" else "-n"],
            input=text, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_jupyter_fabric_is_the_same_command() -> None:
    """`jupyter fabric` is `fabric-nb`, and calls itself so."""
    folder = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "fabric", "call", "--help"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: jupyter fabric call")
