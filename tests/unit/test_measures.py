"""Columns that are drawn by default."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fabric_nb.frames.measures import is_label, measures
from fabric_nb.notebook.plot.source import Source
from tests.support.streams import UnconnectedStream


@pytest.mark.parametrize(
    ("name", "values", "label"),
    [
        ("id", [5, 3, 8], True),
        ("customer_id", [5, 5, 8], True),
        ("orderId", [5, 3, 8], True),
        ("orderID", [5, 3, 8], True),
        ("seq", [1, 2, 4], True),
        ("n", [1, 2, 4], True),
        ("n", [4, 1, 2], False),
        ("row_number", [10, 20, 30], True),
        ("line2", list(range(100)), True),
        ("visitors", list(range(100)), True),
        ("visitors", [1, 2, 3], False),
        ("visitors", [*range(50), 48], False),
        ("ts", [1_764_000_000, 1_764_000_000, 1_764_000_009], True),
        ("created_ms", [1_764_000_000_000, 1_764_000_000_900], True),
        ("latency_ms", [12, 9, 30], False),
        ("total", [12, 13, 30], False),
        ("paid", [3, 8, 5], False),
        ("valid", [3, 8, 5], False),
        ("id", [0.5, 2.5], False),
        ("temperature", [1.0, 2.0, 3.0], False),
        ("id", [3.0, np.nan, 4.0], True),
        ("total", [np.nan, np.nan], False),
        ("total", [], False),
        ("offset", np.arange(3, dtype=np.uint64), True),
        ("n", [7], True),
        ("größe", [3, 1, 2], False),
    ],
)
def test_ids_and_counters(name: str, values: Any, label: bool) -> None:
    """Ids, counters and times are recognised by their names and values."""
    assert is_label(name, values) is label


def test_only_ids() -> None:
    """If a frame has no measure, all columns with numbers are drawn."""
    assert measures(pd.DataFrame({"id": [3, 4], "k": ["a", "b"]})) == ["id"]


def test_a_default_line_is_a_measure() -> None:
    """By default a chart has no line of a counter, and a measure stays one."""
    stream = UnconnectedStream()
    chart = Source(stream)
    for n in range(30):
        stream.add_rows(
            [{"order_id": n, "total": [5.5, 2.5][n % 2], "clicks": n if n > 4 else 4 - n}]
        )
        assert "total" in [line.name for line in chart.picture(100).lines]
    assert [line.name for line in chart.picture(100).lines] == ["total", "clicks"]
