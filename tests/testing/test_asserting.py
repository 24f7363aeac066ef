"""What was scheduled is found; what was not is told readably."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import ANY

import pytest

from rota import WorkRegistry
from rota.errors import InvalidArgument, SchedulerNotRunning
from rota.testing import (
    FakeClock,
    InlineScheduler,
    ManualBackgroundScheduler,
    ManualScheduler,
    assert_scheduled,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scheduler(works: WorkRegistry, clock: FakeClock) -> Iterator[ManualBackgroundScheduler]:
    @works.register("mail")
    def mail(to: str, copies: int = 1) -> None: ...

    with ManualBackgroundScheduler(works, clock=clock) as manual:
        yield manual


def refusal(*args: object, **options: object) -> str:
    with pytest.raises(AssertionError) as met:
        assert_scheduled(*args, **options)  # type: ignore[arg-type]
    return str(met.value)


def test_each_condition_narrows_and_what_fits_is_returned(
    scheduler: ManualBackgroundScheduler, works: WorkRegistry, clock: FakeClock
) -> None:
    mail = works.get("mail")
    first = scheduler.schedule(mail, {"to": "ada"}, delay=60, queue="slow")
    second = scheduler.schedule(mail, {"to": "bob"})
    at = clock.now() + timedelta(seconds=60)

    found = assert_scheduled(scheduler, "mail", times=2)
    assert [task.id for task in found] == sorted([first.id, second.id])
    assert [task.id for task in assert_scheduled(scheduler, mail.bind(to="ada"))] == [first.id]
    assert assert_scheduled(scheduler, mail, params={"to": "ada"}, at=at, queue="slow", times=1)
    assert assert_scheduled(scheduler, mail, params={"to": ANY}, times=2)
    assert assert_scheduled(scheduler, mail, at=at + timedelta(seconds=5), within=5)
    assert assert_scheduled(scheduler, "other", times=0) == []


def test_near_misses_say_how_they_differ_the_nearest_first(
    scheduler: ManualBackgroundScheduler, clock: FakeClock
) -> None:
    far = scheduler.schedule("mail", {"to": "bob", "copies": 3}, queue="slow", delay=90)
    near = scheduler.schedule("mail", {"to": "ada"}, delay=90)
    at = clock.now() + timedelta(seconds=60)

    told = refusal(scheduler, "mail", params={"to": "ada"}, queue="default", at=at)

    never = " was to be scheduled at least once, and was never"
    apart = "params have 'copies' too, 3; params['to'] is 'bob', not 'ada'"
    late = f"at is {(at + timedelta(seconds=30)).isoformat()}, 30 s late"
    assert told.splitlines() == [
        f"'mail', params={{'to': 'ada'}}, at={at.isoformat()}, queue='default'{never}",
        "near misses, 2 of the same work:",
        f"  {near.id}: {late}",
        f"  {far.id}: {apart}; queue is 'slow', not 'default'; {late}",
    ]


def test_too_many_are_listed_and_not_all_of_a_crowd(scheduler: ManualBackgroundScheduler) -> None:
    handles = scheduler.schedule_many([("mail", {"to": "ada"})] * 7)

    told = refusal(scheduler, "mail", times=1).splitlines()
    first = min(handle.id for handle in handles)

    assert told[:2] == ["'mail' was to be scheduled once, and was 7 times", "these fit:"]
    assert told[2].startswith(f"  {first}: scheduled, params {{'to': 'ada'}}, at ")
    assert told[-1] == "  and 2 more"


def test_without_one_of_the_work_the_others_are_counted(
    scheduler: ManualBackgroundScheduler,
) -> None:
    assert refusal(scheduler, "typo").splitlines()[1:] == ["nothing was scheduled at all"]
    scheduler.schedule("mail", {"to": "ada"})
    scheduler.schedule("mail", {"to": "ada"})
    assert refusal(scheduler, "typo").splitlines() == [
        "'typo' was to be scheduled at least once, and was never",
        "no task of this work was scheduled, but:",
        "  'mail' twice",
    ]


async def test_it_looks_from_the_loop_too_and_finds_what_has_ended(works: WorkRegistry) -> None:
    @works.register("mail")
    async def mail() -> None: ...

    async with InlineScheduler(works) as scheduler:
        await scheduler.schedule(mail)
        (task,) = assert_scheduled(scheduler, mail.bind())
        assert task.state.final


def test_wrong_use_is_refused(scheduler: ManualBackgroundScheduler, works: WorkRegistry) -> None:
    with pytest.raises(InvalidArgument, match="in the bound work already"):
        assert_scheduled(scheduler, works.get("mail").bind(to="ada"), params={})
    with pytest.raises(SchedulerNotRunning, match="assert before it is shut down"):
        assert_scheduled(ManualScheduler(works), "mail")
