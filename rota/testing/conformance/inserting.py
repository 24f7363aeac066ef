"""Putting tasks in and reading them back."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from rota.core.backoff import Backoff
from rota.core.ids import new_id
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Inserted, Stored, TaskState
from rota.errors import DataRefused
from rota.testing.conformance.setting import SLACK, ContractBase, OpenRepository, a_task, some_tasks

ODD_TEXT = "naïve — 漢字 🦉 ' \" \\ %s :x {} \n\t\u2028"


class InsertingContract(ContractBase):
    """``insert`` without conflicts, ``get``, ``states``, ``counts``."""

    def test_an_inserted_task_is_answered_as_created(self, repository: Repository) -> None:
        task = a_task()
        assert repository.insert([task]) == [Inserted(task.id, True, Stored.SCHEDULED)]

    def test_answers_come_in_the_order_of_the_tasks(self, repository: Repository) -> None:
        tasks = sorted(some_tasks(20), key=lambda task: task.id[::-1])
        assert [answer.id for answer in repository.insert(tasks)] == [task.id for task in tasks]

    def test_inserting_nothing_answers_nothing(self, repository: Repository) -> None:
        assert repository.insert([]) == []

    def test_a_task_is_read_back_as_it_was_put_in(self, repository: Repository) -> None:
        options = Options(max_attempts=7, backoff=Backoff(first=2), timeout=3.5)
        parent = new_id()
        at = repository.now().replace(microsecond=123456) + timedelta(hours=1)
        task = a_task(
            work="mail.send/v2",
            queue="mail-1",
            priority=-7,
            params='{"to":"a@b.example","n":[1,2.5,null,true]}',
            options=options.encode(),
            at=at,
            expires_at=at + timedelta(minutes=1),
            meta='{"trace":"00-ab"}',
            unique="mail:1",
            parent=parent,
            recurring="nightly",
            fire_at=at - timedelta(minutes=1),
        )
        self.put(repository, task)
        found = repository.get(task.id)
        assert found is not None
        assert (found.id, found.work, found.queue, found.priority) == (
            task.id,
            "mail.send/v2",
            "mail-1",
            -7,
        )
        assert found.params == {"to": "a@b.example", "n": [1, 2.5, None, True]}
        assert found.state is TaskState.SCHEDULED
        assert found.due_at == found.run_at == at
        assert found.expires_at == at + timedelta(minutes=1)
        assert found.meta == {"trace": "00-ab"}
        assert found.unique == "mail:1"
        assert (found.parent, found.recurring) == (parent, "nightly")
        assert found.fire_at == at - timedelta(minutes=1)
        assert (found.attempt, found.max_attempts, found.losses) == (0, 7, 0)
        assert (found.version, found.parked, found.status) == (1, False, "scheduled")
        assert (found.node, found.batch, found.finished_at) == (None, None, None)

    def test_every_instant_read_back_is_aware_utc(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(delay=60, expires_in=60))
        found = repository.get(task_id)
        assert found is not None
        for instant in (found.run_at, found.due_at, found.created_at, found.expires_at):
            assert instant is not None
            assert instant.utcoffset() == timedelta(0)

    def test_a_delay_counts_from_the_repositorys_clock(self, repository: Repository) -> None:
        before = repository.now()
        task_id = self.put(repository, a_task(delay=3600))
        found = repository.get(task_id)
        assert found is not None
        assert before + timedelta(seconds=3600) <= found.due_at
        assert found.due_at <= repository.now() + timedelta(seconds=3600)
        assert found.run_at == found.due_at

    def test_expires_in_counts_from_the_nominal_time(self, repository: Repository) -> None:
        at = repository.now() + timedelta(hours=2)
        by_delay = self.put(repository, a_task(delay=3600, expires_in=600))
        by_at = self.put(repository, a_task(at=at, expires_in=600))
        for task_id in (by_delay, by_at):
            found = repository.get(task_id)
            assert found is not None
            assert found.expires_at is not None
            assert found.expires_at - found.due_at == timedelta(seconds=600)

    def test_what_is_overdue_already_is_ready_now_and_keeps_its_nominal_time(
        self, repository: Repository
    ) -> None:
        at = repository.now() - timedelta(days=3)
        task_id = self.put(repository, a_task(at=at))
        found = repository.get(task_id)
        assert found is not None
        assert found.due_at == at
        assert abs(found.run_at - repository.now()) < timedelta(seconds=SLACK)

    def test_text_of_any_script_survives(self, repository: Repository) -> None:
        text = json.dumps({ODD_TEXT: ODD_TEXT}, ensure_ascii=False)
        task = a_task(params=text, meta=text, unique=ODD_TEXT)
        self.put(repository, task)
        found = repository.get(task.id)
        assert found is not None
        assert found.params == found.meta == {ODD_TEXT: ODD_TEXT}
        assert found.unique == ODD_TEXT
        assert repository.find_key(ODD_TEXT) == task.id

    def test_numbers_keep_their_kind(self, repository: Repository) -> None:
        params = {"large": 2**70, "whole": 1.0, "small": 1e-300}
        task_id = self.put(repository, a_task(params=json.dumps(params)))
        found = repository.get(task_id)
        assert found is not None
        assert found.params == params
        assert isinstance(found.params["whole"], float)

    def test_another_handle_sees_what_was_inserted(
        self, repository: Repository, open_repository: OpenRepository
    ) -> None:
        task_id = self.put(repository, a_task())
        assert self.state(open_repository(), task_id) is TaskState.SCHEDULED

    def test_an_unknown_task_is_none(self, repository: Repository) -> None:
        assert repository.get(new_id()) is None
        assert repository.attempts(new_id()) == []
        assert repository.find_key("nobody") is None

    def test_states_names_what_exists_and_nothing_else(self, repository: Repository) -> None:
        waiting, gone = a_task(), a_task()
        self.put(repository, waiting, gone)
        repository.cancel(gone.id, "no")
        assert repository.states([waiting.id, new_id(), gone.id]) == {
            waiting.id: Stored.SCHEDULED,
            gone.id: Stored.CANCELLED,
        }
        assert repository.states([]) == {}

    def test_one_row_refused_for_its_data_leaves_none_of_its_call(
        self, repository: Repository
    ) -> None:
        before, after = some_tasks(3), some_tasks(3)
        bad = a_task(params='{"text":"\ud800"}')
        with pytest.raises(DataRefused):
            repository.insert([*before, bad, *after])
        assert repository.states([task.id for task in (*before, bad, *after)]) == {}
        self.put(repository, *before, *after)

    def test_two_thousand_tasks_go_in_one_call(self, repository: Repository) -> None:
        tasks = some_tasks(2000)
        answers = repository.insert(tasks)
        assert [answer.id for answer in answers] == [task.id for task in tasks]
        assert all(answer.created for answer in answers)
        assert repository.counts().get("scheduled") == 2000
