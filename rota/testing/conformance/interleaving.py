"""Threads against each other where one write hangs on another: keys, fences, follow-ups, feed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import takewhile

from rota.core.ports import Repository
from rota.core.task import Change, Claimed, Ending, Fence, Inserted, NewTask, Stored, Want
from rota.errors import LeaseLost
from rota.testing.clock import FakeClock
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

PATIENCE = 40.0
ROUNDS = 15


class InterleavingContract(ContractBase):
    """What must hold between two writes, whichever comes first."""

    def test_of_sixteen_inserts_of_one_period_key_one_creates(
        self, open_repository: OpenRepository, clock: FakeClock
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        holders: set[str] = set()
        for _ in range(3):
            tasks = [a_task(unique="one", period=600.0) for _ in range(16)]

            def insert(number: int, tasks: list[NewTask] = tasks) -> Inserted:
                return handles[number % 4].insert([tasks[number]])[0]

            answers = together([partial(insert, number) for number in range(16)])
            created = [answer for answer in answers if answer.created]
            assert len(created) == 1
            assert {answer.id for answer in answers} == {created[0].id}
            assert len(handles[0].states([task.id for task in tasks])) == 1
            holders.add(created[0].id)
            clock.advance(700)
        assert len(holders) == 3

    def test_a_child_exists_if_and_only_if_its_parents_token_was_good(
        self, open_repository: OpenRepository
    ) -> None:
        """Whoever takes a task back finds all children it will ever have from that attempt."""
        spawning, witness = open_repository(), open_repository()
        for _ in range(ROUNDS):
            (parent,) = spawning.insert([a_task()])
            node = NodeHandle(spawning)
            claimed = node.claim_one(parent.id)
            fence = Fence(node.id, claimed.batch, parent.id)

            def spawn(parent_id: str = parent.id, fence: Fence = fence) -> list[str]:
                children = some_tasks(50, parent=parent_id, queue="children", fence=fence)
                return [one.id for one in takewhile(partial(_was_put_in, spawning), children)]

            def rescue(parent_id: str = parent.id, dead: int = node.id) -> list[str]:
                witness.leave(dead)
                while parent_id not in ids(witness.rescue(1)):
                    pass
                return [child for child, _, _ in witness.children(parent_id, 100)]

            spawned, seen = race(spawn, rescue)
            assert sorted(spawned) == seen
            assert [child for child, _, _ in witness.children(parent.id, 100)] == seen

    def test_a_follow_up_exists_if_and_only_if_its_outcome_was_accepted(
        self, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        dying, witness, claims = self.about_to_be_rescued(make_node, clock, count=30)
        follows = some_tasks(len(claims), queue="next")

        def finish() -> list[Stored | None]:
            return [
                dying.end(one, follow=follow) for one, follow in zip(claims, follows, strict=True)
            ]

        answers, rescued = race(finish, partial(self.rescue_all, witness, dying))
        accepted = [answer is Stored.DONE for answer in answers]
        followed = [follow.id for follow, counts in zip(follows, accepted, strict=True) if counts]
        finished = {one.id for one, counts in zip(claims, accepted, strict=True) if counts}
        assert set(witness.repository.states(ids(follows))) == set(followed)
        assert rescued == set(ids(claims)) - finished

    def test_of_an_insert_and_a_tombstone_the_task_is_cancelled_either_way(
        self, open_repository: OpenRepository
    ) -> None:
        putting, cancelling = open_repository(), open_repository()
        tasks = some_tasks(30, given_id=True)

        def put_in() -> list[Inserted]:
            return [putting.insert([task])[0] for task in tasks]

        def cancel() -> list[Stored | None]:
            return [cancelling.cancel(task.id, "no", tombstone=True) for task in tasks]

        inserted, met = race(put_in, cancel)
        for answer, state in zip(inserted, met, strict=True):
            if answer.created:
                assert state is Stored.SCHEDULED
            else:
                assert (answer.state, state) == (Stored.CANCELLED, Stored.CANCELLED)
        assert set(putting.states(ids(tasks)).values()) == {Stored.CANCELLED}
        assert putting.counts().get("scheduled", 0) == 0

    def test_of_an_extension_and_a_rescue_exactly_one_wins(
        self, open_repository: OpenRepository, clock: FakeClock
    ) -> None:
        pulling, rescuing = open_repository(), open_repository()
        count = 20
        pulling.insert(some_tasks(count))
        heir = NodeHandle(rescuing)
        owners = range(1, count + 1)
        held = {}
        for owner in owners:
            (claimed,) = _pull_one(pulling, owner)
            held[owner] = claimed.id
        clock.advance(1000)

        def extend() -> set[str]:
            return {held[owner] for owner in owners if pulling.extend(owner, 1, 500.0)}

        def rescue() -> set[str]:
            rescued: set[str] = set()
            while taken := rescuing.rescue(2):
                rescued |= set(ids(taken))
            return rescued

        extended, rescued = race(extend, rescue)
        rescued |= set(ids(rescuing.rescue(count)))
        assert extended & rescued == set()
        assert extended | rescued == set(held.values())
        heir.beat()
        assert set(ids(heir.claim())) == rescued

    def test_a_feed_read_while_others_write_skips_and_repeats_nothing(
        self, open_repository: OpenRepository
    ) -> None:
        reader = open_repository()
        reader.feed(on=True)
        writers = [NodeHandle(open_repository()) for _ in range(3)]
        written = threading.Event()

        def write(node: NodeHandle) -> list[tuple[str, Stored]]:
            steps: list[tuple[str, Stored]] = []
            queue = f"queue-{node.id}"
            for size in (1, 5, 2, 20, 1, 7, 3, 1):
                node.repository.insert(some_tasks(size, queue=queue))
                for kind in (Ending.RETRY, Ending.DONE):
                    taken = node.claim(size, queue=queue)
                    assert len(taken) == size
                    node.finish(*[ending(one, kind) for one in taken])
                for state in (Stored.SCHEDULED, Stored.SCHEDULED, Stored.DONE):
                    steps += [(one.id, state) for one in taken]
            return steps

        def write_all() -> list[tuple[str, Stored]]:
            try:
                written_by = together([partial(write, node) for node in writers])
            finally:
                written.set()
            return [step for steps in written_by for step in steps]

        def read() -> list[tuple[str, Stored]]:
            told: list[Change] = []
            cursor: str | None = None
            while not written.is_set():
                changes, cursor = reader.updated_since(cursor, 13)
                told += changes
            give_up = time.monotonic() + PATIENCE
            while len(told) < 3 * 3 * 40 and time.monotonic() < give_up:
                changes, cursor = reader.updated_since(cursor, 13)
                told += changes
            told += reader.updated_since(cursor, 1000)[0]
            return [(change.task_id, change.state) for change in told]

        told, steps = race(read, write_all)
        assert Counter(told) == Counter(steps)
        ended: set[str] = set()
        for task_id, state in told:
            assert task_id not in ended
            if state is Stored.DONE:
                ended.add(task_id)

    @staticmethod
    def about_to_be_rescued(
        make_node: Callable[[], NodeHandle], clock: FakeClock, *, count: int
    ) -> tuple[NodeHandle, NodeHandle, list[Claimed]]:
        """A node whose lease has run out, one to take over, and what the first still runs."""
        dying, witness = make_node(), make_node()
        dying.repository.insert(some_tasks(count))
        claims = [dying.claim_only(ready=1) for _ in range(count)]
        clock.advance(dying.lease * 3)
        witness.beat()
        return dying, witness, claims

    @staticmethod
    def rescue_all(witness: NodeHandle, dying: NodeHandle) -> set[str]:
        """Bury the node and take back its leases, few at a time."""
        assert witness.repository.bury(witness.id, trusted=True) == [dying.id]
        rescued: set[str] = set()
        while taken := witness.repository.rescue(3):
            rescued |= set(ids(taken))
        # What another transaction held locked was passed over.
        while witness.repository.held(dying.id):
            rescued |= set(ids(witness.repository.rescue(100)))
        return rescued


def _was_put_in(repository: Repository, child: NewTask) -> bool:
    try:
        (answer,) = repository.insert([child])
    except LeaseLost:
        return False
    assert answer.created
    return True


def _pull_one(repository: Repository, owner: int) -> list[Claimed]:
    return repository.claim_until(owner, 1, [Want("default", 0, 1)], 500.0)
