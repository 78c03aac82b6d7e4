"""What travels: one request, and the rows of a data stream. Standard library, save for batches."""

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
_FIRST = 1_000_000  # all sequence numbers have as many digits, so that all rows are equally long
_START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Feed:
    """Where a consumer's rows come from: a queue, and the headers it is bound with."""

    queue: str
    headers: dict[str, str]
    exchange: str = DATA_EXCHANGE

    @property
    def binding(self) -> dict[str, Any]:
        """The arguments of the binding."""
        return {"x-match": "all", **self.headers}

    def as_json(self) -> dict[str, Any]:
        """The arguments that make it again in another process."""
        return asdict(self)


def echo(text: str, number: int) -> dict[str, Any]:
    """What every server serves."""
    return {"text": text, "number": number}


def row(index: int) -> dict[str, Any]:
    """The row at `index`: a time as text, an integer, a float, a bool and two texts."""
    at = _START + timedelta(milliseconds=index)
    return {
        "at": at.isoformat(timespec="milliseconds"),
        "count": _FIRST + index,
        "value": 10.125 + index % 80,
        "ok": index % 3 == 0,
        "sensor": f"sensor-{index % 50:02}",
        # A letter more where "ok" has one less, so that all bodies have `ROW_BYTES`.
        "note": "at the top" if index % 3 == 0 else "below top",
    }


def body(index: int) -> bytes:
    """The same as compact JSON of `ROW_BYTES` bytes; without a JSON library, for speed."""
    one = row(index)
    ok = "true" if one["ok"] else "false"
    return (
        f'{{"at":"{one["at"]}","count":{one["count"]},"value":{one["value"]},'
        f'"ok":{ok},"sensor":"{one["sensor"]}","note":"{one["note"]}"}}'
    ).encode()


def arrow_body(first: int, count: int) -> bytes:
    """So many rows as an Arrow IPC stream, with the times as times."""
    import pyarrow as pa

    rows = [row(index) for index in range(first, first + count)]
    columns = {name: [one[name] for one in rows] for name in rows[0]}
    times = [datetime.fromisoformat(text) for text in columns.pop("at")]
    table = pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")), **columns})
    return _ipc(table)


def moved(arrow: bytes, first: int) -> bytes:
    """An `arrow_body` with the times and numbers of the rows from `first` on, made quickly."""
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
    """See that a list of dicts or a DataFrame holds the first `count` rows, by its last one.

    Raises:
        AssertionError: it does not.
    """
    assert len(rows) == count, f"{len(rows)} rows instead of {count}"
    found = dict(rows[-1] if isinstance(rows, list) else rows.iloc[-1])
    wanted = row(count - 1)
    if not isinstance(found["at"], str):
        wanted["at"] = datetime.fromisoformat(wanted["at"])
    assert found == wanted, f"The last row is {found} instead of {wanted}"
