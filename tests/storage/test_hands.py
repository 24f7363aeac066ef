"""Where the database's clock stands, as claims narrow it down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.storage.hands import SLEW, Hands


def test_a_quick_answer_helps_a_slow_one() -> None:
    hands = Hands()
    assert hands.moment(1_000.0, sent=10.0, received=10.5) == 10.5
    assert hands.moment(1_001.0, sent=11.0, received=11.001) == pytest.approx(11.001)
    slow = hands.moment(1_002.0, sent=11.9, received=12.9)
    assert slow == pytest.approx(12.001, abs=2 * SLEW)


def test_a_clock_that_was_set_back_or_ahead_is_believed_at_once() -> None:
    hands = Hands()
    hands.moment(1_000.0, sent=10.0, received=10.001)
    assert hands.moment(900.0, sent=11.0, received=11.5) == pytest.approx(11.0)
    assert hands.moment(5_000.0, sent=12.0, received=12.5) == pytest.approx(12.5)


waits = st.floats(0.0, 5.0)


@given(st.floats(-SLEW, SLEW), st.lists(st.tuples(waits, waits, waits), min_size=1, max_size=30))
def test_never_before_the_true_moment_nor_after_the_answer(
    drift: float, claims: list[tuple[float, float, float]]
) -> None:
    """Each claim: a pause, the way there, the way back; the database's clock drifts."""
    hands, now = Hands(), 50.0
    for pause, there, back in claims:
        sent = now + pause
        true = sent + there
        received = now = true + back
        found = hands.moment(1_000.0 + true * (1.0 + drift), sent=sent, received=received)
        assert found >= true - 2 * SLEW * SLEW * received - 1e-6
        assert found <= received + 1e-6
