"""Messages with the progress and the output of a running call, to a caller that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabric_nb.errors import MalformedMessage, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.core.values import valid
from fabric_nb.fabric.wire.calls import reply_message
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.reading import number, shortened, text

PROGRESS_MESSAGE, OUTPUT_MESSAGE = "progress", "output"
MAX_TEXT = 200
"""Characters of the text of a progress."""
MAX_LINE = 2000
"""Characters of a line of output."""
MAX_REPORT = 4 * 1024 * 1024
"""Bytes of the longest report that is read."""
STREAMS = ("stdout", "stderr", "log")
_MAX_COUNT = 1e15


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a running call.

    Attributes:
        done: amount of work that is done, in any unit.
        total: the whole amount; None if it is not known.
        text: name of the work.

    Example:
        >>> Progress(30, 120, "training").fraction
        0.25
    """

    done: float
    total: float | None = None
    text: str = ""

    @property
    def fraction(self) -> float | None:
        """Part of the work that is done, from 0 to 1; None if the whole is not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line that a served function has printed or logged.

    Attributes:
        stream: ``stdout``, ``stderr`` or ``log``.
        text: the line, without its end.
    """

    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a running call since the last report.

    Attributes:
        lines: the lines.
        omitted: number of lines that were left out in all, because there were too many.
    """

    lines: Sequence[OutputLine]
    omitted: int = 0


def progress_message(progress: Progress, correlation_id: str | None) -> Message:
    """Return the message of a progress."""
    body = encode([progress.done, progress.total, shortened(valid(progress.text), MAX_TEXT)])[0]
    return reply_message(PROGRESS_MESSAGE, correlation_id, body)


def read_progress(delivery: Delivery) -> Progress:
    """Return the progress in a message.

    Raises:
        MalformedMessage: it cannot be read.
    """
    content = _read(delivery)
    done = number(content[0], low=0, high=_MAX_COUNT) if len(content) == 3 else None
    if done is None:
        raise MalformedMessage("A progress must be a list of done, total and text.")
    total = number(content[1], low=0, high=_MAX_COUNT)
    return Progress(done, total, printable(text(content[2], MAX_TEXT)))


def output_message(output: Output, correlation_id: str | None) -> Message:
    """Return the message of some output."""
    lines = [[line.stream, shortened(valid(line.text), MAX_LINE)] for line in output.lines]
    return reply_message(OUTPUT_MESSAGE, correlation_id, encode([lines, output.omitted])[0])


def read_output(delivery: Delivery) -> Output:
    """Return the output in a message, without lines of another form.

    Raises:
        MalformedMessage: it cannot be read.
    """
    content = _read(delivery)
    if len(content) != 2 or not isinstance(content[0], list):
        raise MalformedMessage("An output must be a list of lines and the number of omitted ones.")
    lines = [
        OutputLine(line[0], printable(text(line[1], MAX_LINE)))
        for line in content[0]
        if isinstance(line, list) and len(line) == 2 and line[0] in STREAMS
    ]
    return Output(lines, int(number(content[1], low=0, high=_MAX_COUNT) or 0))


def _read(delivery: Delivery) -> list[object]:
    content = decode(delivery.body) if len(delivery.body) <= MAX_REPORT else None
    return content if isinstance(content, list) else []
