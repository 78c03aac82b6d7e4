"""Tables without a front end: model, cells and rate limits."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import orjson
import pytest

from fabric_nb.notebook.live.pace import Budget, Pacer
from fabric_nb.notebook.pages import Badge, Code, Spark
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel
from fabric_nb.notebook.table.cells import ago, clock, encode, shown
from fabric_nb.notebook.table.model import MAX_COLUMNS, MAX_DETAILS, OMITTED_DETAIL, SAVED_ROWS
from fabric_nb.notebook.table.paging import Choice
from fabric_nb.notebook.table.parts import MAX_DETAIL
from fabric_nb.notebook.table.static import static_forms

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m\ud800"
TEXT, NUMBER = Column("text"), Column("n", "number")
SPARK = Column("line", "spark", digits=2)


class Mirror:
    """State of a browser that applies the changes."""

    def __init__(self) -> None:
        self.revision = 0
        self.rows: dict[int, list[Any]] = {}

    def apply(self, delta: dict[str, Any] | None) -> None:
        assert delta is not None
        if "columns" in delta:
            self.rows = {}
        else:
            assert delta["from"] == self.revision
        self.revision = delta["to"]
        for id_ in delta.get("drop", ()):
            del self.rows[id_]
        for id_, cells, detail in delta.get("add", ()):
            self.rows[id_] = [*cells, detail]
        for id_, changes, *detail in delta.get("set", ()):
            for index, cell in zip(changes[::2], changes[1::2], strict=True):
                self.rows[id_][index] = cell
            self.rows[id_][-1:] = detail or self.rows[id_][-1:]
        if "order" in delta:
            assert sorted(delta["order"]) == sorted(self.rows)
            self.rows = {id_: self.rows[id_] for id_ in delta["order"]}

    @property
    def firsts(self) -> list[Any]:
        return [row[0] for row in self.rows.values()]


def rows(*keys: str) -> list[tuple[str, list[str], str]]:
    return [(key, [key], "") for key in keys]


# -- the model


def test_only_what_changed_is_sent() -> None:
    """After the complete state, a diff contains changed cells only, or is None."""
    model = TableModel("t", [TEXT, NUMBER])
    model.put("a", ["x", 1])
    model.put("b", ["y", 2], "more")
    first = model.diff()
    assert first is not None
    assert first["add"] == [[0, ["x", 1], ""], [1, ["y", 2], "more"]]
    assert model.diff() is None
    model.put("a", ["x", 1])
    assert model.diff() is None
    model.put("b", ["y", 3], "more")
    assert model.diff() == {"from": 1, "to": 2, "set": [[1, [1, 3]]]}
    model.put("b", ["y", 3], "less")
    assert model.diff() == {"from": 2, "to": 3, "set": [[1, [], "less"]]}
    model.head = Head("u")
    assert list(model.diff() or ()) == ["from", "to", "head"]


def test_changes_between_two_diffs_are_merged() -> None:
    """Of a row that changes often, the last state is sent; a removed one is not sent."""
    model = TableModel("t", [NUMBER])
    model.put("a", [0])
    model.diff()
    for n in range(1000):
        model.put("a", [n])
        model.put(n, [n])
        model.remove(n)
    assert model.diff() == {"from": 1, "to": 2, "set": [[0, [0, 999]]]}


def test_diffs_reproduce_the_table() -> None:
    """Applying all diffs gives the same rows in the same order as the table."""
    model, mirror = TableModel("t", [TEXT], max_rows=4), Mirror()
    for keys in ("abc", "cab", "ab", "xabcy", "y", "", "dcba", "dcbae", "ecbad", "aeb"):
        model.replace(rows(*keys))
        if (delta := model.diff()) is not None:
            mirror.apply(delta)
        assert mirror.firsts == list(keys[:4])
    model.put("new", ["new"])
    model.remove("e")
    mirror.apply(model.diff())
    assert mirror.firsts == ["a", "b", "new"]
    whole = Mirror()
    whole.apply(model.whole())
    assert whole.rows == mirror.rows


def test_rows_and_columns_beyond_the_capacity() -> None:
    """A full table drops its oldest row for a new one, and notes the number of dropped rows."""
    log = TableModel("log", [NUMBER], max_rows=3, follow=True)
    for n in range(10):
        log.put(n, [n])
    assert [row.cells for row in log.rows] == [[7], [8], [9]]
    sent = log.diff()
    assert sent is not None
    assert sent["head"]["notes"] == ["… and 7 older rows, not shown."]
    listing = TableModel("list", [TEXT], max_rows=2)
    listing.replace(rows("a", "b", "c"), more=1_000_000)
    assert len(listing) == 2
    assert listing.cut == 1_000_001
    assert "… and 1,000,001 more rows." in static_forms([listing], 0)["text/plain"]
    wide = TableModel("wide", [TEXT] * (MAX_COLUMNS + 5))
    wide.put(0, ["x"] * (MAX_COLUMNS + 5))
    sent = wide.diff()
    assert sent is not None
    assert len(sent["add"][0][1]) == len(sent["columns"]) == MAX_COLUMNS
    assert sent["head"]["notes"] == ["… and 5 more columns, not shown."]

    def test_notes_in_the_singular() -> None:
        """One row or column that is not shown is a row or a column."""
        table = TableModel("log", [NUMBER] * (MAX_COLUMNS + 1), max_rows=1, follow=True)
        for n in range(2):
            table.put(n, [n] * (MAX_COLUMNS + 1))
        assert table.cut_notes() == [
            "… and 1 older row, not shown.",
            "… and 1 more column, not shown.",
        ]
        assert "… and 1 older row." in static_forms([table], 0)["text/plain"]


def test_details_are_bounded() -> None:
    """Long details are truncated, and the total of all details is bounded."""
    model = TableModel("t", [NUMBER], max_rows=2 * MAX_DETAILS // MAX_DETAIL)
    for n in range(model.max_rows):
        model.put(n, [n], "x" * 10 * MAX_DETAIL)
    sent = model.diff()
    assert sent is not None
    details = [detail for _, _, detail in sent["add"]]
    assert sum(len(detail) for detail in details if detail != OMITTED_DETAIL) <= MAX_DETAILS
    assert details[0].endswith("…")
    assert details[-1] == OMITTED_DETAIL
    model.clear()
    model.put("later", [0], "below the limit again")
    model.diff()
    assert model.whole()["add"] == [[model.max_rows, [0], "below the limit again"]]


def test_changing_the_columns() -> None:
    """A table whose columns change is sent completely; rows of a different width are rejected."""
    model, mirror = TableModel("t"), Mirror()
    mirror.apply(model.diff())
    model.columns = [TEXT, NUMBER]
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        model.put("a", ["x"])
    model.put("a", ["x", 1])
    mirror.apply(model.diff())
    assert mirror.firsts == ["x"]
    model.columns = [NUMBER]
    assert len(model) == 0


def test_remote_text_is_sanitized_in_the_kernel() -> None:
    """No control or bidirectional character and no lone surrogate is sent to the browser."""
    head = Head(
        HOSTILE,
        [Badge(HOSTILE, HOSTILE)],
        [HOSTILE],
        [HOSTILE],
        [Button("b", HOSTILE), Select("s", HOSTILE, [HOSTILE], HOSTILE)],
    )
    model = TableModel(head, [Column(HOSTILE), Column("", "badge"), NUMBER])
    model.put(HOSTILE, [HOSTILE, Badge(HOSTILE, "x"), 10**5000], HOSTILE)
    model.put(1, ["x" * 10**6, None, float("inf")])
    sent = orjson.dumps(model.diff()).decode()
    assert not set("\u202e\x1b\ud800") & set(sent)
    assert len(sent) < 2500
    forms = static_forms([model], 0)
    assert "<img" not in forms["text/html"]
    assert not set("\u202e\x1b\ud800") & set(forms["text/html"] + forms["text/plain"])


# -- cells


@pytest.mark.parametrize(
    ("value", "column", "wire", "text"),
    [
        (1234567, NUMBER, 1234567, "1,234,567"),
        (2**60, NUMBER, "1,152,921,504,606,846,976", "1,152,921,504,606,846,976"),
        (1 / 3, NUMBER, 0.333333, "0.333333"),
        (1 / 3, Column("", "number", digits=1), 0.3, "0.3"),
        (1234567.89, NUMBER, 1234568.0, "1,234,568"),
        (1e-9, NUMBER, 1e-9, "1.00000e-9"),
        (float("nan"), NUMBER, "nan", "nan"),
        (True, NUMBER, "True", "True"),
        ("3+", NUMBER, "3+", "3+"),
        (None, NUMBER, None, ""),
        (Badge("up", "good"), Column("", "badge"), ["up", "good"], Badge("up", "good")),
        ("f(x)", Column("", "code"), "f(x)", Code("f(x)")),
        (940.0, Column("", "age"), 940.0, "60 s ago"),
        (1e20, Column("", "time"), 1e20, "1.00000e+20"),
        (
            Spark((0, 1 / 3, math.nan, 2 / 3)),
            SPARK,
            [0.67, "0O o"],
            Spark((0, 1 / 3, math.nan, 2 / 3)),
        ),
        (Spark(()), SPARK, None, Spark(())),
    ],
)
def test_a_cell_is_rounded_as_it_is_shown(value: Any, column: Column, wire: Any, text: Any) -> None:
    """Numbers are sent as they are shown, so that invisible changes are not sent."""
    assert encode(value, column) == wire
    assert shown(value, column, 1000.0) == text


def test_sparklines_as_text() -> None:
    """A sparkline begins at zero; in text it has a bar for the highest of several values."""
    assert Spark((0.0, 0.0)).line == [0, 0]
    assert Spark((0.0, 5.0, math.nan, 10.0)).line == [0, 50, None, 100]
    assert Spark((0.0, 5.0, math.nan, 10.0)).bars == "▁▄ █"
    assert Spark((*[1e300] * 3, *[0.0] * 57)).bars == "█" + "▁" * 19
    assert Spark((math.nan,) * 60).bars.strip() == ""


def test_sparklines_in_static_copies() -> None:
    """A static copy has a sparkline as a picture, and as bars in its text."""
    model = TableModel("t", [TEXT, SPARK])
    model.put("a", ["x", Spark((0.0, 1.0, 0.5))], "more")
    model.put("b", ["y", Spark(())])
    forms = static_forms([model], 0)
    assert forms["text/html"].count("<svg") == 1
    assert 'd="M0 100L1 0L2 50"' in forms["text/html"]
    assert "x     ▁█▄" in forms["text/plain"]
    assert "Details of x\n" in forms["text/plain"]


def test_formats_of_times() -> None:
    """Ages are in the appropriate unit; times have a date only if it is not today's."""
    seconds = [0.5, 1, 119, 120, 7200, 2 * 86_400]
    assert [ago(age) for age in seconds] == [
        *("now", "1 s ago", "119 s ago", "2 min ago", "2 h ago", "2 d ago")
    ]
    assert len(clock(1e9, 1e9)) == len("13:05:09")
    assert len(clock(1e9, 2e9)) == len("2001-09-09 13:05:09")


def test_the_static_forms_show_twenty_rows() -> None:
    """A static copy has the first twenty rows, of a log the last, and the number of others."""
    for follow, row, more in ((False, "row 0", "more"), (True, "row 199", "older")):
        model = TableModel("t", [TEXT], follow=follow)
        for n in range(200):
            model.put(n, [f"row {n}"], f"detail {n}" if n % 20 == 0 else "")
        forms = static_forms([model], 0)
        assert forms["text/html"].count("<tr>") == SAVED_ROWS + 1
        assert f"<td>{row}</td>" in forms["text/html"]
        assert f"… and 180 {more} rows." in forms["text/plain"]
        assert forms["text/html"].count("<details>") == 1


# -- rate limits


async def test_the_last_request_is_never_lost() -> None:
    """A thousand requests, from any thread, cause few runs; one follows the last request."""
    seen, state = [], 0
    done = asyncio.Event()

    def act() -> None:
        seen.append(state)
        if state == 1000:
            done.set()

    pacer = Pacer(act, 0.02)
    for state in range(1, 1001):
        pacer.request()
        if state % 100 == 0:
            await asyncio.sleep(0)
    thread = threading.Thread(target=pacer.request)
    thread.start()
    await asyncio.wait_for(done.wait(), 60)
    thread.join()
    assert len(seen) <= 3
    pacer.close()
    pacer.request()


def test_senders_share_a_budget() -> None:
    """The amount that one sender spends delays all; time restores the budget."""
    now = 100.0
    budget = Budget(1000, lambda: now)
    assert budget.spend(100) == pytest.approx(0.1)
    assert budget.spend(100) == pytest.approx(0.2)
    now = 200.0
    assert budget.spend(100) == pytest.approx(0.1)


def test_a_saved_table_is_short() -> None:
    """A notebook stores twenty rows of a table and their number, in 60 kB at most."""
    for follow, cell, detail in ((False, "x" * 300, "y" * 8000), (True, "é" * 300, "<" * 8000)):
        model = TableModel("t", [Column(f"c{n}") for n in range(20)], follow=follow)
        for n in range(1000):
            model.put(n, [cell] * 20, detail)
        model.diff()
        state, forms = orjson.dumps(model.saved()), static_forms([model], 0)
        assert len(state) + sum(map(len, forms.values())) < 60_000
        assert model.saved()["to"] != model.revision
    small = TableModel("t", [TEXT], follow=True)
    for n in range(1000):
        small.put(n, [f"row {n}"])
    small.diff()
    assert [row[0] for row in small.saved()["add"]] == list(range(980, 1000))
    assert small.saved()["head"]["notes"] == ["… and 980 older rows, not shown."]
    assert len(small.whole()["add"]) == 1000
    wide = TableModel("t", [TEXT], paged=True)
    wide.choices = [Choice(f"column {n}", "text", shown=n == 0) for n in range(1000)]
    wide.diff()
    assert len(orjson.dumps(wide.saved())) < 1_000 < 20_000 < len(orjson.dumps(wide.whole()))
    few = TableModel("t", [TEXT])
    few.put(0, ["row"])
    few.diff()
    assert few.saved() == few.whole()
