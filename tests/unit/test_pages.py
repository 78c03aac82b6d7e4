"""Pages as HTML and as text: escaped, bounded, the same in both."""

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
def test_nothing_shown_is_obeyed(text: str) -> None:
    """No shown text holds control characters, changes direction or is markup."""
    shown = plain(text, None)
    assert len(shown) == len(text)
    assert all(char in "\n\t" or ord(char) > 31 for char in shown)
    assert plain(shown, None) == shown
    assert html.unescape(escape(text, None)) == shown
    assert not set("<>\"'") & set(escape(text))


@pytest.mark.parametrize("char", CONTROLS)
def test_control_and_direction_characters_are_replaced(char: str) -> None:
    """Control characters, direction overrides and lone surrogates are shown as such."""
    assert plain(f"a{char}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["plain", "é ü ß", "日本語", "עברית", "🎉", "a\nb\tc", ""])
def test_readable_text_is_left_alone(text: str) -> None:
    """Text of any language is shown as it is."""
    assert plain(text) == text


def test_long_text_is_cut() -> None:
    """A long text is cut, with a sign that it was."""
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
    """Text from elsewhere is text in every place of a page, in HTML and in plain text."""
    reader = read(hostile_page())
    assert "".join(reader.texts).count(MARKUP) == 11
    assert "script" not in reader.elements


def test_code_in_notes() -> None:
    """What stands in backticks in a note looks like code, and is text like the rest."""
    html = Page("Title", notes=["`a <b>` prints; `c"]).html()
    assert '<span class="code">a &lt;b&gt;</span> prints; `c</div>' in html


def test_table_as_text() -> None:
    """A table has a plain form too: aligned, one line for each row."""
    table = Table(["name", "n"], [["a\nb", 1], ["long name", 12345]], frozenset({"n"}))
    assert Page("Title", facts=["fact"], tables=[table], notes=["note"]).text().splitlines() == [
        "Title · fact",
        "name            n",
        "a b             1",
        "long name  12,345",
        "note",
    ]


def test_column_named_by_others_stays_on_its_line() -> None:
    """A column's name from elsewhere neither breaks lines nor moves the cursor."""
    text = Page("t", tables=[Table(["a\nb\x1b[2J", "x" * 1000], [[1, 2]])]).text()
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert len(text) < 2000


def test_empty_page() -> None:
    """A page without anything is its title, and an empty table is left out."""
    page = Page("Title", tables=[Table(["a"], [])])
    assert page.text() == "Title"
    assert page.html() == (
        f'{STYLE}<div class="fabric-nb"><div class="head">'
        '<div class="title">Title</div></div></div>'
    )


def test_words_are_apart_without_a_style_sheet() -> None:
    """An untrusted notebook strips styles: nothing that stands beside another runs into it."""
    page = Page(
        "Fabric",
        [Badge("connected", "good"), Badge("blocked", "bad")],
        ["domain d", "3 services"],
        Chart("load", [1.0, 2.0]),
    )
    stripped = re.sub(
        r"<style>.*?</style>| (?:class|style)=\"[^\"]*\"", "", page.html(0.0), flags=re.DOTALL
    )
    # As a browser breaks lines: blocks stand alone, what is inline does not.
    lines = [text for text in re.split(r"</?(?:div|svg|tr|td|th)[^>]*>", stripped) if text]
    told = [re.sub(r"<[^>]*>", "", line) for line in lines]
    assert [line for line in told if line][:7] == [
        *("Fabric", "connected", "blocked", "domain d", "3 services"),
        time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(0)),
        "load",
    ]


def test_a_saved_page_says_when_it_was_so() -> None:
    """What goes on is not in its colours any more; what was wrong is."""
    page = Page(
        "Serving",
        [Badge("serving", "good"), Badge("late", "warn")],
        ["2 calls"],
        tables=[Table(["state"], [[Badge("up", "good")], [Badge("busy", "busy")], ["x"]])],
    )
    then = saved(page, 0.0)
    assert then.badges == [Badge("serving", "quiet"), Badge("late", "warn")]
    assert then.facts == [
        "2 calls",
        time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(0)),
    ]
    assert then.tables[0].rows == [[Badge("up", "quiet")], [Badge("busy", "quiet")], ["x"]]


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, ""), (1234567, "1,234,567"), (1234.56, "1,234.6"), (True, "True"), ("1", "1")],
)
def test_cells(cell: Cell, text: str) -> None:
    """Numbers are written for people."""
    [_, [shown]] = read(Page("t", tables=[Table(["a"], [[cell]])])).cells
    assert shown == text


def test_glimpse_is_short_and_cheap() -> None:
    """The beginning of a value is shown at once, however large or deep it is."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    began = time.perf_counter()
    for value in ("x" * 10_000_000, ["x" * 1_000_000] * 100_000, deep, {"a": deep}):
        assert len(glimpse(value)) < 20_000
    assert time.perf_counter() - began < 1
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
def test_a_line_over_values(values: list[float | None], bars: str, range_: str) -> None:
    """Values are drawn between the least and the greatest, with gaps where there is none."""
    page = Page("t", chart=Chart(HOSTILE, values))
    assert f"  {bars}" in page.text()
    assert page.text().endswith(range_)
    assert "svg" in read(page).elements


def test_a_line_begins_anew_after_a_gap() -> None:
    """Nothing is drawn across values that are missing."""
    page = Page("t", chart=Chart("x", [0.0, 1.0, None, 0.5])).html()
    assert '<path d="M0 100L1 0M3 50">' in page
