"""Tables for the tests, imported in the kernels of notebooks."""

from __future__ import annotations

import asyncio
import time
from statistics import mean
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson

from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.notebook.pages import Badge
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, TableWidget, Value
from fabric_nb.notebook.views.live import Screen
from fabric_nb.notebook.views.stream import StreamView
from tests.support.streams import UnconnectedStream

MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
STATES = [Badge("up", "good"), Badge("busy", "busy"), Badge("late", "warn"), Badge("gone", "bad")]
NAMES = ["billing", "calc", "eur-usd", "inventory", "mailer", "orders", "pricing", "quotes"]
DETAIL = """\
create(sku: str, count: int = 1) -> str
    Create an order.

    Returns: its number.
cancel(order: str) -> None
    Cancel an order that has not been sent."""


def services() -> TableWidget:
    """Return a table of 24 services in all states; every third has a detail."""
    now = time.time()
    tools = [
        Button("pause", "Pause", pressed=False),
        Select("state", "State", ["all", "up", "late"], "all"),
    ]
    columns = [
        Column("type"),
        Column("id"),
        Column("state", "badge"),
        Column("version"),
        Column("calls", "number"),
        Column("mean ms", "number", digits=1),
        Column("last seen", "age"),
        Column("methods", "code"),
    ]
    head = Head("Services", [Badge("connected", "good")], ["demo", "24 services"], (), tools)
    model = TableModel(head, columns)
    for n in range(24):
        name = NAMES[n % 8]
        cells: list[Value] = [
            name,
            f"{name}-{n // 8 + 1}",
            STATES[n * n % 7 % 4],
            f"1.{n % 3}.0",
            n * 137 % 5003,
            n * 7.77 % 100,
            now - (n**3 if n % 5 == 0 else 1),
            "create(sku, count=1), cancel(order), find(**query), health_check()",
        ]
        model.put(n, cells, DETAIL if n % 3 == 0 else "")

    async def act(name: str, value: str | None) -> str | None:
        if name != "pause":
            raise ValueError(f"{value!r} cannot be chosen {MARKUP}")
        pressed = Button("pause", "Pause", pressed=True)
        model.head = Head(head.title, head.badges, head.facts, (), [pressed, tools[1]])
        return "Paused."

    return TableWidget(model, act)


def logs(lines: int = 200) -> TableWidget:
    """Return a log with the newest record at the bottom."""
    now = time.time()
    levels = [Badge("INFO", "busy"), Badge("DEBUG", "quiet"), Badge("WARNING", "warn")]
    columns = [
        Column("time", "time"),
        Column("level", "badge"),
        Column("service"),
        Column("message"),
    ]
    model = TableModel(Head("Logs", (), ["INFO and above"]), columns, max_rows=300, follow=True)
    for n in range(lines):
        error = n % 13 == 12
        message = "Could not reach the warehouse" if error else f"Order {n} was taken"
        model.put(
            n,
            [
                now - 200 + n,
                Badge("ERROR", "bad") if error else levels[n % 3],
                "orders.main",
                message,
            ],
            'Traceback (most recent call last):\n  File "orders.py", line 7\nOSError'
            if error
            else "",
        )
    return TableWidget(model)


class TimedTable(TableWidget):
    """Table that measures the CPU time of each update.

    Attributes:
        sending: seconds of CPU time of each.
    """

    def __init__(self, model: TableModel) -> None:
        self.sending: list[float] = []
        super().__init__(model)

    def send_changes(self) -> None:
        start = time.thread_time()
        super().send_changes()
        self.sending.append(time.thread_time() - start)


def numbers(rows: int = 1000) -> TimedTable:
    """Return a table of five columns."""
    columns = [Column("key"), *(Column(f"value {n}", "number") for n in range(4))]
    model = TableModel("Numbers", columns)
    for n in range(rows):
        model.put(n, [f"row {n}", n, n / 7, -n, n * 1000.5])
    return TimedTable(model)


async def flow(table: TimedTable, seconds: float) -> tuple[float, float, int]:
    """Change all numbers for some seconds.

    Returns:
        Milliseconds of CPU time per update for `put` and for sending, and the number of updates.
    """
    model, putting = table.model, []
    table.sending.clear()
    end, step = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        step += 1
        started = time.thread_time()
        for n in range(len(model)):
            x = n * 31 + step * 17
            model.put(n, [f"row {n} at {step}", x, x / 7, -x, x * 0.25])
        table.update()
        putting.append(time.thread_time() - started)
        await asyncio.sleep(0.1)
    return mean(putting) * 1000, mean(table.sending) * 1000, len(table.sending)


def size_of_change(model: TableModel) -> int:
    """Return the size in bytes of a change of all cells."""
    for n in range(len(model)):
        model.put(n, [f"row {n} at last", n, n / 3, -n, n * 0.5])
    return len(orjson.dumps(model.diff()))


def hostile() -> TableWidget:
    """Return a table with markup, bidirectional overrides and invalid numbers."""
    model = TableModel(
        Head(MARKUP, [Badge(MARKUP, MARKUP)], [MARKUP], [MARKUP], [Button(MARKUP, MARKUP)]),
        [Column(MARKUP), Column("badge", "badge"), Column("code", "code"), Column("time", "time")],
    )
    model.put(0, [MARKUP, Badge(MARKUP, "good"), MARKUP, MARKUP], MARKUP)
    model.put(1, ["a\u202eb\x1b[31m\ud800", Badge("\u202e", ""), "\x00", 253_402_300_800_000.0])
    model.put(
        2, ["x" * 10_000_000, Badge("y" * 1_000_000, "bad"), float("nan"), 1e300], "z" * 10**7
    )
    model.put(3, [10**4000, 2**63, float("inf"), -1e18])
    return TableWidget(model)


def samples() -> TableWidget:
    """Return a table of values of all kinds and magnitudes."""
    values: list[Value] = [0, 5, -1234567, 2**53 + 1, 0.1, 5.0, 1234.5, 123456.789, 1234567.891]
    values += [1e-7, -2.5e20, 1e15, 0.00012345678, None, "text", True, float("nan")]
    values += [time.time(), time.time() - 3 * 86_400]
    columns = [Column("number", "number"), Column("digits", "number", digits=2)]
    columns += [Column("text"), Column("code", "code"), Column("time", "time")]
    model = TableModel("Samples", columns)
    for n, value in enumerate(values):
        model.put(n, [value] * len(columns))
    return TableWidget(model)


def orders(rows: int = 5_000) -> UnconnectedStream:
    """Show a stream of orders as a cell does, with nested values and many columns; return it."""
    stream = UnconnectedStream({"msg_type": "ORDER"}, max_rows=1_000_000)
    add_orders(stream, rows)
    member = SimpleNamespace(state=State.CONNECTED, registry=Registry(time.monotonic), domain="d")
    Screen().show(StreamView(cast("Any", member), stream))
    return stream


def add_orders(stream: UnconnectedStream, rows: int) -> None:
    """Append orders to a stream."""
    first = stream.rows
    skus = ["tea", "coffee", "cocoa", "Green Tea", "milk"]
    numbers = range(first, first + rows)
    moments = np.datetime64("2026-11-30T12:00", "ms") + np.array(numbers) * np.timedelta64(1, "s")
    stream.add_columns(
        {
            "at": moments,
            "sku": [skus[n % 5] for n in numbers],
            "order": [f"o{n}" for n in numbers],
            "count": [n * 137 % 1000 for n in numbers],
            "price": [n * 7.77 % 100 for n in numbers],
            "buyer": [{"id": n, "tags": ["new", {"vip": n % 2 == 0}]} for n in numbers],
            **{f"extra {n}": [float(n)] * rows for n in range(20)},
        }
    )


ended = 0


def endless() -> TableWidget:
    """Return a table with a button whose action never ends."""

    async def act(name: str, value: str | None) -> None:
        global ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    model = TableModel(Head("Endless", (), (), (), [Button("go", "Go")]), [Column("key")])
    model.put(1, ["row"])
    return TableWidget(model, act)


def nothing() -> TableWidget:
    """Return a stream's table before its first row."""
    empty = "No row received yet. Also on this broker: shop (3 services)."
    return TableWidget(TableModel(Head("Stream", empty=empty), []))


def deep() -> TableWidget:
    """Return a table with a long traceback, and many signatures."""
    model = TableModel("Deep", [Column("key")])
    frames = "".join(f'  File "deep.py", line {n}, in f{n}\n    f{n + 1}()\n' for n in range(60))
    model.put(1, ["error"], f"Traceback (most recent call last):\n{frames}KeyError: 'beer'")
    model.put(2, ["service"], "\n".join(f"method_{n}(x)" for n in range(60)))
    return TableWidget(model)
