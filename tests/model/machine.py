"""The state machine: every verb in any order from two nodes, each answer held against the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.model.life import NODE_LEASE, PULL_LEASE, TICK, Holder, Life, Model
from tests.model.worlds import World

from rota.core.ids import new_id, new_incarnation
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import (
    TRANSITIONS,
    Claimed,
    Ending,
    Fence,
    Finish,
    Membership,
    NewTask,
    Stored,
    Task,
    TaskState,
    Want,
)
from rota.errors import RotaError
from rota.testing.conformance.setting import a_task

PICK = st.integers(0, 11)
NODE = st.integers(0, 1)
DELAY = st.sampled_from([0.0, 0.0, 1.5])
KEY = st.sampled_from([None, "k1", "k2"])
ENDING = st.sampled_from(list(Ending))
#: Distinguishes examples that share a database.
EXAMPLES = itertools.count()


class Sent(NamedTuple):
    """A finish that was sent, to be sent again."""

    node: int
    finish: Finish


def answer(call: Callable[[], Any]) -> Any:
    """What it answered, or the class of the error it raised."""
    try:
        return call()
    except RotaError as error:
        return type(error)


class LifeMachine(RuleBasedStateMachine):
    """At most ``width`` unfinished tasks at once."""

    def __init__(self, world: World, *, width: int) -> None:
        super().__init__()
        self.world, self.width = world, width
        self.model = Model()
        self.prefix = f"x{next(EXAMPLES)}"
        self.batches = itertools.count(1)
        self.tokens: list[tuple[str, Holder]] = []
        self.given: set[Holder] = set()
        self.sent: list[Sent] = []
        self.seen: dict[str, TaskState] = {}
        self.changed: set[str] = set()
        # Nobody is declared dead within one lease after the server started.
        world.clock.advance(10 * TICK)
        self.nodes = [self._join(handle) for handle in world.handles]

    # --- putting in, looking up ---------------------------------------------------------

    @precondition(lambda self: len(self.model.unfinished()) < self.width)
    @rule(key=KEY, delay=DELAY, expires=st.sampled_from([None, None, 2.5]), given=st.booleans())
    def schedule(self, key: str | None, delay: float, expires: float | None, given: bool) -> None:
        self._insert(self._new(key, delay, expires, given_id=given))

    @rule(key=st.sampled_from(["k1", "k2"]), how=st.sampled_from(["raise", "return", "replace"]))
    def clash(self, key: str, how: str) -> None:
        if self.model.holding(self._key(key)) is not None:
            self._insert(self._new(key, 0.0, None, on_conflict=how, params='{"n":2}'))

    @precondition(lambda self: self.model.lives)
    @rule(pick=PICK, repeated=st.booleans())
    def insert_again(self, pick: int, repeated: bool) -> None:
        new = self._life(pick).new._replace(fence=None)
        self._insert(new if repeated else new._replace(given_id=True), repeated=repeated)

    @precondition(lambda self: self.tokens and len(self.model.unfinished()) <= self.width)
    @rule(pick=PICK)
    def spawn(self, pick: int) -> None:
        task_id, token = self._token(pick)
        fence = Fence(token.node, token.batch, task_id)
        self._insert(self._new(None, 0.0, None, fence=fence, parent=task_id))

    @precondition(lambda self: self.model.lives)
    @rule(pick=PICK, reason=st.sampled_from(["first", "second"]))
    def cancel(self, pick: int, reason: str) -> None:
        task_id = self._life(pick).new.id
        self._same(
            lambda model: model.cancel(task_id, reason),
            lambda repository: repository.cancel(task_id, reason),
            task_id,
        )

    @precondition(lambda self: self.model.lives)
    @rule(
        pick=PICK,
        delay=st.sampled_from([None, 0.0, 1.5]),
        params=st.sampled_from([None, '{"n":3}']),
        behind=st.sampled_from([None, 0, 1]),
    )
    def update(
        self, pick: int, delay: float | None, params: str | None, behind: int | None
    ) -> None:
        if delay is None and params is None:
            return
        life = self._life(pick)
        task_id, version = life.new.id, None if behind is None else life.version - behind
        changes: dict[str, object] = {} if params is None else {"params": params}
        if delay is not None:
            changes["delay"] = delay * TICK
        self._same(
            lambda model: model.update(task_id, delay, params, version),
            lambda repository: repository.update(task_id, changes, version).version,
            task_id,
        )

    # --- claiming -----------------------------------------------------------------------

    @rule(at=NODE, most=st.integers(1, 3))
    def claim(self, at: int, most: int) -> None:
        node, batch, want = self.nodes[at], self._batch(most), Want(self._queue, 0, most)
        taken = answer(lambda: self._handle(at).claim(node, batch, [want], 0.0))
        if self._expect_error(lambda: self.model.require(node), taken):
            return
        self._took(taken, self.model.due(), most=most, node=node, batch=batch)

    @rule(at=NODE)
    def claim_parked(self, at: int) -> None:
        node, batch = self.nodes[at], self._batch(3)
        taken = answer(lambda: self._handle(at).claim_parked(node, batch, [self._work], 3, 0.0))
        if self._expect_error(lambda: self.model.require(node), taken):
            return
        self._took(taken, self.model.due_parked(node), most=3, node=node, batch=batch)

    @precondition(lambda self: self.model.lives)
    @rule(at=NODE, pick=PICK)
    def claim_one(self, at: int, pick: int) -> None:
        node, batch, task_id = self.nodes[at], self._batch(1), self._life(pick).new.id
        one = answer(lambda: self._handle(at).claim_one(node, batch, task_id))
        if self._expect_error(lambda: self.model.require_claimable(node, task_id), one):
            return
        assert one.batch == batch
        self._take(one, node)

    @rule(at=NODE, most=st.integers(1, 2))
    def pull(self, at: int, most: int) -> None:
        owner, want = new_incarnation(), Want(self._queue, 0, most)
        taken = self._handle(at).claim_until(owner, 1, [want], PULL_LEASE * TICK)
        until = self.model.now + PULL_LEASE
        self._took(taken, self.model.due(), most=most, node=owner, batch=1, deadline=until)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK)
    def extend(self, pick: int) -> None:
        token = self._token(pick)[1]
        self._same(
            lambda model: model.extend(token),
            lambda repository: repository.extend(*token, PULL_LEASE * TICK),
        )

    # --- ending -------------------------------------------------------------------------

    @precondition(lambda self: self.tokens)
    @rule(
        pick=PICK,
        ending=ENDING,
        delay=DELAY,
        more=st.booleans(),
        over=st.booleans(),
    )
    def finish(self, pick: int, ending: Ending, delay: float, more: bool, over: bool) -> None:
        task_id, token = self._token(pick)
        params = '{"n":4}' if ending is Ending.AGAIN and more else None
        keep = ending is Ending.PARK and more
        finish = Finish(
            task_id,
            token.batch,
            1,
            ending,
            delay=delay * TICK,
            params=params,
            keep_from=keep,
            reason="said",
        )
        accepted = self._finish(token.node, finish, over=over)
        if accepted is not None:
            self.sent.append(Sent(token.node, finish))

    @precondition(lambda self: self.sent)
    @rule(pick=PICK, over=st.booleans())
    def finish_again(self, pick: int, over: bool) -> None:
        sent = self.sent[-1 - pick % len(self.sent)]
        self._finish(sent.node, sent.finish, over=over, repeated=True)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, n=st.integers(1, 3))
    def report(self, pick: int, n: int) -> None:
        task_id, token = self._token(pick)
        self._same(
            lambda model: model.report(token, task_id, n),
            lambda repository: repository.report(token.node, task_id, token.batch, n, str(n)),
            task_id,
        )

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK)
    def drop_lease(self, pick: int) -> None:
        token = self._token(pick)[1]
        self._same(
            lambda model: model.drop_lease(token),
            lambda repository: repository.drop_lease(*token),
            *self._held_by(token),
        )

    # --- nodes and time -----------------------------------------------------------------

    @rule(ticks=st.sampled_from([1, 1, 2, 3]))
    def advance(self, ticks: int) -> None:
        self.world.clock.advance(ticks * TICK)
        self.model.now += ticks

    @rule(at=NODE)
    def beat(self, at: int) -> None:
        node = self.nodes[at]
        self._same(
            lambda model: model.beat(node),
            lambda repository: repository.beat(node, NODE_LEASE * TICK),
            at=at,
        )

    @rule(at=NODE)
    def rejoin(self, at: int) -> None:
        if self.nodes[at] not in self.model.nodes:
            self.nodes[at] = self._join(self._handle(at))

    @rule(at=NODE, rescue=st.booleans())
    def leave(self, at: int, rescue: bool) -> None:
        self._handle(at).leave(self.nodes[at])
        self.model.nodes.pop(self.nodes[at], None)
        if rescue:
            self.rescue()

    @rule(at=NODE, trusted=st.booleans())
    def bury(self, at: int, trusted: bool) -> None:
        asker = self.nodes[at]
        if asker not in self.model.nodes:
            return
        buried = self._handle(at).bury(asker, trusted=trusted)
        expected = self.model.bury(asker) if trusted else []
        assert sorted(buried) == sorted(expected)

    @rule()
    def rescue(self) -> None:
        everything = self._handle(0).rescue(1000)
        self.changed.update(self.model.lives)
        assert {one.id: one.lost for one in everything} == self.model.rescue()

    @rule()
    def expire(self) -> None:
        expired = self._handle(1).expire(1000)
        self.changed.update(self.model.lives)
        assert set(expired) == self.model.expire()

    # --- what holds after every step ----------------------------------------------------

    @invariant()
    def tasks_are_what_the_model_says(self) -> None:
        stored = self._handle(0).states(list(self.model.lives))
        assert stored == {one: life.state for one, life in self.model.lives.items()}
        for task_id in self.changed:
            self._compare(self.model.lives[task_id])
        self.changed.clear()

    @invariant()
    def keys_are_free_unless_an_unfinished_task_has_them(self) -> None:
        for key in ("k1", "k2"):
            holder = self.model.holding(self._key(key))
            found = self._handle(1).find_key(self._key(key))
            assert found == (None if holder is None else holder.new.id)

    def teardown(self) -> None:
        """Whatever happened: every task can be brought to its end, and no old token works."""
        try:
            self._end_all()
        finally:
            self._sweep()

    def _end_all(self) -> None:
        for at in (0, 1):
            self.leave(at, rescue=False)
        self.advance(10)
        self.rescue()
        self.tasks_are_what_the_model_says()
        self.expire()
        self.nodes[0] = self._join(self._handle(0))
        for life in self.model.unfinished():
            batch = self._batch(1)
            self._take(self._handle(0).claim_one(self.nodes[0], batch, life.new.id), self.nodes[0])
            self._compare(life)
            done = Finish(life.new.id, batch, life.attempt, Ending.DONE)
            assert self._finish(self.nodes[0], done, over=True) is Stored.DONE
        self.changed.update(self.model.lives)
        self.tasks_are_what_the_model_says()
        self.keys_are_free_unless_an_unfinished_task_has_them()
        for task_id, token in self.tokens:
            late = Finish(task_id, token.batch, 1, Ending.DONE)
            assert self._finish(token.node, late, over=True) is None
            assert not self._handle(0).still_mine(token.node, [task_id])

    def _sweep(self) -> None:
        """Leave nothing to the next example, also after a failure."""
        repository = self._handle(0)
        for node in [*self.nodes, *self.model.nodes]:
            repository.leave(node)
        self.world.clock.advance(10 * TICK)
        repository.rescue(1000)
        for task_id in self.model.lives:
            repository.cancel(task_id, "swept")

    # --- how a step is taken on both sides ----------------------------------------------

    @property
    def _queue(self) -> str:
        return self.prefix

    @property
    def _work(self) -> str:
        return self.prefix

    def _key(self, key: str) -> str:
        return f"{self.prefix}-{key}"

    def _handle(self, at: int) -> Repository:
        return self.world.handles[at]

    def _life(self, pick: int) -> Life:
        """One of the tasks; the youngest for 0."""
        lives = list(self.model.lives.values())
        return lives[-1 - pick % len(lives)]

    def _token(self, pick: int) -> tuple[str, Holder]:
        """One of the tokens ever given, valid or not; half of the picks the last ones."""
        return self.tokens[-1 - (pick // 2) % len(self.tokens)]

    def _batch(self, count: int) -> int:
        first = next(self.batches)
        for _ in range(count):
            next(self.batches)
        return first

    def _held_by(self, token: Holder) -> list[str]:
        return [life.new.id for life in self.model.lives.values() if life.token == token]

    def _join(self, repository: Repository) -> int:
        node = new_incarnation()
        repository.join(Membership(node, "node", "localhost", 1, NODE_LEASE * TICK))
        self.model.nodes[node] = self.model.now + NODE_LEASE
        return node

    def _new(self, key: str | None, delay: float, expires: float | None, **fields: Any) -> NewTask:
        return a_task(
            id=new_id(),
            work=self._work,
            queue=self._queue,
            unique=None if key is None else self._key(key),
            delay=delay * TICK,
            expires_in=None if expires is None else (expires - delay + 0.5 * (delay > 0)) * TICK,
            options=Options(max_rescues=2).encode(),
            **fields,
        )

    def _insert(self, new: NewTask, *, repeated: bool = False) -> None:
        met = self._same(
            lambda model: model.insert(new),
            lambda repository: repository.insert([new], repeated=repeated)[0],
        )
        if not isinstance(met, type):
            self.changed.add(met.id)

    def _finish(
        self, node: int, finish: Finish, *, over: bool, repeated: bool = False
    ) -> Stored | None:
        batches = [finish.batch] if over else []
        accepted: Stored | None = self._same(
            lambda model: model.finish(node, finish, batches, repeated=repeated),
            lambda repository: repository.finish(node, [finish], batches, repeated=repeated)[0],
            finish.id,
        )
        return accepted

    def _same(
        self,
        of_model: Callable[[Model], Any],
        of_repository: Callable[[Repository], Any],
        *tasks: str,
        at: int | None = None,
    ) -> Any:
        """Do it on both sides, at alternating handles; the answers, or errors, must agree."""
        at = len(self.tokens) % 2 if at is None else at
        got = answer(lambda: of_repository(self._handle(at)))
        expected = answer(lambda: of_model(self.model))
        assert got == expected, (got, expected)
        self.changed.update(tasks)
        return got

    @staticmethod
    def _expect_error(of_model: Callable[[], None], got: Any) -> bool:
        expected = answer(of_model)
        assert (got if isinstance(got, type) else None) == expected
        return expected is not None

    def _took(
        self,
        taken: list[Claimed],
        offered: list[Life],
        *,
        most: int,
        node: int,
        batch: int,
        deadline: float | None = None,
    ) -> None:
        assert len({one.id for one in taken}) == len(taken) == min(most, len(offered))
        assert {one.id for one in taken} <= {life.new.id for life in offered}
        alone = [one.batch for one in taken if self.model.lives[one.id].losses]
        assert len(set(alone)) == len(alone)
        for one in taken:
            assert batch < one.batch <= batch + most if one.batch in alone else one.batch == batch
            self._take(one, node, deadline)

    def _take(self, one: Claimed, node: int, deadline: float | None = None) -> None:
        """Note the claim; its token was never given before for this task."""
        life, token = self.model.lives[one.id], Holder(node, one.batch)
        assert (one.id, token) not in self.tokens
        self.model.take(life, token, deadline)
        self.tokens.append((one.id, token))
        self.changed.add(one.id)
        assert (one.attempt, one.losses, one.params) == (life.attempt, life.losses, life.params)

    def _compare(self, life: Life) -> None:
        task_id = life.new.id
        found = self._handle(0).get(task_id)
        assert found is not None, "a task was lost"
        before = self.seen.get(task_id, TaskState.SCHEDULED)
        assert found.state is before or found.state in TRANSITIONS[before]
        self.seen[task_id] = found.state
        assert _row(found) == _expected(life)
        told = [
            (past.attempt, past.outcome, past.node, past.batch)
            for past in self._handle(1).attempts(task_id)
        ]
        assert told == [(past.attempt, past.outcome, *(past.token or ())) for past in life.past]
        kept = self._handle(1).reported(task_id)
        assert (None if kept is None else kept.n) == (life.reported and life.reported[1])


def _row(found: Task) -> dict[str, Any]:
    return {
        "state": found.state,
        "parked": found.parked,
        "attempt": found.attempt,
        "losses": found.losses if not found.state.final else None,
        "version": found.version if not found.state.final else None,
        "token": None if found.node is None or found.batch is None else (found.node, found.batch),
        "n": found.params["n"],
        "reason": found.reason,
        "parent": found.parent,
        "cancel_reason": found.cancel_reason if not found.state.final else None,
    }


def _expected(life: Life) -> dict[str, Any]:
    unfinished = not life.final
    return {
        "state": life.state.public,
        "parked": life.state is Stored.PARKED,
        "attempt": life.attempt,
        "losses": life.losses if unfinished else None,
        "version": life.version if unfinished else None,
        "token": life.token if unfinished else life.last,
        "n": int(life.params[5]),
        "reason": life.reason,
        "parent": life.new.parent,
        "cancel_reason": life.cancel_reason if unfinished else None,
    }
