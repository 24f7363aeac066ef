"""Recurring definitions, and that each fire time is decided once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire
from rota.core.task import Ending, NewTask
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    PLAIN,
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ids,
)

HOUR = timedelta(hours=1)


def a_definition(first: datetime | None, **fields: Any) -> Definition:
    values: dict[str, Any] = {
        "id": "nightly",
        "work": "report.build",
        "params": '{"n":1}',
        "trigger": '{"every_seconds":3600}',
        "options": PLAIN,
        "queue": "default",
        "priority": 0,
        "next_fire_at": first,
    }
    return Definition(**(values | fields))


def a_tick(at: datetime, **fields: Any) -> tuple[Fire, NewTask | None]:
    """The firing of ``at`` with its child, the next an hour later."""
    child = a_task(recurring="nightly", fire_at=at, at=at)
    values: dict[str, Any] = {
        "recurring": "nightly",
        "expected": at,
        "following": at + HOUR,
        "fire_at": at,
        "decision": "fired",
        "task": child.id,
    }
    return Fire(**(values | fields)), child


class RecurringContract(ContractBase):
    """``put_recurring`` to ``decisions``."""

    def test_a_definition_is_read_back_as_it_was_put(self, repository: Repository) -> None:
        wanted = a_definition(
            repository.now(), params='{"t":"漢"}', queue="q", priority=-4, paused=True
        )
        assert repository.put_recurring(wanted)
        assert repository.get_recurring("nightly") == wanted
        assert repository.list_recurring() == [wanted]
        assert repository.get_recurring("other") is None

    def test_stating_a_definition_again_changes_nothing(self, repository: Repository) -> None:
        first = repository.now() + HOUR
        repository.put_recurring(a_definition(first))
        assert not repository.put_recurring(a_definition(first + HOUR))
        assert repository.get_recurring("nightly") == a_definition(first)

    @pytest.mark.parametrize(
        "change",
        [
            {"work": "other"},
            {"params": '{"n":2}'},
            {"trigger": '{"every_seconds":60}'},
            {"options": '{"max_attempts":3}'},
            {"queue": "other"},
            {"priority": 3},
            {"paused": True},
        ],
    )
    def test_other_content_changes_it_and_its_next_tick(
        self, repository: Repository, change: dict[str, Any]
    ) -> None:
        first = repository.now() + HOUR
        repository.put_recurring(a_definition(first))
        assert repository.put_recurring(a_definition(first + HOUR, **change))
        assert repository.get_recurring("nightly") == a_definition(
            first + HOUR, version=2, **change
        )

    def test_a_removed_definition_is_gone(self, repository: Repository) -> None:
        first = repository.now()
        repository.put_recurring(a_definition(first))
        assert repository.remove_recurring("nightly")
        assert not repository.remove_recurring("nightly")
        assert repository.get_recurring("nightly") is None
        assert repository.due_recurring(7200, 10) == ([], None)
        assert repository.fire([a_tick(first)]) == [None]

    def test_due_are_those_within_the_time_asked_soonest_first(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        now = repository.now()
        for name, hours in (("c", 3), ("a", 1), ("b", 2)):
            repository.put_recurring(a_definition(now + hours * HOUR, id=name))
        found, rest = repository.due_recurring(60, 10)
        assert (found, rest is not None) == ([], True)
        assert abs((rest or 0) - 3600) < SLACK
        clock.advance(2.5 * 3600)
        found, rest = repository.due_recurring(60, 10)
        assert ids(found) == ["a", "b"]
        assert abs((rest or 0) - 1800) < SLACK
        found, _ = repository.due_recurring(60, 1)
        assert ids(found) == ["a"]
        found, rest = repository.due_recurring(7200, 10)
        assert (ids(found), rest) == (["a", "b", "c"], None)

    def test_paused_and_ended_definitions_are_not_due(self, repository: Repository) -> None:
        repository.put_recurring(a_definition(repository.now(), id="held", paused=True))
        repository.put_recurring(a_definition(None, id="ended"))
        assert repository.due_recurring(7200, 10) == ([], None)

    def test_a_tick_makes_one_child_and_moves_the_definition_on(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        tick = a_tick(at)
        (answer,) = repository.fire([tick])
        assert answer is not None
        assert (answer.id, answer.created) == (tick[0].task, True)
        claimed = node.claim_only()
        assert (claimed.id, claimed.recurring) == (tick[0].task, "nightly")
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert definition.next_fire_at == at + HOUR
        assert definition.last_fire_at == at
        (told,) = repository.decisions("nightly", 10)
        assert (told.recurring, told.fire_at, told.decision) == ("nightly", at, "fired")
        assert (told.count, told.task) == (1, tick[0].task)
        assert abs(told.decided_at - repository.now()) < timedelta(seconds=SLACK)

    def test_a_tick_that_was_decided_already_makes_nothing(
        self, repository: Repository, open_repository: Callable[[], Repository]
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        first, second = a_tick(at), a_tick(at)
        repository.fire([first])
        assert open_repository().fire([second]) == [None]
        assert repository.states([first[0].task or "", second[0].task or ""]).keys() == {
            first[0].task
        }
        assert len(repository.decisions("nightly", 10)) == 1

    def test_a_tick_without_a_child_is_recorded(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire, _ = a_tick(at, decision="missed", count=17, task=None)
        (answer,) = repository.fire([(fire, None)])
        assert answer is not None
        assert not answer.created
        (told,) = repository.decisions("nightly", 10)
        assert (told.decision, told.count, told.task) == ("missed", 17, None)
        assert repository.counts().get("scheduled", 0) == 0

    def test_ticks_of_several_definitions_win_and_lose_apart(self, repository: Repository) -> None:
        at = repository.now()
        for name in ("a", "b", "c"):
            repository.put_recurring(a_definition(at, id=name))
        repository.fire([a_tick(at, recurring="b")])
        answers = repository.fire([a_tick(at, recurring=name) for name in ("a", "b", "c")])
        assert [answer is not None for answer in answers] == [True, False, True]
        assert repository.counts().get("scheduled") == 3

    def test_ticks_of_one_definition_may_follow_each_other_in_one_call(
        self, repository: Repository
    ) -> None:
        at = repository.now() - 3 * HOUR
        repository.put_recurring(a_definition(at))
        answers = repository.fire([a_tick(at + n * HOUR) for n in range(3)])
        assert [answer is not None and answer.created for answer in answers] == [True] * 3
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert definition.next_fire_at == at + 3 * HOUR
        told = sorted(one.fire_at for one in repository.decisions("nightly", 10))
        assert told == [at, at + HOUR, at + 2 * HOUR]

    def test_a_child_whose_unique_key_is_taken_is_not_created(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        holder = self.put(repository, a_task(unique="k"))
        fire, child = a_tick(at)
        assert child is not None
        (answer,) = repository.fire([(fire, child._replace(unique="k"))])
        assert answer is not None
        assert (answer.id, answer.created) == (holder, False)
        assert repository.counts().get("scheduled") == 1

    def test_a_definition_paused_in_the_meantime_does_not_fire(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.put_recurring(a_definition(at, paused=True))
        assert repository.fire([a_tick(at)]) == [None]
        assert repository.decisions("nightly", 10) == []
        repository.put_recurring(a_definition(at))
        assert repository.fire([a_tick(at)]) != [None]

    def test_a_change_keeps_when_it_fired_last(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.fire([a_tick(at)])
        repository.put_recurring(a_definition(at + HOUR, priority=5))
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert (definition.priority, definition.last_fire_at) == (5, at)

    def test_the_last_tick_ends_the_recurrence(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.fire([a_tick(at, following=None)])
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert definition.next_fire_at is None
        assert repository.due_recurring(7200, 10) == ([], None)

    def test_a_child_may_end_its_recurrence(self, repository: Repository, node: NodeHandle) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.put_recurring(a_definition(at, id="other"))
        repository.fire([a_tick(at)])
        node.end(node.claim_only(), Ending.CANCELLED, end_recurring=True)
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert definition.next_fire_at is None
        assert repository.fire([a_tick(at + HOUR)]) == [None]
        assert ids(repository.due_recurring(7200, 10)[0]) == ["other"]

    def test_a_refused_outcome_does_not_end_the_recurrence(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.fire([a_tick(at)])
        claimed = node.claim_only()
        node.end(claimed)
        assert node.end(claimed, Ending.CANCELLED, end_recurring=True) is None
        definition = repository.get_recurring("nightly")
        assert definition is not None
        assert definition.next_fire_at == at + HOUR

    def test_decisions_are_limited_to_the_latest(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        for n in range(4):
            repository.fire([a_tick(at + n * HOUR)])
        told = repository.decisions("nightly", 2)
        assert {one.fire_at for one in told} == {at + 2 * HOUR, at + 3 * HOUR}
        assert repository.decisions("other", 10) == []
        assert new_id() not in {one.task for one in told}
