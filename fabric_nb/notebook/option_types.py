"""What a word behind an option means, in a magic and on the command line. Pure."""

from __future__ import annotations

from argparse import ArgumentTypeError

_QUOTES = "'\""


def unquoted(word: str) -> str:
    """An option's value, which may be written in quotes."""
    if len(word) > 1 and word[0] in _QUOTES and word[-1] == word[0]:
        return word[1:-1]
    return word


def seconds(word: str) -> float:
    """An option's value that is a time in seconds, more than none."""
    try:
        value = float(unquoted(word))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{word!r} is not a time in seconds")
    return value


def time_limit(word: str) -> float:
    """An option's value that is a limit in seconds, more than none; ``inf`` for no limit."""
    return float("inf") if unquoted(word).strip().lower() in ("inf", "infinity") else seconds(word)


def duration(word: str) -> float:
    """An option's value that is a time in seconds, or 0."""
    plain = unquoted(word)
    return 0.0 if plain.strip("0.") == "" and "0" in plain else seconds(word)


def count(word: str) -> int:
    """An option's value that is a number from one upward."""
    plain = unquoted(word)
    if not plain.isascii() or not plain.isdecimal() or int(plain) < 1:
        raise ArgumentTypeError(f"{word!r} is not a number from 1 upward")
    return int(plain)


def offset(word: str) -> str | int:
    """Where in a RabbitMQ stream to begin."""
    plain = unquoted(word)
    return int(plain) if word.isascii() and word.isdecimal() else plain
