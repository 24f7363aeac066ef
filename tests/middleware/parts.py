"""What the middleware tests stand on: a run without a database, a scheduler on a still clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock
from rota.core.context import Context
from rota.core.ids import new_id
from rota.core.options import Options
from rota.core.run import Run
from rota.core.task import Along, Claimed, Finish, Inserted, NewTask, Stored
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock

PATIENCE = 20.0


async def turns(count: int = 25) -> None:
    """Let the loop do what it has in hand, and what follows from it."""
    for _ in range(count):
        await asyncio.sleep(0)


def a_claim(options: Options | None = None, **fields: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": new_id(),
        "work": "demo",
        "queue": "default",
        "priority": 0,
        "attempt": 1,
        "batch": 1,
        "params": "{}",
        "options": (options or Options()).encode(),
        "due_in": 0.0,
        "run_at": 0,
        "expires_in": None,
        "losses": 0,
        "meta": None,
        "parent": None,
        "recurring": None,
        "fire_at": None,
    }
    return Claimed(**(values | fields))


def a_run(
    options: Options | None = None,
    *,
    clock: Clock | None = None,
    works: Sequence[Any] = (),
    **fields: Any,
) -> Run:
    """A run as the executor makes one, around nothing."""
    clock = clock or FakeClock()
    claimed = a_claim(options, **fields)
    return Run(
        claimed,
        node=1,
        works=works,
        make_context=lambda run: Context(claimed, token=run.token, clock=clock),
        started=clock.monotonic(),
        received=clock.monotonic(),
    )


class WatchedRepository(MemoryRepository):
    """The memory repository; tells what was asked of it, waits or fails where a test says so."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.inserts: list[tuple[list[NewTask], bool]] = []
        self.finishes: list[tuple[int, list[Finish], list[int], bool]] = []
        #: Raised instead of writing, first to last; None lets a call pass.
        self.fail_before: list[BaseException | None] = []
        self.fail_after: list[BaseException] = []  #: raised after the write: the reply is lost
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> list[Inserted]:
        self.inserts.append((list(tasks), repeated))
        return self._troubled(
            lambda: super(WatchedRepository, self).insert(
                tasks, repeated=repeated, together=together, along=along
            )
        )

    def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        """Fails, where a test says so, when the first part has come."""
        coming = iter(parts)
        first = next(coming)
        return self._troubled(
            lambda: super(WatchedRepository, self).insert_parts(chain([first], coming))
        )

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        self.finishes.append((node, list(finishes), list(over), repeated))
        return self._troubled(
            lambda: super(WatchedRepository, self).finish(node, finishes, over, repeated=repeated)
        )

    def _troubled(self, write: Callable[[], Any]) -> Any:
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        if self.fail_before and (error := self.fail_before.pop(0)) is not None:
            raise error
        answer = write()
        if self.fail_after:
            raise self.fail_after.pop(0)
        return answer


class House:
    """A scheduler over a watched repository, on the clock of the test."""

    def __init__(self, works: WorkRegistry, *middleware: object, **options: Any) -> None:
        self.clock: Clock = options.pop("clock", None) or FakeClock()
        self.repository = WatchedRepository(clock=self.clock)
        self.scheduler = Scheduler(
            works,
            self.repository,
            middleware=middleware,
            clock=self.clock,
            **{"poll": 1.0, **options},
        )

    async def __aenter__(self) -> Scheduler:
        await self.scheduler.start()
        return self.scheduler

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        closing = asyncio.ensure_future(self.scheduler.shutdown())
        # After a failed test runs may hang; nobody else would move the clock to their end.
        while kind is not None and isinstance(self.clock, FakeClock) and not closing.done():
            self.clock.advance(1)
            await turns()
        await closing

    @property
    def stored(self) -> int:
        """How many tasks the repository has, in whatever state."""
        return len(self.repository._book.rows)
