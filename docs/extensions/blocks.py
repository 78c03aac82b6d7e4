"""Docutils nodes for plain text: text that was not written for Sphinx is not parsed by it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from docutils import nodes

# Magics and environment variables are code without backticks too, because help texts have none.
_CODE = re.compile(r"(`[^`]+`|(?<!\w)%%?\w+(?: FabricMagics\.\w+)?|\b[A-Z]+_[A-Z_]+\b)")


def paragraph(text: str) -> nodes.paragraph:
    """Return a paragraph of plain text, with code in backticks, magics and variables as code."""
    result = nodes.paragraph()
    for index, part in enumerate(_CODE.split(text)):
        code = part.strip("`")
        if part:
            result += nodes.literal(code, code) if index % 2 else nodes.Text(part)
    return result


def code_block(text: str, language: str) -> nodes.literal_block:
    """Return a block of code."""
    return nodes.literal_block(text, text, language=language)


def definitions(pairs: Iterable[tuple[str, str]]) -> list[nodes.Node]:
    """Return terms in the code font with their texts; nothing for no pairs."""
    result = nodes.definition_list()
    for term, text in pairs:
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal(term, term))
        item += nodes.definition("", paragraph(text))
        result += item
    return [result] if result.children else []
