"""Tasks that come in parts: one transaction, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Fence, Inserted, NewTask, Stored
from rota.errors import DataRefused, DuplicateTask, LeaseLost
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    OpenRepository,
    a_task,
    ids,
    some_tasks,
)


class PartsContract(ContractBase):
    """``insert_parts``."""

    def test_all_parts_are_written_and_answered_in_their_order(
        self, repository: Repository
    ) -> None:
        parts = [some_tasks(3), some_tasks(1), some_tasks(2)]
        tasks = [task for part in parts for task in part]
        answers = repository.insert_parts(parts)
        assert answers == [Inserted(task.id, True, Stored.SCHEDULED) for task in tasks]
        assert len(repository.states(ids(tasks))) == 6
        assert repository.insert_parts([]) == []

    def test_nothing_is_there_before_the_last_part_has_come(
        self, repository: Repository, open_repository: OpenRepository
    ) -> None:
        elsewhere = open_repository()
        parts = [some_tasks(2), some_tasks(2)]
        seen: list[dict[str, Stored]] = []

        def coming() -> Iterator[Sequence[NewTask]]:
            for part in parts:
                yield part
                seen.append(elsewhere.states(ids(parts[0])))

        assert len(repository.insert_parts(coming())) == 4
        assert seen == [{}, {}]

    def test_what_the_parts_raise_leaves_nothing(self, repository: Repository) -> None:
        first = some_tasks(3)

        def breaking() -> Iterator[Sequence[NewTask]]:
            yield first
            raise KeyError("the second part")

        with pytest.raises(KeyError, match="the second part"):
            repository.insert_parts(breaking())
        assert repository.states(ids(first)) == {}
        assert len(repository.insert_parts([first])) == 3

    @pytest.mark.parametrize("clash", ["key", "id", "an id of ours"])
    def test_one_that_meets_another_keeps_all_parts_out(
        self, repository: Repository, clash: str
    ) -> None:
        holder = self.put(repository, a_task(unique="k"))
        met = {
            "key": a_task(unique="k"),
            "id": a_task()._replace(id=holder, given_id=True),
            "an id of ours": a_task()._replace(id=holder),
        }[clash]
        first, last = a_task(), a_task(unique="free")
        with pytest.raises(DuplicateTask) as caught:
            repository.insert_parts(iter([[first], [met], [last]]))
        assert caught.value.task_id == holder
        assert set(repository.states(ids([first, met, last]))) <= {holder}
        assert repository.insert([a_task(unique="free")])[0].created

    def test_an_id_that_has_ended_is_met_in_any_part(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        ended = self.put(repository, a_task())
        node.end(node.claim_only())
        first, again = a_task(), a_task()._replace(id=ended, given_id=True)
        with pytest.raises(DuplicateTask) as caught:
            repository.insert_parts([[first], [again]])
        assert caught.value.task_id == ended
        assert repository.states(ids([first, again])) == {ended: Stored.DONE}

    def test_a_fence_that_does_not_hold_keeps_all_parts_out(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        parent = node.claim_only()
        child = a_task(fence=Fence(node.id, parent.batch + 1, parent.id))
        first = a_task()
        with pytest.raises(LeaseLost):
            repository.insert_parts([[first], [child]])
        assert repository.states(ids([first, child])) == {}
        held = child._replace(fence=Fence(node.id, parent.batch, parent.id))
        assert len(repository.insert_parts([[first], [held]])) == 2

    def test_what_may_meet_another_does_in_any_part(self, repository: Repository) -> None:
        holder = self.put(repository, a_task(unique="k"))
        parts = [[a_task()], [a_task(unique="k", on_conflict="return")], [a_task(id=new_id())]]
        answers = repository.insert_parts(iter(parts))
        assert [answer.created for answer in answers] == [True, False, True]
        assert answers[1].id == holder

    def test_data_that_is_refused_in_a_later_part_leaves_nothing(
        self, repository: Repository
    ) -> None:
        first = some_tasks(2)
        with pytest.raises(DataRefused):
            repository.insert_parts([first, [a_task(meta='"\ud800"')]])
        assert repository.states(ids(first)) == {}
