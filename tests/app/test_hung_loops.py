"""While a statement of one internal loop hangs, the others go on; then it catches up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.glance import Glance
from rota.core.ports import Repository
from rota.storage.nodelife import NodeLife
from rota.testing.conformance.setting import a_task
from tests.app.holding import PATIENCE, Held, opened
from tests.conftest import Database


class Beats:
    """Counts the heartbeats that were answered."""

    def __init__(self, repository: Repository) -> None:
        self.counted = threading.Semaphore(0)
        beat = repository.beat

        def counting(node: int, lease: float) -> bool:
            answer = beat(node, lease)
            self.counted.release()
            return answer

        repository.beat = counting  # type: ignore[method-assign]

    async def go_on(self, life: NodeLife) -> None:
        """Two more: the first may have been on its way."""
        for _ in range(2):
            life.suspect()  # need not wait for its time
            assert await asyncio.to_thread(self.counted.acquire, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("verb", "stands"),
    [
        ("claim", {"claims"}),
        ("glance", {"claims"}),
        ("bury", {"claims"}),  # a chore, in the claimer's thread
        ("finish", {"outcomes"}),
        ("insert", {"inserts"}),
        ("beat", {"beats"}),
        ("due_recurring", set()),
        ("still_mine", {"beats"}),  # looked at in the heartbeat's thread
    ],
)
async def test_the_others_go_on(
    durable: Database, works: WorkRegistry, verb: str, stands: set[str]
) -> None:
    go_on, started = asyncio.Event(), asyncio.Event()
    ran = {name: asyncio.Event() for name in ("put in", "found")}

    @works.register("hold")
    async def hold() -> str:
        started.set()
        await go_on.wait()
        return "well"

    @works.register("note")
    async def note(name: str) -> None:
        ran[name].set()

    repository = opened(durable)
    beats, hung = Beats(repository), Held(repository, verb)
    found = a_task(work="note", params='{"name":"found"}')
    async with Scheduler(works, repository, lease=3, heartbeat=1, poll=0.2) as scheduler:
        house = scheduler._house
        assert house is not None
        running = await scheduler.schedule("hold")
        await started.wait()
        hung.hold()
        if verb == "finish":
            go_on.set()
        if verb == "due_recurring":
            house.firing.wake(None)
        if verb == "glance":
            house.sync.look()
        if verb == "bury":
            house.sync.chores.see(Glance(dead=True))
        # With a delay it is the claimer's: what is due at once is taken along.
        putting: Any = asyncio.create_task(
            scheduler.schedule("note", {"name": "put in"}, delay=0.01)
        )
        assert await asyncio.to_thread(hung.asked.acquire, timeout=PATIENCE)
        await asyncio.to_thread(durable.repository().insert, [found])
        async with asyncio.timeout(PATIENCE):
            if "inserts" not in stands:
                await putting
            if "claims" not in stands:
                await ran["found"].wait()
            if "outcomes" not in stands:
                go_on.set()
                assert await running.result(timeout=PATIENCE) == "well"
            if "beats" not in stands:
                await beats.go_on(house.life)
            hung.let_go()
            handle = await putting
            await handle.wait(timeout=PATIENCE)
            await ran["found"].wait()
            assert await running.result(timeout=PATIENCE) == "well"
            await beats.go_on(house.life)
        tasks = (await scheduler.find()).tasks
    assert {task.attempt for task in tasks} == {1}
    assert len(tasks) == 3
