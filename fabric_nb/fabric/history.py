"""The calls that were made and served, for looking back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Literal

import pandas as pd

KEPT = 1000

Direction = Literal["made", "served"]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call.

    Attributes:
        time: when it began, in epoch seconds.
        direction: made by us, or served by us.
        service: the full name of the service that was called.
        method: the method's name.
        milliseconds: how long it took.
        outcome: ``ok``, or the error's type.
        error: the error's sentence, empty when it went well.
        traceback: the remote or own traceback, where there is one.
    """

    time: float
    direction: Direction
    service: str
    method: str
    milliseconds: float
    outcome: str = "ok"
    error: str = ""
    traceback: str = ""


class CallLog:
    """The last thousand calls.

    Example::

        fabric.calls.df.groupby("method").milliseconds.describe()
    """

    def __init__(self) -> None:
        self.records: deque[CallRecord] = deque(maxlen=KEPT)
        self.changes = 0

    def add(self, record: CallRecord) -> None:
        """Remember a call that has ended."""
        self.records.append(record)
        self.changes += 1

    @property
    def df(self) -> pd.DataFrame:
        """The calls as a DataFrame, oldest first; `time` is UTC."""
        names = [field.name for field in fields(CallRecord)]
        rows = [[getattr(record, name) for name in names] for record in self.records]
        frame = pd.DataFrame(rows, columns=names)
        frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
        return frame
