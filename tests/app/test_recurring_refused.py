"""What cannot be right about a recurring task is refused when it is defined, by its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rota import BackgroundScheduler, Backoff, WorkRegistry
from rota.core.recurring import Definition
from rota.core.request import Unique
from rota.errors import InvalidArgument, InvalidName, InvalidParams, InvalidTrigger, UnknownWork
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.triggers import Every

NAIVE = datetime(2040, 1, 1)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FAR = datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
def works(works: WorkRegistry) -> WorkRegistry:
    @works.register("note")
    async def note(n: int = 0) -> int:
        return n

    return works


RULES: list[tuple[str, dict[str, Any]]] = [
    ("catchup", {"catchup": "sometimes"}),
    ("catchup", {"catchup": None}),
    ("catchup_limit", {"catchup_limit": 0}),
    ("catchup_limit", {"catchup_limit": 10_001}),
    ("catchup_limit", {"catchup_limit": True}),
    ("misfire_grace_time", {"misfire_grace_time": -1}),
    ("misfire_grace_time", {"misfire_grace_time": 0}),
    ("misfire_grace_time", {"misfire_grace_time": "soon"}),
    ("overlap", {"overlap": "perhaps"}),
    ("max_instances", {"max_instances": 0}),
    ("max_instances", {"max_instances": 1.5}),
    ("max_instances", {"max_instances": 2, "overlap": "allow"}),
    ("start", {"start": NAIVE}),
    ("end", {"end": NAIVE}),
    ("end", {"start": FAR, "end": FAR - timedelta(days=1)}),
    ("max_runs", {"max_runs": 0}),
    ("jitter", {"jitter": -1}),
    ("version", {"version": -1}),
    ("version", {"version": "2"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("trigger", {"end": PAST}),
    ("jitter", {"jitter": 61}),
    ("id", {"id": "e6d1c4d0-1d3a-4f53-8a0b-6a0a7ad1f4a1"}),
    ("unique", {"unique": "k"}),
    ("unique", {"unique": Unique("k", 60)}),
    ("on_conflict", {"on_conflict": "return"}),
    ("at", {"at": FAR}),
    ("delay", {"delay": 5}),
    ("expires", {"expires": FAR}),
    ("connection", {"connection": object()}),
    ("max_attempts", {"max_attempts": 0}),
    ("priority", {"priority": 1000}),
    ("queue", {"queue": "UPPER"}),
]


@pytest.mark.parametrize(("field", "said"), [*RULES, *OTHERS])
def test_a_wrong_option_is_refused_by_name(
    works: WorkRegistry, field: str, said: dict[str, Any]
) -> None:
    with BackgroundScheduler(works) as scheduler:
        with pytest.raises(InvalidArgument) as met:
            scheduler.add_recurring("beat", "note", Every(60), **said)
        assert met.value.field == field
        assert any(word in str(met.value) for word in (";", "must be"))
        assert scheduler.list_recurring() == []


@pytest.mark.parametrize(("field", "said"), RULES)
def test_a_declared_rule_is_refused_where_it_stands(
    works: WorkRegistry, field: str, said: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as met:
        works.recurring("beat", Every(60), **said)
    assert met.value.field == field


def test_works_params_triggers_and_ids_are_checked(works: WorkRegistry) -> None:
    with BackgroundScheduler(works) as scheduler:
        with pytest.raises(UnknownWork, match="elsewhere"):
            scheduler.add_recurring("beat", "elsewhere", Every(60))
        with pytest.raises(InvalidParams, match="n"):
            scheduler.add_recurring("beat", "note", Every(60), {"n": "many"})
        for trigger in ("0 3 * * *", Every, None):
            with pytest.raises(InvalidTrigger, match="pass a trigger"):
                scheduler.add_recurring("beat", "note", trigger)  # type: ignore[arg-type]
        for name in ("", "x" * 201, 7):
            with pytest.raises(InvalidName):
                scheduler.add_recurring(name, "note", Every(60))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cron"):
            scheduler.add_recurring("beat", "note", Every(60), cron="x")  # type: ignore[call-arg]
        assert scheduler.list_recurring() == []
        for limit in (0, 10_001, "all"):
            with pytest.raises(InvalidArgument, match="limit"):
                scheduler.list_recurring(limit)  # type: ignore[arg-type]


def test_a_declaration_is_checked_where_it_stands(works: WorkRegistry) -> None:
    with pytest.raises(InvalidArgument, match="above"):

        @works.recurring("beat", Every(60))
        async def plain() -> None: ...

    with pytest.raises(InvalidTrigger, match="pass a trigger"):
        works.recurring("beat", "0 3 * * *")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="unique") as met:
        works.recurring("beat", Every(60), unique="k")  # type: ignore[call-arg]
    assert met.value.field == "unique"
    with pytest.raises(InvalidParams):

        @works.recurring("beat", Every(60), {"m": 1})
        @works.register("other")
        async def other(n: int) -> None: ...

    assert list(works.declarations()) == []
    declare = works.recurring("beat", Every(60), max_attempts=3, backoff=Backoff(first=1))
    declare(works.get("note"))
    with pytest.raises(InvalidName, match="declared already"):
        declare(works.get("note"))


def test_a_change_is_checked_like_an_addition(works: WorkRegistry) -> None:
    with BackgroundScheduler(works) as scheduler:
        beat = scheduler.add_recurring("beat", "note", Every(60), max_instances=2)
        for field, said in [*RULES, *OTHERS]:
            if said == {"max_instances": 2, "overlap": "allow"}:
                continue
            with pytest.raises(InvalidArgument) as met:
                beat.change(**said)
            assert met.value.field == field
        assert beat.info().version == 1


def test_one_that_cannot_be_read_is_shown_and_can_be_removed(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    repository = MemoryRepository(clock=fake_clock)
    repository.put_recurring(
        Definition(
            id="future",
            work="note",
            params="{}",
            trigger='{"when_the_moon_is_full":true}',
            options="{}",
            queue="default",
            priority=0,
            next_fire_at=fake_clock.now(),
        )
    )
    with BackgroundScheduler(works, repository, queues=[], clock=fake_clock) as scheduler:
        (info,) = scheduler.list_recurring()
        assert (info.id, info.trigger, info.rules) == ("future", None, None)
        assert info.broken is not None
        assert "upgrade rota" in info.broken
        future = scheduler.recurring("future")
        assert future.info() == info
        assert future.pause()
        for verb in (future.trigger_now, future.resume, future.next_fire_times):
            with pytest.raises(InvalidTrigger, match="upgrade rota"):
                verb()
        assert scheduler.add_recurring("future", "note", Every(60)).put == "changed"
        assert future.info().broken is None
        future.remove()
        assert scheduler.list_recurring() == []
