"""How long history is kept, and the archive, as a service says it to its scheduler."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from rota import Retention, Scheduler, WorkRegistry
from rota.core.archiving import ArchivedTask
from rota.core.clock import Clock
from rota.core.retention import Keeping
from rota.errors import InvalidArgument
from rota.testing import FakeClock, ManualScheduler
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks
from tests.conftest import BACKENDS, Database

DAYS = timedelta(days=1)
DAY = 86_400
PATIENCE = 30


@pytest.fixture(params=BACKENDS)
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Iterator[Database]:
    """Each of the three, on a clock that stands."""
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


def nothing(batch: Sequence[ArchivedTask]) -> None:
    """An archive that takes all."""


async def stated(database: Database, **options: Any) -> Keeping:
    """What holds after a start that says this."""
    async with database.scheduler(WorkRegistry(), **options) as scheduler:
        return await scheduler.keeping()


async def test_the_last_start_that_says_something_holds_for_all(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rota.history")
    assert await stated(database) == Keeping()
    long, short = Retention(done=90 * DAYS, failed=None), Retention(done=3600)
    async with database.scheduler(WorkRegistry(), retention=long) as node:
        assert await stated(database, queues=[]) == Keeping(long)
        assert await stated(database, retention=short, queues=[]) == Keeping(short)
        assert await node.keeping() == Keeping(short)
    assert await stated(database) == Keeping(short)
    assert await stated(database, retention=Retention()) == Keeping()
    assert [one.levelname for one in caplog.records] == ["INFO", "WARNING", "WARNING"]
    assert "kept for done 1:00:00, failed 30 days" in caplog.records[1].getMessage()
    assert "it was done 90 days, 0:00:00, failed for ever" in caplog.records[1].getMessage()


async def test_an_archive_is_asked_for_until_it_is_given_up(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert not (await stated(database, archive=nothing, queues=[])).archive
    assert (await stated(database, archive=nothing)).archive
    assert (await stated(database)).archive
    assert not (await stated(database, archive=False, queues=[])).archive
    assert "dropped from now on without an archive" in caplog.text


async def _coroutine(batch: Sequence[ArchivedTask]) -> None:
    """What cannot be an archive."""


class _Coroutine:
    async def __call__(self, batch: Sequence[ArchivedTask]) -> None:
        """Nor can this."""


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        ({"retention": 7 * DAYS}, "retention", "give Retention"),
        ({"retention": {"done": 7}}, "retention", "is a dict"),
        ({"archive": "old.jsonl"}, "archive", r"ArchiveFile\(path\)"),
        ({"archive": _coroutine}, "archive", "give a plain one"),
        ({"archive": _Coroutine()}, "archive", "give a plain one"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(
    options: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said) as met:
        Scheduler(**options)
    assert met.value.field == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"done": "7d"}, "retention.done"),
        ({"failed": -1}, "retention.failed"),
        ({"done": 59.9}, "retention.done"),
        ({"failed": float("nan")}, "retention.failed"),
        ({"failed": timedelta(days=40_000)}, "retention.failed"),
        ({"done": True}, "retention.done"),
    ],
)
def test_a_retention_that_cannot_be_right_is_refused_by_name(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as met:
        Retention(**fields)
    assert met.value.field == field


async def test_history_goes_by_itself_when_its_time_is_over(
    frozen: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    @works.register("quick")
    async def quick(n: int) -> int:
        return n

    async with ManualScheduler(
        works,
        frozen.target,
        clock=fake_clock,
        retention=Retention(done=2 * DAYS),
        **frozen.options,
    ) as scheduler:
        handle = await scheduler.schedule(quick.bind(1))
        await scheduler.advance(DAY)
        assert await handle.result() == 1
        await scheduler.advance(3 * DAY)
        assert (await scheduler.find()).tasks == ()


def put_history(database: Database, count: int, clock: FakeClock) -> list[str]:
    """So many finished tasks, well past their retention."""
    node = NodeHandle(database.repository())
    node.repository.insert(some_tasks(count))
    claimed = node.claim(count)
    node.finish(*(ending(one, kind) for one, kind in zip(claimed, _kinds(), strict=False)))
    node.repository.leave(node.id)
    clock.advance(40 * DAY)
    return sorted(one.id for one in claimed)


def _kinds() -> Iterator[Any]:
    from rota.core.task import Ending

    while True:
        yield from (Ending.DONE, Ending.FAILED, Ending.CANCELLED)


async def test_the_archive_has_a_thread_of_its_own_and_holds_up_nobody(
    frozen: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    old = put_history(frozen, 30, fake_clock)
    begun, go_on = threading.Event(), threading.Event()
    threads: set[str] = set()
    kept: list[str] = []
    ran = asyncio.Event()

    @works.register("quick")
    async def quick() -> None:
        ran.set()

    def archive(batch: Sequence[ArchivedTask]) -> None:
        threads.add(threading.current_thread().name)
        begun.set()
        go_on.wait(PATIENCE)
        kept.extend(one.task.id for one in batch)

    async with frozen.scheduler(works, archive=archive) as scheduler:
        fake_clock.advance(70)  # until the first turn
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        # It stands in the archive: tasks run all the same.
        await scheduler.schedule(quick.bind())
        async with asyncio.timeout(PATIENCE):
            await ran.wait()
        go_on.set()
        while len(kept) < len(old):
            await asyncio.sleep(0)
    assert sorted(kept) == old
    assert threads == {"rota-keeper"}
    assert frozen.repository().states(old) == {}


async def test_a_node_that_stops_in_between_leaves_the_rest_to_the_next(
    frozen: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    old = put_history(frozen, 90, fake_clock)
    begun, go_on = threading.Event(), threading.Event()
    first: list[str] = []
    second: list[str] = []

    def slow(batch: Sequence[ArchivedTask]) -> None:
        begun.set()
        go_on.wait(PATIENCE)
        first.extend(one.task.id for one in batch)

    node = frozen.scheduler(works, archive=slow)
    await node.start()
    fake_clock.advance(70)
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    keeper = node._open().keeper
    leaving = asyncio.ensure_future(node.shutdown())
    while keeper._duty is not None and not keeper._duty.stopping:
        await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        await leaving
    assert 0 < len(first) < 90
    assert frozen.repository().states(old).keys() == set(old) - set(first)

    fake_clock.advance(600)
    async with frozen.scheduler(
        works, archive=lambda batch: second.extend(one.task.id for one in batch)
    ):
        fake_clock.advance(70)
        async with asyncio.timeout(PATIENCE):
            while len(first) + len(second) < len(old):
                await asyncio.sleep(0)
    assert sorted(first + second) == old
