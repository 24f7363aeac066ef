"""What another thread came to, for the coroutine that waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rota.core.answer import Answer
from tests.engine.parts import turns


async def test_it_carries_a_value_and_an_error_from_another_thread() -> None:
    good: Answer[str] = Answer()
    bad: Answer[str] = Answer()
    for answer, fn in ((good, lambda: threading.current_thread().name), (bad, lambda: 1 / 0)):
        threading.Thread(target=answer.call, args=(fn,), name="other").start()

    assert await good.future == "other"
    with pytest.raises(ZeroDivisionError):
        await bad.future


async def test_a_waiter_that_was_cancelled_is_told_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer: Answer[int] = Answer()
    answer.future.cancel()
    answer.settle(1, None)
    await turns()

    assert answer.future.cancelled()
    assert caplog.records == []  # nothing was raised in the loop


def test_a_closed_loop_is_no_reason_for_the_thread_to_fail() -> None:
    async def ask() -> Answer[int]:
        return Answer()

    answer = asyncio.run(ask())
    answer.call(lambda: 1)

    assert not answer.future.done()
