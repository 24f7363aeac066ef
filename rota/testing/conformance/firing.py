"""Ticks of recurring tasks: each fire time is decided once, and the record says how."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.recurring import Fire, Fired, Rules
from rota.core.task import Stored
from rota.errors import DataRefused
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import (
    HOUR,
    LOST,
    a_definition,
    a_tick,
    fire_one,
    stored,
    the_definition,
)
from rota.testing.conformance.setting import SLACK, ContractBase, NodeHandle, a_task


class FiringContract(ContractBase):
    """``fire`` and ``decisions``."""

    def test_a_tick_makes_one_child_and_moves_the_definition_on(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        tick = a_tick(at)
        assert fire_one(repository, tick) == Fired("fired", tick[1].id, True)
        claimed = node.claim_only()
        assert (claimed.id, claimed.recurring) == (tick[1].id, "nightly")
        moved = stored(a_definition(at + HOUR), last_fire_at=at, runs=1)
        assert the_definition(repository) == moved
        (told,) = repository.decisions("nightly", 10)
        assert (told.recurring, told.fire_at, told.decision) == ("nightly", at, "fired")
        assert (told.count, told.task, told.version) == (1, tick[1].id, 1)
        assert abs(told.decided_at - repository.now()) < timedelta(seconds=SLACK)

    def test_a_tick_that_was_decided_already_makes_nothing(
        self, repository: Repository, open_repository: Callable[[], Repository]
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        first, second = a_tick(at), a_tick(at)
        fire_one(repository, first)
        assert fire_one(open_repository(), second) == LOST
        assert repository.states([first[1].id, second[1].id]).keys() == {first[1].id}
        assert len(repository.decisions("nightly", 10)) == 1

    def test_after_a_lost_reply_the_record_says_what_was_decided(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        tick = a_tick(at)
        repository.fire([tick])
        assert fire_one(repository, tick) == LOST
        (told,) = repository.decisions("nightly", 1)
        assert (told.fire_at, told.task) == (at, tick[1].id)
        assert the_definition(repository).runs == 1

    def test_a_tick_planned_from_an_older_definition_is_lost(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        planned = a_tick(at, version=1)
        repository.put_recurring(a_definition(at, params='{"n":2}'))
        assert fire_one(repository, planned) == LOST
        assert repository.counts().get("scheduled", 0) == 0
        assert fire_one(repository, a_tick(at, version=2)).created
        (told,) = repository.decisions("nightly", 10)
        assert told.version == 2

    @pytest.mark.parametrize("decision", ["missed", "rejected", "skipped"])
    def test_a_tick_without_a_child_is_recorded(
        self, repository: Repository, decision: Any
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire = Fire("nightly", at, at + HOUR, at, decision, 17)
        assert fire_one(repository, (fire, None)) == Fired(decision)
        (told,) = repository.decisions("nightly", 10)
        assert (told.decision, told.count, told.task) == (decision, 17, None)
        assert the_definition(repository) == stored(a_definition(at + HOUR))
        assert repository.counts().get("scheduled", 0) == 0

    def test_ticks_of_several_definitions_win_and_lose_apart(self, repository: Repository) -> None:
        at = repository.now()
        for name in ("a", "b", "c"):
            repository.put_recurring(a_definition(at, id=name))
        fire_one(repository, a_tick(at, recurring="b"))
        answers = repository.fire([a_tick(at, recurring=name) for name in ("c", "b", "a", "x")])
        assert [answer.created for answer in answers] == [True, False, True, False]
        assert repository.counts().get("scheduled") == 3
        for name in ("a", "b", "c"):
            assert the_definition(repository, name).next_fire_at == at + HOUR

    def test_ticks_of_one_definition_may_follow_each_other_in_one_call(
        self, repository: Repository
    ) -> None:
        at = repository.now() - 4 * HOUR
        repository.put_recurring(a_definition(at))
        missed = Fire("nightly", at, at + HOUR, at, "missed", 1)
        ticks = [(missed, None), *(a_tick(at + n * HOUR) for n in (1, 2, 3))]
        answers = repository.fire(ticks)
        assert [answer.decision for answer in answers] == ["missed", "fired", "fired", "fired"]
        moved = a_definition(at + 4 * HOUR, last_fire_at=at + 3 * HOUR, runs=3)
        assert the_definition(repository) == stored(moved)
        told = [(one.fire_at, one.decision) for one in repository.decisions("nightly", 10)]
        assert told == [
            *((at + n * HOUR, "fired") for n in (3, 2, 1)),
            (at, "missed"),
        ]

    def test_a_tick_that_does_not_follow_the_one_before_is_lost(
        self, repository: Repository
    ) -> None:
        at = repository.now() - 4 * HOUR
        repository.put_recurring(a_definition(at))
        ticks = [a_tick(at), a_tick(at), a_tick(at + 2 * HOUR), a_tick(at + HOUR)]
        answers = repository.fire(ticks)
        assert [answer.decision for answer in answers] == ["fired", None, None, "fired"]
        assert repository.counts().get("scheduled") == 2

    @pytest.mark.parametrize("conflict", ["raise", "return"])
    def test_a_child_that_meets_an_existing_task_is_not_created(
        self, repository: Repository, conflict: str
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        holder = self.put(repository, a_task(unique="k"))
        tick = a_tick(at, child={"unique": "k", "on_conflict": conflict})
        assert fire_one(repository, tick) == Fired("fired", holder, False)
        assert repository.counts().get("scheduled") == 1
        (told,) = repository.decisions("nightly", 10)
        assert (told.decision, told.task) == ("fired", holder)
        assert the_definition(repository).runs == 0
        assert repository.outstanding("nightly") == 0

    def test_a_child_whose_id_is_taken_is_not_created(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        taken = self.put(repository, a_task())
        answers = repository.fire([a_tick(at, child={"id": taken}), a_tick(at + HOUR)])
        assert answers[0] == Fired("fired", taken, False)
        assert answers[1].created
        assert the_definition(repository).runs == 1
        assert repository.outstanding("nightly") == 1

    def test_children_with_a_key_are_entered_along_with_the_others(
        self, repository: Repository
    ) -> None:
        at = repository.now() - 3 * HOUR
        repository.put_recurring(a_definition(at))
        keys = ["k", None, "k"]
        ticks = [a_tick(at + n * HOUR, child={"unique": key}) for n, key in enumerate(keys)]
        answers = repository.fire(ticks)
        assert [answer.created for answer in answers] == [True, True, False]
        assert answers[2].task == answers[0].task

    def test_with_the_last_of_its_runs_the_recurrence_ends(self, repository: Repository) -> None:
        at = repository.now() - 4 * HOUR
        rules = Rules(max_runs=2).encode()
        repository.put_recurring(a_definition(at, rules=rules))
        answers = repository.fire([a_tick(at + n * HOUR, max_runs=2) for n in range(3)])
        assert [answer.decision for answer in answers] == ["fired", "fired", None]
        ended = stored(a_definition(None, rules=rules), last_fire_at=at + HOUR, runs=2)
        assert the_definition(repository) == ended
        assert repository.counts().get("scheduled") == 2
        more = a_definition(at + 2 * HOUR, rules=Rules(max_runs=3).encode())
        repository.put_recurring(more)
        assert fire_one(repository, a_tick(at + 2 * HOUR, max_runs=3)).created
        assert the_definition(repository).next_fire_at is None

    def test_lowering_its_runs_below_those_made_ends_it_without_another(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        repository.fire([a_tick(at), a_tick(at + HOUR)])
        assert fire_one(repository, a_tick(at + 2 * HOUR, max_runs=2)) == LOST
        assert the_definition(repository).next_fire_at is None
        assert len(repository.decisions("nightly", 10)) == 2

    @pytest.mark.parametrize("how", ["alive", "paused", "ended"])
    def test_by_hand_a_child_is_made_out_of_rhythm(self, repository: Repository, how: str) -> None:
        at = repository.now()
        first = None if how == "ended" else at + HOUR
        repository.put_recurring(a_definition(first))
        if how == "paused":
            repository.pause_recurring("nightly")
        tick = a_tick(at, expected=None, following=None, decision="triggered", overlap="skip")
        assert fire_one(repository, tick) == Fired("triggered", tick[1].id, True)
        expected = stored(a_definition(first), paused=how == "paused")
        assert the_definition(repository) == expected
        (told,) = repository.decisions("nightly", 10)
        assert (told.fire_at, told.decision, told.task) == (at, "triggered", tick[1].id)
        assert repository.outstanding("nightly") == 1

    def test_what_cannot_be_stored_decides_nothing(self, repository: Repository) -> None:
        at = repository.now()
        for name in ("a", "b"):
            repository.put_recurring(a_definition(at, id=name))
        good = a_tick(at, recurring="a")
        bad = a_tick(at, recurring="b", child={"params": '{"t":"\ud800"}'})
        with pytest.raises(DataRefused):
            repository.fire([good, bad])
        assert repository.decisions("a", 10) == []
        assert repository.states([good[1].id]) == {}
        assert fire_one(repository, good).created

    def test_no_ticks_are_no_trouble(self, repository: Repository) -> None:
        assert repository.fire([]) == []

    def test_decisions_are_told_newest_first_page_by_page(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        for n in range(4):
            repository.fire([a_tick(at + n * HOUR)])
        told = repository.decisions("nightly", 2)
        assert [one.fire_at for one in told] == [at + 3 * HOUR, at + 2 * HOUR]
        told = repository.decisions("nightly", 10, before=told[-1].fire_at)
        assert [one.fire_at for one in told] == [at + HOUR, at]
        assert repository.decisions("other", 10) == []

    def test_what_is_decided_twice_about_one_fire_time_adds_up(
        self, repository: Repository
    ) -> None:
        """A definition that was removed and put again may come to a fire time once more."""
        at = repository.now()
        for count in (3, 4):
            repository.put_recurring(a_definition(at))
            fire_one(repository, (Fire("nightly", at, at + HOUR, at, "missed", count), None))
            repository.remove_recurring("nightly")
        (told,) = repository.decisions("nightly", 10)
        assert (told.decision, told.count) == ("missed", 7)

    def test_decisions_are_kept_for_thirty_days_also_of_the_removed(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        at = repository.now()
        for name in ("gone", "nightly"):
            repository.put_recurring(a_definition(at, id=name))
            fire_one(repository, a_tick(at, recurring=name))
        repository.remove_recurring("gone")
        clock.advance(29 * 86_400)
        repository.tidy()
        fire_one(repository, a_tick(at + HOUR))
        assert len(repository.decisions("gone", 10)) == 1
        clock.advance(2 * 86_400)
        repository.tidy()
        assert repository.decisions("gone", 10) == []
        (told,) = repository.decisions("nightly", 10)
        assert told.fire_at == at + HOUR

    def test_a_fired_child_waits_like_any_task(self, repository: Repository) -> None:
        at = repository.now() + HOUR
        repository.put_recurring(a_definition(at))
        tick = a_tick(at, child={"id": new_id(), "given_id": True})
        fire_one(repository, tick)
        assert repository.states([tick[1].id]) == {tick[1].id: Stored.SCHEDULED}
        task = repository.get(tick[1].id)
        assert task is not None
        assert (task.recurring, task.fire_at, task.due_at) == ("nightly", at, at)
