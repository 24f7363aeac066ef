"""Recurring tasks stated in code: put once at a node's start, and by nobody afterwards."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.errors import InvalidName
from rota.triggers import Every
from tests.app.recurrences import *  # noqa: F403 - fixtures are found by name
from tests.app.recurrences import Stage


def code(stage: Stage, n: int = 1, period: float = 60, **rules: Any) -> WorkRegistry:
    """One version of a service's code."""
    works = WorkRegistry()

    @works.recurring("nightly", stage.every(period), {"n": n}, **rules)
    @works.register("report")
    async def report(n: int) -> int:
        return n

    return works


async def _params(scheduler: Scheduler) -> tuple[Any, int]:
    info = await scheduler.recurring("nightly").info()
    return info.params["n"], info.version


async def test_it_is_put_at_the_start_and_keeps_its_rhythm(stage: Stage) -> None:
    async with stage.scheduler(code(stage, queue="q", max_attempts=2)) as scheduler:
        nightly = scheduler.recurring("nightly")
        await stage.go(90)
        (child,) = await nightly.children()
        assert await child.task.result(timeout=30) == 1
        task = await child.task.info()
        assert (task.queue, task.max_attempts) == ("q", 2)
        await nightly.pause()
    async with stage.scheduler(code(stage, queue="q", max_attempts=2)) as scheduler:
        info = await scheduler.recurring("nightly").info()
        assert (info.version, info.paused, info.next_fire_at) == (1, True, stage.at(120))


async def test_the_higher_version_wins_whoever_starts_last(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rota.recurring")
    async with stage.scheduler(code(stage, 1, version=1)) as old:
        assert await _params(old) == (1, 1)
        async with stage.scheduler(code(stage, 2, version=2)) as new:
            assert await _params(new) == (2, 2)
        assert caplog.messages == []
        async with stage.scheduler(code(stage, 1, version=1)) as again:
            assert await _params(again) == (2, 2)
    assert len([text for text in caplog.messages if "is kept as it is stored" in text]) == 1


async def test_of_equal_versions_the_later_start_wins_once_and_says_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rota.recurring")
    async with stage.scheduler(code(stage, 1)) as old, stage.scheduler(code(stage, 2)) as new:
        # Both go on: the old code states nothing again, however long it runs.
        for _ in range(5):
            await stage.go(60)
        assert await _params(old) == await _params(new) == (2, 2)
        assert len(await stage.told(old.recurring("nightly"))) >= 5
    told = [text for text in caplog.messages if "raise version=" in text]
    assert len(told) == 1


async def test_a_client_declares_nothing(memory_stage: Stage) -> None:
    async with memory_stage.scheduler(code(memory_stage), queues=[]) as client:
        assert await client.list_recurring() == []


async def test_what_has_passed_does_not_keep_the_service_from_starting(
    memory_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage = memory_stage
    async with stage.scheduler(code(stage, end=stage.at(90))) as scheduler:
        await stage.go(100)
        assert (await scheduler.recurring("nightly").info()).next_fire_at is None
    async with stage.scheduler(code(stage, end=stage.at(90))) as scheduler:
        assert (await scheduler.recurring("nightly").info()).version == 1
        await scheduler.recurring("nightly").remove()
    assert caplog.messages == []
    async with stage.scheduler(code(stage, end=stage.at(90))) as scheduler:
        assert await scheduler.list_recurring() == []
    assert [text for text in caplog.messages if "never fires" in text]


async def test_included_registries_bring_theirs_under_their_prefix(memory_stage: Stage) -> None:
    works = WorkRegistry()
    works.include("billing.", code(memory_stage))
    async with memory_stage.scheduler(works) as scheduler:
        (info,) = await scheduler.list_recurring()
        assert (info.id, info.work) == ("billing.nightly", "billing.report")
        await memory_stage.go(60)
        (child,) = await scheduler.recurring("billing.nightly").children()
        assert await child.task.result(timeout=30) == 1


async def test_two_of_one_id_are_refused_at_the_start(memory_stage: Stage) -> None:
    works = WorkRegistry.chain(code(memory_stage, 1), code(memory_stage, 2))
    with pytest.raises(InvalidName, match="declared twice"):
        await memory_stage.scheduler(works).start()


def test_the_decorated_work_stays_what_it_is(works: WorkRegistry) -> None:
    @works.register("plain")
    def plain(n: int = 1) -> int:
        return n + 1

    assert works.recurring("a", Every(60))(plain) is plain
    assert works.recurring("b", Every(90), {"n": 5}, catchup="none")(plain)(2) == 3
    assert [name for name, _ in works.declarations()] == ["a", "b"]
