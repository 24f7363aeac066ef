"""What a rescue has ended is told to those who wait, and what follows it is run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from rota import WorkRegistry
from rota.core.ids import new_id
from rota.core.options import FollowUp, Options
from rota.core.task import Stored
from rota.testing.conformance.setting import NodeHandle, a_task
from tests.conftest import Database


async def test_waiters_hear_of_what_was_lost_and_cancelled_and_the_follow_up_runs(
    database: Database, works: WorkRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = asyncio.Event()

    @works.register("mourn")
    async def mourn(n: int) -> None:
        assert n == 7
        followed.set()

    follow = FollowUp(work="mourn", params='{"n":7}')
    options = Options(max_rescues=0, on_failed=follow).encode()
    lost, stopped = (a_task(id=new_id(), queue="elsewhere", options=options) for _ in range(2))
    async with database.scheduler(works, queues=["default"]) as scheduler, asyncio.timeout(30):
        house = scheduler._house
        assert house is not None
        heard: dict[str, Stored] = {}
        both = asyncio.Event()

        def ended(told: Iterable[tuple[str, Stored]]) -> None:
            heard.update(told)
            if {lost.id, stopped.id} <= heard.keys():
                both.set()

        monkeypatch.setattr(house.waiters, "ended", ended)

        def lose() -> None:
            repository = house.repository
            repository.insert([lost, stopped])
            for task in (lost, stopped):
                node = NodeHandle(repository)
                node.claim_one(task.id)
                if task is stopped:
                    repository.cancel(task.id, "stop")
                repository.leave(node.id)
            house.sync.chores.rescue()

        await asyncio.to_thread(lose)
        await both.wait()
        assert (heard[lost.id], heard[stopped.id]) == (Stored.FAILED, Stored.CANCELLED)
        await followed.wait()
