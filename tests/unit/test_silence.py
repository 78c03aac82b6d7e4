"""Probing of a silent broker, and the decision that it is dead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.fabric.amqp.silence import CHECK_EVERY, DEAD_AFTER, PROBE_AFTER, Silence


@pytest.fixture
def clock() -> list[float]:
    """Seconds of a clock that only the test advances."""
    return [100.0]


@pytest.fixture
def watch(clock: list[float]) -> Callable[..., tuple[int, Silence]]:
    """Return a function that updates a `Silence` and returns the number of probes, and it."""
    silence = Silence(lambda: clock[0])

    def watch(
        seconds: float,
        *,
        each: float = CHECK_EVERY,
        received: Callable[[int], int] = lambda _: 7,
        unsent: Callable[[int], int] = lambda _: 0,
    ) -> tuple[int, Silence]:
        probes = 0
        for number in range(int(seconds / each)):
            clock[0] += each
            silence.update(received(number), unsent(number))
            probes += silence.probe_due()
        return probes, silence

    return watch


def test_a_silent_broker_is_probed_and_given_up(watch: Callable[..., tuple[int, Silence]]) -> None:
    """A silent broker is probed every few seconds, and given up within 15 s."""
    probes, silence = watch(DEAD_AFTER + 1)
    assert probes == DEAD_AFTER // PROBE_AFTER
    assert probes > 2
    assert DEAD_AFTER <= silence.seconds < 15


def test_any_received_byte_ends_the_silence(watch: Callable[..., tuple[int, Silence]]) -> None:
    """A connection that receives bytes is neither probed nor given up."""
    probes, silence = watch(1000, received=lambda number: number // 2)
    assert probes == 0
    assert silence.seconds < PROBE_AFTER


def test_a_long_upload_ends_the_silence(watch: Callable[..., tuple[int, Silence]]) -> None:
    """A shrinking write buffer ends the silence, because an answer can only come after it."""
    _, silence = watch(1000, unsent=lambda number: 10**9 - number * 10**5)
    assert silence.seconds < PROBE_AFTER
    _, silence = watch(DEAD_AFTER + 1, unsent=lambda number: 10**5 + number)
    assert silence.seconds >= DEAD_AFTER


@given(st.lists(st.floats(3, 3600), min_size=1, max_size=4))
def test_time_of_a_blocked_loop_does_not_count(pauses: list[float]) -> None:
    """After a blocked loop, received bytes are read before the silence is evaluated."""
    clock = [0.0]
    silence = Silence(lambda: clock[0])
    silence.update(0, 0)
    for number, pause in enumerate(pauses, 1):
        clock[0] += pause
        silence.update(number - 1, 0)  # not read yet
        assert silence.seconds < DEAD_AFTER / 2
        clock[0] += CHECK_EVERY
        assert silence.update(number, 0) == 0
