"""Planted bugs: each breaks one line that a promise rests on, and the simulation must see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rota.core.task import Along, Claimed, Ending, Finish, Inserted, NewTask, Rescued, Stored
from rota.scheduler.dispatcher import Dispatcher
from rota.scheduler.intake import Intake
from rota.storage.chores import RECONCILE, Chores
from rota.storage.deciding import Standing
from rota.storage.memory import MemoryRepository
from rota.storage.nodelife import NodeLife
from rota.storage.shortcut import Shortcut

#: (class, attribute, what stands there instead, given what stood there).
Mutation = tuple[type, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have rota's own class do it wrong."""
    where, attribute, make = MUTATIONS[name]
    right = getattr(where, attribute)
    inherited = attribute not in vars(where)
    setattr(where, attribute, make(right))
    try:
        yield
    finally:
        if inherited:
            delattr(where, attribute)
        else:
            setattr(where, attribute, right)


def _unfenced(right: Callable[..., Any], endings: frozenset[Ending]) -> Callable[..., Any]:
    """Outcomes of these kinds are taken from anybody, whoever runs the task now."""

    def finish(
        self: MemoryRepository,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        answers: list[Stored | None] = []
        for item in finishes:
            row = self._book.rows[item.id]
            holder, batch = node, item.batch
            if item.ending in endings and row.node is not None and row.batch is not None:
                holder, batch = row.node, row.batch
            answers += right(self, holder, [item._replace(batch=batch)], repeated=repeated)
        right(self, node, [], over)
        return answers

    return finish


def _drop_the_fence(right: Callable[..., Any]) -> Callable[..., Any]:
    return _unfenced(right, frozenset(Ending))


def _release_without_fence(right: Callable[..., Any]) -> Callable[..., Any]:
    return _unfenced(right, frozenset({Ending.RELEASE, Ending.PARK}))


def _skip_the_rescue(_: Callable[..., Any]) -> Callable[..., Any]:
    def rescue(self: Chores) -> list[Rescued]:
        return []

    return rescue


def _beat_without_a_row(_: Callable[..., Any]) -> Callable[..., Any]:
    def died(self: NodeLife) -> None:
        self._confirmed = self._clock.monotonic()
        self._next_beat = self._confirmed + self.heartbeat

    return died


def _fire_without_cas(_: Callable[..., Any]) -> Callable[..., Any]:
    def wins(self: Standing, tick: Any) -> bool:
        return True

    return wins


def _forget_the_lease_rows(_: Callable[..., Any]) -> Callable[..., Any]:
    def reconcile(self: Chores) -> float:
        return RECONCILE

    return reconcile


def _wait_for_a_lost_answer(_: Callable[..., Any]) -> Callable[..., Any]:
    def lost(self: Shortcut, along: Along) -> None:
        """What may have been taken along stays expected."""

    return lost


def _repeat_without_history(right: Callable[..., Any]) -> Callable[..., Any]:
    def insert(self: MemoryRepository, tasks: Sequence[NewTask], **how: Any) -> list[Inserted]:
        for task in tasks:
            row = self._book.rows.get(task.id)
            if row is not None and row.final:
                del self._book.rows[task.id]
        return cast("list[Inserted]", right(self, tasks, **how))

    return insert


def _start_too_early(right: Callable[..., Any]) -> Callable[..., Any]:
    def claim(self: MemoryRepository, *args: Any, **how: Any) -> list[Claimed]:
        return [item._replace(due_in=0.0) for item in right(self, *args, **how)]

    return claim


def _by_its_own_clock(right: Callable[..., Any]) -> Callable[..., Any]:
    """Right where the node's clock is."""

    def take(self: Intake, node: int, claimed: Sequence[Claimed], received: float) -> None:
        now, read = self._clock.now().timestamp(), self._clock.monotonic()
        right(self, node, [one._replace(due_in=one.run_at / 1e6 - now) for one in claimed], read)

    return take


def _cancel_in_words_only(right: Callable[..., Any]) -> Callable[..., Any]:
    def cancel(self: MemoryRepository, task_id: str, *args: Any, **how: Any) -> Stored | None:
        row = self._book.rows.get(task_id)
        if row is not None and row.state is Stored.SCHEDULED:
            return Stored.SCHEDULED
        return cast("Stored | None", right(self, task_id, *args, **how))

    return cancel


def _forget_the_limits(right: Callable[..., Any]) -> Callable[..., Any]:
    def begin(self: Dispatcher, **parts: Any) -> None:
        right(self, **{**parts, "limits": None})

    return begin


MUTATIONS: dict[str, Mutation] = {
    "drop the fence in finish": (MemoryRepository, "finish", _drop_the_fence),
    "skip the rescue": (Chores, "rescue", _skip_the_rescue),
    "count a heartbeat without a row": (NodeLife, "died", _beat_without_a_row),
    "fire without CAS": (Standing, "wins", _fire_without_cas),
    "release without fence": (MemoryRepository, "finish", _release_without_fence),
    "forget the lease rows": (Chores, "reconcile", _forget_the_lease_rows),
    "wait for a lost answer for ever": (Shortcut, "lost", _wait_for_a_lost_answer),
    "repeat an insert without history": (MemoryRepository, "insert", _repeat_without_history),
    "start too early": (MemoryRepository, "claim", _start_too_early),
    "go by the node's own clock": (Intake, "take", _by_its_own_clock),
    "cancel in words only": (MemoryRepository, "cancel", _cancel_in_words_only),
    "forget the limits": (Dispatcher, "__init__", _forget_the_limits),
}
