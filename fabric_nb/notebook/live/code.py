"""JavaScript and style of views, which each kernel opens once for each kind of view."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import ipywidgets  # type: ignore[import-untyped]
import traitlets

TOKENS = Path(__file__).with_name("tokens.css").read_text("utf-8")
"""Colours and type that tables and charts share with the panel."""

_IMPORT = re.compile(r'^import [^;]*? from "(\..*?)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def joined_script(entry: Path) -> str:
    """Return an ECMAScript module and the files that it imports as one module.

    A browser can only be given one, because the kernel serves no files. The names at the top level
    of the files must differ.
    """
    seen: set[Path] = set()
    parts: list[str] = []

    def add(path: Path) -> None:
        if path not in seen:
            seen.add(path)
            text = path.read_text("utf-8")
            for name in _IMPORT.findall(text):
                add(path.parent.joinpath(name).resolve())
            parts.append(_EXPORT.sub("", _IMPORT.sub("", text)))

    add(entry.resolve())
    return "\n".join(parts)


class ViewCode(ipywidgets.Widget):
    """Code of one kind of view, in a model that the views refer to.

    A saved notebook holds the state of each widget. Held by every view, the code would be most of
    the file. The class of the model in the browser is the widgets' base class, which every front
    end has.

    Attributes:
        esm: an ECMAScript module, as `anywidget` takes it.
        css: a style sheet.
    """

    esm = traitlets.Unicode().tag(sync=True)
    css = traitlets.Unicode().tag(sync=True)

    _opened: ClassVar[dict[tuple[str, str], ViewCode]] = {}

    @classmethod
    def shared(cls, esm: str, css: str) -> ViewCode:
        """Return the open model of this code; it is opened when there is none."""
        held = cls._opened.get((esm, css))
        if held is None or held.comm is None:  # `Widget.close_all` closes it as well
            held = cls._opened[esm, css] = cls(esm=esm, css=css)
        return held
