"""Seed 004 (kafkaq): a test per flaw about tasks, or why there is none.

====  =========================================  ==================================================
 no   flaw                                       test, or reason
====  =========================================  ==================================================
  1   "published" may be lost: the broker's      test_schedule_says_so_when_nothing_was_stored
      answer is discarded [r]                    test_an_insert_whose_answer_was_lost_is_done_once
  2   what waits expires while nobody is there   test_a_task_waits_however_long_nobody_is_there
      [r]
  7   one "last" record commits everything [r]   test_each_outcome_is_written_for_itself
  8   a cancel resets the count [r]              test_a_cancel_keeps_what_was_counted
      a cancel passes over errors [r]            test_a_cancel_says_so_when_it_could_not_be_written
      a second shutdown panics [r]               test_shutting_down_twice_is_fine
      a constructor leaks the client [r]         test_a_start_that_fails_leaves_no_thread
====  =========================================  ==================================================
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rota import Backoff, Scheduler, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.task import Inserted, NewTask
from rota.errors import SchedulerNotRunning, StorageUnavailable, TaskCancelled, UnsupportedUrl
from rota.storage.memory import MemoryRepository
from rota.testing import FakeClock
from tests.conftest import Database
from tests.regressions.parts import Faulty


def rota_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("rota-")}


# 004.1 [r]: writes were asynchronous, with the answer discarded.
async def test_schedule_says_so_when_nothing_was_stored(works: WorkRegistry) -> None:
    @works.register("work")
    async def work() -> None: ...

    repository = Faulty("insert")
    async with Scheduler(works, repository, queues=[], start_timeout=0.2) as scheduler:
        repository.fail["insert"] = 10**9
        with pytest.raises(StorageUnavailable):
            await scheduler.schedule(work.bind(), delay=3600)
        with pytest.raises(StorageUnavailable):
            await scheduler.schedule(work.bind(), delay=3600, unique="k")
        repository.fail["insert"] = 0
        assert sum((await scheduler.counts()).values()) == 0


class _Mute(MemoryRepository):
    """The answer of the first insert is lost after it was committed."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.asked: list[bool] = []

    def insert(
        self, tasks: Sequence[NewTask], *, repeated: bool = False, **how: Any
    ) -> list[Inserted]:
        answers = super().insert(tasks, repeated=repeated, **how)
        self.asked.append(repeated)
        if len(self.asked) == 1:
            raise StorageUnavailable("the connection broke after the commit; try again")
        return answers


@pytest.mark.parametrize("unique", [None, "k"])
async def test_an_insert_whose_answer_was_lost_is_done_once(
    works: WorkRegistry, unique: str | None
) -> None:
    ran: list[int] = []

    @works.register("work")
    async def work() -> None:
        ran.append(1)

    repository = _Mute()
    async with Scheduler(works, repository, poll=0.1) as scheduler:
        handle = await scheduler.schedule(work.bind(), unique=unique)
        assert handle.created
        await handle.result(timeout=20)
        assert sum((await scheduler.counts()).values()) == 0
    assert repository.asked == [False, True]
    assert ran == [1]


# 004.2 [r]: the record expired, and the job was skipped in silence.
@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_a_task_waits_however_long_nobody_is_there(
    make_database: Callable[[str, Clock], Database], works: WorkRegistry, kind: str
) -> None:
    ran: list[str] = []

    @works.register("note")
    async def note(text: str) -> None:
        ran.append(text)

    clock = FakeClock()
    database = make_database(kind, clock)
    async with database.scheduler(works, queues=[]) as client:
        due = await client.schedule(note.bind("due"))
        later = await client.schedule(note.bind("later"), delay=3600)
    clock.advance(400 * 86_400)
    with closing(database.repository()) as repository:
        repository.tidy()
    async with database.scheduler(works, queues=[]) as client:
        assert (await client.counts())["scheduled"] == 2
        for _ in range(2):
            (pulled,) = await client.claim()
            await pulled.done()
        assert (await client.info(due.id)).state == "done"
        assert (await client.info(later.id)).state == "done"
    assert ran == []


# 004.7 [r]: what was still running was committed with what had ended.
async def test_each_outcome_is_written_for_itself(database: Database, works: WorkRegistry) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    started = asyncio.Semaphore(0)

    @works.register("gate")
    async def gate(n: int) -> int:
        started.release()
        await gates[n].wait()
        return n

    async with database.scheduler(works, concurrency=4) as scheduler:
        handles = await scheduler.schedule_many([gate.bind(n) for n in range(4)])
        for _ in handles:
            await started.acquire()
        for last in (3, 1, 0, 2):
            gates[last].set()
            assert await handles[last].result(timeout=20) == last
            ended = {n for n in range(4) if gates[n].is_set()}
            states = [(await handle.info()).state for handle in handles]
            assert states == ["done" if n in ended else "working" for n in range(4)]


# 004.8 [r]: the rescheduled count was overwritten.
async def test_a_cancel_keeps_what_was_counted(database: Database, works: WorkRegistry) -> None:
    @works.register("fails", max_attempts=9, backoff=Backoff(first=3600, jitter="none"))
    async def fails() -> None:
        raise ValueError("no")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(fails.bind())
        while (await handle.info()).status != "retrying":
            await asyncio.sleep(0)
        assert await handle.cancel("enough") == "cancelled"
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result(timeout=20)
        info, history = await handle.info(), await handle.history()
    assert info.attempt == 1
    assert [one.outcome for one in history] == ["retry"]


# 004.8 [r]: a read error was ignored, then everything overwritten.
async def test_a_cancel_says_so_when_it_could_not_be_written(works: WorkRegistry) -> None:
    repository = Faulty("cancel")
    async with Scheduler(works, repository, queues=[]) as scheduler:
        handle = await scheduler.schedule("work", allow_unknown=True, delay=3600)
        before = await handle.info()
        repository.fail["cancel"] = 10**9
        with pytest.raises(StorageUnavailable):
            await handle.cancel()
        assert await handle.info() == before
        repository.fail["cancel"] = 0
        assert await handle.cancel() == "cancelled"


# 004.8 [r]: it panicked, and did not wait.
async def test_shutting_down_twice_is_fine(database: Database, works: WorkRegistry) -> None:
    before = rota_threads()
    scheduler = database.scheduler(works)
    await scheduler.shutdown()
    await scheduler.start()
    await asyncio.gather(scheduler.shutdown(), scheduler.shutdown())
    await scheduler.shutdown()
    assert not scheduler.running
    with pytest.raises(SchedulerNotRunning):
        await scheduler.schedule("work", allow_unknown=True)
    assert not rota_threads() - before


# 004.8 [r]: a constructor left a client open.
async def test_a_start_that_fails_leaves_no_thread(works: WorkRegistry, tmp_path: Path) -> None:
    before = rota_threads()
    with pytest.raises(UnsupportedUrl):
        await Scheduler(works, "mysql://nowhere/at-all").start()
    with pytest.raises(StorageUnavailable):
        await Scheduler(works, "postgresql://nobody@127.0.0.1:1/none", start_timeout=0.1).start()
    broken = Faulty("join")
    broken.fail["join"] = 10**9
    with pytest.raises(StorageUnavailable):
        await Scheduler(works, broken, start_timeout=0.1).start()
    assert not rota_threads() - before
