"""Calls that meet the same rows or keys in opposite orders: none fails, none waits for ever."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rota.core.ports import Repository
from rota.core.task import Ending, Fence, Inserted, NewTask, Stored
from rota.errors import LeaseLost
from rota.testing.conformance.racing import race, together
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    OpenRepository,
    a_task,
    ending,
    ids,
    some_tasks,
)

KEYS = [f"key-{n}" for n in range(150)]
ROUNDS = 4


class CrossingContract(ContractBase):
    """Batches whose writers could lock each other out."""

    def test_calls_with_the_same_unique_keys_in_opposite_orders(
        self, open_repository: OpenRepository
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        for number in range(ROUNDS):
            self.assert_one_each(handles, f"{number}-", period=None)

    def test_calls_with_the_same_period_keys_in_opposite_orders(
        self, open_repository: OpenRepository
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        for number in range(ROUNDS):
            self.assert_one_each(handles, f"{number}-", period=600.0)

    def test_outcomes_whose_follow_ups_have_the_same_keys_in_opposite_orders(
        self, open_repository: OpenRepository
    ) -> None:
        nodes = [NodeHandle(open_repository()) for _ in range(4)]
        follows: list[NewTask] = []

        def finish(node: NodeHandle, keys: Sequence[str], tasks: Sequence[NewTask]) -> None:
            taken = node.claim(len(keys), queue=f"queue-{node.id}")
            answers = node.finish(
                *[
                    ending(claimed, Ending.DONE, follow=follow)
                    for claimed, follow in zip(taken, tasks, strict=True)
                ]
            )
            assert answers == [Stored.DONE] * len(keys)

        calls = []
        for number, node in enumerate(nodes):
            keys = KEYS if number % 2 else KEYS[::-1]
            node.repository.insert(some_tasks(len(keys), queue=f"queue-{node.id}"))
            tasks = [a_task(unique=key) for key in keys]
            follows += tasks
            calls.append(partial(finish, node, keys, tasks))
        together(calls)
        assert len(nodes[0].repository.states(ids(follows))) == len(KEYS)

    def test_children_of_several_parents_and_the_outcomes_of_these(
        self, open_repository: OpenRepository
    ) -> None:
        node, spawning = NodeHandle(open_repository()), open_repository()
        for _ in range(ROUNDS):
            parents = some_tasks(len(KEYS))
            node.repository.insert(parents)
            taken = [node.claim_one(parent.id) for parent in parents]
            children = [
                a_task(parent=one.id, delay=600, fence=Fence(node.id, one.batch, one.id))
                for one in reversed(taken)
            ]
            finish = partial(node.finish, *[ending(one, Ending.DONE) for one in taken])
            answers, put_in = race(finish, partial(self.put_in_or_none, spawning, children))
            assert answers == [Stored.DONE] * len(taken)
            assert len(node.repository.states(ids(children))) == put_in

    @staticmethod
    def assert_one_each(
        handles: Sequence[Repository], prefix: str, *, period: float | None
    ) -> None:
        """Each handle puts in one task per key, every other one in the opposite order."""
        calls = [
            [
                a_task(unique=prefix + key, period=period)
                for key in (KEYS if number % 2 else reversed(KEYS))
            ]
            for number in range(len(handles))
        ]
        answers: list[list[Inserted]] = together(
            [partial(handle.insert, tasks) for handle, tasks in zip(handles, calls, strict=True)]
        )
        created = [answer.id for told in answers for answer in told if answer.created]
        assert len(created) == len(KEYS)
        by_key = {
            task.unique: answer.id
            for tasks, told in zip(calls, answers, strict=True)
            for task, answer in zip(tasks, told, strict=True)
        }
        assert sorted(by_key.values()) == sorted(created)
        for tasks, told in zip(calls, answers, strict=True):
            assert [answer.id for answer in told] == [by_key[task.unique] for task in tasks]

    @staticmethod
    def put_in_or_none(repository: Repository, children: Sequence[NewTask]) -> int:
        """How many children there are now: all, or none as a parent had ended."""
        try:
            return sum(answer.created for answer in repository.insert(children))
        except LeaseLost:
            return 0
