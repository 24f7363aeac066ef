"""Works of every shape, with their params and meta, through each of the three databases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

from rota import Context, TaskState, WorkRegistry
from tests.conftest import Database

PATIENCE = 30


class Size(Enum):
    SMALL = "s"


class Address(TypedDict):
    street: str


@dataclass
class Order:
    number: int
    size: Size
    to: Address
    at: datetime


ORDER = Order(7, Size.SMALL, {"street": "Rue É 1"}, datetime(2026, 11, 22, 5, tzinfo=UTC))


async def test_typed_params_reach_the_function_as_they_were_given(
    database: Database, works: WorkRegistry
) -> None:
    seen: list[object] = []

    @works.register("ship")
    async def ship(order: Order, key: UUID, on: list[date], by: timedelta = timedelta(0)) -> Order:
        seen.append((order, key, on, by))
        return order

    key, days = UUID(int=5), [date(2026, 11, 22)]
    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(ship.bind(ORDER, key, on=days, by=timedelta(hours=1)))
        assert await handle.result(timeout=PATIENCE) == ORDER
        stored = (await handle.info()).params
        again = await scheduler.schedule("ship", stored)
        assert await again.result(timeout=PATIENCE) == ORDER
    assert seen == [(ORDER, key, days, timedelta(hours=1))] * 2


async def test_a_task_is_known_by_everything_that_was_said_of_it(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("mail.send", meta={"team": "a", "tier": 1}, max_attempts=4)
    async def send(ctx: Context, to: str) -> str:
        return f"{to} for {ctx.meta['tenant']}"

    at = datetime.now(UTC) + timedelta(hours=1)
    async with database.scheduler(works, queues=["mail"]) as scheduler:
        handle = await scheduler.schedule(
            send.bind("Ada"),
            at=at,
            queue="mail",
            priority=7,
            unique="k",
            expires=7200,
            meta={"tenant": "acme", "tier": 2},
        )
        task = await handle.info()
        assert (task.id, task.work, task.params) == (handle.id, "mail.send", {"to": "Ada"})
        assert (task.state, task.status) == (TaskState.SCHEDULED, "scheduled")
        assert (task.queue, task.priority, task.unique) == ("mail", 7, "k")
        assert (task.attempt, task.max_attempts, task.version) == (0, 4, 1)
        assert abs(task.run_at - at) < timedelta(milliseconds=1)
        assert task.due_at == task.run_at
        assert task.expires_at is not None
        assert abs(task.expires_at - at - timedelta(hours=2)) < timedelta(milliseconds=1)
        assert task.meta == {"team": "a", "tenant": "acme", "tier": 2}
        assert (task.started_at, task.finished_at, task.result, task.reason) == (None,) * 4

        await scheduler.update(handle.id, delay=0)
        assert await handle.result(timeout=PATIENCE) == "Ada for acme"
        task = await handle.info()
        assert (task.state, task.attempt, task.result) == (TaskState.DONE, 1, "Ada for acme")
        assert task.started_at is not None
        assert task.finished_at is not None
        assert task.created_at <= task.finished_at
        assert task.meta == {"team": "a", "tenant": "acme", "tier": 2}


async def test_aliases_prefixes_and_commands_are_works_like_any_other(database: Database) -> None:
    tools, works = WorkRegistry(), WorkRegistry()
    echo = tools.command("echo", "echo", args=["{text}"], timeout=PATIENCE, aliases=["say"])
    works.include("tools.", tools)
    async with database.scheduler(works) as scheduler:
        for target in ("tools.echo", "tools.say", echo):
            handle = await scheduler.schedule(target, {"text": "Ada; rm"})
            result = await handle.result(timeout=PATIENCE)
            assert (result["status"], result["stdout"]) == (0, "Ada; rm\n")
            assert (await handle.info()).work == ("tools.echo" if target is echo else target)


async def test_an_option_is_the_calls_then_the_works_then_the_queues_then_the_schedulers(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("plain")
    async def plain() -> None: ...

    @works.register("own", priority=3, max_attempts=3)
    async def own() -> None: ...

    async with database.scheduler(
        works,
        queues=[],
        defaults={"queue": "slow", "priority": 1, "max_attempts": 9},
        queue_defaults={"slow": {"priority": 2}, "fast": {"priority": 20}},
    ) as scheduler:
        wanted = {
            ("plain", None, None): ("slow", 2, 9),
            ("plain", "fast", None): ("fast", 20, 9),
            ("own", None, None): ("slow", 3, 3),
            ("own", "fast", 5): ("fast", 5, 3),
            ("plain", "other", None): ("other", 1, 9),
        }
        for (work, queue, priority), resolved in wanted.items():
            said = {"queue": queue, "priority": priority}
            given: Any = {name: value for name, value in said.items() if value is not None}
            handle = await scheduler.schedule(work, delay=3600, **given)
            task = await handle.info()
            assert (task.queue, task.priority, task.max_attempts) == resolved
            unlimited = await scheduler.schedule(work, delay=3600, max_attempts=None, **given)
            assert (await unlimited.info()).max_attempts is None
    async with database.scheduler(works, queues=[]) as scheduler:
        # Resolved once: another scheduler's defaults do not change what is stored.
        assert (await scheduler.info(handle.id)).max_attempts == 9
