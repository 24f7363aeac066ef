"""A cancel that falls between a claim's commit and the claimed task's arrival is not missed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rota import Context, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.task import TaskState
from tests.conftest import Database


class Window:
    """Holds a repository's answer back until this node has told of the cancel."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self.reached = threading.Event()
        self.told = threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self._answer(*args, **kwargs)
        if found:
            self.reached.set()
            assert self.told.wait(30)
        return found


@pytest.mark.parametrize(
    ("verb", "delay"),
    [("claim", 0.01), ("bodies", 0.01), ("insert", 0.0)],  # what is due at once is taken along
)
async def test_a_cancel_before_the_task_has_arrived_stops_it(
    make_database: Callable[[str, Clock], Database],
    works: WorkRegistry,
    verb: str,
    delay: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @works.register("endless")
    async def endless(ctx: Context) -> None:
        await asyncio.Event().wait()

    scheduler = make_database("memory", SystemClock()).scheduler(works, lazy_params=True)
    async with scheduler, asyncio.timeout(30):
        house = scheduler._house
        assert house is not None
        window = Window(getattr(house.repository, verb))
        monkeypatch.setattr(house.repository, verb, window)
        house.inserter._direct = False  # in its thread, as on any other database
        scheduling = asyncio.create_task(scheduler.schedule("endless", {}, delay=delay))
        assert await asyncio.to_thread(window.reached.wait, 30)
        tell = house.wires._cancel

        def told(notices: Any) -> None:
            tell(notices)
            window.told.set()

        monkeypatch.setattr(house.wires, "_cancel", told)
        task_id = next(iter(house.repository._book.rows))  # type: ignore[attr-defined]
        await asyncio.to_thread(house.repository.cancel, task_id, "too late")
        house.life.duty.wake()
        handle = await scheduling
        while (info := await handle.info()).state is not TaskState.CANCELLED:
            await house.waiters.wait(handle.id)
        assert info.reason == "too late"
