"""Start and stop a house, in the right order, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from rota.app.declaring import declare
from rota.app.house import House
from rota.app.keeping import state_keeping
from rota.core.answer import Answer
from rota.core.clock import Clock
from rota.core.run import Stop
from rota.errors import ForkedScheduler, SchedulerNotRunning, StorageUnavailable
from rota.scheduler.executor import Held
from rota.storage.restoring import restore
from rota.storage.shortcut import Shortcut
from rota.storage.sync import RestoreReport

log: logging.Logger = logging.getLogger("rota")

#: After a cancel, runs get so long to come to their end before they are given back anyway.
GRACE = 1.0
#: Writing the last outcomes may take so long.
LAST_WRITES = 10.0
#: A start whose database is away tries again after so long, then twice as long, and so on.
FIRST_PAUSE = 0.05
#: How often a start looks whether joining has failed.
JOIN_LOOK = 0.1


async def move_in(house: House, *, start_timeout: float) -> RestoreReport:
    """Open the database (waiting for it up to ``start_timeout``), join, restore, begin.

    What was begun is ended again if it fails.
    """
    try:
        report = await _arrive(house, start_timeout)
    except BaseException:
        await _give_up(house)
        raise
    for duty in house.duties:
        if not duty.started:
            duty.start()
    if not house.settings.client_only:
        house.firing.start()
        house.inserter.shortcut = Shortcut(
            sync=house.sync,
            slots=house.intake,
            life=house.life,
            holdings=house.holdings,
            queues=house.settings.queues,
            alone=house.routes.alone,
        )
    house.wires.look_over()
    return report


async def _arrive(house: House, start_timeout: float) -> RestoreReport:
    clock, offload = house.clock, house.offload
    until = clock.monotonic() + start_timeout
    pause = FIRST_PAUSE
    while True:
        try:
            await offload.run(house.repository.open)
            _make_ready(house)
            house.intake.began_at = await offload.run(house.repository.now)
            await _join(house)
            await offload.run(house.wires.open)
            await offload.run(state_keeping, house)
            if house.settings.client_only:
                return house.sync.report
            await offload.run(declare, house)
            return await offload.run(_restore, house, 0.0)
        except StorageUnavailable as error:
            if clock.monotonic() + pause > until:
                raise StorageUnavailable(
                    f"the database did not answer within start_timeout={start_timeout:g} s "
                    f"({error}); check that it runs and that the URL is right"
                ) from error
            level = logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG  # said once
            log.log(level, "the database cannot be reached yet, will go on trying: %s", error)
            await _sleep(clock, pause)
            pause = min(2.0, pause * 2)


def _make_ready(house: House) -> None:
    """Let the writers make their connections while the node joins and restores."""
    if not house.inserter.duty.started:
        house.inserter.start()
        house.finisher.duty.start()


async def _join(house: House) -> None:
    """Have the heartbeat's thread join: its connection is to hold what proves that it lives."""
    life = house.life
    if not life.duty.started:
        life.duty.start()
    while not await house.offload.run(life.wait_joined, JOIN_LOOK):
        if life.duty.error is not None:
            raise life.duty.error


async def _give_up(house: House) -> None:
    """End what a start that failed has begun."""
    house.closing = True
    begun = (house.life.duty, house.inserter.duty, house.finisher.duty)
    for duty in begun:
        duty.stop()
    await _joined(house.repository.close)
    for duty in begun:
        await _joined(duty.join)
    await _joined(house.wires.close)
    await _joined(house.offload.close)


async def restore_again(house: House, wait: float) -> RestoreReport:
    """Restore once more, waiting for nodes that are about to be declared dead."""
    return await house.offload.run(_restore, house, wait)


async def wind_down(house: House) -> None:
    """Stop firing and claiming, hand back what waits; what runs goes on. Twice is fine."""
    house.closing = True
    await house.firing.stop()
    await _within(house.clock, house.soon.flush(), LAST_WRITES)
    await _stopped(house, house.sync.duty.stop, house.sync.duty.join)
    house.keeper.stop()
    _hand_back(house)


def _hand_back(house: House) -> None:
    """What has not started is for others."""
    dispatcher = house.engine.dispatcher
    for entry in dispatcher.holding():
        if isinstance(entry, Held) and dispatcher.withdraw(entry):
            house.intake.give_back(entry)


async def move_out(house: House, *, timeout: float | None) -> None:
    """Wind down, let work end, release the rest, flush, leave."""
    if os.getpid() != house.process:
        raise ForkedScheduler
    house.closing = True
    try:
        await _clear(house, timeout)
    finally:
        house.wires.look_no_more()


async def _clear(house: House, timeout: float | None) -> None:
    await wind_down(house)
    await _let_end(house, timeout)
    await _within(house.clock, house.inserter.drain(), LAST_WRITES)
    await asyncio.sleep(0)  # what an insert that was under way took along is there now
    _hand_back(house)
    await house.offload.run(house.finisher.flush, LAST_WRITES)
    if unwritten := house.finisher.unwritten:
        log.error("%d outcomes could not be written; their tasks will run again", unwritten)
    house.waiters.close(SchedulerNotRunning("the scheduler was shut down; ask another one"))
    house.wires.signals.interrupt()
    for duty in reversed(house.duties):
        duty.stop()
    house.wires.signals.interrupt()
    for duty in house.duties:
        await _joined(duty.join)
    await _joined(partial(house.keeper.join, LAST_WRITES))
    try:
        await house.offload.run(house.repository.leave, house.life.id)
    except StorageUnavailable as error:
        log.warning("could not sign off, the lease will run out instead: %s", error)
    await house.engine.stop(0)
    await _joined(house.wires.close)
    await _joined(house.repository.close)
    await _joined(house.offload.close)


async def _let_end(house: House, timeout: float | None) -> None:
    """Wait for what runs; past the timeout cancel it, and give back what does not end."""
    dispatcher = house.engine.dispatcher
    if await _within(house.clock, dispatcher.idle(), timeout):
        return
    for run in list(house.executor.runs.values()):
        run.stop(Stop.SHUTDOWN, "the scheduler is shutting down")
    if await _within(house.clock, dispatcher.idle(), GRACE):
        return
    for entry in dispatcher.live():
        if isinstance(entry, Held) and entry.running is not None and not entry.running.settled:
            log.warning("task %s did not end at shutdown; it is given back", entry.claimed.id)
            entry.running.settled = True
            house.intake.give_back(entry)


def _restore(house: House, wait: float) -> RestoreReport:
    report = restore(
        repository=house.repository,
        life=house.life,
        sync=house.sync,
        clock=house.clock,
        works=list(house.works.ids()),
        wait=wait,
    )
    for work, ids in house.intake.unknown.items():
        known = report.unknown.setdefault(work, [])
        known += [task_id for task_id in ids if task_id not in known]
    return report


async def _sleep(clock: Clock, seconds: float) -> None:
    event = asyncio.Event()
    alarm = clock.call_at(asyncio.get_running_loop(), clock.monotonic() + seconds, event.set)
    try:
        await event.wait()
    finally:
        alarm.cancel()


async def _within(clock: Clock, what: object, timeout: float | None) -> bool:
    """Await it for at most so long; whether it came to its end."""
    task = asyncio.ensure_future(what)  # type: ignore[call-overload]
    alarm = None
    if timeout is not None:
        loop = asyncio.get_running_loop()
        alarm = clock.call_at(loop, clock.monotonic() + timeout, task.cancel)
    try:
        await asyncio.wait([task])
    finally:
        if alarm is not None:
            alarm.cancel()
        task.cancel()
    return not task.cancelled()


async def _joined(join: Callable[[], object]) -> None:
    """Call something that blocks for a moment, off the loop, in a thread of its own.

    Not the loop's executor: that one takes nothing any more once the interpreter ends, when a
    service may shut down by ``atexit``. There, from Python 3.12 on, no thread starts either.
    """
    answer: Answer[object] = Answer()
    thread = threading.Thread(target=answer.call, args=(join,), name="rota-join", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        answer.call(join)
        await answer.future
    else:
        await answer.future
        thread.join()  # it has said its last word: a shutdown leaves no thread behind


async def _stopped(house: House, stop: object, join: object) -> None:
    stop()  # type: ignore[operator]
    await house.offload.run(join, 5.0)  # type: ignore[arg-type]
