"""Group commit on the schedule side: shared statements, lost replies, a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from rota.core.duty import LONGEST_PAUSE, Offload
from rota.core.ids import new_id
from rota.core.task import Ending, Finish, Membership, NewTask, Stored, Want
from rota.errors import (
    DataRefused,
    InvalidArgument,
    SchedulerNotRunning,
    StorageError,
    StorageUnavailable,
)
from rota.middleware import inserter as inserter_module
from rota.middleware.inserter import Inserter
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task, ids, some_tasks
from tests.middleware.parts import PATIENCE, WatchedRepository, turns

AWAY = "the server is away"


@pytest.fixture
def repository(fake_clock: FakeClock) -> WatchedRepository:
    return WatchedRepository(clock=fake_clock)


@pytest.fixture
async def inserter(repository: WatchedRepository, fake_clock: FakeClock) -> AsyncIterator[Inserter]:
    offload = Offload(name="rota-reader")
    made = Inserter(store=repository, clock=fake_clock, offload=offload, patience=30)
    made.start()
    yield made
    repository.gate.set()
    made.duty.stop()
    assert await asyncio.to_thread(made.duty.join, PATIENCE)
    await asyncio.to_thread(offload.close)


async def entered(repository: WatchedRepository, times: int = 1) -> None:
    """Wait until the repository has been asked so many times more."""
    for _ in range(times):
        assert await asyncio.to_thread(repository.entered.acquire, timeout=PATIENCE)


async def held_up(repository: WatchedRepository, inserter: Inserter) -> asyncio.Future[object]:
    """One insert that is under way until the gate opens."""
    repository.gate.clear()
    first = asyncio.ensure_future(inserter.insert([a_task()]))
    await entered(repository)
    return first


def sizes(repository: WatchedRepository) -> list[int]:
    return [len(tasks) for tasks, _ in repository.inserts]


async def test_what_comes_while_one_is_under_way_shares_the_next(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    tasks = some_tasks(100)
    rest = [asyncio.ensure_future(inserter.insert([task])) for task in tasks]
    await turns()
    repository.gate.set()
    answers = await asyncio.gather(*rest)
    await first
    assert sizes(repository) == [1, 100]
    assert [answer[0].id for answer in answers] == [task.id for task in tasks]
    assert all(answer[0].created for answer in answers)


async def test_alone_a_task_goes_at_once(repository: WatchedRepository, inserter: Inserter) -> None:
    for _ in range(3):
        await inserter.insert([a_task()])
    assert sizes(repository) == [1, 1, 1]
    assert [repeated for _, repeated in repository.inserts] == [False] * 3


async def test_a_group_has_an_end_but_a_callers_tasks_stay_together(
    repository: WatchedRepository, inserter: Inserter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserter_module, "GROUP_LIMIT", 10)
    await held_up(repository, inserter)
    calls = [
        asyncio.ensure_future(inserter.insert(some_tasks(count))) for count in (4, 4, 4, 25, 1)
    ]
    await turns()
    repository.gate.set()
    await asyncio.gather(*calls)
    assert sizes(repository) == [1, 8, 4, 25, 1]


async def test_what_was_handed_over_is_stored_even_if_its_caller_is_cancelled(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    task = a_task()
    second = asyncio.ensure_future(inserter.insert([task]))
    await turns()
    for call in (first, second):
        call.cancel()
    await turns()
    repository.gate.set()
    await entered(repository)
    await inserter.insert([a_task()])
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}
    assert len(repository._book.rows) == 3


async def test_even_at_shutdown_a_cancelled_callers_task_is_stored(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    await held_up(repository, inserter)
    task = a_task()
    second = asyncio.ensure_future(inserter.insert([task]))
    await turns()
    second.cancel()
    await turns()
    inserter.duty.stop()
    repository.gate.set()
    assert await asyncio.to_thread(inserter.duty.join, PATIENCE)
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}


async def test_after_shutdown_nobody_is_kept_waiting(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    waiting = asyncio.ensure_future(inserter.insert([a_task()]))
    await turns()
    repository.fail_before += [StorageUnavailable(AWAY)] * 2  # and in the last try
    inserter.duty.stop()
    repository.gate.set()
    assert await asyncio.to_thread(inserter.duty.join, PATIENCE)
    for call in (first, waiting):
        with pytest.raises(StorageUnavailable):
            await call
    with pytest.raises(SchedulerNotRunning):
        await inserter.insert([a_task()])


async def test_draining_waits_for_what_is_under_way(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    second = asyncio.ensure_future(inserter.insert([a_task()]))
    await turns()
    drained = asyncio.ensure_future(inserter.drain())
    await turns()
    assert not drained.done()
    repository.gate.set()
    await drained
    assert first.done()
    assert second.done()
    await inserter.drain()


async def test_a_database_that_comes_back_gets_the_same_tasks_again(
    repository: WatchedRepository, inserter: Inserter, fake_clock: FakeClock
) -> None:
    task = a_task()
    repository.fail_before += [StorageUnavailable(AWAY)] * 3
    call = asyncio.ensure_future(inserter.insert([task]))
    for _ in range(3):
        await entered(repository)
        await asyncio.to_thread(fake_clock.block_until, 1)
        fake_clock.advance(LONGEST_PAUSE)
    (answer,) = await call
    assert answer.created
    assert repository.inserts == [([task], False)] + [([task], True)] * 3


async def test_a_write_whose_reply_was_lost_counts_as_created(
    repository: WatchedRepository, inserter: Inserter, fake_clock: FakeClock
) -> None:
    task = a_task()
    repository.fail_after.append(StorageUnavailable("the reply was lost"))
    call = asyncio.ensure_future(inserter.insert([task]))
    await entered(repository)
    await asyncio.to_thread(fake_clock.block_until, 1)
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}
    run_and_finish(repository, task)
    fake_clock.advance(LONGEST_PAUSE)
    (answer,) = await call
    assert (answer.created, answer.state) == (True, Stored.DONE)
    assert [repeated for _, repeated in repository.inserts] == [False, True]


def run_and_finish(repository: MemoryRepository, task: NewTask) -> None:
    """What another node may do before the lost reply is asked for again."""
    repository.join(Membership(7, "other", "here", 1, 30.0))
    (claimed,) = repository.claim(7, 1, [Want(task.queue, task.priority, 1)], 0.0)
    repository.finish(7, [Finish(claimed.id, 1, 1, Ending.DONE)], [1])


async def test_of_keyed_tasks_a_lost_reply_is_asked_for_again_too(
    repository: WatchedRepository, inserter: Inserter, fake_clock: FakeClock
) -> None:
    keyed = a_task(unique="k")
    repository.fail_after.append(StorageUnavailable("the reply was lost"))
    call = asyncio.ensure_future(inserter.insert([keyed]))
    await entered(repository)
    await asyncio.to_thread(fake_clock.block_until, 2)  # the inserter's thread, and the call's
    fake_clock.advance(1)
    (answer,) = await call
    assert answer.created
    assert [repeated for _, repeated in repository.inserts] == [False, True]
    (other,) = await inserter.insert([a_task(unique="k")])
    assert (other.created, other.id, other.by_key) == (False, keyed.id, True)
    own = a_task(id=new_id(), given_id=True)
    assert [(await inserter.insert([own]))[0].created for _ in range(2)] == [True, False]


@pytest.mark.parametrize("keyed", [False, True])
async def test_after_its_patience_it_says_so(
    repository: WatchedRepository, inserter: Inserter, fake_clock: FakeClock, keyed: bool
) -> None:
    repository.fail_before += [StorageUnavailable(AWAY)] * 1000
    await asyncio.to_thread(fake_clock.block_until, 1)
    call = asyncio.ensure_future(inserter.insert([a_task(unique="k" if keyed else None)]))
    last_but_one = 25 if keyed else 30
    while fake_clock.monotonic() <= last_but_one:
        await entered(repository)
        await asyncio.to_thread(fake_clock.block_until, 2 if keyed else 1)
        assert not call.done()
        fake_clock.advance(5)
    with pytest.raises(StorageUnavailable, match=r"within 30 s \(the server is away\).*id="):
        await call
    repository.fail_before.clear()
    following = asyncio.ensure_future(inserter.insert([a_task()]))
    await turns()
    await asyncio.to_thread(fake_clock.block_until, 1)
    fake_clock.advance(LONGEST_PAUSE)
    assert (await following)[0].created


async def test_keyed_tasks_hold_up_nobody(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    keyed = asyncio.ensure_future(inserter.insert([a_task(unique="k"), a_task()]))
    await entered(repository)  # it is in the repository while the first still is
    assert sizes(repository) == [1, 2]
    repository.gate.set()
    await asyncio.gather(first, keyed)


async def test_one_refused_for_its_data_is_refused_alone(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    first = await held_up(repository, inserter)
    good = some_tasks(30)
    bad = a_task(meta='"\ud800"')
    calls: dict[str, asyncio.Future[object]] = {}
    for task in (*good[:13], bad, *good[13:]):
        calls[task.id] = asyncio.ensure_future(inserter.insert([task]))
    await turns()
    repository.gate.set()
    with pytest.raises(DataRefused, match="lone surrogate"):
        await calls.pop(bad.id)
    await asyncio.gather(first, *calls.values())
    assert set(repository.states([bad.id, *calls])) == set(calls)
    assert len(sizes(repository)) <= 2 + 2 * 6


async def test_all_of_a_caller_are_refused_if_one_is(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    with pytest.raises(DataRefused):
        await inserter.insert([a_task(), a_task(meta='"\ud800"')])
    assert len(repository._book.rows) == 0


@pytest.mark.parametrize("kind", [StorageError, ValueError])
async def test_any_other_error_goes_to_who_asked_and_ends_there(
    repository: WatchedRepository, inserter: Inserter, kind: type[Exception]
) -> None:
    error = kind("a bug")
    repository.fail_before.append(error)
    with pytest.raises(type(error)) as caught:
        await inserter.insert([a_task()])
    assert caught.value is error
    assert (await inserter.insert([a_task()]))[0].created


# In parts


async def writers_gone(inserter: Inserter) -> None:
    """What was being written is, or never will be: no thread waits for more of it."""
    await asyncio.to_thread(inserter._offload.close)
    assert not [thread for thread in inserter._offload._threads if thread.is_alive()]


async def test_parts_are_written_while_the_next_are_made(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    repository.gate.clear()
    first, second = some_tasks(3), some_tasks(2)

    def made() -> Iterator[list[NewTask]]:
        yield first
        assert repository.entered.acquire(timeout=PATIENCE)  # the first is being written
        repository.gate.set()
        yield second

    answers = await inserter.insert_parts(made())
    assert [answer.id for answer in answers] == ids([*first, *second])
    assert all(answer.created for answer in answers)


async def test_the_loop_turns_between_the_parts(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    turned: list[int] = []

    def made() -> Iterator[list[NewTask]]:
        for number in range(3):
            asyncio.get_running_loop().call_soon(turned.append, number)
            yield some_tasks(1)
            assert turned == list(range(number + 1))

    assert len(await inserter.insert_parts(made())) == 3


async def test_what_the_making_raises_leaves_nothing(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    def made() -> Iterator[list[NewTask]]:
        yield some_tasks(3)
        raise InvalidArgument("no such priority", field="priority")

    with pytest.raises(InvalidArgument, match="no such priority"):
        await inserter.insert_parts(made())
    await writers_gone(inserter)
    assert len(repository._book.rows) == 0


async def test_who_is_cancelled_before_the_last_part_has_stored_nothing(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    def made() -> Iterator[list[NewTask]]:
        yield some_tasks(3)
        call.cancel()
        yield some_tasks(3)
        pytest.fail("it went on")

    call = asyncio.ensure_future(inserter.insert_parts(made()))
    with pytest.raises(asyncio.CancelledError):
        await call
    await writers_gone(inserter)
    assert len(repository._book.rows) == 0


async def test_who_is_cancelled_after_the_last_part_has_stored_all(
    repository: WatchedRepository, inserter: Inserter
) -> None:
    repository.gate.clear()
    call = asyncio.ensure_future(inserter.insert_parts([some_tasks(3), some_tasks(3)]))
    await turns()
    call.cancel()
    await turns()
    repository.gate.set()
    await writers_gone(inserter)
    assert len(repository._book.rows) == 6


@pytest.mark.parametrize("written", [False, True])
async def test_parts_go_again_all_together_when_the_database_was_away(
    repository: WatchedRepository, inserter: Inserter, written: bool
) -> None:
    """Whether or not the first try was written: its reply was lost."""
    lost = repository.fail_after if written else repository.fail_before
    lost.append(StorageUnavailable(AWAY))
    first, second = some_tasks(3), some_tasks(2)

    def made() -> Iterator[list[NewTask]]:
        yield first
        if not written:
            assert repository.entered.acquire(timeout=PATIENCE)  # and fails before the rest comes
        yield second

    answers = await inserter.insert_parts(made())
    assert [answer.id for answer in answers] == ids([*first, *second])
    assert all(answer.created for answer in answers)
    assert len(repository._book.rows) == 5
    assert repository.inserts[-1] == ([*first, *second], True)
