"""What every subject of the suite stands on: the fixtures, a node to act as, tasks to act on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rota.core.ids import new_id, new_incarnation
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import (
    Claimed,
    Ending,
    Finish,
    Membership,
    NewTask,
    Stored,
    TaskState,
    Want,
)
from rota.testing.clock import FakeClock

OpenRepository = Callable[[], Repository]
LEASE = 30.0
#: How far a database's running clock may be from the frozen one, in seconds.
SLACK = 30.0
PLAIN = Options().encode()


def a_task(**fields: Any) -> NewTask:
    """A task of work ``demo`` in queue ``default``, due now; fields replace."""
    values: dict[str, Any] = {
        "id": new_id(),
        "work": "demo",
        "queue": "default",
        "priority": 0,
        "params": '{"n":1}',
        "options": PLAIN,
    }
    return NewTask(**(values | fields))


def some_tasks(count: int, **fields: Any) -> list[NewTask]:
    """So many tasks alike but for their ids."""
    return [a_task(**fields) for _ in range(count)]


def ending(claimed: Claimed, kind: Ending, **fields: Any) -> Finish:
    """The outcome of what was claimed, under its own token."""
    return Finish(claimed.id, claimed.batch, claimed.attempt, kind, **fields)


def ids(items: Sequence[Any]) -> list[str]:
    """The ids, in order."""
    return [item.id for item in items]


class NodeHandle:
    """One joined incarnation on its own repository handle, with its counter of batches."""

    def __init__(self, repository: Repository, *, lease: float = LEASE) -> None:
        self.repository = repository
        self.lease = lease
        self.id: int = new_incarnation()
        self._batch = 0
        self._running: dict[int, set[str]] = {}
        repository.join(Membership(id=self.id, name="node", host="localhost", pid=1, lease=lease))

    def reserve(self, count: int) -> int:
        """The first of so many batch numbers in a row, plus one for the claim itself."""
        first, self._batch = self._batch + 1, self._batch + 1 + count
        return first

    def claim(
        self,
        ready: int = 100,
        *,
        queue: str = "default",
        priority: int = 0,
        ahead: int = 0,
        look_ahead: float = 0.0,
        cursor: int | None = None,
        **how: Any,
    ) -> list[Claimed]:
        """Claim from one lane."""
        want = Want(queue, priority, ready, ahead, cursor)
        return self.claim_wants([want], look_ahead=look_ahead, **how)

    def claim_wants(
        self, wants: Sequence[Want], *, look_ahead: float = 0.0, **how: Any
    ) -> list[Claimed]:
        """Claim from several lanes at once."""
        batch = self.reserve(sum(want.ready + want.ahead for want in wants))
        return self._noted(self.repository.claim(self.id, batch, wants, look_ahead, **how))

    def claim_only(self, **how: Any) -> Claimed:
        """Claim what is expected to be the one task there."""
        (claimed,) = self.claim(**how)
        return claimed

    def claim_parked(self, *works: str, limit: int = 100, **how: Any) -> list[Claimed]:
        """Claim parked tasks of these works."""
        batch = self.reserve(limit)
        return self._noted(self.repository.claim_parked(self.id, batch, works, limit, 0.0, **how))

    def claim_one(self, task_id: str) -> Claimed:
        """Claim this very task."""
        (claimed,) = self._noted([self.repository.claim_one(self.id, self.reserve(1), task_id)])
        return claimed

    def finish(self, *finishes: Finish, repeated: bool = False) -> list[Stored | None]:
        """Write outcomes; a batch is over when nothing it held is left without one."""
        for finish in finishes:
            self._running.get(finish.batch, set()).discard(finish.id)
        over = sorted({finish.batch for finish in finishes if not self._running.get(finish.batch)})
        answers = self.repository.finish(self.id, finishes, over, repeated=repeated)
        for batch in over:
            self._running.pop(batch, None)
        return answers

    def end(self, claimed: Claimed, kind: Ending = Ending.DONE, **fields: Any) -> Stored | None:
        """Write one outcome."""
        (answer,) = self.finish(ending(claimed, kind, **fields))
        return answer

    def beat(self) -> bool:
        """Extend the lease."""
        return self.repository.beat(self.id, self.lease)

    def _noted(self, taken: list[Claimed]) -> list[Claimed]:
        for claimed in taken:
            self._running.setdefault(claimed.batch, set()).add(claimed.id)
        return taken


class ContractBase:
    """The fixtures; a backend provides ``open_repository``."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def open_repository(self) -> OpenRepository:
        raise NotImplementedError(
            "the contract does not know which repository to test; "
            "give your subclass an open_repository fixture"
        )

    @pytest.fixture
    def repository(self, open_repository: OpenRepository) -> Repository:
        return open_repository()

    @pytest.fixture
    def make_node(self, open_repository: OpenRepository) -> Callable[[], NodeHandle]:
        return lambda: NodeHandle(open_repository())

    @pytest.fixture
    def node(self, make_node: Callable[[], NodeHandle]) -> NodeHandle:
        return make_node()

    @staticmethod
    def put(repository: Repository, *tasks: NewTask) -> str:
        """Insert; the first one's id."""
        answers = repository.insert(tasks)
        assert all(answer.created for answer in answers)
        return answers[0].id

    @staticmethod
    def state(repository: Repository, task_id: str) -> TaskState:
        """The state of a task that must exist."""
        task = repository.get(task_id)
        assert task is not None, f"task {task_id} is not there"
        return task.state

    @staticmethod
    def lose(repository: Repository, clock: FakeClock, lost: NodeHandle) -> None:
        """Let the node's lease run out and take back what it held, as a living node would."""
        witness = NodeHandle(repository)
        clock.advance(lost.lease * 3)
        witness.beat()
        assert lost.id in repository.bury(witness.id, trusted=True)
        repository.rescue(1000)
        repository.leave(witness.id)
