"""Tasks that are taken along with their insert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Along, Claimed, Ending, Inserted, NewTask, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.auditing import audit
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ids,
    some_tasks,
)


def put_along(node: NodeHandle, *tasks: NewTask, repeated: bool = False) -> list[Inserted]:
    """Insert them through the node's handle, all of them to be taken along by it."""
    along = Along(node.id, node.reserve(1), frozenset(ids(tasks)))
    return node.repository.insert(tasks, repeated=repeated, along=along)


class AlongContract(ContractBase):
    """``insert`` with ``along``."""

    def test_what_is_taken_along_is_as_if_it_had_been_claimed(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        node, other = make_node(), make_node()
        at = node.repository.now()
        fields = {
            "work": "mail",
            "queue": "mail-1",
            "priority": -7,
            "params": '{"to":"a@b.example","n":[1,2.5,null]}',
            "options": Options(max_attempts=7).encode(),
            "expires_at": at + timedelta(hours=1),
            "meta": '{"trace": "00-ab"}',
            "recurring": "nightly",
            "fire_at": at - timedelta(minutes=1),
        }
        taken_along, claimed_later = a_task(**fields), a_task(**fields)
        (answer,) = put_along(node, taken_along)
        assert answer.created
        assert answer.claimed is not None
        other.repository.insert([claimed_later])
        (claimed,) = other.claim(queue="mail-1", priority=-7)
        assert self._alike(answer.claimed) == self._alike(claimed)
        assert answer.claimed.id == taken_along.id
        assert answer.claimed.due_in == 0
        assert answer.claimed.expires_in == pytest.approx(claimed.expires_in, abs=60)
        assert answer.claimed.run_at <= claimed.run_at

    @staticmethod
    def _alike(claimed: Claimed) -> Claimed:
        return claimed._replace(id="", batch=0, due_in=0.0, run_at=0, expires_in=None)

    def test_it_stands_there_as_working_under_its_token(self, node: NodeHandle) -> None:
        tasks = some_tasks(3)
        answers = put_along(node, *tasks)
        assert [answer.claimed is not None for answer in answers] == [True] * 3
        (lease,) = node.repository.held(node.id)
        assert sorted(lease[1]) == sorted(ids(tasks))
        for answer in answers:
            found = node.repository.get(answer.id)
            assert found is not None
            assert (found.state, found.attempt) == (TaskState.WORKING, 1)
            assert (found.node, found.batch) == (node.id, lease[0])
        assert node.claim() == []
        assert node.repository.counts() == {"scheduled": 0, "working": 3, "parked": 0}

    def test_its_outcome_is_taken_like_any_other(self, node: NodeHandle) -> None:
        answers = put_along(node, *some_tasks(2))
        done, tried = (answer.claimed for answer in answers)
        assert done is not None
        assert tried is not None
        assert node.end(done) is Stored.DONE
        assert node.end(tried, Ending.RETRY) is Stored.SCHEDULED
        assert node.end(done) is None
        assert node.repository.drop_lease(node.id, done.batch) == 0
        assert node.claim_only().attempt == 2

    def test_only_those_named_are_taken(self, node: NodeHandle) -> None:
        named, other = some_tasks(2)
        along = Along(node.id, node.reserve(1), frozenset([named.id]))
        first, second = node.repository.insert([other, named], along=along)
        assert (first.claimed, second.claimed is None) == (None, False)
        assert [claimed.id for claimed in node.claim()] == [other.id]

    def test_those_of_a_node_that_died_are_taken_back(
        self, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        dying = make_node()
        (answer,) = put_along(dying, a_task())
        self.lose(dying.repository, clock, dying)
        assert answer.claimed is not None
        assert dying.end(answer.claimed) is None
        again = make_node().claim_only()
        assert (again.id, again.attempt, again.losses) == (answer.id, 1, 1)

    def test_a_node_that_was_buried_takes_nothing_but_the_task_is_in(
        self, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        buried = make_node()
        self.lose(buried.repository, clock, buried)
        (answer,) = put_along(buried, a_task())
        living = make_node()
        assert (answer.created, answer.claimed) == (True, None)
        assert living.repository.held(buried.id) == []
        assert living.claim_only().id == answer.id

    def test_a_paused_queue_is_left_alone(self, node: NodeHandle) -> None:
        node.repository.pause_queue("default", "maintenance")
        (answer,) = put_along(node, a_task())
        assert (answer.created, answer.claimed) == (True, None)
        assert self.state(node.repository, answer.id) is TaskState.SCHEDULED
        node.repository.pause_queue("other", "not this one")
        node.repository.resume_queue("default")
        assert node.claim_only().id == answer.id
        assert put_along(node, a_task())[0].claimed is not None

    def test_a_repeated_insert_takes_nothing_whether_it_had_been_written_or_not(
        self, node: NodeHandle
    ) -> None:
        written, lost = some_tasks(2)
        put_along(node, written)
        answers = put_along(node, written, lost, repeated=True)
        assert [answer.claimed for answer in answers] == [None, None]
        assert [answer.state for answer in answers] == [Stored.WORKING, Stored.SCHEDULED]
        assert len(node.repository.held(node.id)) == 1

    @pytest.mark.parametrize("fields", [{"unique": "k"}, {"given_id": True}])
    def test_what_may_meet_another_is_not_taken(
        self, node: NodeHandle, fields: dict[str, object]
    ) -> None:
        answers = put_along(node, a_task(**fields), a_task())
        assert [(one.created, one.claimed) for one in answers] == [(True, None)] * 2
        assert len(node.claim()) == 2

    def test_when_an_id_is_there_already_nothing_is_taken(self, node: NodeHandle) -> None:
        there, new = some_tasks(2)
        node.repository.insert([there])
        answers = put_along(node, there, new)
        assert [answer.claimed for answer in answers] == [None, None]
        assert [answer.created for answer in answers] == [False, True]
        assert {claimed.id for claimed in node.claim()} == {there.id, new.id}

    def test_the_feed_tells_that_it_is_there(self, repository: Repository) -> None:
        node = NodeHandle(repository)
        repository.feed(on=True)
        (answer,) = put_along(node, a_task())
        changes, _ = repository.updated_since(None, 10)
        assert [(change.task_id, change.state) for change in changes] == [
            (answer.id, Stored.SCHEDULED)
        ]

    def test_the_audit_finds_nothing_amiss(self, node: NodeHandle) -> None:
        put_along(node, *some_tasks(3))
        assert audit(node.repository) == []
