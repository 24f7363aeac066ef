"""Two uses of file locks: a fair queue of writers, and proof that a node's process lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path

from rota.errors import ReadOnlyDatabase, StorageUnavailable


class LockFiles:
    """The lock files of one repository object, in ``<database>-rota/`` beside the database.

    A lock ends with the open file that holds it: the kernel lets go when the process
    dies, however it dies. A forked child closes its copies at once, so that it cannot
    keep its parent's node alive.
    """

    def __init__(self, database: Path) -> None:
        self._directory = database.with_name(f"{database.name}-rota")
        self._guard = threading.Lock()
        self._turn: int | None = None
        self._nodes: dict[int, int] = {}
        _close_in_children(self)

    def open(self) -> None:
        """Make the directory and open the queue's file."""
        try:
            self._directory.mkdir(exist_ok=True)
            with self._guard:
                if self._turn is None:
                    self._turn = self._open("queue.lock", os.O_RDWR | os.O_CREAT)
        except PermissionError as error:
            raise ReadOnlyDatabase(
                f"{self._directory} cannot be written ({error}); let this user write there"
            ) from error
        except OSError as error:
            raise StorageUnavailable(
                f"{self._directory} cannot be used ({error}); look at the disk"
            ) from error

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this process's turn to write; SQLite's own lock knows no queue."""
        turn = self._turn
        if turn is None:
            raise StorageUnavailable("the repository is closed; open it again")
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def hold(self, node: int) -> None:
        """Hold the node's lock from now on; again is fine."""
        with self._guard:
            if node in self._nodes:
                return
            self._nodes[node] = self._locked(node)

    def drop(self, node: int) -> None:
        """Let go of the node's lock and remove its file."""
        with self._guard:
            descriptor = self._nodes.pop(node, None)
        self.remove(node)
        if descriptor is not None:
            os.close(descriptor)

    def remove(self, node: int) -> None:
        """Remove the lock file of a node that was buried."""
        with contextlib.suppress(OSError):
            (self._directory / self._name(node)).unlink()

    def sweep(self, known: Collection[int]) -> None:
        """Remove the free lock files of nodes that are not known (any more)."""
        for path in self._directory.glob("node-*.lock"):
            number = path.stem.removeprefix("node-")
            if number.isdecimal() and int(number) not in known and self.free(int(number)):
                self.remove(int(number))

    def free(self, node: int) -> bool:
        """Whether the node's file is there and nobody holds it: its process is gone.

        A missing file proves nothing: the database may have been copied without it.
        """
        try:
            descriptor = self._open(self._name(node), os.O_RDWR)
        except OSError:
            return False
        try:
            # Shared, so that two who probe at once do not take each other for the node.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of every lock; the files of nodes stay, free, for others to bury them by."""
        with self._guard:
            descriptors = [*self._nodes.values()]
            self._nodes.clear()
            if self._turn is not None:
                descriptors.append(self._turn)
                self._turn = None
        for descriptor in descriptors:
            os.close(descriptor)

    def close_in_child(self) -> None:
        """Close the copies a fork made, without the guard: its holder is not in this process."""
        for descriptor in (*self._nodes.values(), self._turn):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._nodes, self._turn = {}, None

    def _locked(self, node: int) -> int:
        """Open and lock the node's file; once more if it was swept away in between."""
        path = self._directory / self._name(node)
        while True:
            descriptor = self._open(path.name, os.O_RDWR | os.O_CREAT)
            # Ids are never reused: only a prober can be in the way, and only for a moment.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._directory / name, flags | os.O_CLOEXEC, 0o666)

    @staticmethod
    def _name(node: int) -> str:
        return f"node-{node}.lock"


def _close_in_children(locks: LockFiles) -> None:
    """Registered for good, hence by a weak reference."""
    reference = weakref.ref(locks)

    def close() -> None:
        living = reference()
        if living is not None:
            living.close_in_child()

    os.register_at_fork(after_in_child=close)
