"""Take a node's health."""

from __future__ import annotations

from rota.app.house import House
from rota.control.health import Health
from rota.errors import StorageError

#: A loop whose last turn is longer ago does not live.
LIVE = 10.0


async def take_health(house: House) -> Health:
    """One look; a database that does not answer makes the node not ready, never raises."""
    now, dispatcher = house.clock.monotonic(), house.engine.dispatcher
    troubles = [f"{duty.name}: {duty.error}" for duty in house.duties if duty.error is not None]
    backlog_age = None
    try:
        agenda = await house.offload.run(house.repository.agenda, house.settings.queues)
        backlog_age = max((-lane.due_in for lane in agenda if lane.due_in < 0), default=0.0)
    except StorageError as error:
        troubles.append(f"database: {error}")
    live = house.wires.loop_lag < LIVE
    return Health(
        live=live,
        ready=live and house.life.may_start and not house.closing and not troubles,
        lease_age=house.life.lease_age,
        loop_lag=house.wires.loop_lag,
        last_claim_age=now - house.sync.last_claim,
        unwritten=house.finisher.unwritten,
        running=dispatcher.running,
        overdue=dispatcher.overdue,
        held=dispatcher.held,
        accepted=house.finisher.accepted,
        refused=house.finisher.refused,
        backlog_age=backlog_age,
        troubles=tuple(troubles),
    )
