"""Delays between retries."""

from __future__ import annotations

from itertools import islice

from fabric_nb.fabric.core.backoff import FIRST_RETRY, LAST_RETRY, backoff

CEILINGS = [min(FIRST_RETRY * 2**attempt, LAST_RETRY) for attempt in range(50)]
RUNS = 200


def test_delays_double_up_to_their_bound() -> None:
    """The maximum delay doubles with each retry, up to `LAST_RETRY`."""
    assert CEILINGS[0] == FIRST_RETRY
    assert CEILINGS[1] == 2 * FIRST_RETRY
    assert CEILINGS[-1] == LAST_RETRY
    for _ in range(RUNS):
        for delay, ceiling in zip(islice(backoff(), len(CEILINGS)), CEILINGS, strict=True):
            assert ceiling / 2 <= delay <= ceiling


def test_delays_are_jittered_over_their_whole_range() -> None:
    """Members that lose the same broker reconnect at different moments."""
    runs = [list(islice(backoff(), len(CEILINGS))) for _ in range(RUNS)]
    for delays, ceiling in zip(zip(*runs, strict=True), CEILINGS, strict=True):
        assert len(set(delays)) > RUNS / 2
        assert min(delays) < 0.6 * ceiling  # fails by chance once in 10^19
        assert max(delays) > 0.9 * ceiling


def test_delays_never_end() -> None:
    """Retries continue after any number of attempts."""
    assert LAST_RETRY / 2 <= next(islice(backoff(), 20_000, None)) <= LAST_RETRY
