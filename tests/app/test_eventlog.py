"""Each event is one log record that says by fields what it is about; silent unless asked."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from rota import Again, Backoff, BlockingContext, Context, Retry, WorkRegistry
from rota.errors import TaskFailed
from rota.testing import ManualScheduler

FIELDS = ("task_id", "work", "queue", "attempt", "node")


def told(caplog: pytest.LogCaptureFixture, logger: str) -> list[Any]:
    return [record for record in caplog.records if record.name == logger]


async def test_an_attempt_says_how_it_began_and_ended(
    works: WorkRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "rota")

    @works.register("flaky", queue="mail", max_attempts=2, backoff=Backoff(first=5, jitter="none"))
    async def flaky(ctx: Context) -> None:
        ctx.log.info("at it")
        raise ConnectionError("two\n\x1b[2Jlines")

    async with ManualScheduler(works) as scheduler:
        handle = await scheduler.schedule("flaky")
        await scheduler.advance(60)
        node = scheduler.node

    records = told(caplog, "rota.task")
    assert [(one.event, one.levelname, one.attempt) for one in records] == [
        ("started", "DEBUG", 1),
        ("retrying", "WARNING", 1),
        ("started", "DEBUG", 2),
        ("failed", "ERROR", 2),
    ]
    (_, own) = told(caplog, "rota.work")
    for one in (*records[2:], own):
        assert [getattr(one, name) for name in FIELDS] == [handle.id, "flaky", "mail", 2, node]
    assert records[3].reason == "ConnectionError: two\n\x1b[2Jlines"
    assert records[3].getMessage() == (
        f"task {handle.id} (flaky) failed, attempt 2, after 0.000 s: ConnectionError: two [2Jlines"
    )


async def test_what_went_well_is_told_at_info(
    works: WorkRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rota")

    @works.register("well")
    def well(ctx: BlockingContext) -> Again | None:
        return Again(after=60) if ctx.attempt == 1 and not ctx.meta else None

    async with ManualScheduler(works) as scheduler:
        await scheduler.schedule("well")
        await scheduler.schedule("well", meta={"once": True})
        await scheduler.run_due()

    assert sorted(one.event for one in told(caplog, "rota.task")) == ["again", "done"]


async def test_below_the_level_nothing_is_made(
    works: WorkRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "rota")

    @works.register("tries", max_attempts=2)
    async def tries() -> None:
        raise Retry(after=1)

    async with ManualScheduler(works) as scheduler:
        handle = await scheduler.schedule("tries")
        await scheduler.advance(5)
        with pytest.raises(TaskFailed):
            await handle.result()

    assert [one.event for one in told(caplog, "rota.task")] == ["failed"]


def test_a_service_without_logging_hears_of_no_task() -> None:
    program = """
from rota import WorkRegistry
from rota.testing import InlineBackgroundScheduler

works = WorkRegistry()

@works.register("broken")
def broken() -> None:
    raise ValueError("no")

with InlineBackgroundScheduler(works) as scheduler:
    print(scheduler.schedule("broken").info().state)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)

    assert (done.stdout, done.stderr) == ("failed\n", "")
