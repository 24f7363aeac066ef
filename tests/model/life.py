"""What a task's life must be, as a model small enough to be believed: plain Python, no storage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rota.core.options import decode_options
from rota.core.task import Ending, Finish, Inserted, NewTask, Stored
from rota.errors import (
    AlreadyClaimed,
    LeaseLost,
    NodeDead,
    StaleVersion,
    WrongState,
)

#: Model time is counted in ticks. Moments fall on whole ticks and limits between them, so
#: that a database whose clock runs on during an example agrees about what is over.
TICK = 100.0
NODE_LEASE = 1.5
PULL_LEASE = 2.5


class Holder(NamedTuple):
    """A token: who, and under which batch."""

    node: int
    batch: int


class Past(NamedTuple):
    """One attempt that ended, as the history tells it."""

    attempt: int
    outcome: str
    token: Holder | None


@dataclass(kw_only=True)
class Life:
    """One task."""

    new: NewTask
    run_at: float
    expires_at: float | None
    params: str
    state: Stored = Stored.SCHEDULED
    token: Holder | None = None
    attempt: int = 0
    losses: int = 0
    version: int = 1
    kept_from: int | None = None
    cancel_reason: str | None = None
    reason: str | None = None
    last: Holder | None = None
    past: list[Past] = field(default_factory=list)
    reported: tuple[Holder, int] | None = None

    @property
    def waiting(self) -> bool:
        return self.state in {Stored.SCHEDULED, Stored.PARKED}

    @property
    def final(self) -> bool:
        return self.state >= Stored.DONE

    def end(self, state: Stored, reason: str | None) -> None:
        """It ended; under its token if one was running."""
        self.state, self.reason, self.last, self.token = state, reason, self.token, None
        if self.last is not None:
            self.past.append(Past(self.attempt, state.name.lower(), self.last))

    def wait(self, state: Stored = Stored.SCHEDULED) -> None:
        """No token is valid from now on."""
        self.state, self.token, self.kept_from = state, None, None

    def lose(self) -> None:
        """Its attempt has not said how it ended, and no outcome of it is taken any more."""
        self.past.append(Past(self.attempt, "lost", self.token))
        self.token = None

    def give_back(self, now: float) -> None:
        """Without cost, or cancelled if that was asked for."""
        if self.cancel_reason is not None:
            self.end(Stored.CANCELLED, self.cancel_reason)
            return
        self.attempt -= 1
        self.run_at = max(self.run_at, now)
        self.wait()


@dataclass
class Lease:
    """A claimed batch: what it took, and until when if nobody's node vouches for it."""

    ids: list[str]
    deadline: float | None = None


class Model:
    """All tasks, nodes and leases; each verb answers, or raises, what a repository must."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lives: dict[str, Life] = {}
        self.nodes: dict[int, float] = {}
        self.leases: dict[Holder, Lease] = {}

    def holding(self, key: str) -> Life | None:
        """The unfinished task with this unique key."""
        holders = [one for one in self.lives.values() if one.new.unique == key and not one.final]
        assert len(holders) <= 1
        return holders[0] if holders else None

    def unfinished(self) -> list[Life]:
        return [life for life in self.lives.values() if not life.final]

    def insert(self, new: NewTask, *, repeated: bool = False) -> Inserted:
        fence = new.fence
        if fence is not None and self.lives[fence.task].token != (fence.node, fence.batch):
            raise LeaseLost(fence.task)
        met = self.lives.get(new.id)
        by_key = met is None
        if met is None and new.unique is not None:
            met = self.holding(new.unique)
        if met is not None:
            own = repeated and not by_key and not new.given_id
            if new.on_conflict == "replace" and met.waiting and not own:
                met.run_at, met.expires_at = self._times(new)
                met.params = new.params
                met.version += 1
            return Inserted(met.new.id, False, met.state, by_key)
        run_at, expires_at = self._times(new)
        self.lives[new.id] = Life(new=new, run_at=run_at, expires_at=expires_at, params=new.params)
        return Inserted(new.id, True, Stored.SCHEDULED)

    def due(self) -> list[Life]:
        return [one for one in self._in_state(Stored.SCHEDULED) if one.run_at <= self.now]

    def due_parked(self, node: int) -> list[Life]:
        parked = self._in_state(Stored.PARKED)
        return [one for one in parked if one.run_at <= self.now and one.kept_from != node]

    def require(self, node: int) -> None:
        if node not in self.nodes:
            raise NodeDead("not entered")

    def require_claimable(self, node: int, task_id: str) -> None:
        """What ``claim_one`` refuses."""
        self.require(node)
        life = self.lives[task_id]
        if life.state is Stored.WORKING:
            raise AlreadyClaimed(task_id)
        if life.final:
            raise WrongState(task_id, str(life.state.public), "")

    def take(self, life: Life, token: Holder, deadline: float | None = None) -> None:
        """It was claimed under this token."""
        life.state, life.token, life.kept_from = Stored.WORKING, token, None
        life.attempt += 1
        self.leases.setdefault(token, Lease([], deadline)).ids.append(life.new.id)

    def finish(
        self, node: int, finish: Finish, over: Iterable[int], *, repeated: bool
    ) -> Stored | None:
        life, token = self.lives[finish.id], Holder(node, finish.batch)
        if life.token == token:
            self._finish(life, finish)
            answer: Stored | None = life.state
        else:
            answer = self._written_before(life, token, finish.ending) if repeated else None
        for batch in over:
            if not self._held(Holder(node, batch)):
                self.leases.pop(Holder(node, batch), None)
        return answer

    def cancel(self, task_id: str, reason: str) -> Stored:
        life = self.lives[task_id]
        met = life.state
        if life.waiting:
            life.end(Stored.CANCELLED, reason)
        elif met is Stored.WORKING and life.cancel_reason is None:
            life.cancel_reason = reason
        return met

    def update(
        self, task_id: str, delay: float | None, params: str | None, expected: int | None
    ) -> int:
        """Answers the new version."""
        life = self.lives[task_id]
        if not life.waiting:
            raise WrongState(task_id, str(life.state.public), "")
        if expected is not None and expected != life.version:
            raise StaleVersion("task", expected, life.version)
        if delay is not None:
            life.run_at = self.now + delay
        if params is not None:
            life.params = params
        life.version += 1
        return life.version

    def report(self, token: Holder, task_id: str, n: int) -> bool:
        life = self.lives[task_id]
        if life.token != token:
            raise LeaseLost(task_id)
        if life.reported is not None and life.reported[0] == token and life.reported[1] >= n:
            return False
        life.reported = token, n
        life.losses = min(life.losses, 1)
        return True

    def extend(self, token: Holder) -> bool:
        lease = self.leases.get(token)
        if lease is None or lease.deadline is None:
            return False
        lease.deadline = self.now + PULL_LEASE
        return True

    def beat(self, node: int) -> bool:
        if node not in self.nodes:
            return False
        self.nodes[node] = self.now + NODE_LEASE
        return True

    def bury(self, asker: int) -> list[int]:
        dead = [one for one, until in self.nodes.items() if one != asker and until < self.now]
        for one in dead:
            del self.nodes[one]
        return dead

    def rescue(self) -> dict[str, Stored]:
        """Which tasks were taken back, and what became of each."""
        orphaned = [
            token
            for token, lease in self.leases.items()
            if token.node not in self.nodes
            and (lease.deadline is None or lease.deadline <= self.now)
        ]
        told: dict[str, Stored] = {}
        for token in orphaned:
            lease = self.leases.pop(token)
            for life in self._held(token):
                self._lose(life, alone=len(lease.ids) == 1)
                told[life.new.id] = life.state
        return told

    def drop_lease(self, token: Holder) -> int:
        self.leases.pop(token, None)
        held = self._held(token)
        for life in held:
            if life.cancel_reason is not None:
                life.lose()
            life.give_back(self.now)
        return len(held)

    def expire(self) -> set[str]:
        over = [
            one
            for one in self.lives.values()
            if one.waiting and one.expires_at is not None and one.expires_at <= self.now
        ]
        for life in over:
            life.end(Stored.CANCELLED, "expired")
        return {life.new.id for life in over}

    def _in_state(self, state: Stored) -> list[Life]:
        return [life for life in self.lives.values() if life.state is state]

    def _held(self, token: Holder) -> list[Life]:
        return [life for life in self.lives.values() if life.token == token]

    def _times(self, new: NewTask) -> tuple[float, float | None]:
        due = self.now + new.delay / TICK
        return due, None if new.expires_in is None else due + new.expires_in / TICK

    def _finish(self, life: Life, finish: Finish) -> None:
        ending = finish.ending
        if ending.terminal:
            life.end(Stored(int(ending)), finish.reason)
        elif life.cancel_reason is not None:
            life.end(Stored.CANCELLED, life.cancel_reason)
        elif ending is Ending.RELEASE:
            life.give_back(self.now + finish.delay / TICK)
        elif ending is Ending.PARK:
            assert life.token is not None
            keeper = life.token.node if finish.keep_from else None
            life.attempt -= 1
            life.run_at = max(life.run_at, self.now + finish.delay / TICK)
            life.wait(Stored.PARKED)
            life.kept_from = keeper
        else:
            self._try_again(life, finish)

    def _try_again(self, life: Life, finish: Finish) -> None:
        life.past.append(Past(life.attempt, finish.ending.name.lower(), life.token))
        life.losses = 0
        life.run_at = self.now + finish.delay / TICK
        if finish.ending is Ending.AGAIN:
            life.attempt = 0
            if finish.params is not None:
                life.params = finish.params
                life.version += 1
        life.wait()

    def _lose(self, life: Life, *, alone: bool) -> None:
        if alone or life.losses == 0:
            life.losses += 1
        most = decode_options(life.new.options).max_rescues
        given_up = most is not None and life.losses - 1 >= most
        life.lose()
        if given_up and life.cancel_reason is None:
            life.end(Stored.FAILED, "lost")
        else:
            life.give_back(self.now)

    @staticmethod
    def _written_before(life: Life, token: Holder, ending: Ending) -> Stored | None:
        if life.final and life.last == token:
            return life.state
        told = any(past[1:] == (ending.name.lower(), token) for past in life.past)
        return Stored.SCHEDULED if told else None
