"""Two contenders for one row: one that can hold a verb's transaction open, one that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending, Fence, Membership, NewTask, Stored, Want
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session
from rota.storage.verbs import changing
from rota.testing.conformance.setting import ending

PATIENCE = 20.0


class Abandoned(Exception):
    """Ends a held transaction without a commit."""


class Side:
    """One node with a repository of its own; ``hold`` keeps a verb's transaction open."""

    def __init__(self, repository: PostgresRepository) -> None:
        self.repository = repository
        self.node = new_incarnation()
        self.batch = 0
        repository.join(Membership(self.node, "n", "h", 1, 30.0))

    def claim(self) -> list[Claimed]:
        self.batch += 10
        return self.repository.claim(self.node, self.batch, [Want("default", 0, 5)], 0.0)

    def claim_one(self, task_id: str) -> Claimed:
        self.batch += 10
        return self.repository.claim_one(self.node, self.batch, task_id)

    def finish(self, claimed: Claimed, kind: Ending) -> Stored | None:
        return self.repository.finish(self.node, [ending(claimed, kind)])[0]

    def report(self, claimed: Claimed, n: int = 1) -> bool:
        return self.repository.report(self.node, claimed.id, claimed.batch, n, "{}")

    def fence(self, claimed: Claimed) -> Fence:
        return Fence(self.node, claimed.batch, claimed.id)

    @contextmanager
    def hold(self, verb: Callable[[Session], object]) -> Iterator[Any]:
        """Run the verb and commit only when the block ends."""
        with self.repository._connections.transaction() as session:
            yield verb(session)

    # The verbs as the repository calls them, on a session whose transaction is ours.

    def finishing(
        self, claimed: Claimed, kind: Ending, **fields: Any
    ) -> Callable[[Session], object]:
        verbs, finishes = self.repository._finishing, [ending(claimed, kind, **fields)]
        return lambda s: verbs.finish(s, self.node, finishes, [], repeated=False)

    def inserting(self, *tasks: NewTask) -> Callable[[Session], object]:
        return lambda s: self.repository._inserting.careful(s, tasks, repeated=False)

    def reporting(self, claimed: Claimed, n: int = 1) -> Callable[[Session], object]:
        verbs = self.repository._reporting
        return lambda s: verbs.report(s, self.node, claimed.id, claimed.batch, n=n, data="{}")

    def pulling(self, owner: int, lease: float) -> Callable[[Session], object]:
        wants = [Want("default", 0, 5)]
        return lambda s: self.repository._claiming.claim_until(s, owner, 1, wants, lease)

    def extending(self, owner: int, lease: float) -> Callable[[Session], object]:
        return lambda s: self.repository._claiming.extend(s, owner, 1, lease)

    def rescuing(self) -> Callable[[Session], object]:
        return lambda s: self.repository._rescuing.rescue(s, 10)

    def burying(self) -> Callable[[Session], object]:
        return lambda s: self.repository._rescuing.bury(s, self.node, trusted=True)

    def cancelling(self, task_id: str) -> Callable[[Session], object]:
        repository = self.repository
        return lambda s: changing.cancel(
            s.conn, repository._tables, task_id, "stop", now=repository._now
        )

    def updating(self, task_id: str) -> Callable[[Session], object]:
        repository, fields = self.repository, {"params": '{"n":2}'}
        return lambda s: changing.change(
            s.conn, repository._tables, task_id, fields, None, now=repository._now
        )

    def claiming(self) -> Callable[[Session], object]:
        self.batch += 10
        wants, verbs = [Want("default", 0, 5)], self.repository._claiming
        return lambda s: verbs.claim(s, self.node, self.batch, wants, 0.0, lazy=False, alone=[])


class Waiter:
    """Runs a verb in a thread that is expected to be held up by somebody's lock."""

    def __init__(self, verb: Callable[[], object]) -> None:
        self.answer: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(verb,), daemon=True)
        self._thread.start()

    def _run(self, verb: Callable[[], object]) -> None:
        try:
            self.answer = verb()
        except Exception as error:
            self.error = error

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "still blocked"
        if self.error is not None:
            raise self.error
        return self.answer
