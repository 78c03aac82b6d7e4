"""Reference of the command line, generated from the commands' parsers.

:::{command} serve
:::

A build warns if a command is on no page.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from blocks import code_block, definitions, paragraph
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from fabric_nb.cli.parser import command_parser

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command", Command)
    app.connect("env-updated", _check)
    return {"parallel_read_safe": False}


class Command(SphinxDirective):
    """Directive for the description, usage and options of a command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes generated from the command's parser."""
        name = self.arguments[0]
        parser = _commands().get(name)
        if parser is None:
            raise self.error(f"There is no command {name}.")
        if not hasattr(self.env, "fabric_commands"):
            self.env.fabric_commands = set()
        self.env.fabric_commands.add(name)
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        usage = textwrap.fill(usage, 80, subsequent_indent=" " * 8)
        made = [paragraph(parser.description or ""), code_block(usage, "text")]
        made += [code_block(parser.epilog.strip(), "text")] if parser.epilog else []
        return [*made, *definitions((_form(action), _help(action)) for action in _actions(parser))]


def _commands() -> dict[str, argparse.ArgumentParser]:
    choices: Any = next(
        action.choices
        for action in command_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(choices)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
    ]


def _form(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return str(action.metavar or action.dest) if not action.choices else value
    value = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"{option}{value}" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")


def _check(_: Sphinx, env: BuildEnvironment) -> list[Any]:
    for name in sorted(set(_commands()) - getattr(env, "fabric_commands", set())):
        log.warning("The command %s is on no page of the reference", name)
    return []
