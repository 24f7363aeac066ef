"""The machine can fail: a memory repository with one planted bug is caught, each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rota.core.task import Claimed, Ending, Finish, Inserted, NewTask, Rescued, Stored, Task, Want
from rota.storage.memory import MemoryRepository
from tests.model.test_lives import live
from tests.model.worlds import memory_worlds


class FenceDropped(MemoryRepository):
    """A finish is taken from anybody, whoever runs the task now."""

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        answers: list[Stored | None] = []
        for finish in finishes:
            row = self._book.rows[finish.id]
            holder = node if row.node is None else row.node
            batch = finish.batch if row.batch is None else row.batch
            answers += super().finish(holder, [finish._replace(batch=batch)], repeated=repeated)
        super().finish(node, [], over)
        return answers


class RescueKeepsNode(MemoryRepository):
    """A rescued task still names the node, and the batch, that lost it."""

    def rescue(self, limit: int) -> list[Rescued]:
        batches = {row.id: row.batch for row in self._book.rows.values()}
        rescued = super().rescue(limit)
        for one in rescued:
            row = self._book.rows[one.id]
            row.node, row.batch = one.node, batches[one.id]
        return rescued


class RescueSignsForTheAttempt(MemoryRepository):
    """What rescue has cancelled names the attempt that was lost as the one that said so."""

    def rescue(self, limit: int) -> list[Rescued]:
        batches = {row.id: row.batch for row in self._book.rows.values()}
        rescued = super().rescue(limit)
        for one in rescued:
            if one.state is Stored.CANCELLED:
                row = self._book.rows[one.id]
                row.node, row.batch = one.node, batches[one.id]
        return rescued


class RescueOfTheLiving(MemoryRepository):
    """A pulled claim is taken back before its deadline."""

    def rescue(self, limit: int) -> list[Rescued]:
        self._book.deadlines.clear()
        return super().rescue(limit)


class ReleaseCostsAnAttempt(MemoryRepository):
    """What is handed back is not refunded."""

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        answers = super().finish(node, finishes, over, repeated=repeated)
        for finish, answer in zip(finishes, answers, strict=True):
            if finish.ending is Ending.RELEASE and answer is Stored.SCHEDULED:
                self._book.rows[finish.id].attempt += 1
        return answers


class KeyNotFreed(MemoryRepository):
    """A unique key stays with its task for ever."""

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        keys = dict(self._book.keys)
        answers = super().finish(node, finishes, over, repeated=repeated)
        self._book.keys.update(keys)
        return answers


class RepeatInsertsAgain(MemoryRepository):
    """A repeated insert does not look into history."""

    def insert(self, tasks: Sequence[NewTask], **how: Any) -> list[Inserted]:
        for task in tasks:
            row = self._book.rows.get(task.id)
            if row is not None and row.final:
                del self._book.rows[task.id]
        return super().insert(tasks, **how)


class CancelForgotten(MemoryRepository):
    """A running task that was asked to stop is tried again all the same."""

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        for finish in finishes:
            if finish.ending is Ending.RETRY:
                self._book.rows[finish.id].cancel_reason = None
        return super().finish(node, finishes, over, repeated=repeated)


class EarlyBird(MemoryRepository):
    """A claim takes what is not due yet."""

    def claim(
        self,
        node: int,
        batch: int,
        wants: Sequence[Want],
        look_ahead: float,
        *,
        lazy: bool = False,
        alone: Sequence[str] = (),
    ) -> list[Claimed]:
        eager = [want._replace(ahead=want.ready) for want in wants]
        return super().claim(node, batch, eager, 1000.0, lazy=lazy, alone=alone)


class RetriedForNothing(MemoryRepository):
    """A change forgets the losses, so that a task which kills its nodes is never given up."""

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        super().update(task_id, changes, expected_version)
        self._book.rows[task_id].losses = 0
        found = self.get(task_id)
        assert found is not None
        return found


@pytest.mark.parametrize(
    "bug",
    [
        FenceDropped,
        RescueKeepsNode,
        RescueSignsForTheAttempt,
        ReleaseCostsAnAttempt,
        KeyNotFreed,
        RepeatInsertsAgain,
        EarlyBird,
        pytest.param(RescueOfTheLiving, marks=pytest.mark.slow),
        pytest.param(CancelForgotten, marks=pytest.mark.slow),
        pytest.param(RetriedForNothing, marks=pytest.mark.slow),
    ],
)
def test_the_machine_finds_it(bug: type[MemoryRepository]) -> None:
    with pytest.raises(AssertionError):
        live(memory_worlds(bug), width=1, examples=5000, steps=40)
