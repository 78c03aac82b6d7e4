"""Validation of received values: those of the right type and range, or a default."""

from __future__ import annotations

MAX_TRACEBACK = 16_384
"""Characters of a traceback or a log message that are sent or read."""


def shortened(value: str, longest: int) -> str:
    """Return the beginning of a text, at most `longest` characters, with a note if it is longer."""
    if len(value) <= longest:
        return value
    kept = max(longest // 2, longest - 40)
    return f"{value[:kept]}… [{len(value) - kept:,} more characters]"[:longest]


def ending(value: str, longest: int) -> str:
    """Return the end of a text, at most `longest` characters, after a note if it is longer."""
    if len(value) <= longest:
        return value
    kept = longest - 50
    return f"[{len(value) - kept:,} more characters] …\n{value[-kept:]}"


def text(value: object, longest: int) -> str:
    """Return the beginning of a text; empty for other types."""
    return value[:longest] if isinstance(value, str) else ""


def number(value: object, *, low: float, high: float) -> float | None:
    """Return a number within bounds; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if low <= value <= high else None
