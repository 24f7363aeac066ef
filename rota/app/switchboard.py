"""The wires between the parts of a running scheduler: who tells whom what has happened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rota.core.clock import Cancellable
from rota.core.context import Token
from rota.core.events import Died, Event, Finished, Started, TookBack, Unfit
from rota.core.glance import Glance
from rota.core.ports import Signals
from rota.core.request import ScheduleRequest
from rota.core.run import Run, Stop
from rota.core.task import CancelNotice, Ending, Finish, Lane, NewTask, Rescued, Stored
from rota.errors import ExternalStateChange, SchedulerNotRunning, SchemaMismatch, StorageError
from rota.scheduler.executor import Held

if TYPE_CHECKING:
    from rota.app.house import House

log: logging.Logger = logging.getLogger("rota")

#: How often held tasks are looked over on the loop, and the loop itself while there are none.
LOOK_OVER, LOOK_OVER_IDLE = 0.25, 1.0
#: A commit that was seen to begin is told of again after so many seconds.
NUDGES = (0.02, 0.25)


class Switchboard:
    """Every callback between rooms, in one place; each says from which thread it is called."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._signals: Signals | None = None
        self.loop_seen: float = house.clock.monotonic()  #: when the loop last turned
        self.loop_lag: float = 0.0
        self._looking: Cancellable | None = None
        self._look_over_in = LOOK_OVER
        self._entered: list[ScheduleRequest | NewTask] = []  #: put in, and nobody told of yet

    @property
    def signals(self) -> Signals:
        if self._signals is None:
            raise SchedulerNotRunning("the scheduler is not running; start it first")
        return self._signals

    def open(self) -> None:
        """Begin to hear other nodes; blocks on the database."""
        if self._signals is None:
            self._signals = self._house.repository.signals(self._house.life.id)
            self.joined()

    def joined(self) -> None:
        """A new incarnation is there: the others are to watch over it; any thread."""
        if self._signals is not None:
            self._signals.announce(everything=True)

    def hears(self) -> bool:
        """Whether what other nodes say arrives; any thread."""
        return self._signals is not None and self._signals.hears

    def close(self) -> None:
        """Hear no more; safe if nothing was heard yet."""
        if self._signals is not None:
            self._signals.close()

    def listen(self) -> float:
        """One wait for other nodes, in the listener's thread."""
        house = self._house
        heard = self.signals.wait(house.settings.poll)
        if heard is None:
            return 0.0
        if heard.everything:
            self._heard_everything()
            return 0.0
        if heard.lanes:
            house.sync.hint(heard.lanes)
            house.loop.call_soon_threadsafe(house.pulling.heard)
        if heard.tasks:
            house.loop.call_soon_threadsafe(house.waiters.look)
            house.holdback.suspect()
            house.loop.call_soon_threadsafe(house.firing.wake, list(heard.tasks))
        return 0.0

    def _heard_everything(self) -> None:
        """A glance finds whether there is any need; a claimer that is at it takes none now."""
        house = self._house
        glancing = not house.sync.lanes.active
        if glancing:
            house.sync.look()
        if house.holdings or not glancing:
            house.holdback.suspect()
        house.loop.call_soon_threadsafe(self._look_about, glancing)

    def _look_about(self, glancing: bool) -> None:
        """On the loop."""
        house = self._house
        house.pulling.heard()
        house.waiters.look()
        house.firing.heard(glancing=glancing)

    def glanced(self, glance: Glance, began: float) -> None:
        """What the claimer saw that is others' to see to; in its thread."""
        self._house.holdback.know(glance.paused_works, began)
        self._house.firing.foresee(glance.fires_in, began)

    def tell(self, lanes: Sequence[Lane]) -> None:
        """Something was put into these lanes: wake our claimer and the other nodes; any thread."""
        if not lanes:
            return
        self._house.sync.hint(lanes)
        self._tell_others(lanes)

    def tell_soon(self, entered: Sequence[ScheduleRequest | NewTask]) -> None:
        """The same for what was put in, once for all of a turn; on the loop."""
        if not self._entered:
            self._house.loop.call_soon(self._tell_entered)
        self._entered += entered

    def _tell_entered(self) -> None:
        entered, self._entered = self._entered, []
        self.tell(self.lanes_of(entered))

    def _tell_others(self, lanes: Sequence[Lane]) -> None:
        """Wake the other nodes and who pulls here, but not our own claimer; any thread."""
        soon = [lane for lane in lanes if lane.due_in <= self._house.settings.poll]
        if soon and self._signals is not None:
            self._signals.announce(lanes=soon)
        if soon and self._house.pulling.waiting:
            self._house.loop.call_soon_threadsafe(self._house.pulling.heard)

    def nudge(self, lanes: Sequence[Lane]) -> None:
        """A transaction commits about now: tell, and again when it surely has; on the loop."""
        self._tell_while_open(lanes)
        for wait in NUDGES:
            when = self._house.clock.monotonic() + wait
            self._house.clock.call_at(self._house.loop, when, lambda: self._tell_while_open(lanes))

    def _tell_while_open(self, lanes: Sequence[Lane]) -> None:
        """The caller's transaction may outlive this scheduler."""
        if not self._house.closing:
            self.tell(lanes)

    async def look_everywhere(self) -> None:
        """Something may be due that nobody was told of: look here, and tell the other nodes."""
        house = self._house
        house.sync.look()
        house.pulling.heard()
        try:
            agenda = await house.offload.run(house.repository.agenda, None)
        except (StorageError, RuntimeError) as error:
            log.debug("could not see what to wake other nodes for: %s", error)
            return
        if not house.closing:
            self.signals.announce(
                lanes=[lane for lane in agenda if lane.due_in <= house.settings.poll]
            )

    def lanes_of(self, tasks: Sequence[ScheduleRequest | NewTask]) -> list[Lane]:
        """One lane for each (queue, priority), with the earliest time."""
        first: dict[tuple[str, int], float] = {}
        now = self._house.clock.now()
        asked = {(one.queue, one.priority, one.at, one.delay) for one in tasks}
        for queue, priority, at, delay in asked:
            due_in = delay if at is None else max(0.0, (at - now).total_seconds())
            lane = queue, priority
            if due_in < first.get(lane, float("inf")):
                first[lane] = due_in
        return [Lane(*lane, due_in) for lane, due_in in first.items()]

    def changed(self, task_id: str, lanes: list[Lane]) -> None:
        """A verb changed a task; on the loop."""
        if lanes:
            self.tell(lanes)
        if self._signals is not None:
            self._signals.announce(tasks=[task_id])

    def recurring_changed(self, recurring_id: str) -> None:
        """A definition is new or another: look when it fires, here and elsewhere; any thread."""
        house = self._house
        house.loop.call_soon_threadsafe(house.firing.wake, [recurring_id])
        if self._signals is not None:
            self._signals.announce(tasks=[recurring_id])

    def look_over(self) -> None:
        """Now and then, on the loop: cut what hangs, hand back what waits too long for a slot.

        What hangs is cut until the end of a shutdown, which it would hold up for ever.
        """
        house = self._house
        # The loop never waits for the database, so it cuts the heartbeat's hung statement, too.
        house.repository.abort_overdue()
        now = house.clock.monotonic()
        wait = LOOK_OVER
        if not house.closing:
            self.loop_lag = max(0.0, now - self.loop_seen - self._look_over_in)
            self.loop_seen = now
            if house.intake.give_back_late():
                log.debug("handed back tasks that found no slot in time")
            house.engine.dispatcher.wake()
            wait = LOOK_OVER if house.engine.dispatcher.held else LOOK_OVER_IDLE
        self._look_over_in = wait
        self._looking = house.clock.call_at(house.loop, now + wait, self.look_over)

    def look_no_more(self) -> None:
        """The shutdown is over; on the loop."""
        if self._looking is not None:
            self._looking.cancel()

    def freed(self) -> None:
        """A slot is free; on the loop."""
        house = self._house
        if not house.closing and house.sync.lanes.wanting and house.intake.hungry():
            house.sync.duty.wake()

    def written(
        self, node: int, finishes: Sequence[Finish], states: Sequence[Stored | None]
    ) -> None:
        """A node's outcomes are in the database; in the finisher's thread."""
        house = self._house
        both = zip(finishes, states, strict=True)
        waiting = [finish for finish, state in both if state is Stored.SCHEDULED]
        if waiting:
            # What was handed back for want of a slot is for the others: here there is none.
            released = [one for one in waiting if one.ending is Ending.RELEASE]
            self._tell_others(_lanes(released))
            self.tell(_lanes([one for one in waiting if one.ending is not Ending.RELEASE]))
        both = zip(finishes, states, strict=True)
        follows = [one.follow for one, state in both if state is not None and one.follow]
        if follows:
            self.tell(_lanes(follows))
        parents = [
            one.recurring for one in finishes if one.recurring is not None and one.ending.terminal
        ]
        if parents:
            house.loop.call_soon_threadsafe(house.firing.ended, parents)
        if house.settings.on_event is not None or house.waiters.ids:
            house.loop.call_soon_threadsafe(self._ended, node, finishes, states)

    def _ended(
        self, node: int, finishes: Sequence[Finish], states: Sequence[Stored | None]
    ) -> None:
        both = list(zip(finishes, states, strict=True))
        self._house.waiters.ended([(one.id, state) for one, state in both if state is not None])
        if self._house.settings.on_event is None:
            return
        for finish, state in both:
            token = Token(node, finish.batch)
            self.emit(Finished(finish.id, finish.attempt, token, finish.ending, state))

    def started(self, run: Run) -> None:
        """A run got its slot; on the loop."""
        claimed = run.claimed
        late = run.started - run.received - claimed.due_in
        self.emit(Started(claimed.id, claimed.work, claimed.attempt, run.token, late))

    def may_start(self) -> None:
        """After a lease without one, a heartbeat was confirmed; in the heartbeat's thread."""
        self._house.sync.duty.wake()
        self._house.loop.call_soon_threadsafe(self._house.engine.dispatcher.wake)

    def dying(self, node: int) -> None:
        """In the heartbeat's thread, before the new incarnation can have claimed anything."""
        self._house.holdings.clear()
        self._house.intake.forget(node)
        self._house.loop.call_soon_threadsafe(self._died, node)

    def _died(self, node: int) -> None:
        """What ran under the dead incarnation does not count any more."""
        house = self._house
        for entry in house.engine.dispatcher.holding():
            if isinstance(entry, Held) and entry.node == node:
                house.engine.dispatcher.withdraw(entry)
        for run in list(house.executor.runs.values()):
            if run.token.node == node:
                run.stop(Stop.LOST, "the lease was lost")
        house.sync.forget()
        self.emit(Died(node))

    def unfit(self, error: SchemaMismatch) -> None:
        """The schema was changed beyond this code; in the heartbeat's thread, once."""
        self._house.loop.call_soon_threadsafe(self._unfit, error)

    def _unfit(self, error: SchemaMismatch) -> None:
        self.emit(Unfit(error))
        self._house.on_unfit()

    def watch(self) -> None:
        """In the heartbeat's thread, each turn: what hangs or stands, runs changed from outside."""
        house = self._house
        house.repository.abort_overdue()
        house.watch.turn()
        house.holdback.look()
        runs = {
            run.id: run.claimed.batch
            for run in list(house.executor.runs.values())
            if not run.settled and run.stopped is None and not run.completed
        }
        if not runs or not house.life.may_start:
            return
        missing = runs.keys() - house.repository.still_mine(house.life.id, list(runs))
        if missing:
            states = house.repository.states(list(missing))
            house.loop.call_soon_threadsafe(
                self._changed_outside, [(item, runs[item], states.get(item)) for item in missing]
            )

    def _changed_outside(self, changed: Sequence[tuple[str, int, Stored | None]]) -> None:
        """These rows are not ours any more, by nothing we wrote: their runs are stopped."""
        for task_id, batch, state in changed:
            run = self._house.executor.runs.get(task_id)
            # A run that has ended meanwhile took its row away itself.
            if run is not None and run.claimed.batch == batch and not run.completed:
                found = "gone" if state is None else str(state.public)
                run.stop(
                    Stop.CHANGED,
                    f"its row was changed from outside to {found}",
                    cause=ExternalStateChange(found),
                )

    def cancels(self, notices: Sequence[CancelNotice]) -> None:
        """Somebody asked these to stop; in the heartbeat's thread."""
        self._house.loop.call_soon_threadsafe(self._cancel, notices)

    def _cancel(self, notices: Sequence[CancelNotice]) -> None:
        for notice in notices:
            self.stop(notice.id, notice.reason, batch=notice.batch)

    def stop(self, task_id: str, reason: str, *, batch: int | None = None) -> bool:
        """Tell a run of this node to stop, or hand back what has not started; on the loop."""
        house = self._house
        if house.executor.stop(task_id, Stop.CANCELLED, reason, batch=batch):
            return True
        for entry in house.engine.dispatcher.holding():
            if not isinstance(entry, Held) or entry.claimed.id != task_id:
                continue
            if batch in {None, entry.claimed.batch} and house.engine.dispatcher.withdraw(entry):
                house.intake.give_back(entry)
                return True
        return False

    def rescued(self, lanes: Sequence[Lane]) -> None:
        """Tasks of dead nodes are claimable again in these lanes; in the claimer's thread."""
        if lanes and self._signals is not None:
            self._signals.announce(lanes=lanes)
        if lanes and self._house.pulling.waiting:
            self._house.loop.call_soon_threadsafe(self._house.pulling.heard)

    def took_back(self, rescued: Sequence[Rescued]) -> None:
        """Which tasks those are; in the claimer's thread."""
        house = self._house
        if house.settings.on_event is not None:
            event = TookBack(tuple(item.id for item in rescued))
            house.loop.call_soon_threadsafe(self.emit, event)
        ended = [(item.id, item.state) for item in rescued if item.state is not Stored.SCHEDULED]
        if ended:
            house.loop.call_soon_threadsafe(house.waiters.ended, ended)
        follows = [item.follow for item in rescued if item.follow is not None]
        if follows:
            self.tell(_lanes(follows))

    def expired(self, ids: Sequence[str]) -> None:
        """These waited past their deadline; in the claimer's thread."""
        self._house.loop.call_soon_threadsafe(
            self._house.waiters.ended, [(task_id, Stored.CANCELLED) for task_id in ids]
        )

    def emit(self, event: Event) -> None:
        """Tell the service's listener; its errors are its own; on the loop."""
        listener = self._house.settings.on_event
        if listener is not None:
            try:
                listener(event)
            except Exception:
                log.exception("the on_event listener raised")


def _lanes(tasks: Sequence[Finish] | Sequence[NewTask]) -> list[Lane]:
    return [Lane(one.queue, one.priority, one.delay) for one in tasks]
