"""Reference of the magics and settings, generated from their docstrings and options.

:::{magic} fabric_call
:::

A build warns if a magic is on no page, or on more than one.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from typing import Any

from blocks import code_block, definitions, paragraph
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from fabric_nb.notebook.magics import FabricMagics

log = logging.getLogger(__name__)

_PROMPT = re.compile(r"^ *(In \[\d+\]|\.\.\.):")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("magic", Magic)
    app.add_directive("magic-settings", MagicSettings)
    app.connect("env-purge-doc", _forget)
    app.connect("env-updated", _check)
    return {"parallel_read_safe": False}


class Magic(SphinxDirective):
    """Directive for the description, usage and options of a magic."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes generated from the magic's docstring and parser."""
        name = self.arguments[0]
        magic = getattr(FabricMagics, name, None)
        if magic is None:
            raise self.error(f"There is no magic {name}.")
        _documented(self.env).setdefault(name, []).append(self.env.docname)
        summary, *blocks = _blocks(_docstring(magic.parser))
        return [
            paragraph(summary),
            code_block(_usage(name, magic.parser), "text"),
            *(_block(block) for block in blocks),
            *definitions(_options(magic.parser)),
        ]


class MagicSettings(SphinxDirective):
    """Directive for the settings of `%config FabricMagics`."""

    def run(self) -> list[nodes.Node]:
        """Return the configurable traits with their defaults and help."""
        traits = FabricMagics.class_own_traits(config=True) or FabricMagics.class_traits(
            config=True
        )
        return definitions(
            [
                (f"FabricMagics.{name} = {trait.default()!r}", trait.help)
                for name, trait in sorted(traits.items())
            ]
        )


def _docstring(parser: argparse.ArgumentParser) -> str:
    """Return the docstring as written, without the usage that the decorators add."""
    return inspect.cleandoc((parser.description or "").partition("::\n\n")[0])


def _blocks(text: str) -> list[str]:
    return [block for block in text.split("\n\n") if block.strip()]


def _block(block: str) -> nodes.Node:
    if _PROMPT.match(block):
        return code_block(textwrap.dedent(block), "ipythonconsole")
    return paragraph(" ".join(block.split()))


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the usage line, with both forms if the magic is a line and a cell magic."""
    usage = parser.format_usage().strip().removeprefix("::").strip()
    usage = re.sub(rf"^%+{name}", "", " ".join(usage.split()))
    kinds = [
        sign for sign, kind in (("%", "line"), ("%%", "cell")) if name in FabricMagics.magics[kind]
    ]
    return "\n".join(
        textwrap.fill(f"{sign}{name}{usage}", 80, subsequent_indent=" " * 8) for sign in kinds
    )


def _options(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Return each argument and option with its help, arguments first."""
    actions = sorted(parser._actions, key=lambda action: bool(action.option_strings))
    return [(_form(action), action.help or "") for action in actions]


def _form(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(
        option + value for option in sorted(action.option_strings, key=len, reverse=True)
    )


# -- every magic once


def _documented(env: BuildEnvironment) -> dict[str, list[str]]:
    if not hasattr(env, "fabric_magics"):
        env.fabric_magics = {}
    found: dict[str, list[str]] = env.fabric_magics
    return found


def _forget(_: Sphinx, env: BuildEnvironment, docname: str) -> None:
    for pages in _documented(env).values():
        pages[:] = [page for page in pages if page != docname]


def _check(_: Sphinx, env: BuildEnvironment) -> list[Any]:
    known = {name for kind in FabricMagics.magics.values() for name in kind}
    for name in sorted(known):
        pages = _documented(env).get(name, [])
        if len(pages) != 1:
            log.warning("%%%s is on %d pages of the reference, not on one", name, len(pages))
    return []
