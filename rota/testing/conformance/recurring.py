"""Definitions of recurring tasks: put, changed, paused, ended, and when they are due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire, Fired, Put, Rules
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
LOST = Fired(None)


def a_definition(first: datetime | None, **fields: Any) -> Definition:
    """``nightly``, first due then; fields replace."""
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


def stored(definition: Definition, **fields: Any) -> Definition:
    """As it stands in the repository once it was put."""
    return definition._replace(**({"due_at": definition.next_fire_at} | fields))


def a_tick(
    at: datetime, *, child: dict[str, Any] | None = None, **fields: Any
) -> tuple[Fire, NewTask]:
    """The firing of ``at`` with its child, the next an hour later; fields replace."""
    name = fields.get("recurring", "nightly")
    task = a_task(recurring=name, fire_at=at, at=at, **(child or {}))
    values: dict[str, Any] = {
        "recurring": name,
        "expected": at,
        "following": at + HOUR,
        "fire_at": at,
        "task": task.id,
    }
    return Fire(**(values | fields)), task


def fire_one(repository: Repository, tick: tuple[Fire, NewTask | None]) -> Fired:
    """Decide one tick."""
    (answer,) = repository.fire([tick])
    return answer


def the_definition(repository: Repository, recurring_id: str = "nightly") -> Definition:
    """The definition, which must exist."""
    definition = repository.get_recurring(recurring_id)
    assert definition is not None, f"recurring task {recurring_id!r} is not there"
    return definition


class RecurringContract(ContractBase):
    """``put_recurring`` to ``due_recurring``."""

    def test_a_definition_is_read_back_as_it_was_put(self, repository: Repository) -> None:
        wanted = a_definition(
            repository.now(),
            params='{"t":"漢"}',
            queue="q",
            priority=-4,
            rules=Rules(overlap="queue", end=repository.now() + HOUR).encode(),
            meta='{"who":"me"}',
        )
        assert repository.put_recurring(wanted) is Put.CREATED
        assert repository.get_recurring("nightly") == stored(wanted)
        assert repository.list_recurring() == [stored(wanted)]
        assert repository.get_recurring("other") is None

    def test_what_is_the_rows_own_cannot_be_put(self, repository: Repository) -> None:
        at = repository.now()
        wanted = a_definition(at)
        own: dict[str, Any] = {
            "last_fire_at": at,
            "paused": True,
            "version": 7,
            "runs": 3,
            "due_at": at + HOUR,
        }
        repository.put_recurring(wanted._replace(**own))
        assert the_definition(repository) == stored(wanted)

    def test_stating_a_definition_again_changes_nothing(self, repository: Repository) -> None:
        first = repository.now() + HOUR
        repository.put_recurring(a_definition(first))
        repository.pause_recurring("nightly")
        assert repository.put_recurring(a_definition(first + HOUR)) is Put.SAME
        assert the_definition(repository) == stored(a_definition(first), paused=True)

    @pytest.mark.parametrize(
        "change",
        [
            {"work": "other"},
            {"params": '{"n":2}'},
            {"options": '{"max_attempts":3}'},
            {"queue": "other"},
            {"priority": 3},
            {"meta": '{"n":1}'},
            {"rules": Rules(overlap="allow", jitter=5.0).encode()},
        ],
    )
    def test_other_content_changes_it_but_not_its_rhythm(
        self, repository: Repository, change: dict[str, Any]
    ) -> None:
        first = repository.now() + HOUR
        repository.put_recurring(a_definition(first))
        assert repository.put_recurring(a_definition(first + HOUR, **change)) is Put.CHANGED
        assert the_definition(repository) == stored(a_definition(first, version=2, **change))

    @pytest.mark.parametrize(
        "change",
        [
            {"trigger": '{"every_seconds":60}'},
            {"rules": Rules(start=datetime.fromisoformat("2026-01-01T00:00:00Z")).encode()},
            {"rules": Rules(end=datetime.fromisoformat("2036-01-01T00:00:00Z")).encode()},
            {"rules": Rules(max_runs=3).encode()},
        ],
    )
    def test_other_times_change_its_rhythm(
        self, repository: Repository, change: dict[str, Any]
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire_one(repository, a_tick(at, following=None))
        assert repository.put_recurring(a_definition(at + HOUR, **change)) is Put.CHANGED
        changed = a_definition(at + HOUR, version=2, **change)
        assert the_definition(repository) == stored(changed, last_fire_at=at, runs=1)

    def test_a_definition_that_states_a_higher_version_is_kept(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        newer = a_definition(at, priority=2, rules=Rules(version=2).encode())
        repository.put_recurring(newer)
        older = a_definition(at + HOUR, priority=1, rules=Rules(version=1).encode())
        assert repository.put_recurring(older) is Put.OLDER
        assert repository.put_recurring(a_definition(at, priority=0)) is Put.OLDER
        assert the_definition(repository) == stored(newer)
        newest = a_definition(at, priority=3, rules=Rules(version=2).encode())
        assert repository.put_recurring(newest) is Put.CHANGED
        assert the_definition(repository) == stored(newest, version=2)

    def test_unreadable_rules_give_way_to_readable_ones(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at, rules="from a newer rota"))
        assert repository.list_recurring()[0].rules == "from a newer rota"
        assert repository.put_recurring(a_definition(at + HOUR)) is Put.CHANGED
        assert the_definition(repository) == stored(a_definition(at + HOUR), version=2)

    @pytest.mark.parametrize("given", [{}, {"priority": 9}])
    def test_what_is_not_to_be_replaced_stays(
        self, repository: Repository, given: dict[str, Any]
    ) -> None:
        at = repository.now()
        assert repository.put_recurring(a_definition(at), replace=False) is Put.CREATED
        another = a_definition(at + HOUR, **given)
        assert repository.put_recurring(another, replace=False) is Put.EXISTS
        assert the_definition(repository) == stored(a_definition(at))

    def test_they_are_listed_by_id_page_by_page(self, repository: Repository) -> None:
        for name in ("c", "a", "Z", "b"):
            repository.put_recurring(a_definition(repository.now(), id=name))
        assert ids(repository.list_recurring()) == ["Z", "a", "b", "c"]
        assert ids(repository.list_recurring(2)) == ["Z", "a"]
        assert ids(repository.list_recurring(2, after="a")) == ["b", "c"]
        assert repository.list_recurring(2, after="c") == []

    def test_a_removed_definition_is_gone(self, repository: Repository) -> None:
        first = repository.now()
        repository.put_recurring(a_definition(first))
        assert repository.remove_recurring("nightly")
        assert not repository.remove_recurring("nightly")
        assert repository.get_recurring("nightly") is None
        assert repository.due_recurring(7200, 10) == ([], None)
        assert fire_one(repository, a_tick(first)) == LOST
        assert fire_one(repository, a_tick(first, expected=None, decision="triggered")) == LOST
        assert repository.counts().get("scheduled", 0) == 0

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
        found, rest = repository.due_recurring(60, 1)
        assert (ids(found), rest) == (["a"], 0.0)
        found, rest = repository.due_recurring(7200, 10)
        assert (ids(found), rest) == (["a", "b", "c"], None)

    def test_of_those_due_at_once_each_comes_once_page_by_page(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        for name in ("d", "b", "a", "c"):
            repository.put_recurring(a_definition(at, id=name))
        found, rest = repository.due_recurring(0, 3)
        assert (ids(found), rest) == (["a", "b", "c"], 0.0)
        found, rest = repository.due_recurring(0, 3, but=["b", "a", "unknown"])
        assert (ids(found), rest) == (["c", "d"], None)
        assert repository.due_recurring(0, 3, but=["a", "b", "c", "d"]) == ([], None)

    def test_paused_and_ended_definitions_are_not_due(self, repository: Repository) -> None:
        repository.put_recurring(a_definition(repository.now(), id="held"))
        repository.pause_recurring("held")
        repository.put_recurring(a_definition(None, id="ended"))
        assert repository.due_recurring(7200, 10) == ([], None)

    def test_while_it_is_paused_no_tick_is_decided(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        assert repository.pause_recurring("nightly") is True
        assert repository.pause_recurring("nightly") is False
        assert repository.pause_recurring("unknown") is None
        assert fire_one(repository, a_tick(at)) == LOST
        assert repository.decisions("nightly", 10) == []
        assert the_definition(repository) == stored(a_definition(at), paused=True)

    def test_it_is_resumed_where_it_is_told_to_go_on(self, repository: Repository) -> None:
        at = repository.now() - 3 * HOUR
        repository.put_recurring(a_definition(at))
        repository.pause_recurring("nightly")
        missed = Fire("nightly", at, at + 4 * HOUR, at, "missed", 4, version=1)
        assert repository.resume_recurring("nightly", at, at + 4 * HOUR, missed)
        assert the_definition(repository) == stored(a_definition(at + 4 * HOUR))
        (told,) = repository.decisions("nightly", 10)
        assert (told.fire_at, told.decision, told.count, told.task) == (at, "missed", 4, None)
        repository.pause_recurring("nightly")
        assert repository.resume_recurring("nightly", at + 4 * HOUR, at + 5 * HOUR)
        assert len(repository.decisions("nightly", 10)) == 1

    def test_it_is_not_resumed_on_an_old_look(self, repository: Repository) -> None:
        at = repository.now()
        missed = Fire("nightly", at, at + HOUR, at, "missed", version=1)
        assert not repository.resume_recurring("nightly", at, at + HOUR, missed)
        repository.put_recurring(a_definition(at))
        assert not repository.resume_recurring("nightly", at, at + HOUR, missed)
        repository.pause_recurring("nightly")
        assert not repository.resume_recurring("nightly", at - HOUR, at + HOUR, missed)
        assert not repository.resume_recurring("nightly", None, at + HOUR, missed)
        repository.put_recurring(a_definition(at, priority=1))
        assert not repository.resume_recurring("nightly", at, at + HOUR, missed)
        assert repository.decisions("nightly", 10) == []
        assert the_definition(repository).paused
        assert repository.resume_recurring("nightly", at, at + HOUR)

    def test_one_that_has_ended_can_be_resumed_and_stays_ended(
        self, repository: Repository
    ) -> None:
        repository.put_recurring(a_definition(None))
        repository.pause_recurring("nightly")
        assert repository.resume_recurring("nightly", None, None)
        assert the_definition(repository) == stored(a_definition(None))

    def test_the_last_tick_ends_the_recurrence(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire_one(repository, a_tick(at, following=None))
        definition = the_definition(repository)
        assert (definition.next_fire_at, definition.due_at) == (None, None)
        assert repository.due_recurring(7200, 10) == ([], None)
        assert repository.put_recurring(a_definition(at + HOUR)) is Put.SAME
        assert repository.put_recurring(a_definition(at + HOUR, priority=1)) is Put.CHANGED
        assert the_definition(repository).next_fire_at is None

    def test_a_child_may_end_its_recurrence(self, repository: Repository, node: NodeHandle) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.put_recurring(a_definition(at, id="other"))
        fire_one(repository, a_tick(at))
        node.end(node.claim_only(), Ending.CANCELLED, end_recurring=True)
        definition = the_definition(repository)
        assert (definition.next_fire_at, definition.due_at) == (None, None)
        assert definition.version == 1
        assert fire_one(repository, a_tick(at + HOUR)) == LOST
        assert ids(repository.due_recurring(7200, 10)[0]) == ["other"]

    def test_a_refused_outcome_does_not_end_the_recurrence(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire_one(repository, a_tick(at))
        claimed = node.claim_only()
        node.end(claimed)
        assert node.end(claimed, Ending.CANCELLED, end_recurring=True) is None
        assert the_definition(repository).next_fire_at == at + HOUR
