"""Head and row details of a table, with their encoding for the browser. Pure.

All text is truncated and stripped of control characters here; the browser inserts it as text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fabric_nb.notebook.graph.picture import GraphPicture
from fabric_nb.notebook.pages import Badge, Chart, counted, glimpse, plain
from fabric_nb.notebook.table.cells import with_valid_tone

MAX_DETAIL = 8_000
"""Maximum characters of the detail of a row."""
MAX_PRINTED = 8_000
MAX_LISTED = 30
"""Maximum number of badges, and of facts, notes, tools, options, forms and fields each."""
CANCELLED = "Cancelled. The service may still finish the call."
"""Answer to a cancelled action."""

MAX_LEAF = 2_000
"""Maximum characters of a value in a tree."""
MAX_BRANCHES, MAX_NODES, MAX_DEPTH = 200, 2_000, 50
"""Maximum number of values in one list or object of a tree, in the tree, and levels of it."""


class Payload(str):
    """Answer of an action that the page uses instead of showing it; it is not shortened."""

    __slots__ = ()


WireDetail = str | dict[str, Any]
WireNode = list[Any]
"""``[label, text]`` of a value, or ``[label, text, nodes]`` of a list or an object."""


@dataclass(frozen=True, slots=True)
class Button:
    """A button above the table.

    Attributes:
        name: name of its action.
        label: its text.
        pressed: state of a toggle button; None for a plain button.
    """

    name: str
    label: str
    pressed: bool | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """A choice above the table.

    Attributes:
        name: name of its action.
        label: its text.
        options: available options.
        value: selected option.
    """

    name: str
    label: str
    options: Sequence[str]
    value: str


@dataclass(frozen=True, slots=True)
class Head:
    """Content around the rows of a table.

    Attributes:
        title: title of the table.
        badges: states beside the title.
        facts: short remarks beside the title.
        notes: lines below the rows.
        tools: buttons and choices.
        chart: sparkline above the rows.
        printed: output of code, below the rows.
        empty: placeholder for a table without rows; empty for a table without columns that shows
            only its head.
        progress: fraction from 0 to 1, shown as a bar above the rows; None for no bar.
        graph: picture of a call graph above the rows.
    """

    title: str
    badges: Sequence[Badge] = ()
    facts: Sequence[str] = ()
    notes: Sequence[str] = ()
    tools: Sequence[Button | Select] = ()
    chart: Chart | None = None
    printed: str = ""
    empty: str = "No rows yet."
    progress: float | None = None
    graph: GraphPicture | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """An input field of a form.

    Attributes:
        name: name of the value; ``**`` for further values by name.
        hint: placeholder text.
        required: True if it must be filled in.
        value: text that it has at first.
        kind: empty for JSON, a Python literal or words; ``texts`` for several texts with
            commas; ``text``, ``date`` or ``time`` if its text is the value.
        choices: texts to choose from; empty for an input.
    """

    name: str
    hint: str = ""
    required: bool = False
    value: str = ""
    kind: str = ""
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A collapsible form.

    Attributes:
        name: name of its action, whose value is the texts of the fields that were filled in.
        title: title, in the code font.
        text: description.
        fields: input fields.
        submit: label of the submit button; empty for a form that cannot be submitted.
        command: equivalent command, copied with ``name=text`` for each field; empty for none.
        open: True if it is expanded at first, as a single form always is.
    """

    name: str
    title: str
    text: str = ""
    fields: Sequence[Field] = ()
    submit: str = ""
    command: str = ""
    open: bool = False


@dataclass(frozen=True, slots=True)
class Detail:
    """Content that opens under a row.

    Attributes:
        text: preformatted text above the forms.
        forms: forms; the first `MAX_LISTED` are shown.
        more: number of forms that the caller omitted from `forms`.
        values: labelled values, shown as a tree below the text; not saved.
        live_only: True if it only precedes what the row shows once it is opened; it is not saved.
    """

    text: str = ""
    forms: Sequence[Form] = ()
    more: int = 0
    values: Sequence[tuple[str, Any]] = ()
    live_only: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.forms or self.values)

    def plain(self) -> str:
        """Return text and forms as plain text."""
        parts = [self.text] if self.text else []
        for form in self.forms[:MAX_LISTED]:
            lines = [form.title, *(f"    {line}" for line in form.text.splitlines())]
            parts.append("\n".join(lines))
        return "\n".join([plain("\n".join(parts), MAX_DETAIL), *self._omitted()])

    def encoded(self) -> WireDetail:
        """Return the encoding for the browser: a string, or text, forms and a tree."""
        if self.values:
            tree = encoded_tree(self.values)
            return {"text": plain(self.text, MAX_DETAIL), "forms": [], "tree": tree}
        if not self.forms:
            return plain(self.text, MAX_DETAIL)
        text = "\n".join([*([self.text] if self.text else []), *self._omitted()])
        longest = MAX_DETAIL // min(len(self.forms), MAX_LISTED)
        forms = [_encoded_form(form, longest) for form in self.forms[:MAX_LISTED]]
        return {"text": plain(text, MAX_DETAIL), "forms": forms}

    def _omitted(self) -> list[str]:
        more = self.more + max(0, len(self.forms) - MAX_LISTED)
        return [f"… and {more:,} more, not shown."] if more > 0 else []


def encoded_tree(values: Sequence[tuple[str, Any]]) -> list[WireNode]:
    """Return labelled values for the browser, of a bounded size: further ones are counted."""
    roots: list[WireNode] = []
    pending = deque([(roots, iter(values), len(values), 1)])
    left = MAX_NODES
    while pending:  # level by level, so that a long list hides no column
        nodes, pairs, total, depth = pending.popleft()
        longest = MAX_NODES if depth == 1 else MAX_BRANCHES
        for label, value in islice(pairs, max(0, min(left, longest))):
            left -= 1
            if isinstance(value, (dict, list, tuple)) and value and depth < MAX_DEPTH:
                branches: list[WireNode] = []
                noun = "field" if isinstance(value, dict) else "item"
                nodes.append([plain(label), counted(len(value), noun), branches])
                pending.append((branches, _branches(value), len(value), depth + 1))
            else:
                nodes.append([plain(label), _leaf(value)])
        if total > len(nodes):
            nodes.append(["", f"… and {total - len(nodes):,} more"])
    return roots


def _branches(value: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((str(key), item) for key, item in value.items())
    return ((str(index), item) for index, item in enumerate(value))


def _leaf(value: object) -> str:
    text = value if isinstance(value, str) else glimpse(value)
    return plain(text, MAX_LEAF)


def encoded_head(head: Head, notes: Sequence[str]) -> dict[str, Any]:
    """Return a head for the browser, with further notes."""
    return {
        "title": plain(head.title),
        "badges": [encoded_badge(badge) for badge in head.badges[:MAX_LISTED]],
        "facts": [plain(fact) for fact in head.facts[:MAX_LISTED]],
        "notes": [*(plain(note) for note in head.notes[:MAX_LISTED]), *notes],
        "tools": [_encoded_tool(tool) for tool in head.tools[:MAX_LISTED]],
        "progress": None if head.progress is None else round(head.progress, 3),
        "chart": _encoded_chart(head.chart) if head.chart is not None else None,
        "graph": head.graph.encoded() if head.graph is not None else None,
        "printed": plain(head.printed, MAX_PRINTED),
        "empty": plain(head.empty),
    }


def encoded_badge(badge: Badge) -> list[str]:
    """Return a badge for the browser."""
    return [plain(badge.text), with_valid_tone(badge).tone]


def encoded_field(field: Field) -> list[Any]:
    """Return a field for the browser."""
    encoded: list[Any] = [plain(field.name), plain(field.hint), field.required]
    if field.value or field.kind or field.choices:
        encoded += [plain(field.value, None), field.kind]
    if field.choices:
        encoded.append([plain(choice) for choice in field.choices[:MAX_LISTED]])
    return encoded


def _encoded_chart(chart: Chart) -> dict[str, Any]:
    return {"label": plain(chart.label), "range": chart.range, "line": chart.line}


def _encoded_tool(tool: Button | Select) -> dict[str, Any]:
    encoded: dict[str, Any] = {"name": tool.name, "label": plain(tool.label)}
    if isinstance(tool, Button):
        return {**encoded, "pressed": tool.pressed}
    options = [plain(option) for option in tool.options[:MAX_LISTED]]
    return {**encoded, "options": options, "value": plain(tool.value)}


def _encoded_form(form: Form, longest: int) -> dict[str, Any]:
    return {
        "name": form.name,
        "title": plain(form.title),
        "text": plain(form.text, longest),
        "fields": [encoded_field(field) for field in form.fields[:MAX_LISTED]],
        "submit": plain(form.submit),
        "command": plain(form.command),
        "open": form.open,
    }
