"""Tab completion of the command in each shell, and the command's alias."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {"broker", "services", "call", "stream", "logs", "publish", "serve", "completion"}
FOLDER = Path(sys.executable).parent
HEAVY = {"pandas", "numpy", "aio_pika", "orjson", "nbformat", "IPython"}

BASH = """
eval "$(fabric-nb completion bash)"
COMP_LINE={line!r} COMP_POINT={length} COMP_TYPE=9
_python_argcomplete fabric-nb
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "fabric-nb completion fish | source; complete --do-complete {line!r}"
SHELLS = {"bash": BASH, "fish": FISH}


def in_shell(shell: str, program: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return subprocess.run(
        [shell, "-c", program],
        env={**os.environ, "PATH": f"{FOLDER}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def completed(shell: str, words: str) -> set[str]:
    """Return the completions that a shell offers for the last word."""
    command = f"fabric-nb {words}"
    shown = in_shell(shell, SHELLS[shell].format(line=command, length=len(command)))
    return {line.partition("\t")[0].strip() for line in shown.splitlines() if line.strip()}


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed(shell: str) -> None:
    """Tab offers the commands that begin with the typed text."""
    assert completed(shell, "") >= COMMANDS
    assert completed(shell, "se") == {"services", "serve"}


@pytest.mark.parametrize("shell", SHELLS)
def test_options_and_choices_are_completed(shell: str) -> None:
    """Tab offers the options and choices of a command, except hidden ones."""
    assert completed(shell, "call --ti") == {"--timeout"}
    assert "--level" in completed(shell, "logs --")
    assert "--level" not in completed(shell, "call --")
    assert completed(shell, "completion f") == {"fish"}
    assert "--linger" not in completed(shell, "broker --")


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_completed(shell: str) -> None:
    """Tab offers files for a command that takes one."""
    assert completed(shell, f"serve {Path(__file__).parents[2]}/READ") == {
        f"{Path(__file__).parents[2]}/README.md"
    }


def test_zsh_registers_the_command() -> None:
    """Zsh without any configuration accepts the script and completes the command."""
    program = 'eval "$(fabric-nb completion zsh)"; print $_comps[fabric-nb]'
    assert in_shell("zsh", program).strip() == "_python_argcomplete"


def test_parser_imports_little() -> None:
    """Completion imports none of the packages that the commands need."""
    program = "import sys; from fabric_nb.cli.parser import command_parser; command_parser()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert HEAVY & set(done.stdout.split()) == set()


def test_jupyter_fabric_is_an_alias() -> None:
    """`jupyter fabric` runs `fabric-nb`, with its own name in the usage."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "fabric", "call", "--help"],
        env={**os.environ, "PATH": f"{FOLDER}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: jupyter fabric call")
