"""Local times on the axis of a chart."""

from __future__ import annotations

import time
from datetime import UTC
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.ticks import days_text, time_ticks
from fabric_nb.notebook.plot.wall_clock import NO_ZONE, UTC_CLOCK, WallClock, clock_of
from tests.support.streams import UnconnectedStream

BERLIN = WallClock(ZoneInfo("Europe/Berlin"))
KOLKATA = WallClock(ZoneInfo("Asia/Kolkata"))
HOUR, DAY = 3600.0, 86400.0


def unix(text: str) -> float:
    return pd.Timestamp(text).timestamp()


def test_ticks_are_round_local_times() -> None:
    """Ticks are at full hours and midnights of the zone, also where its offset is no full hour."""
    begin = unix("2026-11-25T12:10+05:30")
    ticks = time_ticks(begin, begin + 4 * HOUR, 4, KOLKATA)
    assert [tick.text for tick in ticks] == ["13:00", "14:00", "15:00", "16:00"]
    assert ticks[0].position == pytest.approx(50 / 240)
    days = time_ticks(begin, begin + 3 * DAY, 3, KOLKATA)
    assert [tick.text for tick in days] == ["Nov 26", "Nov 27", "Nov 28"]
    assert days[0].position * 3 * DAY + begin == unix("2026-11-26T00:00+05:30")


def test_days_begin_at_midnight_after_daylight_saving_time() -> None:
    """A change to or from daylight-saving time moves no tick from midnight."""
    begin = unix("2026-10-24T00:00+02:00")
    ticks = time_ticks(begin, begin + 4 * DAY, 4, BERLIN)
    times = [tick.position * 4 * DAY + begin for tick in ticks]
    assert times[1:3] == [unix("2026-10-25T00:00+02:00"), unix("2026-10-26T00:00+01:00")]
    months = time_ticks(begin, begin + 200 * DAY, 8, BERLIN)
    assert [tick.text for tick in months][:2] == ["2026-11", "2026-12"]
    assert months[0].position * 200 * DAY + begin == unix("2026-11-01T00:00+01:00")


@pytest.mark.parametrize(
    ("clock", "name"),
    [
        (BERLIN, "CET"),
        (KOLKATA, "IST"),
        (WallClock(ZoneInfo("America/Sao_Paulo")), "UTC-03:00"),
        (WallClock(ZoneInfo("Asia/Kathmandu")), "UTC+05:45"),
        (UTC_CLOCK, "UTC"),
        (NO_ZONE, ""),
    ],
)
def test_the_zone_is_named(clock: WallClock, name: str) -> None:
    """A zone is named by its abbreviation, or else by its offset."""
    assert clock.name(unix("2026-11-25"), unix("2026-11-26")) == name


def test_both_names_of_a_zone() -> None:
    """If the offset changes on the axis, both names are given."""
    assert BERLIN.name(unix("2026-10-01"), unix("2026-11-26")) == "CEST, CET"


@pytest.mark.parametrize("key", ["Nowhere/Here", "../../etc/passwd", "", "\0", "x" * 10_000])
def test_an_unknown_zone(key: str) -> None:
    """A zone that this machine does not know is that of this machine."""
    assert clock_of(key) == WallClock()
    assert clock_of("UTC").offset(0) == 0


def test_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a browser, times are local ones of this machine."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        at = pd.date_range("2026-11-25T20:00:00Z", periods=100, freq="1min")
        stream = UnconnectedStream()
        stream.add_columns({"at": at, "v": [0.5, 1.5] * 50})
        shown = Source(stream).picture(400)
        assert shown.x.label == "at (JST)"
        assert shown.x.caption == "at (JST), 2026-11-26"
        assert shown.x.ticks[0].text == "05:00"
        assert "05:00:00 to 06:39:00, 2026-11-26" in shown.summary()[-1]
        in_utc = Source(stream, utc=True).picture(400)
        assert (in_utc.x.label, in_utc.x.ticks[0].text) == ("at (UTC)", "20:00")
        days = Source(stream, every="1D", how="count").picture(400)
        assert days.x.low == unix("2026-11-26T00:00+09:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_without_a_zone_are_shown_as_they_are() -> None:
    """Times that were sent without a zone are neither converted nor named."""
    stream = UnconnectedStream()
    stream.add_columns(
        {"at": pd.date_range("2026-11-25T20:00", periods=9, freq="1min"), "v": [1.5] * 9}
    )
    chart = Source(stream)
    chart.clock = KOLKATA
    shown = chart.picture(400)
    assert (shown.x.label, shown.x.ticks[0].text) == ("at", "20:00")
    assert shown.encoded()["x"]["zone"] == "UTC"


def test_times_far_away() -> None:
    """Times at the ends of the calendar have labels in each zone."""
    for moment in (-62_135_596_800, 253_402_300_799, 1e18):
        for clock in (BERLIN, KOLKATA, WallClock(), WallClock(UTC)):
            assert days_text(moment, moment, clock)


@pytest.mark.parametrize(
    ("days", "caption"),
    [
        (0.1, "at (CET), 2026-11-25"),
        (2, "at (CET), 2026-11-25 to 2026-11-27"),
        (9, "at (CET), 2026"),
        (60, "at (CET), 2026 to 2027"),
        (300, "at (CET, CEST)"),
        (5110, "at (CET)"),
    ],
)
def test_the_axis_has_a_date(days: float, caption: str) -> None:
    """The title of the axis has the date or the year if the ticks have none."""
    begin = unix("2026-11-25T00:00+01:00")
    stream = UnconnectedStream()
    at = pd.to_datetime([begin, begin + days * DAY], unit="s", utc=True)
    stream.add_columns({"at": at, "v": [1.5, 2.5]})
    chart = Source(stream)
    chart.clock = BERLIN
    assert chart.picture(600).x.caption == caption
