"""One example: a step taken on the model and on the database, and both compared."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis.stateful import RuleBasedStateMachine, invariant

from rota.core.ids import new_incarnation
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import (
    TRANSITIONS,
    Claimed,
    Finish,
    Membership,
    NewTask,
    Stored,
    Task,
    TaskState,
)
from rota.errors import RotaError
from rota.testing.conformance.setting import a_task
from tests.model.life import NODE_LEASE, TICK, Holder, Life, Model
from tests.model.worlds import World

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


class Stage(RuleBasedStateMachine):
    """What every step stands on: one model, one database, the tokens given so far."""

    def __init__(self, world: World, *, width: int) -> None:
        super().__init__()
        self.world, self.width = world, width
        self.model = Model()
        self.example = next(EXAMPLES)
        self.prefix = f"x{self.example}"
        self.serials = itertools.count()
        self.batches = itertools.count(1)
        self.tokens: list[tuple[str, Holder]] = []
        self.given: set[Holder] = set()
        self.sent: list[Sent] = []
        self.seen: dict[str, TaskState] = {}
        self.changed: set[str] = set()
        # Nobody is declared dead within one lease after the server started.
        world.clock.advance(10 * TICK)
        self.nodes = [self._join(handle) for handle in world.handles]

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
        """One of the tokens ever given; a valid one, if there is any, for most picks."""
        valid = [(one, life.token) for one, life in self.model.lives.items() if life.token]
        if valid and pick % 4:
            return valid[pick % len(valid)]
        return self.tokens[-1 - pick // 4 % len(self.tokens)]

    def _next_id(self) -> str:
        """In order, so that of two tasks due at once the same is first each time."""
        return str(uuid.UUID(int=self.example << 80 | next(self.serials), version=4))

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
            id=self._next_id(),
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
            lambda model: model.insert(new, repeated=repeated),
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
        row, expected = _row(found), _expected(life)
        assert row == expected, (row, expected)
        # In order of their ends, though the clock may have stood still between them.
        told = [
            (past.attempt, past.outcome, past.node, past.batch)
            for past in self._handle(1).attempts(task_id)
        ]
        past = [(past.attempt, past.outcome, *(past.token or ())) for past in life.past]
        assert told == past, (told, past)
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
