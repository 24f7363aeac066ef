"""The PostgreSQL repository: which statement answers which verb, and in what transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import ColumnElement, func, literal

from rota.core.clock import Clock
from rota.core.ports import Signals
from rota.core.recurring import Decision, Definition, Fire
from rota.core.task import (
    Attempt,
    CancelNotice,
    Claimed,
    Finish,
    Inserted,
    Lane,
    Membership,
    NewTask,
    NodeView,
    Rescued,
    Stored,
    Task,
    Want,
)
from rota.storage.postgres.address import parse_url
from rota.storage.postgres.claiming import Claiming
from rota.storage.postgres.connections import Connections
from rota.storage.postgres.finishing import Finishing
from rota.storage.postgres.inserting import Inserting
from rota.storage.postgres.rescuing import Rescuing
from rota.storage.postgres.signals import PostgresSignals
from rota.storage.postgres.tidying import Tidying
from rota.storage.schema import ledger
from rota.storage.tables import Instant, Tables
from rota.storage.verbs import changing, looking, pausing, recurring

T = TypeVar("T")

_NOW = "(now() + make_interval(secs => %(offset)s))"
#: A keyed insert that meets a stranger's open transaction gives way soon, and once.
_IMPATIENT = "set local lock_timeout = '50ms'"
# Held rows are skipped: another node is firing them at this moment.
_LOCK_RECURRING = """select id from {s}rota_recurring where id = any(%(ids)b::text[])
  order by id for update skip locked"""


class PostgresRepository:
    """Many nodes on one PostgreSQL database; a connection for each thread that calls.

    ``schema`` is where the tables are, None for the search path's first. ``poll_only``
    suits a transaction pooler such as pgbouncer: no LISTEN, no session lock, no named
    statements, settings within each transaction.
    """

    durable = True

    def __init__(
        self,
        url: str | sqlalchemy.URL,
        *,
        clock: Clock,
        schema: str | None = None,
        statement_timeout: float = 5.0,
        poll_only: bool = False,
        done_days: int = 7,
        failed_days: int = 30,
    ) -> None:
        prefix = ledger.prefix(schema)
        self._clock, self._schema, self._poll_only = clock, schema, poll_only
        self._url = parse_url(url)
        self._connections = Connections(
            self._url,
            offset=lambda: clock.offset,
            statement_timeout=statement_timeout,
            poll_only=poll_only,
        )
        self._tables = Tables.describe(schema)
        self._inserting = Inserting(prefix=prefix, now=_NOW)
        self._claiming = Claiming(prefix=prefix, now=_NOW)
        self._finishing = Finishing(prefix=prefix, now=_NOW)
        self._rescuing = Rescuing(
            prefix=prefix,
            now=_NOW,
            schema=schema,
            finishing=self._finishing,
            locks=not poll_only,
        )
        self._tidying = Tidying(
            prefix=prefix, now=_NOW, done_days=done_days, failed_days=failed_days
        )
        self._lock_recurring = _LOCK_RECURRING.format(s=prefix)

    # -- its life

    def open(self) -> None:
        """Connect and check the schema, which ``upgrade`` brings up to date."""
        self._connections.reopen()
        shown = self._url.set(drivername="postgresql").render_as_string()
        with self._connections.session() as session:
            ledger.check(session.conn, url=shown, schema=self._schema)

    def upgrade(self) -> list[int]:
        """Apply what the schema lacks, and make the history's next partitions; the steps applied.

        On a connection without a statement timeout: an index takes what it takes.
        """
        self._connections.reopen()
        with self._connections.unhurried() as conn:
            applied = ledger.upgrade(conn, schema=self._schema)
        self._tidying.make_partitions(self._connections)
        return applied

    def close(self) -> None:
        """Give back every connection, of other threads, too; safe to call twice."""
        self._connections.close()

    def abort_overdue(self) -> int:
        """Cut connections that do not answer, for a watchdog's thread to call; how many."""
        return self._connections.abort_overdue()

    def signals(self, node: int) -> Signals:
        """This node's way to wake and be woken, on a connection of its own."""
        return PostgresSignals(
            connect=self._connections.connect,
            node=node,
            schema=self._schema,
            poll_only=self._poll_only,
        )

    def now(self) -> datetime:
        """The database's clock."""
        with self._connections.session() as session:
            moment: datetime = session.rows(f"select {_NOW}")[0][0]
        return moment.astimezone(UTC)

    # -- tasks

    def insert(self, tasks: Sequence[NewTask], *, repeated: bool = False) -> list[Inserted]:
        """Write the tasks, all or none; one answer each, in order."""
        if not tasks:
            return []
        if not repeated and not any(task.keyed for task in tasks):
            inserted = self._insert_plain(tasks)
        else:
            inserted = self._insert_impatiently(tasks, repeated=repeated)
        if inserted is not None:
            return inserted
        with self._connections.transaction() as session:
            return self._inserting.careful(session, tasks, repeated=repeated)

    def get(self, task_id: str) -> Task | None:
        """The task, waiting, working or in history."""
        return self._look(lambda conn: looking.get(conn, self._tables, task_id))

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """The stored state of each that exists."""
        return self._look(lambda conn: looking.states(conn, self._tables, task_ids))

    def attempts(self, task_id: str) -> list[Attempt]:
        """The attempts that ended, oldest first."""
        return self._look(lambda conn: looking.attempts(conn, self._tables, task_id))

    def find_key(self, unique: str) -> str | None:
        """The unfinished task with this unique key."""
        return self._look(lambda conn: looking.find_key(conn, self._tables, unique))

    def cancel(self, task_id: str, reason: str) -> Stored | None:
        """Cancel what waits, ask what works; the state it met."""
        return self._change(
            lambda conn: changing.cancel(conn, self._tables, task_id, reason, now=self._now)
        )

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        """Change a waiting task."""
        return self._change(
            lambda conn: changing.change(
                conn, self._tables, task_id, changes, expected_version, now=self._now
            )
        )

    def counts(self) -> dict[str, int]:
        """Unfinished tasks by status."""
        return self._look(lambda conn: looking.counts(conn, self._tables))

    # -- claims

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        """The lanes of these queues (None: all) that hold scheduled tasks, and their first."""
        with self._connections.session() as session:
            return self._claiming.agenda(session, queues)

    def claim(
        self, node: int, batch: int, wants: Sequence[Want], look_ahead: float
    ) -> list[Claimed]:
        """Take due tasks, lane by lane."""
        with self._connections.session() as session:
            return self._claiming.claim(session, node, batch, wants, look_ahead)

    def claim_parked(
        self, node: int, batch: int, works: Sequence[str], limit: int, look_ahead: float
    ) -> list[Claimed]:
        """Take parked tasks of these works."""
        with self._connections.session() as session:
            return self._claiming.claim_parked(
                session, node, batch, works, limit=limit, look_ahead=look_ahead
            )

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        """Parked tasks (id, work) whose work is none of these."""
        return self._look(lambda conn: looking.strangers(conn, self._tables, works, limit))

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        """Take this very task, due or not."""
        with self._connections.transaction() as session:
            return self._claiming.claim_one(session, node, batch, task_id)

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        """Write outcomes, each fenced by (node, batch)."""
        if not finishes and not over:
            return []
        single = self._finishing.single(finishes, repeated=repeated)
        borrow = self._connections.session if single else self._connections.transaction
        with borrow() as session:
            return self._finishing.finish(session, node, finishes, over, repeated=repeated)

    def pause_queue(self, queue: str, reason: str) -> None:
        """Hold the queue's tasks back on every node."""
        self._change(lambda conn: pausing.pause(conn, self._tables, queue, reason, now=self._now))

    def resume_queue(self, queue: str) -> bool:
        """Offer the queue again; False when it was not paused."""
        return self._change(lambda conn: pausing.resume(conn, self._tables, queue))

    def paused_queues(self) -> dict[str, str]:
        """The paused queues and why."""
        return self._look(lambda conn: pausing.paused(conn, self._tables))

    # -- nodes

    def join(self, node: Membership) -> None:
        """Enter this incarnation; best on the thread that will beat, whose connection it locks."""
        with self._connections.session() as session:
            self._rescuing.join(session, node)

    def beat(self, node: int, lease: float) -> bool:
        """Extend the lease; False when the row is gone: this incarnation is dead."""
        with self._connections.session() as session:
            return self._rescuing.beat(session, node, lease)

    def leave(self, node: int) -> None:
        """Remove the incarnation; what it still holds is anybody's to rescue."""
        with self._connections.session() as session:
            self._rescuing.leave(session, node)

    def nodes(self) -> list[NodeView]:
        """All incarnations, living and not yet buried."""
        return self._look(lambda conn: looking.nodes(conn, self._tables, now=self._now))

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove nodes whose lease is over; returns them.

        A node whose session lock is gone has its lease shortened first.
        Nothing is done for a lease after the server started.
        """
        with self._connections.session() as session:
            return self._rescuing.bury(session, node, trusted=trusted)

    def rescue(self, limit: int) -> list[Rescued]:
        """Make claimable what leases without a node hold, at most ``limit`` leases."""
        with self._connections.transaction() as session:
            return self._rescuing.rescue(session, limit)

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        """The node's leases: (batch, ids)."""
        with self._connections.session() as session:
            return self._rescuing.held(session, node)

    def drop_lease(self, node: int, batch: int) -> int:
        """Release what is left in one of the node's own leases; how many tasks that were."""
        with self._connections.transaction() as session:
            return self._rescuing.drop_lease(session, node, batch)

    def cancels(self, node: int) -> list[CancelNotice]:
        """Running tasks of this node that somebody asked to stop."""
        return self._look(lambda conn: looking.cancels(conn, self._tables, node))

    def expire(self, limit: int) -> list[str]:
        """Cancel waiting tasks past ``expires_at``."""
        with self._connections.session() as session:
            return self._tidying.expire(session, limit)

    def take_chore(self, name: str, every: float) -> bool:
        """Whether this caller does the named chore now."""
        with self._connections.session() as session:
            return self._tidying.take_chore(session, name, every)

    def tidy(self) -> None:
        """Partitions ahead, retention, folded counts."""
        self._tidying.tidy(self._connections)

    # -- recurring

    def put_recurring(self, definition: Definition) -> bool:
        """Insert, or change if the content differs; False when nothing changed."""
        return self._change(lambda conn: recurring.put(conn, self._tables, definition))

    def get_recurring(self, recurring_id: str) -> Definition | None:
        """The stored definition."""
        return self._look(lambda conn: recurring.get(conn, self._tables, recurring_id))

    def list_recurring(self) -> list[Definition]:
        """All definitions."""
        return self._look(lambda conn: recurring.listed(conn, self._tables))

    def remove_recurring(self, recurring_id: str) -> bool:
        """Forget the definition; False when there is none."""
        return self._change(lambda conn: recurring.remove(conn, self._tables, recurring_id))

    def due_recurring(self, within: float, limit: int) -> tuple[list[Definition], float | None]:
        """Definitions due within so many seconds, and in how many the next after them is."""
        return self._look(
            lambda conn: recurring.due(conn, self._tables, within, limit, now=self._now)
        )

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Inserted | None]:
        """CAS each definition and insert its child, one transaction; None where the CAS lost."""
        with self._connections.transaction() as session:
            wanted = sorted({tick.recurring for tick, _ in fires})
            mine = {row[0] for row in session.rows(self._lock_recurring, ids=wanted)}
            taken = [index for index, (tick, _) in enumerate(fires) if tick.recurring in mine]
            answers: list[Inserted | None] = [None] * len(fires)
            fired = recurring.fire(
                session.conn,
                self._tables,
                [fires[index] for index in taken],
                insert_children=lambda new: self._inserting.careful(session, new, repeated=False),
                now=self._now,
            )
            for index, answer in zip(taken, fired, strict=True):
                answers[index] = answer
            return answers

    def decisions(self, recurring_id: str, limit: int) -> list[Decision]:
        """What was decided per fire time, latest first."""
        return self._look(lambda conn: recurring.decisions(conn, self._tables, recurring_id, limit))

    # -- how it is done

    def _insert_plain(self, tasks: Sequence[NewTask]) -> list[Inserted] | None:
        """All at once; None, and nothing written, if an id exists after all."""
        with self._connections.session() as session:
            try:
                return self._inserting.plain(session, tasks)
            except psycopg.errors.UniqueViolation:
                return None

    def _insert_impatiently(
        self, tasks: Sequence[NewTask], *, repeated: bool
    ) -> list[Inserted] | None:
        """Carefully, but None, and nothing written, where a stranger's lock is in the way."""
        with self._connections.transaction(settings=_IMPATIENT) as session:
            try:
                return self._inserting.careful(session, tasks, repeated=repeated)
            except psycopg.errors.LockNotAvailable:
                # The commit of a transaction with an error is a rollback.
                return None

    def _look(self, verb: Callable[[sqlalchemy.Connection], T]) -> T:
        with self._connections.session() as session:
            return verb(session.conn)

    def _change(self, verb: Callable[[sqlalchemy.Connection], T]) -> T:
        with self._connections.transaction() as session:
            return verb(session.conn)

    def _now(self, ahead: float) -> ColumnElement[datetime]:
        """The statements' clock for the portable verbs."""
        seconds = literal(self._clock.offset + ahead)
        moment = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        return sqlalchemy.type_coerce(moment, Instant())
