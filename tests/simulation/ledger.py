"""What the database did, written down as it commits: the history, and an oracle of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from rota.control.reading import Reader
from rota.core.context import Token
from rota.core.recurring import Definition, Fire, Fired, Put
from rota.core.task import Along, Claimed, Ending, Finish, Inserted, NewTask, Rescued, Stored, Task
from rota.storage.memory import MemoryRepository
from rota.testing import history
from tests.simulation.loops import BEGAN
from tests.simulation.turns import Turns

_WAITS = frozenset({Stored.SCHEDULED, Stored.PARKED})
_ENDS = {Stored.DONE: "done", Stored.FAILED: "failed", Stored.CANCELLED: "cancelled"}


class Ledger:
    """Called by the faulty repository for each statement that was committed.

    It follows the tokens by itself: who has claimed a task, and who has lost it since. So a
    repository that takes an outcome from a wrong token is found, whatever it says itself.
    """

    def __init__(self, turns: Turns, shared: MemoryRepository) -> None:
        self.events: list[history.Event] = []
        self.violations: list[history.Violation] = []
        self.traced: list[tuple[float, str, str, str]] = []
        self.count: Counter[str] = Counter()
        self.due: dict[str, float] = {}
        self.definitions: dict[str, Definition] = {}
        self._turns = turns
        self._shared = shared
        self._holders: dict[str, Token] = {}
        self._written: set[tuple[str, Token, Ending]] = set()
        self._keys: dict[str, str] = {}
        self._paused: set[str] = set()

    @property
    def now(self) -> float:
        return self._turns.now

    def trace(self, who: str, what: str, how: str) -> None:
        self.traced.append((self.now, who, what, how))

    def tell(self, event: history.Event) -> None:
        self.events.append(event)
        self.traced.append((self.now, "history", type(event).__name__, str(event)))

    def broken(self, verdict: str, subject: str, detail: str) -> None:
        self.violations.append(history.Violation(verdict, subject, f"{detail}, at {self.now:.6f}"))
        self.trace("BROKEN", verdict, f"{subject}: {detail}")

    def acknowledged(self, task_id: str, *, timed: bool = True) -> None:
        """A caller was told that the task is stored."""
        self.count["tasks"] += 1
        due = self.due.get(task_id) if timed else None
        self.tell(history.Scheduled(task_id, self.now, due))

    def started(self, task_id: str, attempt: int, token: Token, queue: str = "") -> None:
        self.count["attempts"] += 1
        self.tell(history.Started(task_id, attempt, token, token.node, self.now, queue))

    # --- what goes in ---------------------------------------------------------------------

    def saw_insert(
        self,
        answers: Sequence[Inserted],
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> None:
        for task, answer in zip(tasks, answers, strict=True):
            if answer.created:
                self._entered(task)
                if answer.claimed is not None and along is not None:
                    self.count["taken along"] += 1
                    self._take(answer.claimed, along.node)
            elif task.on_conflict == "replace" and answer.state in _WAITS:
                self._moved(answer.id)

    def saw_update(self, _: Task, task_id: str, *__: Any) -> None:
        self._moved(task_id)

    def _moved(self, task_id: str) -> None:
        """It has another time now: what was said of it before holds no more."""
        self.due.pop(task_id, None)
        for at, event in enumerate(self.events):
            if isinstance(event, history.Scheduled | history.Accepted) and event.task == task_id:
                self.events[at] = replace(event, due=None)

    def _entered(self, task: NewTask) -> None:
        self.count["inserted"] += 1
        fence = task.fence
        if fence is not None and self._holders.get(fence.task) != (fence.node, fence.batch):
            self.broken("unfenced", task.id, f"spawned by {fence}, which has its task no more")
        self.due[task.id] = self.now + task.delay if task.at is None else seconds_of(task.at)
        if task.unique is not None and task.period is None:
            if task.unique in self._keys:
                self.broken("key_twice", task.id, f"{task.unique} is {self._keys[task.unique]}'s")
            self._keys[task.unique] = task.id

    def saw_pause_queue(self, _: None, queue: str, reason: str) -> None:
        self._paused.add(queue)

    def saw_resume_queue(self, _: bool, queue: str) -> None:
        self._paused.discard(queue)

    # --- who has what ---------------------------------------------------------------------

    def saw_claim(self, claimed: Sequence[Claimed], node: int, *_: Any, **__: Any) -> None:
        for item in claimed:
            self._take(item, node)

    saw_claim_parked = saw_claim

    def saw_claim_until(self, claimed: Sequence[Claimed], owner: int, *_: Any, **__: Any) -> None:
        """Pulled: its attempt begins here, whenever its owner gets to know of it."""
        for item in claimed:
            self._take(item, owner)
            self.started(item.id, item.attempt, Token(owner, item.batch))

    saw_claim_parked_until = saw_claim_until

    def saw_claim_one(self, claimed: Claimed, node: int, *_: Any) -> None:
        self._take(claimed, node, named=True)
        self._moved(claimed.id)  # due or not

    def _take(self, item: Claimed, node: int, *, named: bool = False) -> None:
        token = Token(node, item.batch)
        holder = self._holders.get(item.id)
        if holder is not None:
            self.broken("claimed_twice", item.id, f"by {token} while {holder} has it")
        if item.queue in self._paused and not named:
            self.broken("claimed_paused", item.id, f"by {token} from {item.queue}")
        self._holders[item.id] = token

    def saw_rescue(self, rescued: Sequence[Rescued], limit: int) -> None:
        for item in rescued:
            self.count["rescued"] += 1
            self._lose(item.id, item.state)
            if item.follow is not None:
                self._entered(item.follow)
                self.acknowledged(item.follow.id)

    def saw_drop_lease(self, _: int, node: int, batch: int) -> None:
        token = Token(node, batch)
        for task_id in [one for one, holder in self._holders.items() if holder == token]:
            self.count["taken from a lease nobody knew"] += 1
            self._lose(task_id, self._shared._book.rows[task_id].state)

    def _lose(self, task_id: str, state: Stored) -> None:
        self._holders.pop(task_id, None)
        if state not in _WAITS:
            self._end(task_id, state, None)

    def saw_bury(self, dead: Sequence[int], *_: Any, **__: Any) -> None:
        self.count["buried"] += len(dead)

    # --- how it ends ----------------------------------------------------------------------

    def saw_finish(
        self,
        states: Sequence[Stored | None],
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> None:
        for finish, state in zip(finishes, states, strict=True):
            self._finished(finish, state, Token(node, finish.batch), repeated=repeated)

    def _finished(
        self, finish: Finish, state: Stored | None, token: Token, *, repeated: bool
    ) -> None:
        name = finish.ending.name.lower()
        if state is None:
            self.count["refused"] += 1
            self.tell(history.Refused(finish.id, token, name, self.now))
            if self._holders.get(finish.id) == token:
                self.broken("refused_own", finish.id, f"{name} of {token}, which has it")
            return
        key = (finish.id, token, finish.ending)
        if repeated and key in self._written:
            return
        self._written.add(key)
        self.count["accepted"] += 1
        if self._holders.pop(finish.id, None) != token:
            self.broken("unfenced", finish.id, f"{name} of {token}, which has it not")
        if state in _WAITS:
            due = self.now + finish.delay
            self.tell(history.Accepted(finish.id, token, name, self.now, due))
        else:
            self._end(finish.id, state, token)
        if finish.follow is not None:
            self._entered(finish.follow)
            self.acknowledged(finish.follow.id)

    def _end(self, task_id: str, state: Stored, token: Token | None) -> None:
        self.tell(history.Accepted(task_id, token, _ENDS[state], self.now))
        self._free(task_id)

    def _free(self, task_id: str) -> None:
        for key in [key for key, holder in self._keys.items() if holder == task_id]:
            del self._keys[key]

    def saw_cancel(self, met: Stored | None, task_id: str, *_: Any, **__: Any) -> None:
        if met in _WAITS:
            self.tell(history.Cancelled(task_id, self.now))
            self._free(task_id)

    def saw_expire(self, expired: Sequence[str], limit: int) -> None:
        for task_id in expired:
            self.count["expired"] += 1
            self._end(task_id, Stored.CANCELLED, None)

    # --- recurring tasks ------------------------------------------------------------------

    def saw_put_recurring(self, put: Put, definition: Definition, **_: Any) -> None:
        if put is Put.CREATED:
            self.definitions[definition.id] = definition

    def saw_fire(
        self, answers: Sequence[Fired], fires: Sequence[tuple[Fire, NewTask | None]]
    ) -> None:
        for (fire, child), answer in zip(fires, answers, strict=True):
            if answer.decision in {None, "waiting"}:
                continue
            self.count["fire times decided"] += fire.count
            for at in covered(self.definitions[fire.recurring], fire):
                self.tell(history.FireDecided(fire.recurring, at, str(answer.decision), self.now))
            if answer.created and child is not None:
                self._entered(child)
                self.acknowledged(child.id)


def covered(definition: Definition, fire: Fire) -> list[float]:
    """The fire times a decision is about."""
    trigger = Reader().read(definition).trigger
    times, at = [seconds_of(fire.fire_at)], fire.fire_at
    for _ in range(fire.count - 1):
        following = trigger.next(at)
        assert following is not None
        at = following
        times.append(seconds_of(at))
    return times


def seconds_of(at: datetime) -> float:
    """Seconds since the world began."""
    return round((at - BEGAN).total_seconds(), 6)
