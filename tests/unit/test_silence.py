"""When a broker that says nothing is asked, doubted and given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.fabric.amqp.silence import ASK_AFTER, DEAD_AFTER, LOOK_EVERY, Silence


@pytest.fixture
def clock() -> list[float]:
    """Seconds, which only a test moves."""
    return [100.0]


@pytest.fixture
def watch(clock: list[float]) -> Callable[..., tuple[int, Silence]]:
    """Look at a connection every second; how often it was asked, and its silence."""
    silence = Silence(lambda: clock[0])

    def watch(
        seconds: float,
        *,
        each: float = LOOK_EVERY,
        received: Callable[[int], int] = lambda _: 7,
        unsent: Callable[[int], int] = lambda _: 0,
    ) -> tuple[int, Silence]:
        asked = 0
        for number in range(int(seconds / each)):
            clock[0] += each
            silence.look(received(number), unsent(number))
            asked += silence.asks
        return asked, silence

    return watch


def test_a_silent_broker_is_asked_and_given_up(watch: Callable[..., tuple[int, Silence]]) -> None:
    """Nothing comes: it is asked every few seconds, and dead before 15 s have passed."""
    asked, silence = watch(DEAD_AFTER + 1)
    assert asked == DEAD_AFTER // ASK_AFTER
    assert asked > 2
    assert DEAD_AFTER <= silence.seconds < 15


def test_any_byte_is_a_sign_of_life(watch: Callable[..., tuple[int, Silence]]) -> None:
    """A connection on which something comes is neither asked nor given up."""
    asked, silence = watch(1000, received=lambda number: number // 2)
    assert asked == 0
    assert silence.seconds < ASK_AFTER


def test_a_long_upload_is_a_sign_of_life(watch: Callable[..., tuple[int, Silence]]) -> None:
    """While the socket takes what is sent, an answer may be behind it; it is dead when it stops."""
    _, silence = watch(1000, unsent=lambda number: 10**9 - number * 10**5)
    assert silence.seconds < ASK_AFTER
    _, silence = watch(DEAD_AFTER + 1, unsent=lambda number: 10**5 + number)
    assert silence.seconds >= DEAD_AFTER


@given(st.lists(st.floats(3, 3600), min_size=1, max_size=4))
def test_a_loop_that_stands_still_proves_nothing(pauses: list[float]) -> None:
    """However long a loop stood still, what came meanwhile is waited for before it is judged."""
    clock = [0.0]
    silence = Silence(lambda: clock[0])
    silence.look(0, 0)
    for number, pause in enumerate(pauses, 1):
        clock[0] += pause
        silence.look(number - 1, 0)  # it was not read yet
        assert silence.seconds < DEAD_AFTER / 2
        clock[0] += LOOK_EVERY
        assert silence.look(number, 0) == 0
