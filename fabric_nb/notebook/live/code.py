"""JavaScript and CSS of widgets, sent once per kernel and kind of widget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import ipywidgets  # type: ignore[import-untyped]
import traitlets

_IMPORT = re.compile(r'^import [^;]*? from "(\..*?)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def joined_script(entry: Path) -> str:
    """Return an ECMAScript module with its relative imports inlined.

    A widget consists of one module, because the kernel serves no files. Top-level names must be
    unique across the files.
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
    """Model with the code of one kind of widget, referenced by all widgets of that kind.

    A saved notebook contains the state of every widget; with a copy of the code in each, code would
    be most of the file. In the browser the model is of the base class of widgets, which every front
    end has.

    Attributes:
        esm: ECMAScript module, as expected by `anywidget`.
        css: style sheet.
    """

    esm = traitlets.Unicode().tag(sync=True)
    css = traitlets.Unicode().tag(sync=True)

    _opened: ClassVar[dict[tuple[str, str], ViewCode]] = {}

    @classmethod
    def shared(cls, esm: str, css: str) -> ViewCode:
        """Return the open model of this code, opening one if necessary."""
        model = cls._opened.get((esm, css))
        if model is None or model.comm is None:  # `Widget.close_all` closes it as well
            model = cls._opened[esm, css] = cls(esm=esm, css=css)
        return model
