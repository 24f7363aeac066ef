"""A few seconds of chaos with real processes, each fault once; ``make chaos`` has the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Plan, run_on, summary

pytestmark = pytest.mark.xdist_group("chaos")

KINDS = {
    "sqlite": {"SIGKILL of a node", "fork after start", "a stranger holds the write lock"},
    "postgresql": {"SIGKILL of a node", "restart, immediate", "cut as COMMIT was answered"},
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_each_promise_is_kept(database: str, tmp_path: Path) -> None:
    kinds = frozenset(KINDS[database])
    plan = Plan(seconds=0, seed="quick", nodes=2, clients=1, rate=60, only=kinds, once=True)
    outcome = await run_on(database, plan, tmp_path)
    told = summary(database, plan, outcome)
    assert outcome.kept, told
    assert kinds <= outcome.injected.keys(), told
    assert outcome.verdict.acknowledged >= 20, told
    assert outcome.verdict.fire_times >= 5, told
    if database == "postgresql":
        assert outcome.injected["commits done, answer lost"] >= 1, told


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_poison_is_isolated(database: str, tmp_path: Path) -> None:
    plan = Plan(seconds=1, seed="poison", nodes=2, clients=1, rate=60, only=frozenset(), poison=1)
    outcome = await run_on(database, plan, tmp_path)
    told = summary(database, plan, outcome)
    assert outcome.kept, told
    assert outcome.injected["killed by poison"] >= 3, told
    assert outcome.verdict.rescued >= 3, told
