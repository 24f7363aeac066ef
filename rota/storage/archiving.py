"""Move finished tasks out of the database: to an archive first, then away."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rota.core.archiving import Archive, ArchivedTask
from rota.core.finding import TaskFilter
from rota.core.ports import Repository
from rota.core.task import Task
from rota.errors import DamagedTask

#: A batch holds at most so many tasks, and fewer when those before weighed more than so much.
MOST, BYTES = 200, 4_000_000
#: The first one is small: nobody knows yet what tasks weigh here.
FIRST = 20


class ArchiveFile:
    """An archive in a file: each task is a JSON object on a line of its own, added at the end.

    It returns once the lines are on the disk. The file is opened anew for each batch, so it may
    be moved away at any time (logrotate). Raises ``OSError`` when it cannot be written; what a
    batch had written of itself is taken out again then. Nodes of several hosts need a file each.

    >>> ArchiveFile("finished.jsonl")
    ArchiveFile('finished.jsonl')
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"ArchiveFile({str(self._path)!r})"

    def __call__(self, batch: Sequence[ArchivedTask], /) -> None:
        """Add these tasks."""
        lines = [json.dumps(one.as_json(), ensure_ascii=False) for one in batch]
        text = "".join(f"{line}\n" for line in lines).encode()
        new = not self._path.exists()
        with self._path.open("a+b", buffering=0) as out:
            # One at a time: a batch that is taken out again must be the last one in it.
            fcntl.flock(out, fcntl.LOCK_EX)
            size = out.seek(0, os.SEEK_END)
            try:
                _write(out, (b"" if _whole(out, size) else b"\n") + text)
            except BaseException:
                out.truncate(size)
                raise
        if new:
            _note_name(self._path)


class Moving:
    """Hands finished tasks to an archive, batch by batch, and deletes those it has taken."""

    def __init__(
        self,
        *,
        repository: Repository,
        archive: Archive,
        on_damaged: Callable[[DamagedTask], object] | None = None,
    ) -> None:
        self._repository = repository
        self._archive = archive
        self._on_damaged = on_damaged

    def batches(self, where: TaskFilter) -> Iterator[list[ArchivedTask]]:
        """What fits, in the order of ids; never more than a bounded batch at a time.

        A task that cannot be read is told to ``on_damaged`` and passed over; without one it is
        raised, a ``DamagedTask``.
        """
        limit, after = FIRST, None
        while True:
            try:
                page = self._repository.find(where, limit, after, newest_first=False)
                attempts = self._repository.attempts_of([task.id for task in page])
            except DamagedTask as error:
                if self._on_damaged is None:
                    raise
                if limit == 1:
                    self._on_damaged(error)
                    after = error.task_id
                # Those before it one by one, so that no sound one is passed over with it.
                limit = 1
                continue
            if page:
                yield [ArchivedTask(task, tuple(attempts[task.id])) for task in page]
            if page.next is None:
                return
            heavy = sum(map(_weight, page)) > BYTES
            limit, after = max(1, limit // 2) if heavy else min(MOST, 2 * limit), page.next

    def hand_over(self, batch: Sequence[ArchivedTask]) -> None:
        """Have the archive take it; raises what that raises."""
        self._archive(batch)

    def remove(self, batch: Sequence[ArchivedTask], where: TaskFilter) -> int:
        """Delete what still fits of a batch that was taken; how many went.

        A task that was made to run again meanwhile stays, whatever it has come to.
        """
        ids = [one.task.id for one in batch]
        return len(self._repository.delete_many(ids, where.finished_before))


def _weight(task: Task) -> int:
    """About how many bytes it is."""
    return len(repr(task.params)) + len(repr(task.result)) + len(repr(task.error))


def _whole(out: BinaryIO, size: int) -> bool:
    """Whether its last line has an end: a crash may have torn one."""
    if size == 0:
        return True
    out.seek(size - 1)
    return out.read(1) == b"\n"


def _write(out: BinaryIO, text: bytes) -> None:
    """All of it, down to the disk."""
    rest = memoryview(text)
    while rest:
        rest = rest[out.write(rest) :]
    os.fsync(out.fileno())


def _note_name(path: Path) -> None:
    """See that a new file's name is on the disk, too."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
