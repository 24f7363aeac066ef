"""A node or a client under chaos, as a process: ``python -m tests.chaos.member CONFIG``."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rota import RotaError, Scheduler, TaskSpec
from rota.core.events import Died, Event, Finished, Started, TookBack
from rota.errors import ForkedScheduler
from rota.testing import history
from tests.chaos.journal import Journal
from tests.chaos.works import SHARES, chaos_works

#: Callers at once in one client.
CALLERS = 8
#: One call in so many is a ``schedule_many``, of so many tasks.
MANY = 20
#: A forked child lives so long, with its parent's descriptors.
CHILD_LIVES = 3.0

log = logging.getLogger("member")


class Wanted(NamedTuple):
    """A task a client is to schedule."""

    id: str
    work: str
    params: dict[str, float]
    delay: float


class Member:
    """What nodes and clients have in common: commands on stdin until it ends."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._ended = asyncio.Event()
        self._config = config
        self._directory = Path(config["directory"])
        self._name: str = config["name"]

    scheduler: Scheduler

    async def serve(self) -> None:
        async with self.scheduler:
            say("up", node=self.scheduler.node)
            loop = asyncio.get_running_loop()

            def read() -> None:
                for line in sys.stdin:
                    loop.call_soon_threadsafe(self._obey, json.loads(line))
                loop.call_soon_threadsafe(self._ended.set)

            threading.Thread(target=read, daemon=True).start()
            await self._live()

    def _obey(self, command: dict[str, Any]) -> None:
        verb: Callable[..., None] = getattr(self, "do_" + command.pop("do"))
        verb(**command)

    async def _live(self) -> None:
        await self._ended.wait()


class Node(Member):
    """Runs the works, notes what it is told of attempts, and suffers what it is told to."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._history = history.HistoryWriter(self._directory / f"{self._name}.history.jsonl")
        journal = Journal(self._directory / f"{self._name}.effects.jsonl")
        self.scheduler = Scheduler(
            chaos_works(journal),
            config["url"],
            name=self._name,
            on_event=self._on_event,
            **config["options"],
        )

    def do_hold_gil(self, seconds: float) -> None:
        """A C call that never lets another thread in, not even the heartbeat's."""
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))

    def do_block_loop(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_fork(self) -> None:
        """The child tries to schedule, and then only keeps what it inherited open for a while."""
        child = os.fork()
        if child == 0:
            try:
                self.scheduler.schedule("step", {"pause": 0}).send(None)
            except ForkedScheduler:
                time.sleep(CHILD_LIVES)
                os._exit(0)
            finally:
                os._exit(3)

        def wait() -> None:
            _, status = os.waitpid(child, 0)
            say("forked", right=os.waitstatus_to_exitcode(status) == 0)

        threading.Thread(target=wait, daemon=True).start()

    def _on_event(self, event: Event) -> None:
        at = time.time()
        match event:
            case Started(task, _, attempt, token):
                self._history.write(history.Started(task, attempt, token, token.node, at))
            case Finished(task, _, token, ending, state):
                outcome = ending.name.lower()
                kind = history.Refused if state is None else history.Accepted
                self._history.write(kind(task, token, outcome, at))
            case TookBack(tasks):
                say("took_back", tasks=len(tasks))
            case Died():
                say("died")


class Client(Member):
    """Schedules tasks under ids of its own, again and again until each is acknowledged."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._journal = Journal(self._directory / f"{self._name}.history.jsonl")
        self._random = random.Random(config["seed"])
        self._pause = CALLERS / config["rate"]
        self._silent = False
        self.scheduler = Scheduler(
            chaos_works(), config["url"], name=self._name, queues=[], **config["options"]
        )

    async def _live(self) -> None:
        await asyncio.gather(*(self._call_on() for _ in range(CALLERS)))
        say("silent")
        await super()._live()

    def do_be_silent(self) -> None:
        """Schedule nothing new; what was begun is acknowledged first."""
        self._silent = True

    async def _call_on(self) -> None:
        while not self._silent and not self._ended.is_set():
            if self._random.random() < 1 / MANY:
                await self._until_acknowledged([self._task() for _ in range(MANY)])
                await asyncio.sleep(self._pause * MANY)
            else:
                await self._until_acknowledged([self._task()])
                await asyncio.sleep(self._pause)

    def _task(self) -> Wanted:
        work = self._random.choices(list(SHARES), list(SHARES.values()))[0]
        (pause,) = self._random.choices([0, 0.005, 0.02, 0.1, 0.5, 3.0], [12, 6, 6, 4, 2, 1])
        delay = self._random.choice([0, 0, 0, 0.3, 2.0])
        return Wanted(str(uuid.uuid4()), work, {"pause": pause}, delay)

    async def _until_acknowledged(self, tasks: list[Wanted]) -> None:
        asked = time.time()
        while True:
            try:
                ids = await self._schedule(tasks)
            except RotaError as error:
                say("refused_call", error=type(error).__name__, message=str(error))
                await asyncio.sleep(0.2)
            else:
                break
        assert ids == [one.id for one in tasks]
        now = time.time()
        self._journal.write(*(history.Scheduled(one.id, now, asked + one.delay) for one in tasks))

    async def _schedule(self, tasks: list[Wanted]) -> list[str]:
        if len(tasks) == 1:
            (one,) = tasks
            handle = await self.scheduler.schedule(
                one.work, one.params, id=one.id, delay=one.delay, on_conflict="return"
            )
            return [handle.id]
        specs = [
            TaskSpec(one.work, one.params, {"id": one.id, "delay": one.delay}) for one in tasks
        ]
        handles = await self.scheduler.schedule_many(specs, on_conflict="return")
        return [handle.id for handle in handles]


def say(kind: str, **facts: Any) -> None:
    """A line for whoever started this process."""
    sys.stdout.write(json.dumps({"is": kind, **facts}) + "\n")
    sys.stdout.flush()


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(threadName)s %(message)s",
    )
    kind = Client if config["client"] else Node

    async def serve() -> None:
        await kind(config).serve()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
