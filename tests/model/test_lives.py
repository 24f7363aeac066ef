"""One task's life, and three lives at once, on the three repositories."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import LifeMachine
from tests.model.worlds import *  # noqa: F403 - fixtures are found by name
from tests.model.worlds import MakeWorld, World, memory_worlds

WIDTHS = pytest.mark.parametrize("width", [1, 3])
#: Three lives at once say the most; alone, in memory only.
QUICK = pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.slow), 3])


def live(world: MakeWorld, *, width: int, examples: int, steps: int, quick: bool = True) -> None:
    """So many examples; the quick ones are the same every time, so that they never surprise."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=quick,
        phases=[Phase.generate],
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    def machine() -> LifeMachine:
        return LifeMachine(world(), width=width)

    run_state_machine_as_test(cast("type[LifeMachine]", machine), settings=chosen)


@WIDTHS
def test_lives_in_memory(width: int) -> None:
    live(memory_worlds(), width=width, examples=100 if width == 3 else 200, steps=40)


@QUICK
def test_lives_on_sqlite(sqlite_world: World, width: int) -> None:
    live(lambda: sqlite_world, width=width, examples=30, steps=30)


@pytest.mark.postgres
@QUICK
def test_lives_on_postgres(postgres_world: World, width: int) -> None:
    live(lambda: postgres_world, width=width, examples=20, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@WIDTHS
def test_many_lives_in_memory(width: int) -> None:
    live(memory_worlds(), width=width, examples=4000, steps=40, quick=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
@WIDTHS
def test_many_lives_on_sqlite(sqlite_world: World, width: int) -> None:
    live(lambda: sqlite_world, width=width, examples=600, steps=40, quick=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.postgres
@WIDTHS
def test_many_lives_on_postgres(postgres_world: World, width: int) -> None:
    live(lambda: postgres_world, width=width, examples=400, steps=40, quick=False)
