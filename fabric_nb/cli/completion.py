"""``fabric-nb completion``: what a shell needs to complete the command's own words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from shlex import quote
from typing import Any

_EPILOG = """
bash    eval "$(fabric-nb completion bash)"           in ~/.bashrc
zsh     eval "$(fabric-nb completion zsh)"            in ~/.zshrc
fish    fabric-nb completion fish | source            in ~/.config/fish/config.fish
"""

# Words that are no option are completed as files, for `serve`.
_BASH = """_fabric_nb() {
    local current=${COMP_WORDS[COMP_CWORD]} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="@COMMANDS@"
    else
        case ${COMP_WORDS[1]} in
@CASES@
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _fabric_nb fabric-nb
"""
_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"


def add_to(commands: Any) -> None:
    """Add the command; its scripts know all commands that are added beside it."""
    text = "print a shell's completion script"
    own = commands.add_parser(
        "completion",
        help=text,
        description=f"{text.capitalize()}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("shell", choices=list(_SCRIPTS))
    own.set_defaults(run=partial(_run, commands.choices))


def _run(commands: dict[str, argparse.ArgumentParser], options: argparse.Namespace) -> int:
    print(_SCRIPTS[options.shell](commands), end="")
    return 0


def _bash(commands: dict[str, argparse.ArgumentParser]) -> str:
    cases = (
        f'            {name}) words="{" ".join(word for word, _ in _words(parser))}" ;;'
        for name, parser in commands.items()
    )
    return _BASH.replace("@COMMANDS@", " ".join(commands)).replace("@CASES@", "\n".join(cases))


def _fish(commands: dict[str, argparse.ArgumentParser]) -> str:
    lines = [
        f"complete -c fabric-nb -n __fish_use_subcommand -f -a {name}"
        f" -d {quote(parser.description or name)}"
        for name, parser in commands.items()
    ]
    for name, parser in commands.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for word, help in _words(parser):  # noqa: A001 - argparse's word for it
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c fabric-nb {seen} {what} -d {quote(help)}")
    return "\n".join([*lines, ""])


def _words(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The long options and the fixed choices of a command, each with its help."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if action.help == argparse.SUPPRESS:
            continue
        text = action.help or ""
        yield from ((word, text) for word in action.option_strings if word.startswith("--"))
        if not action.option_strings and action.choices:
            yield from ((str(choice), "") for choice in action.choices)


_SCRIPTS: dict[str, Callable[[dict[str, argparse.ArgumentParser]], str]] = {
    "bash": _bash,
    "zsh": lambda commands: _ZSH + _bash(commands),
    "fish": _fish,
}
