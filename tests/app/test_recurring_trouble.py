"""What goes wrong with one recurring task, or with the database, while others are fired."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from rota import ScheduleRequest, WorkRegistry
from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire, Fired
from rota.core.task import NewTask
from rota.errors import Rejected, StorageUnavailable
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from tests.app.recurrences import *  # noqa: F403 - fixtures are found by name
from tests.app.recurrences import Stage, until
from tests.conftest import Database

Notes = list[tuple[Any, ...]]


async def test_a_rejected_child_is_decided_and_the_others_are_unharmed(
    stage: Stage, works: WorkRegistry, note: Notes
) -> None:
    async def refuse_odd(request: ScheduleRequest, call_next: Any) -> Any:
        if request.params["n"] % 2:
            raise Rejected("odd")
        return await call_next(request)

    async with stage.scheduler(works, middleware=[refuse_odd]) as scheduler:
        for n in range(6):
            await scheduler.add_recurring(
                f"r{n}", "note", stage.every(60), {"n": n}, catchup="all", overlap="allow"
            )
        await stage.go(125)
        for n in range(6):
            decision = "rejected" if n % 2 else "fired"
            beat = scheduler.recurring(f"r{n}")
            assert await stage.told(beat) == [(decision, 60, 1), (decision, 120, 1)]
            assert len(await beat.children()) == (0 if n % 2 else 2)
        with pytest.raises(Rejected):
            await scheduler.recurring("r1").trigger_now()


async def test_one_that_cannot_be_fired_keeps_its_ticks_and_holds_up_nobody(
    stage: Stage, works: WorkRegistry, note: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """A middleware's bug, what the database refuses, and what this version cannot read."""
    healed = False

    async def spoil(request: ScheduleRequest, call_next: Any) -> Any:
        if request.recurring == "bug" and not healed:
            raise ZeroDivisionError
        if request.recurring == "data" and not healed:
            request = request.replace(meta={"half": 1}, unique="\ud800")
        return await call_next(request)

    stage.repository.put_recurring(
        Definition(
            id="future",
            work="note",
            params="{}",
            trigger='{"when_the_moon_is_full":true}',
            options="{}",
            queue="default",
            priority=0,
            next_fire_at=stage.at(60),
        )
    )
    caplog.set_level(logging.WARNING, "rota.recurring")
    async with stage.scheduler(works, middleware=[spoil]) as scheduler:
        for name in ("bug", "data", "a", "b", "c"):
            await scheduler.add_recurring(
                name, "note", stage.every(60), catchup="all", overlap="allow"
            )
        for _ in range(4):
            stage.clock.advance(60)
            await _fired(scheduler, "abc", stage)
        for name in ("bug", "data", "future"):
            assert await stage.told(scheduler.recurring(name)) == []
            about = [text for text in caplog.messages if f"'{name}'" in text]
            assert len(about) == 1
        healed = True
        for _ in range(2):
            # They are looked at again after a minute or so.
            stage.clock.advance(60)
            await _fired(scheduler, "abc", stage)
        for name in ("bug", "data"):
            await _fired(scheduler, name, stage, every=[name])
            assert await stage.told(scheduler.recurring(name)) == [
                ("fired", 60 * n, 1) for n in range(1, 7)
            ]


async def _fired(scheduler: Any, names: Sequence[str], stage: Stage, every: Any = None) -> None:
    """Wait until these have decided all that is due."""

    async def decided() -> bool:
        infos = [await scheduler.recurring(name).info() for name in every or names]
        now = stage.repository.now()
        return all(info.next_fire_at > now for info in infos)

    await until(decided)


class Unreliable:
    """A repository whose ``fire`` fails as the test says, before or after it took effect."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Fired]:
        self.calls += 1
        if self.before:
            raise self.before.pop()
        answers = self._repository.fire(fires)
        if self.after:
            raise self.after.pop()
        return answers


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_tick_is_decided_once_when_the_reply_is_lost(
    works: WorkRegistry, note: Notes, fake_clock: FakeClock, when: str
) -> None:
    unreliable = Unreliable(MemoryRepository(clock=fake_clock))
    getattr(unreliable, when).append(StorageUnavailable("gone; come back later"))
    stage = Stage(Database("memory", unreliable, fake_clock), fake_clock)  # type: ignore[arg-type]
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(600))
        stage.clock.advance(600)

        async def decided() -> bool:
            stage.clock.advance(0.05)
            return bool(await beat.decisions()) and not getattr(unreliable, when)

        await until(decided)
        stage.clock.advance(60)
        await stage.settle()
        assert await stage.told(beat) == [("fired", 600, 1)]
        (child,) = await beat.children()

        async def ended() -> bool:
            stage.clock.advance(0.05)
            return (await child.task.info()).state.final

        await until(ended)
        assert len(note) == 1
        assert unreliable.calls == (2 if when == "before" else 1)


async def test_a_version_that_states_more_is_passed_over_by_older_code(
    memory_stage: Stage, works: WorkRegistry, note: Notes
) -> None:
    """A catch-up word of a later version must not be taken for one of ours."""
    stage = memory_stage
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(60))
        known = stage.repository.get_recurring("beat")
        assert known is not None
        stage.repository.put_recurring(known._replace(rules='{"catchup":"lunar","version":9}'))
        await scheduler.add_recurring("other", "note", stage.every(60))
        stage.clock.advance(60)
        await _fired(scheduler, ["other"], stage)
        assert await stage.told(beat) == []
        assert "lunar" in ((await beat.info()).broken or "")
