"""Recurring tasks while their nodes are killed and started at random: nothing missing or double."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from rota import Every, Scheduler, WorkRegistry
from rota.core.ports import Repository
from tests.conftest import Database
from tests.processes.fleet import Fleet, NodeProcess

NODES = 5
DEFINITIONS = 200
SECOND = timedelta(seconds=1)
#: With these rules every fire time has a child; the others have the defaults.
EACH: dict[str, Any] = {"catchup": "all", "catchup_limit": 1_000, "overlap": "allow"}


# A round is as long as a node takes to start: a second, or five on a busy machine.
@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(4, marks=pytest.mark.timeout(150)),
        pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(500)]),
    ],
)
def test_every_fire_time_is_decided_once_whoever_dies(
    fleet: Fleet, durable: Database, rounds: int
) -> None:
    asyncio.run(_add(durable))
    repository = durable.repository()
    first = {one.id: one.next_fire_at for one in repository.list_recurring() if one.next_fire_at}
    assert len(first) == DEFINITIONS
    _kill_and_start(fleet, rounds)
    end = repository.now()
    _wait_until_decided(repository, end)

    for name, zero in first.items():
        times = _times(zero, end)
        # The nodes go on while this looks: only what had to be decided by then is judged.
        told = [one for one in repository.decisions(name, 10_000) if one.fire_at <= end]
        decided: Counter[datetime] = Counter()
        for one in told:
            decided.update(one.fire_at + n * SECOND for n in range(one.count))
        assert [decided[tick] for tick in times] == [1] * len(times), name
        made = repository.children_of(name, 10_000)
        children = Counter(child.fire_at for child in made if child.fire_at <= end)
        fired = {one.fire_at for one in told if one.decision == "fired"}
        assert children == dict.fromkeys(fired, 1), name
        if name.startswith("each"):
            assert {one.decision for one in told} == {"fired"}, name


async def _add(database: Database) -> None:
    async with Scheduler(
        WorkRegistry(), database.target, queues=[], allow_unknown=True, **database.options
    ) as client:
        for n in range(DEFINITIONS):
            kind = "each" if n % 2 else "plain"
            rules = EACH if n % 2 else {}
            await client.add_recurring(f"{kind}-{n}", "quick", Every(1), {"n": n}, **rules)


def _kill_and_start(fleet: Fleet, rounds: int) -> None:
    """Kill one or two of the nodes, and start as many, so many times."""
    rng = random.Random(rounds)
    names = iter(range(10_000))
    running: list[NodeProcess] = fleet.start_all([f"n{next(names)}" for _ in range(NODES)])
    for _ in range(rounds):
        for node in rng.sample(running, rng.randint(1, 2)):
            # In the middle of its work: it has just told that it runs something.
            node.wait_for(lambda line: line["is"] == "started", "a start")
            node.kill()
            running.remove(node)
        fresh = [fleet.launch(f"n{next(names)}") for _ in range(NODES - len(running))]
        for node in fresh:
            node.wait("up")
        running += fresh


def _wait_until_decided(repository: Repository, end: datetime) -> None:
    patience = time.monotonic() + 30
    while late := [
        one.id
        for one in repository.list_recurring()
        if one.next_fire_at is None or one.next_fire_at <= end
    ]:
        assert time.monotonic() < patience, late


def _times(first: datetime, end: datetime) -> list[datetime]:
    count = (end - first) // SECOND + 1
    return [first + n * SECOND for n in range(count)]
