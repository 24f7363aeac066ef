"""Group commit on the schedule side: concurrent schedules share one INSERT."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from rota.core.clock import Clock
from rota.core.conflict import is_own
from rota.core.duty import Duty, Offload
from rota.core.giving_way import give_way
from rota.core.ports import TaskStore
from rota.core.task import Along, Inserted, NewTask
from rota.errors import DataRefused, SchedulerNotRunning, StorageUnavailable
from rota.middleware.arriving import Arriving

log: logging.Logger = logging.getLogger("rota.middleware")

#: One statement takes at most so many tasks.
GROUP_LIMIT = 2_000
#: So many tasks at most are written on the loop where there is nothing to wait for.
DIRECT_LIMIT = 50
#: One of so many calls lets the loop turn: together they take less than a millisecond.
DIRECT_IN_A_ROW = 16


class Shortcut(Protocol):
    """Has tasks taken along with their insert, and takes them in."""

    def along(self, tasks: Sequence[NewTask]) -> Along | None:
        """Which of these, and under which token; None: none."""

    def took(self, along: Along, answers: Sequence[Inserted], received: float) -> None:
        """The insert was written; the answers have what was taken, at this monotonic time."""

    def lost(self, along: Along) -> None:
        """It may have been written or not: the insert raised."""


class _Bundle(NamedTuple):
    """Tasks of one caller, written all or none."""

    tasks: Sequence[NewTask]
    future: asyncio.Future[list[Inserted]]
    since: float


class Inserter:
    """Takes tasks from the loop, writes them in groups in its own thread.

    At low load a task goes at once; while one statement is under way the next group
    gathers by itself. Once handed over a task is stored even if its caller is
    cancelled. When the database is away it tries for ``patience`` seconds, then the
    callers get ``StorageUnavailable``. ``direct`` is for a store that answers at once: then
    few tasks are written without going through the thread. ``shortcut`` may have others taken
    along, in a first try only.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        clock: Clock,
        offload: Offload,
        patience: float = 30.0,
        direct: bool = False,
        begin: Callable[[], object] = lambda: None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._direct = direct
        self.shortcut: Shortcut | None = None  #: set once the node may claim
        self._in_a_row = 0
        self._store = store
        self._clock = clock
        self._offload = offload
        self._patience = patience
        self._inbox: list[_Bundle] = []
        self._lock = threading.Lock()
        self._repeat: list[_Bundle] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._close = close
        self.duty: Duty = Duty(
            name="rota-inserter", step=self.step, clock=clock, begin=begin, close=self._end
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.duty.start()

    async def insert(self, tasks: Sequence[NewTask]) -> list[Inserted]:
        """Write these tasks, all or none; keyed ones by themselves, so they hold up nobody."""
        if self._direct and len(tasks) <= DIRECT_LIMIT and not self._closed:
            answers = self._insert(tasks, repeated=False, together=len(tasks) > 1)
            self._in_a_row += 1
            if self._in_a_row % DIRECT_IN_A_ROW == 1:
                await asyncio.sleep(0)  # the others' turn, as with any other store
            return answers
        if any(task.keyed for task in tasks):
            return await self._offload.run(self._insert_alone, tasks)
        future: asyncio.Future[list[Inserted]] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed:
                raise SchedulerNotRunning("the scheduler was shut down; schedule with another one")
            self._inbox.append(_Bundle(tasks, future, self._clock.monotonic()))
        self.duty.wake()
        return await future

    async def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        """Write all that ``parts`` gives, all or none, each part while the next is made.

        The loop gets a turn after each. What ``parts`` raises is raised, with nothing written;
        the same if the caller is cancelled before the last part has come.
        """
        arriving = Arriving()
        writing = asyncio.ensure_future(self._offload.run(self._write_arriving, arriving))
        try:
            for part in parts:
                arriving.put(part)
                give_way()  # to the thread that writes the last one
                await asyncio.sleep(0)
        except BaseException:
            arriving.give_up()
            writing.add_done_callback(_heard)
            raise
        arriving.end()
        return await writing

    async def drain(self) -> None:
        """Wait until what was handed over is written (or refused)."""
        with self._lock:
            waiting = [item.future for item in (*self._repeat, *self._inbox)]
        if waiting:
            await asyncio.wait(waiting)

    def step(self) -> float:
        """Write what has gathered; used by the thread, and by tests."""
        with self._lock:
            group, repeated = self._repeat, bool(self._repeat)
            if not group:
                group = self._take()
            self._repeat = group
        if not group:
            return 3600.0
        try:
            self._write(group, repeated=repeated)
        except StorageUnavailable as error:
            self._give_up_old(error)
            raise
        with self._lock:
            self._repeat = []
            return 0.0 if self._inbox else 3600.0

    def _take(self) -> list[_Bundle]:
        size, count = 0, 0
        for bundle in self._inbox:
            if count and size + len(bundle.tasks) > GROUP_LIMIT:
                break
            size += len(bundle.tasks)
            count += 1
        group, self._inbox = self._inbox[:count], self._inbox[count:]
        return group

    def _write(self, group: list[_Bundle], *, repeated: bool) -> None:
        """Write the group; refused for its data, it is halved until the culprit is alone."""
        tasks = [task for bundle in group for task in bundle.tasks]
        try:
            answers = self._insert(tasks, repeated=True) if repeated else self._insert_along(tasks)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - carried to the caller it concerns
            if len(group) == 1 or not isinstance(error, DataRefused):
                self._deliver([(bundle, error) for bundle in group])
                return
            middle = len(group) // 2
            self._write(group[:middle], repeated=repeated)
            self._write(group[middle:], repeated=repeated)
            return
        settled: list[tuple[_Bundle, list[Inserted] | Exception]] = []
        at = 0
        for bundle in group:
            settled.append((bundle, answers[at : at + len(bundle.tasks)]))
            at += len(bundle.tasks)
        self._deliver(settled)

    def _insert_along(self, tasks: Sequence[NewTask]) -> list[Inserted]:
        """Write them, and have taken along what can start.

        It is let start before anybody is told: who has waited for the answers may leave.
        """
        shortcut = self.shortcut
        along = None if shortcut is None else shortcut.along(tasks)
        if shortcut is None or along is None:
            return self._insert(tasks, repeated=False)
        try:
            answers = self._store.insert(tasks, along=along)
        except BaseException:
            shortcut.lost(along)
            raise
        shortcut.took(along, answers, self._clock.monotonic())
        return answers

    def _insert(
        self, tasks: Sequence[NewTask], *, repeated: bool, together: bool = False
    ) -> list[Inserted]:
        answers = self._store.insert(tasks, repeated=repeated, together=together)
        if not repeated:
            return answers
        # What a repeated insert finds under an id of ours is the earlier try's: created.
        return [
            answer._replace(created=True) if is_own(task, answer) else answer
            for task, answer in zip(tasks, answers, strict=True)
        ]

    def _give_up_old(self, error: StorageUnavailable) -> None:
        limit = self._clock.monotonic() - self._patience
        with self._lock:
            old = [item for item in self._repeat if item.since < limit]
            self._repeat = [item for item in self._repeat if item.since >= limit]
        if old:
            given_up = self._given_up(error)
            self._deliver([(bundle, given_up) for bundle in old])

    def _given_up(self, error: StorageUnavailable) -> StorageUnavailable:
        return StorageUnavailable(
            f"the database did not take the task within {self._patience:g} s ({error}); schedule "
            "it again once it answers, with an id= of your own if a second one would do harm: "
            "the reply to a write that went through may have been lost"
        )

    def _end(self) -> None:
        """In the thread, at its end: a last try for what was handed over, no more after it."""
        error: Exception = SchedulerNotRunning("the scheduler was shut down before it was stored")
        try:
            while self._repeat or self._inbox:
                self.step()
        except StorageUnavailable as unavailable:
            error = unavailable
        with self._lock:
            self._closed = True
            left, self._repeat, self._inbox = [*self._repeat, *self._inbox], [], []
        self._deliver([(bundle, error) for bundle in left])
        self._close()

    def _write_arriving(self, arriving: Arriving) -> list[Inserted]:
        try:
            return self._store.insert_parts(arriving)
        except StorageUnavailable:
            for _ in arriving:
                pass  # until the last one has come
            return self._insert_alone(arriving.tasks, repeated=True)

    def _insert_alone(self, tasks: Sequence[NewTask], *, repeated: bool = False) -> list[Inserted]:
        until = self._clock.monotonic() + self._patience
        pause = threading.Event()
        while True:
            try:
                return self._insert(tasks, repeated=repeated, together=len(tasks) > 1)
            except StorageUnavailable as error:
                if self._clock.monotonic() >= until:
                    raise self._given_up(error) from error
                repeated = True
                self._clock.wait(pause, 0.2)

    def _deliver(self, settled: Sequence[tuple[_Bundle, list[Inserted] | Exception]]) -> None:
        if settled and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(_settle, settled)
            except RuntimeError:
                log.debug("the loop was closed before %d answers came", len(settled))


def _heard(writing: asyncio.Future[list[Inserted]]) -> None:
    """That it was given up is no news."""
    if not writing.cancelled():
        writing.exception()


def _settle(settled: Sequence[tuple[_Bundle, list[Inserted] | Exception]]) -> None:
    for bundle, answer in settled:
        if bundle.future.done():
            if isinstance(answer, Exception):
                log.error("a task whose caller was cancelled could not be stored: %s", answer)
        elif isinstance(answer, Exception):
            bundle.future.set_exception(answer)
        else:
            bundle.future.set_result(answer)
