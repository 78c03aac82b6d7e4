"""What stands around and under the rows of a table, and how it is sent. Pure.

Everything is cut and freed of control characters here; the browser only ever sets it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fabric_nb.notebook.pages import Badge, Chart, plain
from fabric_nb.notebook.table.cells import known_tone

MAX_DETAIL = 8_000
"""Characters of one row's detail."""
MAX_PRINTED = 8_000
MAX_LISTED = 30
"""Badges, facts, notes, tools, options, forms and fields that are shown of each."""

WireDetail = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Button:
    """A button above the table.

    Attributes:
        name: what the action is called when it comes back.
        label: what stands on it.
        pressed: whether it is in, for one that stays in; None for one that does not.
    """

    name: str
    label: str
    pressed: bool | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """A choice above the table.

    Attributes:
        name: what the action is called when it comes back.
        label: what is chosen.
        options: what there is to choose.
        value: what is chosen now.
    """

    name: str
    label: str
    options: Sequence[str]
    value: str


@dataclass(frozen=True, slots=True)
class Head:
    """What stands around the rows.

    Attributes:
        title: what the table is.
        badges: states beside the title.
        facts: short remarks beside the title.
        notes: lines under the table.
        tools: buttons and choices.
        chart: a line that is drawn above the rows.
        printed: what code has printed, under the rows.
        empty: what stands there while there are no rows.
    """

    title: str
    badges: Sequence[Badge] = ()
    facts: Sequence[str] = ()
    notes: Sequence[str] = ()
    tools: Sequence[Button | Select] = ()
    chart: Chart | None = None
    printed: str = ""
    empty: str = "No rows yet."


@dataclass(frozen=True, slots=True)
class Field:
    """A place of a form to write in.

    Attributes:
        name: what it is called when it comes back.
        hint: what may be written, shown while it is empty.
    """

    name: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """Something to fill in and to send, behind a title that opens it.

    Attributes:
        name: what the action is called when it comes back, with a text for each field that
            was filled in.
        title: what it is, in the code font.
        text: more about it.
        fields: what to fill in.
        hint: what may be written into them.
        submit: what stands on the button that sends it; empty for a form that is only read.
        command: a line that does the same, to which ``name=text`` of each field is added when
            it is copied; empty for none.
    """

    name: str
    title: str
    text: str = ""
    fields: Sequence[Field] = ()
    hint: str = ""
    submit: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """What opens under a row: a text with its line breaks, and forms.

    Attributes:
        text: above the forms.
        forms: the first `MAX_LISTED` are shown.
        more: forms that were left out.
    """

    text: str = ""
    forms: Sequence[Form] = ()
    more: int = 0

    def __bool__(self) -> bool:
        return bool(self.text or self.forms)

    def plain(self) -> str:
        """All of it as one text."""
        parts = [self.text] if self.text else []
        for form in self.forms[:MAX_LISTED]:
            lines = [form.title, *(f"    {line}" for line in form.text.splitlines())]
            parts.append("\n".join(lines))
        return "\n".join([plain("\n".join(parts), MAX_DETAIL), *self._left_out()])

    def encoded(self) -> WireDetail:
        """For the browser: a text, or a text and forms."""
        if not self.forms:
            return plain(self.text, MAX_DETAIL)
        text = "\n".join([*([self.text] if self.text else []), *self._left_out()])
        room = MAX_DETAIL // min(len(self.forms), MAX_LISTED)
        forms = [_encoded_form(form, room) for form in self.forms[:MAX_LISTED]]
        return {"text": plain(text, MAX_DETAIL), "forms": forms}

    def _left_out(self) -> list[str]:
        more = self.more + max(0, len(self.forms) - MAX_LISTED)
        return [f"… and {more:,} more, not shown."] if more > 0 else []


def encoded_head(head: Head, notes: Sequence[str]) -> dict[str, Any]:
    """A head for the browser, with further notes of the table itself."""
    return {
        "title": plain(head.title),
        "badges": [encoded_badge(badge) for badge in head.badges[:MAX_LISTED]],
        "facts": [plain(fact) for fact in head.facts[:MAX_LISTED]],
        "notes": [*(plain(note) for note in head.notes[:MAX_LISTED]), *notes],
        "tools": [_encoded_tool(tool) for tool in head.tools[:MAX_LISTED]],
        "chart": _encoded_chart(head.chart) if head.chart is not None else None,
        "printed": plain(head.printed, MAX_PRINTED),
        "empty": plain(head.empty),
    }


def encoded_badge(badge: Badge) -> list[str]:
    """A badge for the browser."""
    return [plain(badge.text), known_tone(badge).tone]


def _encoded_chart(chart: Chart) -> dict[str, Any]:
    return {"label": plain(chart.label), "range": chart.range, "line": chart.line}


def _encoded_tool(tool: Button | Select) -> dict[str, Any]:
    encoded: dict[str, Any] = {"name": tool.name, "label": plain(tool.label)}
    if isinstance(tool, Button):
        return {**encoded, "pressed": tool.pressed}
    options = [plain(option) for option in tool.options[:MAX_LISTED]]
    return {**encoded, "options": options, "value": plain(tool.value)}


def _encoded_form(form: Form, room: int) -> dict[str, Any]:
    return {
        "name": form.name,
        "title": plain(form.title),
        "text": plain(form.text, room),
        "fields": [
            {"name": plain(one.name), "hint": plain(one.hint)} for one in form.fields[:MAX_LISTED]
        ],
        "hint": plain(form.hint),
        "submit": plain(form.submit),
        "command": plain(form.command),
    }
