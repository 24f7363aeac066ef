"""Schedulers that run a task at once, in the verb that puts it in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from rota.core.events import Event, Finished
from rota.core.request import ScheduleRequest
from rota.core.task import Ending, Inserted
from rota.errors import AlreadyClaimed, WrongState
from rota.testing.manual import (
    MOST_RUNS,
    ManualBackgroundScheduler,
    ManualHouse,
    ManualScheduler,
)


class InlineHouse(ManualHouse):
    """A house in which what was stored is run before its caller hears of it."""

    run_at_once: Callable[[str], Awaitable[None]]

    async def store(self, request: ScheduleRequest) -> Inserted:
        answer = await super().store(request)
        await self._run([request], [answer])
        return answer

    async def store_many(self, parts: Iterable[Sequence[ScheduleRequest]]) -> list[Inserted]:
        requests = [request for part in parts for request in part]
        answers = await super().store_many([requests])
        await self._run(requests, answers)
        return answers

    async def _run(self, requests: Sequence[ScheduleRequest], answers: Sequence[Inserted]) -> None:
        for request, answer in zip(requests, answers, strict=True):
            # What is in the caller's transaction is nobody's yet: it runs by run_due().
            if answer.created and request.connection is None:
                await self.run_at_once(answer.id)


class InlineScheduler(ManualScheduler):
    """A ``ManualScheduler`` whose ``schedule`` runs the task before it returns, due or not.

    Retries follow at once, too, without their pauses; the handle holds the outcome. What a work
    spawns or schedules runs inside that call. What was scheduled with ``connection=``, and what
    recurring tasks fire, waits for ``run_due``.

    >>> from rota import WorkRegistry
    >>> works = WorkRegistry()
    >>> @works.register("greet")
    ... async def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> async def main() -> str:
    ...     async with InlineScheduler(works) as scheduler:
    ...         handle = await scheduler.schedule(greet.bind("Ada"), delay=3600)
    ...         return await handle.result()
    >>> asyncio.run(main())
    'hello Ada'
    """

    _kind: type[ManualHouse] = InlineHouse

    async def start(self) -> None:
        """As :meth:`ManualScheduler.start`."""
        if self._house is None:
            self._ends: dict[str, asyncio.Future[Finished]] = {}
        await super().start()
        if isinstance(self._house, InlineHouse):
            self._house.run_at_once = self._run_at_once

    async def _run_at_once(self, task_id: str) -> None:
        house = self._open()
        assert self._hand is not None
        for _ in range(MOST_RUNS):
            await self._hand.run(house.life.step)
            ended = self._ends[task_id] = asyncio.get_running_loop().create_future()
            try:
                await house.offload.run(house.sync.claim_one, task_id)
            except AlreadyClaimed:
                pass  # a run_due() under way was first; it ends here all the same
            except WrongState:
                return
            try:
                finished = await asyncio.wait_for(ended, self._patience)
            except TimeoutError:
                raise RuntimeError(self._stuck(house)) from None
            finally:
                self._ends.pop(task_id, None)
            if finished.ending is not Ending.RETRY:
                return

    def _note(self, event: Event) -> None:
        super()._note(event)
        if isinstance(event, Finished):
            ended = self._ends.get(event.task)
            if ended is not None and not ended.done():
                ended.set_result(event)


class InlineBackgroundScheduler(ManualBackgroundScheduler):
    """An ``InlineScheduler`` for tests without an event loop: the same, blocking."""

    _kind: type[ManualScheduler] = InlineScheduler
