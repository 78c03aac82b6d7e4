"""Parser of rendered pages, and hostile text that must be escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from fabric_nb.notebook.pages import Page

MARKUP = "<script>alert(\"1\")</script><img src=x onerror='a'>&amp;"
CONTROLS = "\x1b\x00\x07\r\x9b\u202e\u2066\u200b\ufeff\ud800"
HOSTILE = f"{MARKUP}\x1b[2J{CONTROLS}"


class PageReader(HTMLParser):
    """Parser of the elements and texts of a page; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"class", *ATTRIBUTES.get(tag, ())}
        self.elements.append(tag)
        self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self.texts.append(data)
        if self.cells and {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data


PAGE_ELEMENTS = {"style", "div", "span", "table", "thead", "tbody", "tr", "th", "td", "pre"}
PAGE_ELEMENTS |= {"details", "summary", "svg", "path", "progress"}
_SVG = ("viewbox", "preserveaspectratio", "d")
ATTRIBUTES = {"svg": _SVG, "path": _SVG, "progress": ("max", "value")}


def read(page: Page) -> PageReader:
    """Parse a page, and check that it contains only the elements and characters of pages."""
    bundle = page.mimebundle()
    reader = PageReader(bundle["text/html"])
    assert set(reader.elements) <= PAGE_ELEMENTS
    for text in (*reader.texts, bundle["text/plain"]):
        assert not set(text) & set(CONTROLS)
    return reader
