"""Inserts that meet what exists: unique keys, given ids, repeated calls."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Ending, Inserted, Stored, TaskState
from rota.errors import DuplicateTask
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task, some_tasks


class ConflictContract(ContractBase):
    """At most one unfinished task per unique key, at most one task ever per id."""

    def test_a_taken_unique_key_is_answered_with_its_holder(self, repository: Repository) -> None:
        holder = self.put(repository, a_task(unique="k"))
        for on_conflict in ("raise", "return"):
            other = a_task(unique="k", on_conflict=on_conflict)
            assert repository.insert([other]) == [Inserted(holder, False, Stored.SCHEDULED, True)]
            assert repository.get(other.id) is None

    def test_a_conflict_does_not_keep_its_neighbours_out(self, repository: Repository) -> None:
        self.put(repository, a_task(unique="k"))
        first, clash, last = a_task(), a_task(unique="k"), a_task(unique="free")
        answers = repository.insert([first, clash, last])
        assert [answer.created for answer in answers] == [True, False, True]
        assert set(repository.states([first.id, clash.id, last.id])) == {first.id, last.id}

    @pytest.mark.parametrize("clash", ["key", "id", "key in the call"])
    def test_together_a_conflict_keeps_all_of_them_out(
        self, repository: Repository, clash: str
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        first, last = a_task(), a_task(unique="free")
        met = {
            "key": a_task(unique="k"),
            "id": a_task()._replace(id=holder, given_id=True),
            "key in the call": a_task(unique="free"),
        }[clash]
        with pytest.raises(DuplicateTask) as caught:
            repository.insert([first, last, met], together=True)
        expected = last.id if clash == "key in the call" else holder
        assert caught.value.task_id == expected
        assert set(repository.states([first.id, last.id, met.id])) <= {holder}
        free = repository.insert([a_task(unique="free"), a_task()], together=True)
        assert [answer.created for answer in free] == [True, True]

    def test_together_what_may_meet_another_does(self, repository: Repository) -> None:
        holder = self.put(repository, a_task(unique="k"))
        met = a_task(unique="k", on_conflict="return")
        answers = repository.insert([a_task(), met], together=True)
        assert [answer.created for answer in answers] == [True, False]
        assert answers[1].id == holder

    def test_of_two_alike_in_one_call_the_first_is_created(self, repository: Repository) -> None:
        first, second = a_task(unique="k"), a_task(unique="k")
        answers = repository.insert([first, second])
        assert answers[0] == Inserted(first.id, True, Stored.SCHEDULED)
        assert answers[1] == Inserted(first.id, False, Stored.SCHEDULED, True)

    def test_a_working_holder_is_answered_as_working(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        node.claim_only()
        assert repository.insert([a_task(unique="k")]) == [
            Inserted(holder, False, Stored.WORKING, True)
        ]

    def test_a_taken_id_is_answered_and_changes_nothing(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(params='{"n":1}', given_id=True))
        again = a_task(id=task_id, params='{"n":2}', given_id=True)
        assert repository.insert([again]) == [Inserted(task_id, False, Stored.SCHEDULED)]
        found = repository.get(task_id)
        assert found is not None
        assert found.params == {"n": 1}

    def test_the_unique_key_is_free_once_its_task_has_ended(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.DONE, Ending.FAILED, Ending.CANCELLED, None):
            holder = self.put(repository, a_task(unique="k"))
            assert repository.find_key("k") == holder
            if kind is None:
                repository.cancel(holder, "no")
            else:
                node.end(node.claim_only(), kind)
            assert repository.find_key("k") is None
        assert repository.insert([a_task(unique="k")])[0].created

    def test_a_task_that_is_tried_again_keeps_its_unique_key(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        for kind in (Ending.RETRY, Ending.AGAIN, Ending.RELEASE):
            node.end(node.claim_one(holder), kind, delay=60)
            assert repository.find_key("k") == holder
            assert not repository.insert([a_task(unique="k")])[0].created

    def test_a_parked_task_keeps_its_unique_key(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        node.end(node.claim_only(), Ending.PARK)
        assert repository.insert([a_task(unique="k")]) == [
            Inserted(holder, False, Stored.PARKED, True)
        ]

    def test_a_repeated_insert_recognises_its_own_tasks(self, repository: Repository) -> None:
        tasks = [*some_tasks(3), a_task(unique="k")]
        self.put(repository, *tasks)
        answers = repository.insert(tasks, repeated=True)
        assert answers == [Inserted(task.id, False, Stored.SCHEDULED) for task in tasks]
        assert repository.counts().get("scheduled") == 4

    def test_a_repeated_insert_that_had_not_committed_creates(self, repository: Repository) -> None:
        tasks = [*some_tasks(3), a_task(unique="k")]
        answers = repository.insert(tasks, repeated=True)
        assert all(answer.created for answer in answers)

    def test_a_repeated_insert_after_the_task_has_ended_creates_nothing(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.DONE, Ending.FAILED, Ending.CANCELLED):
            state = Stored(int(kind))
            ended, fresh = a_task(unique="k"), a_task()
            self.put(repository, ended)
            node.end(node.claim_only(), kind)
            answers = repository.insert([fresh, ended], repeated=True)
            assert answers == [
                Inserted(fresh.id, True, Stored.SCHEDULED),
                Inserted(ended.id, False, state),
            ]
            assert [claimed.id for claimed in node.claim()] == [fresh.id]
            assert repository.states([ended.id]) == {ended.id: state}
            assert repository.find_key("k") is None

    def test_a_given_id_is_looked_for_in_history_without_being_repeated(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task = a_task(given_id=True)
        self.put(repository, task)
        node.end(node.claim_only(), payload='"first"')
        assert repository.insert([task]) == [Inserted(task.id, False, Stored.DONE)]
        assert node.claim() == []
        found = repository.get(task.id)
        assert found is not None
        assert (found.state, found.result) == (TaskState.DONE, "first")

    @pytest.mark.parametrize("repeated", [False, True])
    @pytest.mark.parametrize("period", [None, 600.0])
    def test_the_id_is_answered_before_the_key_though_it_is_in_history(
        self, repository: Repository, node: NodeHandle, period: float | None, repeated: bool
    ) -> None:
        ended = a_task(given_id=not repeated)
        self.put(repository, ended)
        node.end(node.claim_only())
        holder = self.put(repository, a_task(unique="k", period=period, delay=60))
        again = ended._replace(unique="k", period=period)
        assert repository.insert([again], repeated=repeated) == [
            Inserted(ended.id, False, Stored.DONE)
        ]
        assert repository.find_key("k") == holder

    def test_a_repeated_replacement_leads_to_what_one_leads_to(
        self, repository: Repository
    ) -> None:
        at = repository.now() + timedelta(hours=1)
        asked = {
            "unique": "k",
            "on_conflict": "replace",
            "at": at,
            "priority": 4,
            "queue": "other",
            "params": '{"n":2}',
            "meta": '{"m":2}',
            "options": Options(max_attempts=7).encode(),
        }
        holder = self.put(repository, a_task(unique="k", delay=60))
        new, met = a_task(**asked), [Inserted(holder, False, Stored.SCHEDULED, True)]
        for _ in range(2):  # the earlier try had not committed; then it had
            assert repository.insert([new], repeated=True) == met
            found = repository.get(holder)
            assert found is not None
            assert (found.due_at, found.priority, found.queue) == (at, 4, "other")
            assert (found.params, found.meta, found.max_attempts) == ({"n": 2}, {"m": 2}, 7)
        assert repository.get(new.id) is None

    def test_a_repeated_insert_that_would_replace_does_not_replace_its_own_task(
        self, repository: Repository
    ) -> None:
        task = a_task(unique="k", on_conflict="replace", delay=60)
        self.put(repository, task)
        before = repository.get(task.id)
        assert repository.insert([task], repeated=True) == [
            Inserted(task.id, False, Stored.SCHEDULED)
        ]
        assert repository.get(task.id) == before

    def test_replace_changes_the_waiting_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k", delay=3600))
        at = repository.now() + timedelta(seconds=7200)
        new = a_task(
            unique="k",
            on_conflict="replace",
            at=at,
            priority=9,
            queue="other",
            params='{"n":2}',
            meta='{"m":2}',
            expires_at=at + timedelta(seconds=5),
        )
        assert repository.insert([new]) == [Inserted(holder, False, Stored.SCHEDULED, True)]
        found = repository.get(holder)
        assert found is not None
        assert (found.run_at, found.priority, found.queue) == (at, 9, "other")
        assert (found.params, found.meta) == ({"n": 2}, {"m": 2})
        assert found.expires_at == at + timedelta(seconds=5)
        assert found.version == 2
        assert repository.get(new.id) is None
        assert node.claim_one(holder).params == '{"n":2}'

    def test_replace_makes_a_task_due_earlier(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k", delay=3600))
        repository.insert([a_task(unique="k", on_conflict="replace", delay=0)])
        assert [claimed.id for claimed in node.claim()] == [holder]

    def test_replace_leaves_a_working_task_alone(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        claimed = node.claim_only()
        new = a_task(unique="k", on_conflict="replace", priority=9, params='{"n":2}')
        assert repository.insert([new]) == [Inserted(holder, False, Stored.WORKING, True)]
        found = repository.get(holder)
        assert found is not None
        assert (found.priority, found.params) == (0, json.loads(claimed.params))
        assert node.end(claimed) is Stored.DONE

    def test_ids_and_keys_are_compared_exactly(self, repository: Repository) -> None:
        keys = ["key", "KEY", "key ", "kéy", "ke\u0301y"]
        answers = repository.insert([a_task(unique=key) for key in keys])
        assert all(answer.created for answer in answers)
        assert len({repository.find_key(key) for key in keys}) == len(keys)
        assert repository.states([new_id()]) == {}
