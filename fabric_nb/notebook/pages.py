"""Pages as HTML and as plain text. Pure; all escaping is done here."""

from __future__ import annotations

import html
import math
import re
import reprlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fabric_nb.errors import one_line, printable

MAX_CELL = 300
BARS = "▁▂▃▄▅▆▇█"
BARS_SHOWN = 60
SPARK_BARS = 20
"""Block characters of a sparkline in a cell; each is the highest of the values that it replaces."""

_QUOTED = re.compile("`([^`]+)`")

_GLIMPSE = reprlib.Repr()
_GLIMPSE.maxlevel, _GLIMPSE.maxlist, _GLIMPSE.maxdict = 5, 30, 30
_GLIMPSE.maxstring = _GLIMPSE.maxother = MAX_CELL

TOKENS = Path(__file__).parent.joinpath("live", "tokens.css").read_text("utf-8")
"""Colours and fonts that tables, charts, pages and the panel share."""
COLOURS = dict(re.findall(r"--(good|busy|warn|bad|quiet): (#\w+);", TOKENS))
"""Colours of badges by tone."""

# JupyterLab's variables, with fallback colours that are readable on both of its themes, for an
# exported notebook and other front ends.
STYLE = """<style>
.fabric-nb{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;
color:var(--jp-ui-font-color1,inherit);max-width:100%;overflow-x:auto}
.fabric-nb~.fabric-nb{margin-top:16px}
.fabric-nb table{border-collapse:collapse;margin:4px 0!important;font-size:13px}
.fabric-nb th,.fabric-nb td{text-align:left!important;padding:3px 14px 3px 0!important;
border:0!important;border-bottom:1px solid var(--jp-border-color2,#8884)!important;
background:none!important;white-space:pre-wrap;vertical-align:top;max-width:60ch;
overflow-wrap:break-word}
.fabric-nb th{font-weight:600;color:var(--jp-ui-font-color2,inherit);white-space:nowrap}
.fabric-nb td.num,.fabric-nb th.num{text-align:right!important;
font-variant-numeric:tabular-nums;white-space:nowrap}
.fabric-nb td.code,.fabric-nb .code{font-family:var(--jp-code-font-family,monospace);font-size:12px}
.fabric-nb .head{display:flex;gap:10px;align-items:baseline;flex-wrap:wrap;margin:2px 0}
.fabric-nb .title{font-weight:600}
.fabric-nb .note{color:var(--jp-ui-font-color2,#767676)}
.fabric-nb .badge{display:inline-block;padding:0 7px;border-radius:9px;font-size:11px;
line-height:18px;font-weight:600;white-space:nowrap;color:#fff}
.fabric-nb .chart{display:flex;align-items:center;gap:10px;margin:2px 0}
.fabric-nb svg{width:300px;height:36px;overflow:visible;fill:none;stroke-width:1.5px;
stroke:var(--jp-brand-color1,#1f7fd1)}
.fabric-nb td svg{width:120px;height:16px;vertical-align:middle}
.fabric-nb td svg.bar{width:300px;stroke:none}
.fabric-nb svg.bar .ran{fill:#3d8bd4}.fabric-nb svg.bar .failed{fill:#cf4a4a}
.fabric-nb svg.bar .waited{fill:#9aa4af}
.fabric-nb path{vector-effect:non-scaling-stroke}
.fabric-nb .bars{width:min(480px,100%);margin:6px 0 10px}
.fabric-nb .bars svg{display:block;width:100%;height:72px;margin-top:4px;stroke:none;
fill:var(--jp-brand-color1,#1f7fd1);border-bottom:1px solid var(--jp-border-color1,#8888)}
.fabric-nb .ticks{display:flex;justify-content:space-between;font-size:11px;
font-variant-numeric:tabular-nums}
.fabric-nb .ticks div{display:flex;width:0;justify-content:center;white-space:nowrap}
.fabric-nb .ticks div:first-child{justify-content:flex-start}
.fabric-nb .ticks div:last-child{justify-content:flex-end}
.fabric-nb progress{display:block;width:100%;max-width:640px;height:8px;margin:6px 0 8px;border:0;
border-radius:4px;overflow:hidden;appearance:none;background:var(--jp-layout-color2,#8884)}
.fabric-nb progress::-webkit-progress-bar{background:var(--jp-layout-color2,#8884)}
.fabric-nb progress::-webkit-progress-value{background:var(--jp-brand-color1,#1f7fd1);
border-radius:4px}
.fabric-nb progress::-moz-progress-bar{background:var(--jp-brand-color1,#1f7fd1);border-radius:4px}
.fabric-nb pre{font-size:12px;margin:4px 0;white-space:pre-wrap;overflow-wrap:anywhere}
"""
STYLE += "".join(f".fabric-nb .{tone}{{background:{colour}}}" for tone, colour in COLOURS.items())
STYLE += "</style>"


Tone = Literal["good", "busy", "warn", "bad", "quiet"]


@dataclass(frozen=True, slots=True)
class Badge:
    """A coloured label for a state."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Code:
    """Text in the code font."""

    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A sparkline.

    Attributes:
        label: name of the values.
        values: oldest first; None and values that are not finite leave a gap.
    """

    label: str
    values: Sequence[float | None]

    @property
    def _finite(self) -> list[float]:
        return [value for value in self.values if value is not None and math.isfinite(value)]

    @property
    def range(self) -> str:
        """Minimum and maximum, as text."""
        finite = self._finite
        return f"{min(finite):,.6g} to {max(finite):,.6g}" if finite else "no numbers"

    @property
    def line(self) -> list[int | None]:
        """Height of each value, from 0 to 100."""
        finite = self._finite or [0.0]
        # Halved, because the difference of two floats may overflow.
        low, span = min(finite) / 2, max(finite) / 2 - min(finite) / 2
        return [
            None
            if value is None or not math.isfinite(value)
            else round((value / 2 - low) / span * 100)
            if span
            else 50
            for value in self.values
        ]

    @property
    def bars(self) -> str:
        """The last values as a row of block characters."""
        return "".join(" " if y is None else BARS[y * 7 // 100] for y in self.line[-BARS_SHOWN:])

    @property
    def text(self) -> str:
        """Label, bars and range, as plain text."""
        return one_line(f"{plain(self.label)}  {self.bars}  {plain(self.range)}")


@dataclass(frozen=True, slots=True)
class Spark:
    """A sparkline in a cell, from zero to its highest value.

    Attributes:
        values: numbers from zero upward, oldest first; NaN leaves a gap.
    """

    values: Sequence[float]

    @property
    def peak(self) -> float | None:
        """Highest value; None if there is none."""
        return max((value for value in self.values if math.isfinite(value)), default=None)

    @property
    def line(self) -> list[int | None]:
        """Height of each value, from 0 to 100."""
        scale = 100 / (self.peak or 1.0)
        return [round(value * scale) if math.isfinite(value) else None for value in self.values]

    @property
    def bars(self) -> str:
        """The values as a row of block characters."""
        line, width = self.line, max(1, math.ceil(len(self.values) / SPARK_BARS))
        parts = [line[start : start + width] for start in range(0, len(line), width)]
        heights = [[y for y in part if y is not None] for part in parts]
        return "".join(BARS[max(part) * 7 // 100] if part else " " for part in heights)


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar chart.

    Attributes:
        label: name of the values.
        heights: height of each bar, from 0.
        ticks: labels below, at equal distances from the left to the right end.
        lines: the same as plain text.
    """

    label: str
    heights: Sequence[float]
    ticks: Sequence[str]
    lines: Sequence[str]

    @property
    def text(self) -> str:
        """Label and lines, as plain text."""
        return "\n".join(one_line(plain(line)) for line in (self.label, *self.lines))


@dataclass(frozen=True, slots=True)
class TimeBar:
    """A bar on a time axis that all rows of a column share.

    Attributes:
        start: start of the bar, as a share of the axis from 0 to 1.
        length: length of the bar, likewise.
        waiting: share of the axis at its beginning in which it has only waited.
        tone: ``quiet``, or ``bad`` for a failure.
    """

    start: float
    length: float
    waiting: float = 0.0
    tone: Tone = "quiet"

    @property
    def steps(self) -> tuple[int, int, int]:
        """Start, begin and end, each in thousandths of the axis; at least one long."""
        start = min(max(round(self.start * 1000), 0), 999)
        end = min(max(round((self.start + self.length) * 1000), start + 1), 1000)
        return start, min(max(round((self.start + self.waiting) * 1000), start), end), end

    @property
    def blocks(self) -> str:
        """The bar as a row of block characters; lighter ones where it has waited."""
        start, begin, end = (math.floor(step * SPARK_BARS / 1000) for step in self.steps)
        return " " * start + "░" * (begin - start) + "█" * max(1, end - begin)


Cell = str | int | float | Badge | Code | Spark | TimeBar | None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; columns named in `numeric` are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Page:
    """Content of one output: a heading, tables, notes and collapsed details.

    Attributes:
        title: title.
        badges: states beside the title.
        facts: short remarks beside the title.
        bars: bar chart above the sparkline and the tables.
        chart: sparkline above the tables.
        progress: fraction from 0 to 1, shown as a bar; None for no bar.
        drawing: picture above the tables, as SVG whose texts are escaped.
        tables: tables; those without rows are not shown.
        printed: output of code, below the tables.
        notes: lines below; text in backquotes is shown as code.
        folded: collapsed details, as pairs of summary and text.
    """

    title: str
    badges: Sequence[Badge] = ()
    facts: Sequence[str] = ()
    chart: Chart | None = None
    bars: Bars | None = None
    progress: float | None = None
    drawing: str = ""
    tables: Sequence[Table] = ()
    printed: str = ""
    notes: Sequence[str] = ()
    folded: Sequence[tuple[str, str]] = field(default=())

    def mimebundle(self) -> dict[str, str]:
        """Return HTML and plain text, for `display(..., raw=True)`."""
        return {"text/html": self.html(), "text/plain": self.text()}

    def html(self, live_at: float | None = None) -> str:
        """Return the page as HTML.

        Args:
            live_at: Unix time of the last update of a live page; shown once it is disconnected.
        """
        # Block elements, because an untrusted notebook has no style sheet to separate the words.
        head = [f'<div class="title">{escape(self.title)}</div>']
        head += [f"<div>{_badge(badge)}</div>" for badge in self.badges]
        head += [f'<div class="note">{escape(fact)}</div>' for fact in self.facts]
        if live_at is not None:
            head.append(f'<div class="note as-of">{_as_of(live_at)}</div>')
        parts = [STYLE, '<div class="fabric-nb">', f'<div class="head">{"".join(head)}</div>']
        if self.progress is not None:
            parts.append(f'<progress max="1" value="{self.progress:.3f}"></progress>')
        parts += [_bars_html(self.bars)] if self.bars is not None else []
        parts += [_chart_html(self.chart)] if self.chart is not None else []
        parts += [self.drawing] if self.drawing else []
        parts += [_table_html(table) for table in self.tables if table.rows]
        parts += [f"<pre>{escape(self.printed, None)}</pre>"] if self.printed else []
        parts += [f'<div class="note">{_note(note)}</div>' for note in self.notes]
        parts += [_folded(summary, text) for summary, text in self.folded]
        return "".join([*parts, "</div>"])

    def text(self) -> str:
        """Return the page as plain text."""
        head = " · ".join([self.title, *(badge.text for badge in self.badges), *self.facts])
        parts = [one_line(plain(head))]
        parts += [self.bars.text] if self.bars is not None else []
        parts += [self.chart.text] if self.chart is not None else []
        parts += [table_text(table) for table in self.tables if table.rows]
        parts += [plain(self.printed, None)] if self.printed else []
        parts += [one_line(plain(note)) for note in self.notes]
        parts += [
            f"{one_line(plain(summary))}\n{plain(text, None)}" for summary, text in self.folded
        ]
        return "\n".join(parts)


def saved(page: Page, now: float) -> Page:
    """Return the page as it is stored: with its time, and without the colours of live states."""
    tables = [
        replace(table, rows=[[_faded(cell) for cell in row] for row in table.rows])
        for table in page.tables
    ]
    badges = [_faded_badge(badge) for badge in page.badges]
    return replace(page, badges=badges, facts=[*page.facts, _as_of(now)], tables=tables)


def _faded(cell: Cell) -> Cell:
    return _faded_badge(cell) if isinstance(cell, Badge) else cell


def _faded_badge(badge: Badge) -> Badge:
    return Badge(badge.text, "quiet") if badge.tone in ("good", "busy") else badge


def _as_of(moment: float) -> str:
    return time.strftime("as of %Y-%m-%d %H:%M:%S", time.localtime(moment))


def glimpse(value: object) -> str:
    """Return the first part of a value's `repr`, in bounded time however large or deep it is."""
    return _GLIMPSE.repr(value)


def plain(text: str, longest: int | None = MAX_CELL) -> str:
    """Return text that is safe to show: truncated, without control and bidirectional characters."""
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return printable(text)


def escape(text: str, longest: int | None = MAX_CELL) -> str:
    """Return `plain` text, escaped for HTML."""
    return html.escape(plain(text, longest))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _note(text: str) -> str:
    return _QUOTED.sub(r'<span class="code">\1</span>', escape(text))


def _chart_html(chart: Chart) -> str:
    label = f"<div>{escape(chart.label)}</div><div>{escape(chart.range)}</div>"
    return (
        f'<div class="chart note">{label}<svg viewBox="0 0 {max(1, len(chart.values) - 1)} 100"'
        f' preserveaspectratio="none"><path d="{_path(chart.line)}"></path></svg></div>'
    )


def _spark_html(spark: Spark) -> str:
    if spark.peak is None:
        return ""
    return (
        f'<svg viewBox="0 0 {max(1, len(spark.values) - 1)} 100" preserveaspectratio="none">'
        f'<path d="{_path(spark.line)}"></path></svg>'
    )


def _bars_html(bars: Bars) -> str:
    ticks = "".join(f"<div>{escape(tick)}</div>" for tick in bars.ticks)
    return (
        f'<div class="bars"><div class="note">{escape(bars.label)}</div>'
        f'<svg viewBox="0 0 {max(1, len(bars.heights))} 100" preserveaspectratio="none">'
        f'<path d="{_columns(bars.heights)}"></path></svg>'
        f'<div class="ticks note">{ticks}</div></div>'
    )


def _columns(heights: Sequence[float]) -> str:
    """Return the data of an SVG path, with a rectangle for each bar that is higher than 0."""
    highest = max(heights, default=0.0)
    return "".join(
        f"M{x} 100V{100 - max(1, round(99 * height / highest))}h.94V100z"
        for x, height in enumerate(heights)
        if height > 0
    )


def _bar_html(bar: TimeBar) -> str:
    start, begin, end = bar.steps
    tone = "failed" if bar.tone == "bad" else "ran"
    waited = f'<path class="waited" d="M{start} 20V80H{begin}V20Z"></path>' if begin > start else ""
    return (
        f'<svg class="bar" viewBox="0 0 1000 100" preserveaspectratio="none">{waited}'
        f'<path class="{tone}" d="M{begin} 20V80H{end}V20Z"></path></svg>'
    )


def _path(line: Sequence[int | None]) -> str:
    """Return the data of an SVG path, with a new subpath after each gap."""
    steps, drawing = [], False
    for x, y in enumerate(line):
        if y is not None:
            steps.append(f"{'L' if drawing else 'M'}{x} {100 - y}")
        drawing = y is not None
    return "".join(steps)


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text, None)}</pre></details>"


def _badge(badge: Badge) -> str:
    return f'<span class="badge {badge.tone}">{escape(badge.text)}</span>'


def _table_html(table: Table) -> str:
    classes = [' class="num"' if name in table.numeric else "" for name in table.columns]
    head = "".join(
        f"<th{css}>{escape(name)}</th>" for css, name in zip(classes, table.columns, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell_html, row, classes))}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell_html(cell: Cell, css: str) -> str:
    match cell:
        case Badge():
            return f"<td{css}>{_badge(cell)}</td>"
        case Code():
            return f'<td class="code">{escape(cell.text)}</td>'
        case Spark():
            return f"<td>{_spark_html(cell)}</td>"
        case TimeBar():
            return f"<td>{_bar_html(cell)}</td>"
    return f"<td{css}>{escape(cell_text(cell))}</td>"


def cell_text(cell: Cell) -> str:
    """Return a cell's text, not escaped."""
    match cell:
        case None:
            return ""
        case Badge() | Code():
            return cell.text
        case Spark():
            return cell.bars
        case TimeBar():
            return cell.blocks
        case float():
            return f"{cell:,.1f}"
        case bool() | str():
            return str(cell)
    return f"{cell:,}"


def table_text(table: Table) -> str:
    """Return a table as text in columns."""
    texts = [[one_line(plain(cell_text(cell))) for cell in row] for row in table.rows]
    lines = [[one_line(plain(name)) for name in table.columns], *texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if name in table.numeric else text.ljust(width)
            for text, width, name in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    )
