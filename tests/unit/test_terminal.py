"""Pages on a terminal: tables by rich, and inert remote text."""

from __future__ import annotations

import builtins
import io
import re
import sys
from typing import Any

import pytest

from fabric_nb.fabric.rpc.map_progress import MapProgress
from fabric_nb.notebook.pages import Badge, Cell, Chart, Code, Page, Table
from fabric_nb.notebook.terminal import forms, rich_text, terminal_text
from fabric_nb.notebook.terminal_line import TerminalLine, progress_text
from tests.support.pages import CONTROLS, HOSTILE

MARKUP = "[red]red[/red] [link=http://x/]here[/link] [/] :smile: [bold"
STYLE = re.compile(r"\x1b\[[\d;]*m")


def page(text: str, *more: Cell) -> Page:
    """Return a page with a text in all places."""
    cells = (text, Badge(text, "good"), Code(text), *more)
    return Page(
        title=text,
        badges=[Badge(text, "bad")],
        facts=[text],
        chart=Chart(text, [1, 2, 3]),
        tables=[Table([f"{number} {text}" for number in range(len(cells))], [cells])],
        printed=text,
        notes=[text],
        folded=[(text, text)],
    )


def test_rich_markup_is_not_interpreted() -> None:
    """Rich's markup, links and emoji in remote text are shown unchanged."""
    shown = STYLE.sub("", rich_text([page(MARKUP)], width=600))
    assert shown.count(MARKUP) == 14
    assert "\x1b" not in shown


def test_control_characters_are_removed() -> None:
    """No control characters reach the terminal, except for colours."""
    shown = STYLE.sub("", rich_text([page(HOSTILE)], width=600))
    assert not set(shown) & set(CONTROLS)


def test_tables_have_the_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long cells are wrapped, numbers are right-aligned, and states have colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table(
        ["name", "n", "state"],
        [("a" * 90, 1, Badge("up", "good")), ("b", 1234, Badge("gone", "bad"))],
        frozenset({"n"}),
    )
    text = rich_text([Page("One", tables=[table]), Page("Two")], width=60)
    lines = STYLE.sub("", text).splitlines()
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("a") == 90 + 2  # including the column's names
    assert [line.rstrip() for line in lines][-2:] == ["", "Two"]
    assert any(re.search(r"b +1,234 +gone", line) for line in lines)
    assert any(re.search(r"a {6,}1 +up", line) for line in lines)
    assert "\x1b[1;32mup" in text
    assert "\x1b[1;31mgone" in text


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NO_COLOR` is respected."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", rich_text([page("x")], width=200))


@pytest.mark.parametrize("lacking", ["rich", "a terminal"])
def test_plain_text_otherwise(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """Without rich, or if the output is a file, the text is plain."""
    importing = builtins.__import__

    def without_rich(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(name)
        return importing(name, *more)

    monkeypatch.setattr(sys.stdout, "isatty", lambda: lacking == "rich", raising=False)
    if lacking == "rich":
        monkeypatch.setattr(builtins, "__import__", without_rich)
    one = page("x", 1, None)
    assert terminal_text([one, one]) == f"{one.text()}\n\n{one.text()}"


def test_mime_types_in_a_front_end() -> None:
    """Outside a terminal a page is HTML and plain text."""
    one = page("x")
    assert forms(one) == one.mimebundle()


class Terminal(io.StringIO):
    """A terminal of ASCII characters."""

    encoding = "ascii"

    def isatty(self) -> bool:
        return True


def test_a_line_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is replaced where it stands, removed for other output, and kept at the end."""
    monkeypatch.setenv("COLUMNS", "20")
    file = Terminal()
    line = TerminalLine(file)
    line.clear()
    line.draw("one")
    line.draw("one")
    line.draw(f"{HOSTILE}{'x' * 30}")
    line.clear()
    line.draw("bar █░")
    line.close()
    line.draw("late")
    line.close()
    drawn = file.getvalue().split("\r")
    assert [drawn[0], drawn[1], *drawn[3:]] == ["", "one\x1b[K", "\x1b[K", "bar ??\x1b[K\n"]
    assert len(drawn[2]) == 19 + len("\x1b[K")
    assert not set(drawn[2].removesuffix("\x1b[K")) & set(CONTROLS)


def test_progress_on_a_line() -> None:
    """The line of a map has a bar if the number of its rows is known."""
    half = MapProgress(5, 0, 10, 2.0, 2.5, 2.5, {})
    assert (
        progress_text("a.b", half)
        == f"a.b  {'█' * 12}{'░' * 12}  5 of 10 rows · 2.0 rows/s · 2 s left"
    )
    endless = MapProgress(5, 1, None, 2.0, None, 2.5, {})
    assert progress_text("a.b", endless) == "a.b  5 rows · 1 failed · 2.0 rows/s · 2 s"
