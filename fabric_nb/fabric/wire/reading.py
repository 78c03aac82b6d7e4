"""What every reader needs: values of the right kind and length, or nothing."""

from __future__ import annotations

JSON = "application/json"
MAX_TRACEBACK = 16_384
"""Characters of a traceback or a log message that are sent or read."""


def text(value: object, longest: int) -> str:
    """The beginning of a text; empty for anything else."""
    return value[:longest] if isinstance(value, str) else ""


def number(value: object, *, low: float, high: float) -> float | None:
    """A number within bounds; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if low <= value <= high else None
