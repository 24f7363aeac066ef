"""A node as a process: told what to do by JSON lines on stdin, tells what happens on stdout."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rota import Context, Scheduler, WorkRegistry
from rota.control.handle import TaskHandle
from rota.core.clock import SystemClock
from rota.core.events import Died, Event, Finished, Started, TookBack, Unfit
from rota.core.task import Claimed
from rota.storage.open import open_repository
from rota.testing import history
from tests.processes.forked import try_all_verbs

log = logging.getLogger("node")


class Node:
    """One scheduler, its works, and the commands it understands.

    ``hold`` runs until the command ``release``; a node started ``open`` does not hold.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._history = history.HistoryWriter(config["history"])
        self._incarnations: set[int] = set()
        self._gate = asyncio.Event()
        if config.get("open"):
            self._gate.set()
        self._enough = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._handles: dict[str, TaskHandle[Any]] = {}
        self.scheduler = Scheduler(
            self._works(config["works"]),
            self._target(config),
            name=config["name"],
            on_event=self._on_event,
            **config["options"],
        )

    async def serve(self) -> None:
        began = time.monotonic()
        await self.scheduler.start()
        self.say("up", node=self.scheduler.node, seconds=round(time.monotonic() - began, 3))
        commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))

        threading.Thread(target=read, daemon=True).start()
        serving = asyncio.create_task(self._obey(commands))
        await self._over.wait()
        serving.cancel()

    def say(self, kind: str, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"is": kind, **facts}) + "\n")
        sys.stdout.flush()

    async def _obey(self, commands: asyncio.Queue[dict[str, Any]]) -> None:
        going: set[asyncio.Task[None]] = set()
        while True:
            task = asyncio.create_task(self._answer(await commands.get()))
            going.add(task)
            task.add_done_callback(going.discard)

    async def _answer(self, command: dict[str, Any]) -> None:
        call = command.pop("call")
        verb: Callable[..., Awaitable[Any]] = getattr(self, "do_" + command.pop("do"))
        try:
            value = await verb(**command)
        except Exception as error:
            self.say("answer", call=call, error=type(error).__name__, message=str(error))
        else:
            self.say("answer", call=call, value=value)

    async def do_schedule(
        self,
        work: str,
        count: int = 1,
        options: dict[str, Any] | None = None,
        keys: list[str] | None = None,
        ids: list[str] | None = None,
        noted: bool = True,
    ) -> list[str]:
        """So many tasks at once, each by a call of its own; noted once they are acknowledged."""
        said = options or {}

        async def one(n: int) -> str:
            own = {
                **said,
                **({"unique": keys[n]} if keys else {}),
                **({"id": ids[n]} if ids else {}),
            }
            due = time.time() + said.get("delay", 0)
            handle = await self.scheduler.schedule(work, {"n": n}, **own)
            if noted:
                self._history.write(history.Scheduled(handle.id, time.time(), due))
            self._handles[handle.id] = handle
            return handle.id

        return await asyncio.gather(*(one(n) for n in range(count)))

    async def do_stream(self, work: str = "quick", at_a_time: int = 4) -> list[str]:
        """Tasks, and more once those have ended, until the command ``enough``."""
        ids: list[str] = []
        while not self._enough.is_set():
            some = await self.do_schedule(work, at_a_time)
            await asyncio.gather(*(self._handles[one].result(20) for one in some))
            ids += some
        return ids

    async def do_enough(self) -> None:
        self._enough.set()

    async def do_release(self) -> None:
        self._gate.set()

    async def do_node(self) -> int:
        return self.scheduler.node

    async def do_restore(self, wait: float) -> dict[str, Any]:
        report = await self.scheduler.restore(wait)
        return {
            "interrupted": report.interrupted,
            "unknown": report.unknown,
            "lost": report.lost,
            "errors": report.errors,
        }

    async def do_info(self, ids: list[str]) -> list[dict[str, Any]]:
        found = []
        for task_id in ids:
            task = await self.scheduler.info(task_id)
            attempts = await self.scheduler.history(task_id)
            found.append(
                {
                    "id": task.id,
                    "status": task.status,
                    "attempt": task.attempt,
                    "token": [task.node, task.batch],
                    "reason": task.reason,
                    "finished": task.finished_at.timestamp() if task.finished_at else None,
                    "outcomes": [item.outcome for item in attempts],
                }
            )
        return found

    async def do_fork(self, without: Sequence[str] = ()) -> dict[str, Any]:
        """Fork; the child tells what each verb raised, and stays until it is killed."""
        handle = next(iter(self._handles.values()))
        blocking = self.scheduler.blocking
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            try_all_verbs(self.scheduler, handle, blocking, without=without, pipe=write)
        os.close(write)
        with os.fdopen(read) as told:
            line = await asyncio.to_thread(told.readline)
        return {"child": child, "raised": json.loads(line)}

    async def do_hold_gil(self, pipe: str) -> None:
        """A C call on the loop's thread that lets no thread run until the pipe is opened."""
        self.say("holds")
        ctypes.PyDLL(None).open(pipe.encode(), os.O_RDONLY)

    async def do_shutdown(self, timeout: float = 5.0) -> None:
        await self.scheduler.shutdown(timeout)
        asyncio.get_running_loop().call_soon(self._over.set)

    def _works(self, wanted: list[str]) -> WorkRegistry:
        works = WorkRegistry()

        async def quick(ctx: Context, n: int) -> int:
            self._acted(ctx)
            return n

        async def hold(ctx: Context, n: int) -> int:
            try:
                await self._gate.wait()
            except asyncio.CancelledError:
                self.say("cancelled", task=ctx.task_id, batch=ctx.token.batch)
                self._history.write(history.Stopped(ctx.task_id, ctx.token, time.time()))
                raise
            self._acted(ctx)
            return n

        for name, fn in {"quick": quick, "hold": hold, "new": quick}.items():
            if name in wanted:
                works.register(name)(fn)
        return works

    def _acted(self, ctx: Context) -> None:
        at = time.time()
        self._history.write(history.Effect(ctx.task_id, ctx.token, at))
        self._history.write(history.Stopped(ctx.task_id, ctx.token, at))

    def _target(self, config: dict[str, Any]) -> Any:
        """The database; with ``die_after_claim`` the process ends where a claim's answer comes."""
        if not config.get("die_after_claim"):
            return config["url"]
        repository = open_repository(
            config["url"], clock=SystemClock(), schema=config["options"].get("schema")
        )
        claim = repository.claim

        def claim_and_die(*arguments: Any, **how: Any) -> list[Claimed]:
            claimed = claim(*arguments, **how)
            if claimed:
                self.say("claimed", tasks=[item.id for item in claimed])
                os._exit(9)
            return claimed

        repository.claim = claim_and_die  # type: ignore[method-assign]
        return repository

    def _on_event(self, event: Event) -> None:
        at = time.time()
        match event:
            case Started(task, work, attempt, token):
                if token.node not in self._incarnations:
                    self._incarnations.add(token.node)
                    limit = self._config["options"]["concurrency"]
                    self._history.write(history.Limited(token.node, limit, at))
                self._history.write(history.Started(task, attempt, token, token.node, at))
                self.say("started", task=task, work=work, attempt=attempt, token=list(token))
            case Finished(task, _, token, ending, state):
                outcome = ending.name.lower()
                kind = history.Refused if state is None else history.Accepted
                self._history.write(kind(task, token, outcome, at))
                self.say(
                    "finished",
                    task=task,
                    token=list(token),
                    outcome=outcome,
                    state=None if state is None else state.name.lower(),
                )
            case TookBack(tasks):
                self.say("took_back", tasks=list(tasks))
            case Died(node):
                self.say("died", node=node)
            case Unfit(error):
                self.say("unfit", found=error.found, needed=error.needed)
                self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        """As a service does that was told: leave, and end the process."""
        await self.scheduler.shutdown(None)
        self.say("stopped")
        self._over.set()


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(threadName)s %(message)s"
    )

    async def serve() -> None:
        node = Node(config)
        try:
            await node.serve()
        except Exception as error:
            log.exception("the node ends")
            node.say("failed", error=type(error).__name__, message=str(error))

    asyncio.run(serve())


if __name__ == "__main__":
    main()
