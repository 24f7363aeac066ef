"""Children of recurring tasks: how many there may be at once, and where they are found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from rota.core.ports import Repository
from rota.core.recurring import Child, Fire, Fired
from rota.core.task import Ending, NewTask, Stored
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
from rota.testing.conformance.setting import SLACK, ContractBase, NodeHandle, a_task, ids


def several(at: datetime, count: int, **fields: Any) -> list[tuple[Fire, NewTask]]:
    """So many ticks, an hour apart."""
    return [a_tick(at + n * HOUR, **fields) for n in range(count)]


class OverlapContract(ContractBase):
    """Overlap, ``look_again``, ``outstanding`` and ``children_of``."""

    @pytest.mark.parametrize("most", [1, 3])
    @pytest.mark.parametrize("together", [True, False])
    def test_with_skip_no_more_than_so_many_are_unfinished(
        self, repository: Repository, node: NodeHandle, most: int, *, together: bool
    ) -> None:
        at = repository.now() - 6 * HOUR
        repository.put_recurring(a_definition(at))
        ticks = several(at, most + 2, overlap="skip", max_instances=most)
        calls = [ticks] if together else [[tick] for tick in ticks]
        answers = [answer for call in calls for answer in repository.fire(call)]
        decided = [answer.decision for answer in answers]
        assert decided == ["fired"] * most + ["skipped"] * 2
        assert repository.outstanding("nightly") == most
        told = repository.decisions("nightly", 2)
        assert [(one.decision, one.task, one.count) for one in told] == [("skipped", None, 1)] * 2
        definition = the_definition(repository)
        assert (definition.next_fire_at, definition.runs) == (at + (most + 2) * HOUR, most)
        assert definition.last_fire_at == at + (most - 1) * HOUR
        node.end(node.claim(1)[0])
        following = a_tick(at + (most + 2) * HOUR, overlap="skip", max_instances=most)
        assert fire_one(repository, following).created
        assert repository.outstanding("nightly") == most

    @pytest.mark.parametrize(
        ("kind", "frees"),
        [
            (Ending.DONE, True),
            (Ending.FAILED, True),
            (Ending.CANCELLED, True),
            (Ending.RETRY, False),
            (Ending.AGAIN, False),
            (Ending.RELEASE, False),
            (Ending.PARK, False),
        ],
    )
    def test_what_may_run_again_is_unfinished(
        self, repository: Repository, node: NodeHandle, kind: Ending, *, frees: bool
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire_one(repository, a_tick(at, overlap="skip"))
        node.end(node.claim_only(), kind, delay=60.0)
        assert repository.outstanding("nightly") == (0 if frees else 1)
        answer = fire_one(repository, a_tick(at + HOUR, overlap="skip"))
        assert answer.decision == ("fired" if frees else "skipped")

    def test_with_allow_there_may_be_any_number(self, repository: Repository) -> None:
        at = repository.now() - 6 * HOUR
        repository.put_recurring(a_definition(at))
        answers = repository.fire(several(at, 5))
        assert [answer.decision for answer in answers] == ["fired"] * 5
        assert repository.outstanding("nightly") == 5
        assert repository.outstanding("nightly", limit=3) == 3

    def test_a_definition_that_comes_from_allow_is_full_from_the_start(
        self, repository: Repository
    ) -> None:
        at = repository.now() - 6 * HOUR
        repository.put_recurring(a_definition(at))
        repository.fire(several(at, 3))
        assert fire_one(repository, a_tick(at + 3 * HOUR, overlap="skip")).decision == "skipped"

    def test_with_queue_the_tick_waits_and_nothing_is_recorded(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        at = repository.now() - 3 * HOUR
        repository.put_recurring(a_definition(at))
        answers = repository.fire(several(at, 3, overlap="queue"))
        assert answers[0].created
        assert answers[1:] == [Fired("waiting"), LOST]
        assert len(repository.decisions("nightly", 10)) == 1
        assert repository.counts().get("scheduled") == 1
        definition = the_definition(repository)
        assert (definition.next_fire_at, definition.last_fire_at) == (at + HOUR, at)
        assert definition.due_at is not None
        looks = definition.due_at - repository.now()
        assert abs(looks - timedelta(seconds=5)) < timedelta(seconds=SLACK)
        clock.advance(2 * SLACK)
        assert ids(repository.due_recurring(0, 10)[0]) == ["nightly"]

    def test_what_waits_is_due_again_when_a_child_has_ended(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now() - 3 * HOUR
        for name in ("nightly", "other"):
            repository.put_recurring(a_definition(at, id=name))
            ticks = [a_tick(at + n * HOUR, recurring=name, overlap="queue") for n in range(2)]
            repository.fire(ticks)
        long_ago = -2 * SLACK
        assert repository.due_recurring(long_ago, 10)[0] == []
        for claimed in node.claim(2):
            node.end(claimed)
        repository.look_again(["nightly", "unknown", "nightly"])
        (due,) = repository.due_recurring(long_ago, 10)[0]
        assert (due.id, due.due_at) == ("nightly", at + HOUR)
        assert fire_one(repository, a_tick(at + HOUR, overlap="queue")).created

    def test_what_does_not_wait_is_left_alone(self, repository: Repository) -> None:
        at = repository.now() + HOUR
        repository.put_recurring(a_definition(at))
        repository.put_recurring(a_definition(None, id="ended"))
        repository.look_again([])
        repository.look_again(["nightly", "ended"])
        assert the_definition(repository) == stored(a_definition(at))
        assert the_definition(repository, "ended") == stored(a_definition(None, id="ended"))

    def test_children_made_by_hand_stand_in_the_way_of_others(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        by_hand = a_tick(at, expected=None, decision="triggered", overlap="skip")
        rhythm = a_tick(at, overlap="skip")
        answers = repository.fire([by_hand, rhythm])
        assert [answer.decision for answer in answers] == ["triggered", "skipped"]
        again = a_tick(at + timedelta(seconds=1), expected=None, decision="triggered")
        assert fire_one(repository, again).created
        assert fire_one(repository, a_tick(at + HOUR, overlap="skip")).decision == "skipped"

    def test_children_of_a_removed_definition_count_when_it_comes_back(
        self, repository: Repository
    ) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire_one(repository, a_tick(at))
        repository.remove_recurring("nightly")
        assert repository.outstanding("nightly") == 1
        repository.put_recurring(a_definition(at + HOUR))
        assert fire_one(repository, a_tick(at + HOUR, overlap="skip")).decision == "skipped"

    def test_other_definitions_children_do_not_count(self, repository: Repository) -> None:
        at = repository.now()
        for name in ("a", "b"):
            repository.put_recurring(a_definition(at, id=name))
        ticks = [a_tick(at, recurring=name, overlap="skip") for name in ("a", "b")]
        assert [answer.decision for answer in repository.fire(ticks)] == ["fired", "fired"]
        assert repository.outstanding("a") == 1

    def test_a_cancelled_child_is_finished(self, repository: Repository) -> None:
        at = repository.now()
        repository.put_recurring(a_definition(at))
        tick = a_tick(at)
        fire_one(repository, tick)
        repository.cancel(tick[1].id, "no")
        assert repository.outstanding("nightly") == 0

    def test_children_are_found_wherever_they_are(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        at = repository.now() - 6 * HOUR
        repository.put_recurring(a_definition(at))
        repository.put_recurring(a_definition(at, id="other"))
        ticks = several(at, 4)
        repository.fire(ticks[:2])
        repository.put_recurring(a_definition(None, priority=1))
        repository.fire([*ticks[2:], a_tick(at, recurring="other")])
        self.put(repository, a_task())
        node.end(node.claim_one(ticks[0][1].id))
        node.end(node.claim_one(ticks[1][1].id), Ending.FAILED)
        node.claim_one(ticks[2][1].id)
        states = [Stored.DONE, Stored.FAILED, Stored.WORKING, Stored.SCHEDULED]
        children = [
            Child(tick[1].id, tick[0].fire_at, version, state)
            for tick, version, state in zip(ticks, [1, 1, 2, 2], states, strict=True)
        ][::-1]
        assert repository.children_of("nightly", 10) == children
        assert repository.children_of("nightly", 2) == children[:2]
        page = repository.children_of("nightly", 2, before=children[1].fire_at)
        assert page == children[2:]
        assert repository.children_of("unknown", 2) == []

    def test_children_go_with_their_history(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        at = repository.now() - 3 * HOUR
        repository.put_recurring(a_definition(at))
        ticks = several(at, 2)
        repository.fire(ticks)
        node.end(node.claim_one(ticks[0][1].id))
        clock.advance(40 * 86_400)
        repository.tidy()
        (left,) = repository.children_of("nightly", 10)
        # Its decision is gone by now, which some stores have the version from.
        assert left._replace(version=None) == Child(
            ticks[1][1].id, at + HOUR, None, Stored.SCHEDULED
        )
        assert repository.outstanding("nightly") == 1

    def test_a_thousand_ended_children_are_forgotten_and_the_rest_counted(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        """Nobody counts them in between, as with ``allow``; then a tick comes that does."""
        at = repository.now() - 2000 * HOUR
        repository.put_recurring(a_definition(at))
        repository.fire(several(at, 1300))
        node = make_node()
        for claimed in node.claim(1200):
            node.end(claimed)
        most: dict[str, Any] = {"overlap": "skip", "max_instances": 100}
        assert fire_one(repository, a_tick(at + 1300 * HOUR, **most)).decision == "skipped"
        for claimed in node.claim(1):
            node.end(claimed)
        assert fire_one(repository, a_tick(at + 1301 * HOUR, **most)).created
        assert repository.outstanding("nightly") == 100
        repository.tidy()
        assert repository.outstanding("nightly") == 100
