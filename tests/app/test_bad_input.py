"""What cannot be right is refused by name, with a remedy, and changes nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from rota import Context, Scheduler, Task, TaskSpec, Unique, WorkRegistry, derive_id
from rota.core.clock import LONGEST
from rota.core.task import Ending, Finish
from rota.errors import (
    InvalidArgument,
    InvalidParams,
    LeaseLost,
    PayloadTooLarge,
    StaleVersion,
    UnknownWork,
    WrongState,
)
from tests.conftest import Database

PATIENCE = 30
LIMIT = 1000
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def book() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("add")
    async def add(a: int) -> int:
        return a

    return works


#: More digits than Python writes out (``sys.set_int_max_str_digits``).
HUGE = 10**5000
#: The options of a call that are wrong, and the field each is refused by.
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("delay", {"at": NOW, "delay": 1}),
    ("at", {"at": "2026-11-22"}),
    ("at", {"at": NOW.replace(tzinfo=None)}),
    ("delay", {"delay": "5m"}),
    ("delay", {"delay": math.nan}),
    ("delay", {"delay": math.inf}),
    ("delay", {"delay": 2 * LONGEST}),
    ("delay", {"delay": 10**400}),
    ("delay", {"delay": -(10**400)}),
    ("delay", {"delay": HUGE}),
    ("delay", {"delay": -HUGE}),
    ("priority", {"priority": HUGE}),
    ("max_attempts", {"max_attempts": -HUGE}),
    ("max_rescues", {"max_rescues": -HUGE}),
    ("expires", {"expires": HUGE}),
    ("timeout", {"timeout": -HUGE}),
    ("queue", {"queue": HUGE}),
    ("id", {"id": HUGE}),
    ("expires", {"expires": -1}),
    ("on_conflict", {"on_conflict": "merge"}),
    ("backoff", {"backoff": "2s"}),
    ("timeout", {"timeout": 0}),
    ("max_attempts", {"max_attempts": 0}),
    ("max_rescues", {"max_rescues": -1}),
    ("priority", {"priority": True}),
    ("priority", {"priority": 101}),
    ("queue", {"queue": 5}),
    ("queue", {"queue": "A b"}),
    ("unique", {"unique": "x" * 201}),
    ("unique", {"unique": "a\x00b"}),
    ("unique.period", {"unique": Unique("k", period=0)}),
    ("id", {"id": "order-77"}),
    ("store_result", {"store_result": "yes"}),
    ("meta", {"meta": [1]}),
    ("meta", {"meta": {"x": "y" * LIMIT}}),
    ("meta.x", {"meta": {"x": "\x00"}}),
    ("connection", {"connection": object()}),
]

#: Params of a task of ``add``, and the field they are refused by.
PARAMS: list[tuple[str, Any]] = [
    ("a", {"a": "x"}),
    ("a", {"a": math.nan}),
    ("a", {}),
    ("b", {"a": 1, "b": 2}),
    ("params", {"a": 10**LIMIT}),
]

#: Changes of a waiting task, and the field they are refused by.
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("at", {"at": 1}),
    ("delay", {"delay": -1}),
    ("delay", {"at": NOW, "delay": 1}),
    ("queue", {"queue": "A b"}),
    ("priority", {"priority": 1000}),
    ("a", {"params": {"a": "x"}}),
    ("params", {"params": 5}),
    ("params", {"params": {"a": 10**LIMIT}}),
]


async def refused(call: Callable[[], Awaitable[object]], field: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        await call()
    told = caught.value
    assert told.field == field, told
    assert any(words in str(told) for words in ("; ", " must be ")), "it says what to do"
    return told


async def test_a_schedule_is_refused_by_the_name_of_what_is_wrong(database: Database) -> None:
    async with database.scheduler(book(), queues=[], size_limit=LIMIT) as scheduler:
        for field, options in OPTIONS:
            await refused(partial(scheduler.schedule, "add", {"a": 1}, **options), field)
        for field, params in PARAMS:
            told = await refused(partial(scheduler.schedule, "add", params), field)
            kind = PayloadTooLarge if field == "params" else InvalidParams
            assert isinstance(told, kind)
            many = [TaskSpec("add", {"a": 1}), TaskSpec("add", params)]
            await refused(partial(scheduler.schedule_many, many), field)
        with pytest.raises(UnknownWork, match="; known are add"):
            await scheduler.schedule("ad", {"a": 1})
        assert set((await scheduler.counts()).values()) == {0}


async def test_a_verb_is_refused_by_the_name_of_what_is_wrong(database: Database) -> None:
    async with database.scheduler(book(), queues=[], size_limit=LIMIT) as scheduler:
        handle = await scheduler.schedule("add", {"a": 1}, delay=3600)
        before = await handle.info()
        for field, changes in CHANGES:
            await refused(partial(handle.update, **changes), field)
        with pytest.raises(StaleVersion, match="read it again"):
            await handle.update(priority=1, expected_version=9)
        calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("id", lambda: scheduler.info("x")),
            ("id", lambda: scheduler.cancel(5)),
            ("unique", lambda: scheduler.cancel(handle.id, unique="k")),
            ("reason", lambda: handle.cancel(5)),  # type: ignore[arg-type]
            ("unique", lambda: scheduler.find(unique="")),
            ("timeout", lambda: handle.wait(timeout=-1)),
            ("limit", lambda: handle.children(limit=0)),
            ("id", lambda: handle.children(after="x")),
            ("limit", lambda: scheduler.changes(limit=0)),
            ("limit", lambda: scheduler.claim(limit=0)),
            ("queues", lambda: scheduler.claim("mail")),
            ("lease", lambda: scheduler.claim(lease=0)),
            ("wait", lambda: scheduler.restore(-1)),
            ("timeout", lambda: scheduler.shutdown(-1)),
        ]
        for field, call in calls:
            await refused(call, field)
        assert scheduler.running
        assert await handle.info() == before
        assert await handle.cancel("no\x00good") == "cancelled"
        assert (await handle.info()).reason == "no\\0good"


#: What a function given as ``backoff`` may answer by mistake.
NONSENSE: list[Any] = ["soon", None, -1, math.nan, math.inf, 2 * LONGEST, 10**400, True, ValueError]


async def test_a_backoff_that_returns_nonsense_fails_the_task_and_says_so(
    database: Database,
) -> None:
    works = WorkRegistry()
    for number, value in enumerate(NONSENSE):

        def backoff(attempt: int, value: Any = value) -> Any:
            if isinstance(value, type):
                raise value("in the backoff")
            return value

        @works.register(f"w{number}", max_attempts=3, backoff=backoff)
        async def fail() -> None:
            raise KeyError("the work's own")

    async with database.scheduler(works) as scheduler:
        for number in range(len(NONSENSE)):
            task = await (await scheduler.schedule(f"w{number}")).wait(timeout=PATIENCE)
            assert (task.state, task.attempt) == ("failed", 1), NONSENSE[number]
            assert task.reason is not None
            assert "backoff" in task.reason
            assert "the work's own" in task.reason


async def test_what_is_no_json_is_a_failed_attempt_that_says_so(database: Database) -> None:
    works = WorkRegistry()
    answers: dict[str, Any] = {
        "object": object(),
        "nan": [math.nan],
        "nul": {"deep": ["\x00"]},
        "surrogate": "\ud800",
        "keys": {1: 2, (3,): 4},
        "large": "x" * LIMIT,
    }

    @works.register("answer", max_attempts=3)
    async def answer(kind: str) -> Any:
        return answers[kind]

    async with database.scheduler(works, size_limit=LIMIT) as scheduler:
        for kind in answers:
            task = await (await scheduler.schedule(answer.bind(kind))).wait(timeout=PATIENCE)
            assert (task.state, task.attempt, task.result) == ("failed", 1, None), kind
            assert (task.reason or "").startswith("result"), kind
            assert "; " in (task.reason or ""), kind
            (attempt,) = await scheduler.history(task.id)
            assert attempt.reason == task.reason


async def working(scheduler: Scheduler, task_id: str) -> Task:
    """The task's row while it runs, without what may change by itself."""
    task = await scheduler.info(task_id)
    assert task.state == "working"
    return task


async def test_a_running_tasks_row_is_changed_by_its_own_attempt_only(
    database: Database, works: WorkRegistry
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold(ctx: Context) -> str:
        await ctx.report({"step": 1})
        await ctx.report({"step": 2})
        started.set()
        await go_on.wait()
        return "well"

    async with database.scheduler(works) as scheduler:
        house = scheduler._house
        assert house is not None
        handle = await scheduler.schedule(hold.bind(), unique="k")
        await started.wait()
        before = await working(scheduler, handle.id)
        node, batch = before.node, before.batch
        assert node is not None
        assert batch is not None

        wrong: list[dict[str, Any]] = [
            {"priority": 5},
            {"params": {}},
            {"delay": 1},
            {"queue": "other"},
        ]
        for changes in wrong:
            with pytest.raises(WrongState, match=r"is working; ") as told:
                await handle.update(**changes)
            assert told.value.task_id == handle.id
        assert await working(scheduler, handle.id) == before

        # A report from the past, and those of other attempts.
        repository = database.repository() if database.kind == "memory" else house.repository
        past = await asyncio.to_thread(repository.report, node, handle.id, batch, 1, "{}")
        assert past is False
        for token in ((node, batch + 1), (node + 1, batch)):
            with pytest.raises(LeaseLost):
                await asyncio.to_thread(
                    repository.report, token[0], handle.id, token[1], 99, '{"step":99}'
                )
        report = await handle.report()
        assert report is not None
        assert (report.data, report.n) == ({"step": 2}, 2)

        # Outcomes with the token of another attempt.
        for token in ((node, batch + 1), (node + 1, batch)):
            for ending in Ending:
                late = Finish(handle.id, token[1], before.attempt, ending, reason="late")
                states = await asyncio.to_thread(repository.finish, token[0], [late])
                assert states == [None], ending
        assert await working(scheduler, handle.id) == before
        go_on.set()
        assert await handle.result(timeout=PATIENCE) == "well"
        assert len(await handle.history()) == 1


async def test_a_pulled_task_that_was_taken_back_is_not_changed(database: Database) -> None:
    async with database.scheduler(book(), queues=[]) as scheduler:
        handle = await scheduler.schedule("add", {"a": 1})
        (pulled,) = await scheduler.claim()
        repository = scheduler._house.repository  # type: ignore[union-attr]
        owner, batch = (await handle.info()).node, (await handle.info()).batch
        assert owner is not None
        assert batch is not None
        assert await asyncio.to_thread(repository.drop_lease, owner, batch) == 1
        before = await handle.info()
        for late in (
            lambda: pulled.done(5),
            lambda: pulled.fail("late"),
            pulled.release,
            lambda: pulled.report(1),
        ):
            with pytest.raises(LeaseLost) as told:
                await late()
            assert told.value.task_id == handle.id
        assert await handle.info() == before
        with pytest.raises(InvalidArgument):
            await scheduler.info(derive_id("x") + "x")
