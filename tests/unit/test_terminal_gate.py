"""Sanitized text of terminals and notebooks: no control characters, and no forged lines."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.cli import output
from fabric_nb.errors import one_line, printable
from fabric_nb.notebook.pages import Badge, Chart, Page, Table, plain
from fabric_nb.notebook.terminal import rich_text
from tests.unit.test_wire import RECORD

HARMFUL = {
    "escape": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "bell": "\a",
    "return": "\r",
    "backspace": "\b\b\b",
    "nul": "\0",
    "delete": "\x7f",
    "C1": "\x9b31m",
    "next line": "\x85",
    "vertical tab": "\v",
    "form feed": "\f",
    "override": "\u202e",
    "isolate": "\u2066",
    "mark": "\u200f",
    "arabic mark": "\u061c",
    "zero width": "\u200b",
    "joiner": "\u200d",
    "soft hyphen": "\xad",
    "byte order": "\ufeff",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "surrogate": "\udc9b",
    "tag": "\U000e0041",
}
ALL = "a" + "b".join(HARMFUL.values()) + "c"
FORGED = "harmless\n12:00:00 CRITICAL app.bank forged"


def harmless(text: str) -> bool:
    """Return whether no character controls the terminal, reverses text or is invisible."""
    return all(
        char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        for char in text
    )


@pytest.mark.parametrize("harmful", HARMFUL.values(), ids=HARMFUL)
def test_harmful_characters_are_replaced(harmful: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Control and invisible characters are replaced in text, and escaped in JSON."""
    output.print_text(f"<{harmful}>")
    output.print_record(replace(RECORD, message=harmful, service_id=harmful, level=harmful))
    output.print_json({harmful: [harmful]})
    printed = capsys.readouterr().out
    assert harmless(printed)
    assert printed.count("\n") == 3
    assert "\N{REPLACEMENT CHARACTER}" in printed
    line = printed.splitlines()[-1]
    assert line.isascii()
    assert json.loads(line) == {harmful: [harmful]}


@given(st.text(st.characters()))
def test_harmless_text_is_unchanged(text: str) -> None:
    """Text of any language is unchanged, except for harmful characters."""
    shown = printable(text)
    assert harmless(shown)
    assert len(shown) == len(text)
    assert all(new == old or not harmless(old) for new, old in zip(shown, text, strict=True))
    assert "\n" not in one_line(text)
    assert plain(text, None) == shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_json_is_one_line_of_ascii(value: object) -> None:
    """JSON output is one line of ASCII with the same value."""
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        output.print_json(value)
        line = sys.stdout.getvalue()
    finally:
        sys.stdout = stdout
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert json.loads(line) == value


def test_no_line_is_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """A log record of several lines does not look like several records."""
    output.print_record(replace(RECORD, message=FORGED, level="A\nB", service_id="x\ny"))
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first.endswith("harmless")
    assert second == "    12:00:00 CRITICAL app.bank forged"
    assert not rest


def test_no_line_of_a_page_is_forged() -> None:
    """Titles, facts, cells, notes and labels of a page are one line each, also with colours."""
    page = Page(
        FORGED + ALL,
        [Badge(FORGED + ALL, "warn")],
        facts=[FORGED + ALL],
        chart=Chart(FORGED + ALL, (1, 2)),
        tables=[Table([FORGED + ALL], [[FORGED + ALL]])],
        notes=[FORGED + ALL],
        folded=[(FORGED + ALL, "two\nlines")],
    )
    for text in (page.text(), rich_text([page], 10_000)):
        bare = output.without_colours(text)
        assert harmless(bare)
        assert not any(line.startswith("12:00:00") for line in bare.splitlines())


def test_output_of_python_is_sanitized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unhandled warnings and errors of a command are sanitized too."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert logging.lastResort is not None
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    output.sanitize_python_output()
    record = logging.makeLogRecord({"msg": FORGED + ALL, "levelno": 30, "levelname": "WARNING"})
    logging.lastResort.handle(record)
    sys.excepthook(ValueError, ValueError(ALL), None)
    output.print_error(ALL)
    assert harmless(stream.getvalue())
    assert "\n    12:00:00" in stream.getvalue()
    assert "fabric-nb: a" in stream.getvalue()


def test_terminal_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that the terminal's encoding lacks is replaced."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.print_text("Zoë €")
    assert raw.getvalue() == b"Zo? ?\n"
