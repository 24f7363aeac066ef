"""Take a node's health."""

from __future__ import annotations

import asyncio

from rota.app.house import House
from rota.control.health import Health
from rota.core.task import Lane
from rota.errors import StorageError

#: A loop whose last turn is longer ago does not live.
LIVE = 10.0
#: A database that has not answered after so many seconds is in trouble; a probe must not hang.
PATIENCE = 2.0


async def take_health(house: House) -> Health:
    """One look; a database that does not answer makes the node not ready, never raises."""
    agenda, trouble = await _ask(house)
    troubles = [f"{duty.name}: {duty.error}" for duty in house.duties if duty.error is not None]
    troubles += house.watch.troubles
    if house.life.unfit is not None:
        troubles.append(f"schema: {house.life.unfit}")
    if trouble is not None:
        troubles.append(f"database: {trouble}")
    live = house.wires.loop_lag < LIVE and not house.watch.stalled
    dispatcher = house.engine.dispatcher
    return Health(
        live=live,
        ready=live and house.life.may_start and not house.closing and not troubles,
        lease_age=house.life.lease_age,
        loop_lag=house.wires.loop_lag,
        last_claim_age=house.clock.monotonic() - house.sync.last_claim,
        unwritten=house.finisher.unwritten,
        running=dispatcher.running,
        overdue=dispatcher.overdue,
        held=dispatcher.held,
        accepted=house.finisher.accepted,
        refused=house.finisher.refused,
        backlog_age=None if agenda is None else _age(agenda),
        troubles=tuple(troubles),
    )


async def _ask(house: House) -> tuple[list[Lane] | None, str | None]:
    """The served queues' agenda, or what kept the database from telling."""
    asked = asyncio.ensure_future(house.offload.run(house.repository.agenda, house.settings.queues))
    try:
        done, _ = await asyncio.wait([asked], timeout=PATIENCE)
        if not done:
            return None, f"no answer within {PATIENCE:g} s"
        return asked.result(), None
    except (StorageError, RuntimeError) as error:
        return None, str(error)
    finally:
        asked.cancel()


def _age(agenda: list[Lane]) -> float:
    return max((-lane.due_in for lane in agenda if lane.due_in < 0), default=0.0)
