"""Pieces of a page, made by hand: text that was not written for Sphinx is not parsed by it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from docutils import nodes

# Magics and environment variables are code without backticks too: help is also read as it is.
_CODE = re.compile(r"(`[^`]+`|(?<!\w)%%?\w+(?: FabricMagics\.\w+)?|\b[A-Z]+_[A-Z_]+\b)")


def paragraph(text: str) -> nodes.paragraph:
    """Plain text, in which `code` stands between backticks, or is known by how it looks."""
    made = nodes.paragraph()
    for index, part in enumerate(_CODE.split(text)):
        code = part.strip("`")
        if part:
            made += nodes.literal(code, code) if index % 2 else nodes.Text(part)
    return made


def code_block(text: str, language: str) -> nodes.literal_block:
    """Return a block of code."""
    return nodes.literal_block(text, text, language=language)


def definitions(pairs: Iterable[tuple[str, str]]) -> list[nodes.Node]:
    """Return terms in the code font with their texts; nothing for no pairs."""
    made = nodes.definition_list()
    for term, text in pairs:
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal(term, term))
        item += nodes.definition("", paragraph(text))
        made += item
    return [made] if made.children else []
