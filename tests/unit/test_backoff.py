"""How long is waited before something is tried again."""

from __future__ import annotations

from itertools import islice

from fabric_nb.fabric.amqp.channel import FIRST_RETRY, LAST_RETRY, backoff

CEILINGS = [min(FIRST_RETRY * 2**attempt, LAST_RETRY) for attempt in range(50)]
RUNS = 200


def test_delays_double_up_to_their_bound() -> None:
    """Each wait is at most twice the one before, and none is longer than the bound."""
    assert CEILINGS[0] == FIRST_RETRY
    assert CEILINGS[1] == 2 * FIRST_RETRY
    assert CEILINGS[-1] == LAST_RETRY
    for _ in range(RUNS):
        for delay, ceiling in zip(islice(backoff(), len(CEILINGS)), CEILINGS, strict=True):
            assert ceiling / 2 <= delay <= ceiling


def test_delays_are_jittered_over_their_whole_range() -> None:
    """Those that lost the same broker do not all come back at the same moment."""
    runs = [list(islice(backoff(), len(CEILINGS))) for _ in range(RUNS)]
    for delays, ceiling in zip(zip(*runs, strict=True), CEILINGS, strict=True):
        assert len(set(delays)) > RUNS / 2
        assert min(delays) < 0.6 * ceiling  # missed by all of them once in 10^19
        assert max(delays) > 0.9 * ceiling


def test_delays_never_end() -> None:
    """A broker that is away overnight is still looked for in the morning."""
    assert LAST_RETRY / 2 <= next(islice(backoff(), 20_000, None)) <= LAST_RETRY
