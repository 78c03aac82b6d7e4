"""Pages as HTML and as text: escaped and bounded."""

from __future__ import annotations

import html
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.notebook.pages import (
    MAX_CELL,
    STYLE,
    Badge,
    Bars,
    Cell,
    Chart,
    Code,
    Page,
    Table,
    escape,
    glimpse,
    plain,
    saved,
)
from tests.support.pages import CONTROLS, HOSTILE, MARKUP, read


@given(st.text(st.characters()))
def test_shown_text_is_inert(text: str) -> None:
    """Shown text has no control or bidirectional characters and no markup."""
    shown = plain(text, None)
    assert len(shown) == len(text)
    assert all(char in "\n\t" or ord(char) > 31 for char in shown)
    assert plain(shown, None) == shown
    assert html.unescape(escape(text, None)) == shown
    assert not set("<>\"'") & set(escape(text))


@pytest.mark.parametrize("char", CONTROLS)
def test_control_and_direction_characters_are_replaced(char: str) -> None:
    """Control characters, bidirectional overrides and lone surrogates are replaced."""
    assert plain(f"a{char}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["plain", "é ü ß", "日本語", "עברית", "🎉", "a\nb\tc", ""])
def test_readable_text_is_left_alone(text: str) -> None:
    """Text of any language is shown unchanged."""
    assert plain(text) == text


def test_long_text_is_cut() -> None:
    """A long text is truncated with an ellipsis."""
    assert len(plain("x" * 10_000)) == MAX_CELL
    assert plain("x" * 10_000).endswith("…")
    assert plain("x" * MAX_CELL) == "x" * MAX_CELL
    assert len(plain("x" * 10_000, None)) == 10_000


def hostile_page() -> Page:
    cells: list[Cell] = [HOSTILE, Badge(HOSTILE, "bad"), Code(HOSTILE), 1, 2.5, None, True]
    return Page(
        title=HOSTILE,
        badges=[Badge(HOSTILE, "good")],
        facts=[HOSTILE],
        tables=[Table([HOSTILE, *"bcdefg"], [cells], frozenset({HOSTILE}))],
        printed=HOSTILE,
        notes=[HOSTILE],
        folded=[(HOSTILE, HOSTILE)],
    )


def test_hostile_page() -> None:
    """Remote text is escaped everywhere in a page."""
    reader = read(hostile_page())
    assert "".join(reader.texts).count(MARKUP) == 11
    assert "script" not in reader.elements


def test_code_in_notes() -> None:
    """Text in backquotes in a note is shown as code and escaped."""
    html = Page("Title", notes=["`a <b>` prints; `c"]).html()
    assert '<span class="code">a &lt;b&gt;</span> prints; `c</div>' in html


def test_table_as_text() -> None:
    """As text a table is aligned and has one line per row."""
    table = Table(["name", "n"], [["a\nb", 1], ["long name", 12345]], frozenset({"n"}))
    assert Page("Title", facts=["fact"], tables=[table], notes=["note"]).text().splitlines() == [
        "Title · fact",
        "name            n",
        "a b             1",
        "long name  12,345",
        "note",
    ]


def test_remote_column_name_stays_on_its_line() -> None:
    """A remote column name breaks no lines and moves no cursor."""
    text = Page("t", tables=[Table(["a\nb\x1b[2J", "x" * 1000], [[1, 2]])]).text()
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert len(text) < 2000


def test_empty_page() -> None:
    """An empty page consists of its title; an empty table is omitted."""
    page = Page("Title", tables=[Table(["a"], [])])
    assert page.text() == "Title"
    assert page.html() == (
        f'{STYLE}<div class="fabric-nb"><div class="head">'
        '<div class="title">Title</div></div></div>'
    )


def test_words_are_separated_without_a_style_sheet() -> None:
    """In an untrusted notebook, which strips styles, adjacent texts are separated."""
    page = Page(
        "Fabric",
        [Badge("connected", "good"), Badge("blocked", "bad")],
        ["domain d", "3 services"],
        Chart("load", [1.0, 2.0]),
    )
    stripped = re.sub(
        r"<style>.*?</style>| (?:class|style)=\"[^\"]*\"", "", page.html(0.0), flags=re.DOTALL
    )
    # Lines as in a browser: block elements start one, inline elements do not.
    lines = [text for text in re.split(r"</?(?:div|svg|tr|td|th)[^>]*>", stripped) if text]
    texts = [re.sub(r"<[^>]*>", "", line) for line in lines]
    assert [line for line in texts if line][:7] == [
        *("Fabric", "connected", "blocked", "domain d", "3 services"),
        time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(0)),
        "load",
    ]


def test_saved_page_has_a_time_and_no_live_colours() -> None:
    """A saved page has its time; live states lose their colours, warnings do not."""
    page = Page(
        "Serving",
        [Badge("serving", "good"), Badge("late", "warn")],
        ["2 calls"],
        tables=[Table(["state"], [[Badge("up", "good")], [Badge("busy", "busy")], ["x"]])],
    )
    stored = saved(page, 0.0)
    assert stored.badges == [Badge("serving", "quiet"), Badge("late", "warn")]
    assert stored.facts == [
        "2 calls",
        time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(0)),
    ]
    assert stored.tables[0].rows == [[Badge("up", "quiet")], [Badge("busy", "quiet")], ["x"]]


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, ""), (1234567, "1,234,567"), (1234.56, "1,234.6"), (True, "True"), ("1", "1")],
)
def test_cells(cell: Cell, text: str) -> None:
    """Numbers have thousands separators and one decimal."""
    [_, [shown]] = read(Page("t", tables=[Table(["a"], [[cell]])])).cells
    assert shown == text


def test_glimpse_is_short_and_fast() -> None:
    """The first part of a value is rendered at once, however large or deep it is."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10_000_000, ["x" * 1_000_000] * 100_000, deep, {"a": deep}):
        assert len(glimpse(value)) < 20_000
    assert glimpse({"a": [1, "b", None]}) == "{'a': [1, 'b', None]}"


@pytest.mark.parametrize(
    ("values", "bars", "range_"),
    [
        ([0.0, 5.0, 10.0], "▁▄█", "0 to 10"),
        ([7.0, 7.0], "▄▄", "7 to 7"),
        ([1.0, None, float("nan"), 2.0], "▁  █", "1 to 2"),
        ([-1e308, float("inf"), 1e308], "▁ █", "-1e+308 to 1e+308"),
        ([None], "", "no numbers"),
        ([], "", "no numbers"),
    ],
)
def test_chart(values: list[float | None], bars: str, range_: str) -> None:
    """A chart is scaled to minimum and maximum, with gaps for missing values."""
    page = Page("t", chart=Chart(HOSTILE, values))
    assert f"  {bars}" in page.text()
    assert page.text().endswith(range_)
    assert "svg" in read(page).elements


def test_bars() -> None:
    """A bar chart has a rectangle for each bar that is not empty, scaled to the highest one."""
    bars = Bars(HOSTILE, [10, 0, 1e9, 0.5], [HOSTILE, "4 ms"], [HOSTILE, "10"])
    page = Page("t", bars=bars)
    assert page.text().endswith("\n10")
    reader = read(page)
    assert reader.texts[-1] == "4 ms"
    assert "svg" in reader.elements
    path = re.search(r'<path d="([^"]*)">', page.html())
    assert path is not None
    assert re.findall(r"M(\d) 100V(\d+)", path[1]) == [("0", "99"), ("2", "1"), ("3", "99")]
    assert "path" in read(Page("t", bars=Bars("none", [], [], []))).elements


def test_gap_in_a_chart() -> None:
    """The line is interrupted at missing values."""
    page = Page("t", chart=Chart("x", [0.0, 1.0, None, 0.5])).html()
    assert '<path d="M0 100L1 0M3 50">' in page
