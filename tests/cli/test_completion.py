"""Tab completion of the command in each shell, and the command's alias."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from fabric_nb import AmqBrokerConnector
from tests.support.peers import DOMAIN

COMMANDS = {
    "broker",
    "services",
    "call",
    "stream",
    "logs",
    "publish",
    "serve",
    "repl",
    "completion",
}
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


@pytest.fixture
async def priced(rabbitmq_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve `pricing.main`, at the broker that the shell's commands are given."""

    async def quote(*, currency: Literal["EUR", "5"] = "EUR", sku: str, gift: bool = False) -> None:
        pass

    monkeypatch.setenv("AMQP_URL", rabbitmq_uri)
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "pricing", "p1", keep_alive_seconds=1
    ) as fabric:
        await fabric.serve({"quote": quote}, type="pricing", id="main")
        yield fabric.instance


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("call main.q", {"main.quote"}),
        (f"call {DOMAIN}.pricing.main.q", {f"{DOMAIN}.pricing.main.quote"}),
        ("map main.quote ", {"sku=", "currency=", "gift="}),
        ("call main.quote sku=tea ", {"currency=", "gift="}),
        ("call main.quote currency=", {"EUR", r"\"5\""}),
        ("call main.quote gift=t", {"true"}),
        ("ping mai", {"main"}),
        (f"services --domain {DOMAIN[:3]}", {DOMAIN}),
        ("services --type pricing --id ", {"main", "p1"}),
        ("call -d other main.q", {""}),
    ],
)
async def test_names_in_the_fabric_are_completed(
    priced: str, words: str, offered: set[str]
) -> None:
    """Tab offers calls, keywords, their values, services and domains of the running services."""
    assert await asyncio.to_thread(completed, "bash", words) == offered - {""}


async def test_instances_are_completed(priced: str) -> None:
    """After `@`, at which bash splits words, Tab offers the instances of a service."""
    assert await asyncio.to_thread(completed, "bash", "ping main@") == {priced}


def test_without_a_broker_nothing_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the broker cannot be reached, or the password is not known, Tab offers nothing."""
    for uri in ("amqp://guest:guest@127.0.0.1:1/", "amqp://ann@127.0.0.1:1/", "nonsense"):
        monkeypatch.setenv("AMQP_URL", uri)
        assert completed("bash", "call x") == set()
