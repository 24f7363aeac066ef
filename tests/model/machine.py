"""The state machine: every verb in any order from two nodes, each answer held against the model."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from rota.core.ids import new_incarnation
from rota.core.task import (
    Ending,
    Fence,
    Finish,
    Stored,
    Want,
)
from tests.model.life import NODE_LEASE, PULL_LEASE, TICK
from tests.model.stage import Sent, Stage, answer

PICK = st.integers(0, 11)
NODE = st.integers(0, 1)
DELAY = st.sampled_from([0.0, 0.0, 1.5])
KEY = st.sampled_from([None, "k1", "k2"])
ENDING = st.sampled_from(list(Ending))


class LifeMachine(Stage):
    """At most ``width`` unfinished tasks at once."""

    # --- putting in, looking up ---------------------------------------------------------

    @precondition(lambda self: len(self.model.unfinished()) < self.width)
    @rule(key=KEY, delay=DELAY, expires=st.sampled_from([None, None, 2.5]), given=st.booleans())
    def schedule(self, key: str | None, delay: float, expires: float | None, given: bool) -> None:
        self._insert(self._new(key, delay, expires, given_id=given))

    @rule(
        key=st.sampled_from(["k1", "k2"]),
        how=st.sampled_from(["raise", "return", "replace"]),
        repeated=st.booleans(),
    )
    def clash(self, key: str, how: str, repeated: bool) -> None:
        if self.model.holding(self._key(key)) is not None:
            new = self._new(key, 0.0, None, on_conflict=how, params='{"n":2}')
            self._insert(new, repeated=repeated)

    @precondition(lambda self: self.model.lives)
    @rule(pick=PICK, repeated=st.booleans(), how=st.sampled_from(["raise", "replace"]))
    def insert_again(self, pick: int, repeated: bool, how: str) -> None:
        new = self._life(pick).new._replace(fence=None, on_conflict=how)
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
        assert batch <= one.batch <= batch + 1
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

    @rule(at=NODE)
    def leave(self, at: int) -> None:
        self._handle(at).leave(self.nodes[at])
        self.model.nodes.pop(self.nodes[at], None)

    @precondition(lambda self: any(life.token for life in self.model.lives.values()))
    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        """The holder of a task is gone and somebody notices; a node comes back at once."""
        holder = self._token(1 + 4 * pick)[1].node
        if holder in self.nodes:
            self.leave(self.nodes.index(holder))
        else:
            self.advance(3)
        self.rescue()
        for at in (0, 1):
            self.rejoin(at)

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
        told, expected = {one.id: one.state for one in everything}, self.model.rescue()
        assert told == expected, (told, expected)

    @rule()
    def expire(self) -> None:
        expired = self._handle(1).expire(1000)
        self.changed.update(self.model.lives)
        assert set(expired) == self.model.expire()

    def teardown(self) -> None:
        """Whatever happened: every task can be brought to its end, and no old token works."""
        try:
            self._end_all()
        finally:
            self._sweep()

    def _end_all(self) -> None:
        for at in (0, 1):
            self.leave(at)
        self.advance(10)
        self.rescue()
        self.tasks_are_what_the_model_says()
        self.expire()
        self.nodes[0] = self._join(self._handle(0))
        for life in self.model.unfinished():
            one = self._handle(0).claim_one(self.nodes[0], self._batch(1), life.new.id)
            self._take(one, self.nodes[0])
            self._compare(life)
            done = Finish(one.id, one.batch, one.attempt, Ending.DONE)
            ended = self._finish(self.nodes[0], done, over=True)
            assert ended is Stored.DONE, ended
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
