"""An archive for tests, and finished tasks to fill it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rota.core.archiving import Archive, ArchivedTask
from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.core.task import Ending
from rota.storage.keeper import Keeper
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks

DAY = 86_400


class Shelf:
    """An archive in memory, which may refuse."""

    def __init__(self, *, refuses: Callable[[Sequence[ArchivedTask]], bool] = lambda _: False):
        self.batches: list[list[str]] = []
        self.kept: dict[str, ArchivedTask] = {}
        self.asked = 0
        self.refuses = refuses

    def __call__(self, batch: Sequence[ArchivedTask]) -> None:
        self.asked += 1
        if self.refuses(batch):
            raise OSError("the shelf is full")
        self.batches.append([one.task.id for one in batch])
        self.kept |= {one.task.id: one for one in batch}


def end(node: NodeHandle, count: int, kind: Ending = Ending.DONE, **task: Any) -> list[str]:
    """Have so many tasks ended, by id."""
    node.repository.insert(some_tasks(count, **task))
    ended: list[str] = []
    while claimed := node.claim(500):
        node.finish(*(ending(one, kind) for one in claimed))
        ended += [one.id for one in claimed]
    return sorted(ended)


def made(repository: Repository, archive: Archive | None, clock: Clock) -> Keeper:
    """The keeper of a node that has said so at its start."""
    if archive is not None:
        repository.keep(archive=True)
    return Keeper(repository=repository, clock=clock, archive=archive)
