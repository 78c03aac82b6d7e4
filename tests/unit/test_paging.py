"""Pages of a stream's rows: requests of a view, selections, and values of a row."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pandas as pd
import pytest

from fabric_nb.errors import InvalidArgument, RecordingError
from fabric_nb.notebook.table.model import MAX_COLUMNS
from fabric_nb.notebook.table.paging import MAX_PAGE, Choice, PageRequest, RowPage
from fabric_nb.notebook.table.parts import MAX_BRANCHES, MAX_NODES, encoded_tree
from fabric_nb.notebook.views import stream_export, stream_rows
from fabric_nb.notebook.views.stream import COLUMNS
from fabric_nb.notebook.views.stream_export import MAX_COPIED, MAX_TEXT
from tests.support.streams import UnconnectedStream
from tests.unit.test_views import Rendered, stream_view


def stream(rows: int = 1000, **options: Any) -> UnconnectedStream:
    """Return a stream of orders."""
    orders = UnconnectedStream(**options)
    add(orders, rows)
    return orders


def add(orders: UnconnectedStream, rows: int) -> None:
    numbers = range(orders.rows, orders.rows + rows)
    orders.add_rows([{"n": n, "s": f"i{n % 10}", "v": {"a": [n]}} for n in numbers])


def query(words: str = "", *filters: list[Any], sort: Any = None, **more: Any) -> dict[str, Any]:
    return {"words": words, "filters": list(filters), "sort": sort, "descending": False, **more}


async def page(shown: Rendered, first: int = 0, selection: int = 0, **asked: Any) -> RowPage:
    """Return ten rows for a query."""
    content = {"query": query(**asked), "first": first, "count": 10, "selection": selection}
    request = PageRequest.decoded(content)
    assert request is not None
    assert shown.view.pages is not None
    return await shown.view.pages.page(request)


async def test_pages_of_all_rows() -> None:
    """Without a filter, a page has the rows at its place; at the end, the last ones."""
    shown = stream_view(stream())
    assert shown.model.held == (0, 1000)
    assert shown.model.choices == (
        Choice("n", "number", shown=True),
        Choice("s", "text", shown=True),
        Choice("v", "text", shown=True),
    )
    answer = await page(shown, 500)
    assert (answer.total, answer.listed, answer.held, answer.first) == (1000, 1000, 1000, 500)
    assert list(answer.numbers) == list(range(500, 510))
    assert answer.cells[0] == (500, "i0", "{'a': [500]}")
    assert list((await page(shown, -1)).numbers) == list(range(990, 1000))
    assert list((await page(shown, 5000)).numbers) == list(range(990, 1000))


async def test_pages_of_a_filter() -> None:
    """A page has rows that match, in their order, and further pages are of the same selection."""
    orders = stream()
    shown = stream_view(orders)
    asked = {"words": "I3", "sort": [0, "n"], "descending": True}
    first = await page(shown, **asked)
    assert (first.total, list(first.numbers)[:2]) == (100, [993, 983])
    add(orders, 10)
    second = await page(shown, 10, first.selection, **asked)
    assert (second.selection, list(second.numbers)[:2]) == (first.selection, [893, 883])
    third = await page(shown, **asked)
    assert (third.total, list(third.numbers)[:2]) == (101, [1003, 993])
    assert third.selection != first.selection
    other = await page(shown, 0, third.selection, words="i4")
    assert other.total == 101
    assert other.numbers[0] == 4


async def test_rows_that_were_dropped() -> None:
    """Rows that newer ones have pushed out since they were selected are empty."""
    orders = stream(max_rows=1000)
    shown = stream_view(orders)
    first = await page(shown, words="i3")
    add(orders, 45)
    assert shown.again().model.held == (45, 1000)
    answer = await page(shown, 0, first.selection, words="i3")
    assert list(answer.numbers)[:6] == [3, 13, 23, 33, 43, 53]
    assert [cells is None for cells in answer.cells[:6]] == [True] * 5 + [False]
    assert shown.view.pages is not None
    assert await shown.view.pages.values(44) is None
    assert await shown.view.pages.values(45) is not None


async def test_filters_that_are_off() -> None:
    """Each filter that cannot be applied has a sentence, at the position of its column."""
    orders = stream()
    shown = stream_view(orders)
    filters = ([0, "n", "number", "many"], [1, "s", "text", "i3"], [7, "gone", "text", "x"])
    content = {"query": query("", *filters), "first": 0, "count": 10, "selection": 0}
    request = PageRequest.decoded(content)
    assert request is not None
    answer = await shown.view.pages.page(request)  # type: ignore[union-attr]
    assert answer.total == 100
    assert answer.problems == {
        0: "'many' is no number: write > 5 or 5..10.",
        7: "There is no column 'gone' any more, so that its filter is off.",
    }
    orders.add_rows([{"n": "a text"}])
    shown.again()
    content = {
        "query": query("", [0, "n", "number", "> 5"]),
        "first": 0,
        "count": 1,
        "selection": 0,
    }
    request = PageRequest.decoded(content)
    assert request is not None
    answer = await shown.view.pages.page(request)  # type: ignore[union-attr]
    assert answer.total == 1001
    assert "'n' is no column of numbers any more" in answer.problems[0]


async def test_columns_are_chosen() -> None:
    """Any columns can be shown; words are sought in these."""
    orders = UnconnectedStream()
    orders.add_rows([{f"c{n}": f"v{n}" for n in range(COLUMNS + 40)}])
    shown = stream_view(orders)
    last = COLUMNS + 39
    assert (await page(shown, words=f"v{last}")).total == 0
    before = shown.view.version()
    shown.view.act("columns", [last, 0])
    assert shown.view.version() != before
    assert shown.again().cells[0] == ["c0", f"c{last}"]
    assert (await page(shown, words=f"v{last}")).cells == [("v0", f"v{last}")]
    shown.view.act("columns", None)
    assert len(shown.again().cells[0]) == COLUMNS
    with pytest.raises(InvalidArgument, match="A table without columns"):
        shown.view.act("columns", [-1, 1000, "x"])
    with pytest.raises(InvalidArgument, match=f"{MAX_COLUMNS} columns at most, not 51"):
        shown.view.act("columns", list(range(51)))


async def test_values_of_a_row() -> None:
    """A row opens to all its values: times as text, and nested ones as they are."""
    orders = UnconnectedStream(index="at")
    orders.add_rows([{"at": "2026-11-30 12:00:00", "v": {"a": [1]}, "x": None, "s": "text"}])
    shown = stream_view(orders)
    assert shown.view.pages is not None
    assert await shown.view.pages.values(0) == [
        ("at", "2026-11-30 12:00:00"),
        ("v", {"a": [1]}),
        ("x", ""),
        ("s", "text"),
    ]


async def test_times_of_older_rows() -> None:
    """The times of a page are exact, also if the newest ones have less digits."""
    orders = UnconnectedStream()
    orders.add_rows([{"at": "2026-11-30 12:00:00.25"}])
    orders.add_rows([{"at": "2026-11-30 12:00:01"}] * 300)
    shown = stream_view(orders)
    assert shown.cells[-1] == ["2026-11-30 12:00:01"]
    assert (await page(shown, 0)).cells[0] == ("2026-11-30 12:00:00.250",)


async def test_a_column_with_an_index_is_filtered_and_sorted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index is a column like others; a list that is too long has the newest rows."""
    monkeypatch.setattr(stream_rows, "MAX_LISTED", 3)
    orders = UnconnectedStream(index="at")
    orders.add_rows([{"at": f"2026-11-30 12:00:0{n}", "n": n} for n in range(6)])
    shown = stream_view(orders)
    answer = await page(shown, sort=[0, "at"])
    assert (answer.total, answer.listed, list(answer.numbers)) == (6, 3, [0, 1, 2])
    assert list((await page(shown)).numbers) == [3, 4, 5]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"query": query(), "first": 0, "count": "1", "selection": 0},
        {"query": {}, "first": 0, "count": 1, "selection": 0},
        {"query": query("", [0, "a", "colour", "x"]), "first": 0, "count": 1, "selection": 0},
        {"query": query("", ["a"]), "first": 0, "count": 1, "selection": 0},
        {"query": query(sort=["n", 0]), "first": 0, "count": 1, "selection": 0},
    ],
)
def test_requests_that_are_none(content: Any) -> None:
    """A message without the required shape is no request."""
    assert PageRequest.decoded(content) is None


def test_pages_are_bounded() -> None:
    """A page has a limited number of rows."""
    content = {"query": query(), "first": 0, "count": 10**9, "selection": 0}
    request = PageRequest.decoded(content)
    assert request is not None
    assert request.count == MAX_PAGE


def test_trees() -> None:
    """Lists and objects are branches, with their sizes; all else is text."""
    assert encoded_tree([("a", {"b": [1, "x"], "c": {}}), ("t", "text"), ("n", None)]) == [
        ["a", "2 fields", [["b", "2 items", [["0", "1"], ["1", "x"]]], ["c", "{}"]]],
        ["t", "text"],
        ["n", "None"],
    ]


def test_trees_are_bounded() -> None:
    """A long, a deep and a hostile value are cut; no column is lost for that."""
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    values = [("long", list(range(10**6))), ("deep", deep), ("last", "<b>\u202e" + "x" * 10**6)]
    tree = encoded_tree(values)
    assert [node[0] for node in tree] == ["long", "deep", "last"]
    assert tree[0][2][-1] == ["", f"… and {10**6 - MAX_BRANCHES:,} more"]
    assert len(orjson.dumps(tree)) < 20_000
    assert "\u202e" not in tree[2][1]
    wide = encoded_tree([(str(n), {str(m): [m] for m in range(300)}) for n in range(300)])
    assert len(wide) == 300
    assert str(wide).count("[") < 4 * MAX_NODES


# -- exports


def shop(**options: Any) -> UnconnectedStream:
    """Return a stream with values that need care."""
    orders = UnconnectedStream(**options)
    orders.add_rows(
        [
            {
                "at": "2026-11-30 12:00:00",
                "n": 1,
                "x": 1 / 3,
                "s": "=HYPERLINK(1)",
                "v": {"a": ["é"]},
            },
            {
                "at": "2026-11-30 12:00:01",
                "n": -2,
                "x": None,
                "s": "two\tlines\nof \u202e",
                "v": None,
            },
        ]
    )
    return orders


async def export(shown: Rendered, action: str, asked: dict[str, Any], **options: Any) -> str:
    answer = shown.view.act(action, {"query": asked, **options})
    assert inspect.isawaitable(answer)
    return str(await answer)


async def test_rows_are_copied() -> None:
    """Selected rows are copied with exact numbers, in cells of one line, without formulas."""
    shown = stream_view(shop())
    text = await export(shown, "copy", query(sort=[1, "n"]))
    assert text.splitlines() == [
        "at\tn\tx\ts\tv",
        "2026-11-30 12:00:01\t-2\t\ttwo lines of \ufffd\t",
        "2026-11-30 12:00:00\t1\t0.3333333333333333\t'=HYPERLINK(1)\t" + '{"a": ["é"]}',
    ]


async def test_copies_are_bounded() -> None:
    """A copy has at most so many rows, and so many characters."""
    many = stream_view(stream(MAX_COPIED + 10))
    assert (await export(many, "copy", query())).count("\n") == MAX_COPIED
    long = UnconnectedStream()
    long.add_rows([{"t": "x" * 10_000}] * 100)
    assert 300_000 < len(await export(stream_view(long), "copy", query())) <= MAX_TEXT


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_rows_are_saved(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selected rows are saved exactly, under a name that is replaced only if that is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream_export, "_PART", 1)
    orders = shop()
    shown = stream_view(orders)
    name = f"rows.{suffix}"
    assert await export(shown, "save", query("two"), name=name) == f"Saved 1 row to {name}."
    with pytest.raises(InvalidArgument, match=r"exists: write another name, or tick Replace\."):
        await export(shown, "save", query(), name=name)
    shown.view.act("columns", [1, 3])
    shown.again()
    await export(shown, "save", query(), name=name, replace=True)
    read = pd.read_csv(name) if suffix == "csv" else pd.read_parquet(name)
    assert read.to_dict("list") == {"n": [1, -2], "s": list(orders.df.s)}
    assert len(list(tmp_path.iterdir())) == 1  # noqa: ASYNC240 - no draft is left


async def test_columns_of_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values with fields that some lack are saved; a column of several types is an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream_export, "_PART", 1)
    orders = UnconnectedStream()
    orders.add_rows([{"v": {"a": 1}, "m": [1]}, {"v": {"b": "x"}, "m": ["x"]}, {}])
    shown = stream_view(orders)
    with pytest.raises(RecordingError, match="one type to a column, which 'm' has not: save a"):
        await export(shown, "save", query(), name="rows.parquet")
    shown.view.act("columns", [0])
    await export(shown.again(), "save", query(), name="rows.parquet")
    values = pd.read_parquet("rows.parquet").v.tolist()
    assert values == [{"a": 1, "b": None}, {"a": None, "b": "x"}, None]


@pytest.mark.parametrize(
    "name", ["", "rows.txt", "a/b.csv", "..\\b.csv", ".csv", "/b.csv", "~/b.csv"]
)
async def test_names_that_are_none(name: str) -> None:
    """A file is saved beside the notebook, as one of two kinds."""
    with pytest.raises(InvalidArgument, match="is no name for a file: write one that ends in"):
        await export(stream_view(shop()), "save", query(), name=name)


async def test_rows_as_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code for a cell selects the same rows, whatever the names and filters contain."""
    orders = shop(index="at")
    shown = stream_view(orders)
    with pytest.raises(InvalidArgument, match="No variable holds this stream: assign it"):
        await export(shown, "frame", query())
    names = {"_7": orders, "tx": orders}
    monkeypatch.setattr(stream_export, "get_ipython", lambda: SimpleNamespace(user_ns=names))
    assert await export(shown, "frame", query()) == "df = tx.df\ndf"
    filters = [[0, "at", "time", "> 12:00"], [1, "n", "number", "many"]]
    asked = query('"tw', *filters, sort=[1, "n"], descending=True)
    assert await export(shown, "frame", asked) == (
        'df = tx.where(\'"tw\', {"at": "> 12:00"}, sort="n", descending=True)\ndf'
    )
    shown.view.act("columns", [0, 3])
    shown.again()
    text = await export(shown, "frame", query("TWO"))
    assert text == 'df = tx.where("TWO", within=["at", "s"])[["s"]]\ndf'
    scope: dict[str, Any] = {"tx": orders}
    exec(text, scope)
    assert list(scope["df"].s) == [orders.df.s.iloc[1]]


def test_exports_without_a_query() -> None:
    """A message without the required shape is refused."""
    with pytest.raises(LookupError):
        stream_view(shop()).view.act("copy", {"query": {}})
