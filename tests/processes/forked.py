"""What a forked child of a started scheduler meets: every verb, tried one by one."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from rota import Every, Scheduler
from rota.background import Blocking
from rota.control.handle import TaskHandle

#: A verb that has not answered by then waits for threads this process does not have.
PATIENCE = 2.0


def verbs(
    scheduler: Scheduler, handle: TaskHandle[Any], blocking: Blocking
) -> dict[str, Callable[[], Any]]:
    """Every verb of the three faces, by name."""
    task = handle.id
    return {
        "schedule": lambda: scheduler.schedule("quick", {"n": 1}),
        "schedule keyed": lambda: scheduler.schedule("quick", {"n": 1}, unique="k"),
        "schedule_many": lambda: scheduler.schedule_many([("quick", {"n": 1})]),
        "handle": lambda: scheduler.handle(task),
        "info": lambda: scheduler.info(task),
        "find": lambda: scheduler.find(unique="k"),
        "history": lambda: scheduler.history(task),
        "cancel": lambda: scheduler.cancel(task),
        "update": lambda: scheduler.update(task, priority=3),
        "run_now": lambda: scheduler.run_now(task),
        "counts": scheduler.counts,
        "restore": scheduler.restore,
        "add_recurring": lambda: scheduler.add_recurring("r", "quick", Every(60), params={"n": 1}),
        "recurring": lambda: scheduler.recurring("r"),
        "node": lambda: scheduler.node,
        "blocking": lambda: scheduler.blocking,
        "start": scheduler.start,
        "handle.info": handle.info,
        "handle.wait": handle.wait,
        "handle.result": handle.result,
        "handle.history": handle.history,
        "handle.cancel": handle.cancel,
        "handle.update": lambda: handle.update(priority=3),
        "blocking.schedule": lambda: blocking.schedule("quick", {"n": 1}),
        "blocking.info": lambda: blocking.info(task),
        "shutdown": scheduler.shutdown,
    }


def try_all_verbs(
    scheduler: Scheduler,
    handle: TaskHandle[Any],
    blocking: Blocking,
    *,
    without: Collection[str],
    pipe: int,
) -> NoReturn:
    """Write what each verb raised to the pipe, then wait to be killed."""
    try:
        told = {
            name: raised_by(verb)
            for name, verb in verbs(scheduler, handle, blocking).items()
            if name not in without
        }
        os.write(pipe, json.dumps(told).encode() + b"\n")
        os.close(pipe)
        while True:
            signal.pause()
    finally:
        os._exit(3)


def raised_by(verb: Callable[[], Any]) -> str:
    """The name of what the verb raises, ``nothing``, or ``no answer``; in a thread of its own."""
    raised = ["no answer"]

    def call() -> None:
        try:
            value = verb()
            if inspect.isawaitable(value):
                asyncio.run(_awaited(value))
        except BaseException as error:
            raised[0] = type(error).__name__
        else:
            raised[0] = "nothing"

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return raised[0]


async def _awaited(value: Any) -> Any:
    return await value
