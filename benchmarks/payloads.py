"""Payloads: one request, and the rows of a data stream; only batches need numpy and pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

DOMAIN = "bench"
SERVICE_TYPE = "echo"
DATA_EXCHANGE = f"{DOMAIN}.data"

REQUEST: Mapping[str, Any] = {"text": "0123456789abcdefghij", "number": 7}
"""42 bytes as compact JSON."""

ROW_BYTES = 120
_FIRST = 1_000_000  # all sequence numbers have the same number of digits, for equal row sizes
_START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """Source of a consumer's rows: a queue, and the headers of its binding."""

    queue: str
    headers: dict[str, str]
    exchange: str = DATA_EXCHANGE

    @property
    def binding(self) -> dict[str, Any]:
        """Arguments of the binding."""
        return {"x-match": "all", **self.headers}

    def as_json(self) -> dict[str, Any]:
        """Return the constructor arguments, to recreate it in another process."""
        return asdict(self)


def echo(text: str, number: int) -> dict[str, Any]:
    """Return the arguments; the method of every server."""
    return {"text": text, "number": number}


def row(index: int) -> dict[str, Any]:
    """Return the row at `index`: a time as text, an integer, a float, a bool and two texts."""
    at = _START + timedelta(milliseconds=index)
    return {
        "at": at.isoformat(timespec="milliseconds"),
        "count": _FIRST + index,
        "value": 10.125 + index % 80,
        "ok": index % 3 == 0,
        "sensor": f"sensor-{index % 50:02}",
        # One letter longer if "ok" is one shorter, so that all bodies have `ROW_BYTES`.
        "note": "at the top" if index % 3 == 0 else "below top",
    }


def row_body(index: int) -> bytes:
    """Return a row as compact JSON of `ROW_BYTES` bytes; without a JSON library, for speed."""
    values = row(index)
    ok = "true" if values["ok"] else "false"
    return (
        f'{{"at":"{values["at"]}","count":{values["count"]},"value":{values["value"]},'
        f'"ok":{ok},"sensor":"{values["sensor"]}","note":"{values["note"]}"}}'
    ).encode()


def arrow_body(first: int, count: int) -> bytes:
    """Return `count` rows as an Arrow IPC stream, with timestamps."""
    import pyarrow as pa

    rows = [row(index) for index in range(first, first + count)]
    columns = {name: [values[name] for values in rows] for name in rows[0]}
    times = [datetime.fromisoformat(text) for text in columns.pop("at")]
    table = pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")), **columns})
    return _ipc(table)


def shifted(arrow: bytes, first: int) -> bytes:
    """Return an `arrow_body` with the times and numbers of the rows from `first` on."""
    import pyarrow as pa

    with pa.ipc.open_stream(arrow) as reader:
        table = reader.read_all()
    numbers = np.arange(first, first + len(table))
    times = np.datetime64(_START.replace(tzinfo=None), "us") + numbers * np.timedelta64(1, "ms")
    table = table.set_column(0, "at", pa.array(times, pa.timestamp("us", "UTC")))
    return _ipc(table.set_column(1, "count", pa.array(_FIRST + numbers)))


def _ipc(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def check_rows(rows: Any, count: int) -> None:
    """Check the length and the last row of the first `count` rows, as dicts or a DataFrame.

    Raises:
        AssertionError: They differ.
    """
    assert len(rows) == count, f"{len(rows)} rows instead of {count}"
    actual = dict(rows[-1] if isinstance(rows, list) else rows.iloc[-1])
    expected = row(count - 1)
    if not isinstance(actual["at"], str):
        expected["at"] = datetime.fromisoformat(expected["at"])
    assert actual == expected, f"The last row is {actual} instead of {expected}"
