"""Fire recurring tasks: each tick one child, on whichever node gets there first."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from rota.core.clock import Clock
from rota.core.codec import load
from rota.core.duty import Offload
from rota.core.ids import new_id
from rota.core.options import decode_options
from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire
from rota.core.request import ScheduleRequest
from rota.core.task import Inserted
from rota.errors import Rejected, RotaError, StorageError
from rota.triggers import Trigger, from_json

log = logging.getLogger("rota.recurring")

POLL = 5.0
AT_ONCE = 500
#: Definitions that cannot be fired now are tried again after so many seconds.
STUCK = 1.0


class Firing:
    """Wakes at the next fire time, on the event loop; its statements run in reader threads.

    The CAS on ``next_fire_at`` and the child's insert are one transaction, so of all
    the nodes that wake together one creates the child and the others find it done.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        clock: Clock,
        schedule: Callable[[ScheduleRequest], Awaitable[Inserted]],
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._clock = clock
        self._schedule = schedule
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="rota-firing")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        """A definition was added or changed."""
        self._wake.set()

    async def pass_(self) -> float:
        """Fire all that is due; in how many seconds to look again."""
        due, following = await self._offload.run(self._repository.due_recurring, 0.0, AT_ONCE)
        if due:
            now = await self._offload.run(self._repository.now)
            ticked = [await self._fire(definition, now) for definition in due]
            # What could not be fired stays due: it must not make this loop spin.
            return 0.0 if any(ticked) else STUCK * self._rng.uniform(0.7, 1.0)
        poll = POLL * self._rng.uniform(0.7, 1.0)
        return poll if following is None else min(poll, following)

    async def _serve(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                wait = await self.pass_()
                failures = 0
            except (StorageError, RuntimeError) as error:
                failures += 1
                if failures == 1:
                    log.warning("recurring tasks cannot be fired now, will go on: %s", error)
                wait = min(POLL, 0.1 * 2.0 ** min(failures, 8)) * self._rng.uniform(0.5, 1.0)
            if wait > 0:
                await self._sleep(wait)

    async def _sleep(self, wait: float) -> None:
        loop = asyncio.get_running_loop()
        alarm = self._clock.call_at(loop, self._clock.monotonic() + wait, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _fire(self, definition: Definition, now: datetime) -> bool:
        """Fire one tick; whether its definition has moved on."""
        expected = definition.next_fire_at
        if expected is None:
            return False
        try:
            trigger = from_json(json.loads(definition.trigger))
            fire_at, following = latest(trigger, expected, now)
        except (RotaError, ValueError, KeyError) as error:
            log.warning(
                "recurring task %r cannot be read, it is passed over: %s", definition.id, error
            )
            return False
        child = new_id()
        fire = Fire(definition.id, expected, following, fire_at, "fired", 1, child)
        try:
            await self._schedule(_child(definition, fire, child))
        except Rejected as error:
            log.info("a child of %r was rejected: %s", definition.id, error)
            rejected = Fire(definition.id, expected, following, fire_at, "rejected")
            await self._offload.run(self._repository.fire, [(rejected, None)])
        except StorageError:
            raise
        except Exception:
            log.exception("the child of recurring task %r could not be scheduled", definition.id)
            return False
        return True


def latest(trigger: Trigger, expected: datetime, now: datetime) -> tuple[datetime, datetime | None]:
    """The newest fire time that is due, and the one that follows it."""
    fire_at = trigger.previous(now) or expected
    fire_at = max(fire_at, expected)
    return fire_at, trigger.next(fire_at)


def _child(definition: Definition, fire: Fire, child: str) -> ScheduleRequest:
    params: dict[str, Any] = load(definition.params)
    return ScheduleRequest(
        id=child,
        work=definition.work,
        params=params,
        queue=definition.queue,
        priority=definition.priority,
        at=fire.fire_at,
        options=decode_options(definition.options),
        recurring=definition.id,
        fire_at=fire.fire_at,
        rider=fire,
        on_conflict="return",
    )
