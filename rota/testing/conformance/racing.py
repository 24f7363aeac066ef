"""Threads against each other, each on a handle of its own: exactly one wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Inserted, Stored
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)

T = TypeVar("T")
U = TypeVar("U")
PATIENCE = 50.0


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make the calls in threads that start at the same moment; their answers, in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, call) for call in calls]]


def race(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Make two calls of different kinds that start at the same moment."""
    told: list[T] = []
    answered: list[U] = []
    together([lambda: told.append(first()), lambda: answered.append(second())])
    return told[0], answered[0]


class RacingContract(ContractBase):
    """The race table of docs/explanation/storage.md, as far as threads can show it."""

    def test_nodes_that_claim_at_once_never_share_a_task(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        tasks = some_tasks(2000)
        repository.insert(tasks)

        def drain(node: NodeHandle) -> list[str]:
            taken: list[str] = []
            while claimed := node.claim(100):
                taken += ids(claimed)
                accepted = node.finish(*[ending(one, Ending.DONE) for one in claimed])
                assert accepted == [Stored.DONE] * len(claimed)
            return taken

        nodes = [make_node() for _ in range(4)]
        shares = together([partial(drain, node) for node in nodes])
        everything = [task_id for share in shares for task_id in share]
        assert len(everything) == len(set(everything))
        # A claim may come back empty while another holds the last rows locked.
        assert set(everything) | set(drain(nodes[0])) == {task.id for task in tasks}

    def test_of_a_finish_and_a_rescue_exactly_one_wins(
        self, repository: Repository, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        count = 40
        dying, witness = make_node(), make_node()
        repository.insert(some_tasks(count))
        claims = [dying.claim_only(ready=1) for _ in range(count)]
        clock.advance(dying.lease * 3)
        witness.beat()

        def finish() -> set[str]:
            return {claimed.id for claimed in claims if dying.end(claimed) is Stored.DONE}

        def rescue() -> set[str]:
            assert witness.repository.bury(witness.id, trusted=True) == [dying.id]
            rescued: set[str] = set()
            while taken := witness.repository.rescue(3):
                rescued |= set(ids(taken))
            return rescued

        finished, rescued = together([finish, rescue])
        rescued |= set(ids(witness.repository.rescue(count)))
        assert finished & rescued == set()
        assert finished | rescued == set(ids(claims))
        states = repository.states(ids(claims))
        assert {one for one, state in states.items() if state is Stored.DONE} == finished
        assert {one for one, state in states.items() if state is Stored.SCHEDULED} == rescued

    def test_of_sixteen_inserts_of_one_unique_key_one_creates(
        self, open_repository: Callable[[], Repository]
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        tasks = [a_task(unique="one") for _ in range(16)]

        def insert(number: int) -> Inserted:
            return handles[number % 4].insert([tasks[number]])[0]

        answers = together([partial(insert, number) for number in range(16)])
        created = [answer for answer in answers if answer.created]
        assert len(created) == 1
        assert {answer.id for answer in answers} == {created[0].id}
        assert len(handles[0].states([task.id for task in tasks])) == 1

    def test_of_eight_inserts_of_one_id_one_creates(
        self, open_repository: Callable[[], Repository]
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        task = a_task(id=new_id(), given_id=True)
        answers = together([partial(handles[n % 4].insert, [task]) for n in range(8)])
        assert sorted(answer.created for (answer,) in answers) == [False] * 7 + [True]

    def test_of_a_cancel_and_a_claim_each_sees_the_other(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        node = make_node()
        tasks = some_tasks(60)
        repository.insert(tasks)

        def claim() -> set[str]:
            return {one.id for _ in range(6) for one in node.claim(10)}

        def cancel() -> set[str]:
            """Which were told to be working."""
            met = {task.id: repository.cancel(task.id, "no") for task in reversed(tasks)}
            return {task_id for task_id, state in met.items() if state is Stored.WORKING}

        claimed, working = together([claim, cancel])
        assert working == claimed
        notices = {notice.id for notice in repository.cancels(node.id)}
        assert notices == claimed
        states = repository.states([task.id for task in tasks])
        for task in tasks:
            expected = Stored.WORKING if task.id in notices else Stored.CANCELLED
            assert states[task.id] is expected

    def test_of_burying_and_beating_exactly_one_wins(
        self, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        late, witness = make_node(), make_node()
        clock.advance(late.lease * 3)
        witness.beat()
        buried, alive = together(
            [
                lambda: late.id in witness.repository.bury(witness.id, trusted=True),
                late.beat,
            ]
        )
        assert buried != alive
