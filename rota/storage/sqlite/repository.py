"""The repository in one SQLite file: which verb runs where, the statements live beside it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, literal

from rota.core.clock import Clock
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
from rota.storage.schema import ledger
from rota.storage.sqlite import agenda, claiming, finishing, inserting, keeping, rescuing
from rota.storage.sqlite.connections import Connections, raw
from rota.storage.sqlite.faults import spoken_plainly
from rota.storage.sqlite.location import check_place, database_path
from rota.storage.sqlite.locks import LockFiles
from rota.storage.sqlite.signals import VersionSignals
from rota.storage.sqlite.writer import Writer
from rota.storage.tables import Instant, Tables, to_micros
from rota.storage.verbs import changing, looking, pausing, recurring

_DAY = 86_400_000_000
_HOUR = 3_600_000_000
#: Rows in one transaction of `tidy`, and transactions in one call.
_CHUNK, _CHUNKS = 1_000, 100


class SQLiteRepository:
    """Tasks in one SQLite file, shared by the processes of one machine.

    Every write goes through one thread, ``rota-sqlite-writer``, and is committed with
    whatever else came meanwhile; reads have a connection per thread. Verbs raise
    ``StorageUnavailable`` after ``statement_timeout`` seconds. ``synchronous`` is
    SQLite's: with ``FULL`` what was answered survives a power cut.
    """

    durable = True

    def __init__(
        self,
        url_or_path: str | os.PathLike[str],
        *,
        clock: Clock,
        synchronous: str = "FULL",
        statement_timeout: float = 5.0,
        done_days: float = 7.0,
        failed_days: float = 30.0,
    ) -> None:
        self.path = database_path(url_or_path)
        self._clock = clock
        self._done_kept = round(done_days * _DAY)
        self._failed_kept = round(failed_days * _DAY)
        self._tables = Tables.describe()
        self._locks = LockFiles(self.path)
        self._connections = Connections(
            self.path, synchronous=synchronous, busy_timeout=statement_timeout
        )
        self._writer = Writer(
            connections=self._connections, locks=self._locks, timeout=statement_timeout
        )
        self._guard = threading.Lock()
        self._opened = False
        self._ears: set[VersionSignals] = set()

    # Life

    def open(self) -> None:
        """Open the file, or make it, and bring its schema up to this code's.

        Raises ``ReadOnlyDatabase``, ``StorageUnavailable``, ``SchemaTooNew``,
        ``StorageError`` for what is no database, ``InvalidArgument`` for a place that
        cannot hold one.
        """
        check_place(self.path)
        with self._guard, spoken_plainly():
            if self._opened:
                return
            self._locks.open()
            try:
                # Changing the journal mode does not wait for other connections by itself.
                with self._locks.turn():
                    connection = self._prepared()
            except BaseException:
                self._locks.close()
                raise
            self._connections.open()
            self._writer.start(connection)
            self._opened = True

    def _prepared(self) -> Connection:
        connection = self._connections.connect()
        try:
            ledger.upgrade(connection)
            ledger.check(connection, url=f"sqlite:///{self.path}")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Write what was handed in, then give everything back; safe to call twice."""
        with self._guard:
            self._opened = False
            ears = list(self._ears)
            self._writer.stop()
            self._connections.close()
            self._locks.close()
        for ear in ears:
            ear.interrupt()

    def now(self) -> datetime:
        """The machine's clock, which is SQLite's."""
        return self._clock.now()

    def abort_overdue(self) -> int:
        """Nothing: SQLite's busy timeout ends a wait, and callers give up by themselves."""
        return 0

    def signals(self, node: int) -> VersionSignals:  # noqa: ARG002 - no commit tells its node
        """This node's ears."""
        ear = VersionSignals(
            version=self._writer.version,
            clock=self._clock,
            tell=self._tell,
            forget=self._forget,
        )
        with self._guard:
            self._ears.add(ear)
        return ear

    # Tasks

    def insert(self, tasks: Sequence[NewTask], *, repeated: bool = False) -> list[Inserted]:
        if not tasks:
            return []
        return self._writer.write(
            lambda conn: inserting.insert_tasks(raw(conn), tasks, self._micros(), repeated=repeated)
        )

    def get(self, task_id: str) -> Task | None:
        with self._connections.reading() as conn:
            return looking.get(conn, self._tables, task_id)

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        with self._connections.reading() as conn:
            return looking.states(conn, self._tables, task_ids)

    def attempts(self, task_id: str) -> list[Attempt]:
        with self._connections.reading() as conn:
            return looking.attempts(conn, self._tables, task_id)

    def find_key(self, unique: str) -> str | None:
        with self._connections.reading() as conn:
            return looking.find_key(conn, self._tables, unique)

    def cancel(self, task_id: str, reason: str) -> Stored | None:
        return self._writer.write(
            lambda conn: changing.cancel(conn, self._tables, task_id, reason, now=self._moment())
        )

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        return self._writer.write(
            lambda conn: changing.change(
                conn, self._tables, task_id, changes, expected_version, now=self._moment()
            )
        )

    def counts(self) -> dict[str, int]:
        """Unfinished tasks by status; what waits is counted up to 10,001."""
        with self._connections.reading() as conn:
            return looking.counts(conn, self._tables)

    # Claims

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        with self._connections.reading() as conn:
            return agenda.agenda(raw(conn), queues, self._micros())

    def claim(
        self, node: int, batch: int, wants: Sequence[Want], look_ahead: float
    ) -> list[Claimed]:
        def act(conn: Connection) -> list[Claimed]:
            now = self._micros()
            until = now + round(look_ahead * 1e6)
            return claiming.claim(raw(conn), node, batch, wants, until=until, now=now)

        return self._writer.write(act)

    def claim_parked(
        self, node: int, batch: int, works: Sequence[str], limit: int, look_ahead: float
    ) -> list[Claimed]:
        def act(conn: Connection) -> list[Claimed]:
            now = self._micros()
            until = now + round(look_ahead * 1e6)
            return claiming.claim_parked(
                raw(conn), node, batch, works, limit=limit, until=until, now=now
            )

        return self._writer.write(act)

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        return self._writer.write(
            lambda conn: claiming.claim_one(raw(conn), node, batch, task_id, now=self._micros())
        )

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        if not finishes and not over:
            return []
        return self._writer.write(
            lambda conn: finishing.finish(
                raw(conn), node, finishes, over, now=self._micros(), repeated=repeated
            )
        )

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        with self._connections.reading() as conn:
            return looking.strangers(conn, self._tables, works, limit)

    def pause_queue(self, queue: str, reason: str) -> None:
        self._writer.write(
            lambda conn: pausing.pause(conn, self._tables, queue, reason, now=self._moment())
        )

    def resume_queue(self, queue: str) -> bool:
        return self._writer.write(lambda conn: pausing.resume(conn, self._tables, queue))

    def paused_queues(self) -> dict[str, str]:
        with self._connections.reading() as conn:
            return pausing.paused(conn, self._tables)

    # Nodes

    def join(self, node: Membership) -> None:
        # The lock first: a row without a held lock would be proof of death.
        with spoken_plainly():
            self._locks.hold(node.id)
        self._writer.write(lambda conn: rescuing.join(raw(conn), node, self._micros()), urgent=True)

    def beat(self, node: int, lease: float) -> bool:
        return self._writer.write(
            lambda conn: rescuing.beat(raw(conn), node, lease, self._micros()), urgent=True
        )

    def leave(self, node: int) -> None:
        self._writer.write(lambda conn: rescuing.leave(raw(conn), node))
        self._locks.drop(node)

    def nodes(self) -> list[NodeView]:
        with self._connections.reading() as conn:
            return looking.nodes(conn, self._tables, now=self._moment())

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove dead nodes: of this host by their free lock file, others by their lease."""
        with self._connections.reading() as conn:
            host, others = rescuing.neighbours(raw(conn), node)
        now = self._micros()
        proven = [one.id for one in others if one.host == host and self._locks.free(one.id)]
        over = [one.id for one in others if trusted and one.lease_until < now]
        if not proven and not over:
            return []
        buried = self._writer.write(
            lambda conn: rescuing.bury(raw(conn), proven, over, self._micros())
        )
        for one in buried:
            self._locks.remove(one)
        return buried

    def rescue(self, limit: int) -> list[Rescued]:
        with self._connections.reading() as conn:
            if not rescuing.orphans(raw(conn), 1, self._micros()):
                return []
        return self._writer.write(lambda conn: rescuing.rescue(raw(conn), limit, self._micros()))

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        with self._connections.reading() as conn:
            return rescuing.held(raw(conn), node)

    def drop_lease(self, node: int, batch: int) -> int:
        return self._writer.write(
            lambda conn: rescuing.drop_lease(raw(conn), node, batch, self._micros())
        )

    def cancels(self, node: int) -> list[CancelNotice]:
        with self._connections.reading() as conn:
            return looking.cancels(conn, self._tables, node)

    def expire(self, limit: int) -> list[str]:
        with self._connections.reading() as conn:
            if not keeping.overdue(raw(conn), self._micros()):
                return []
        return self._writer.write(lambda conn: keeping.expire(raw(conn), limit, self._micros()))

    def take_chore(self, name: str, every: float) -> bool:
        with self._connections.reading() as conn:
            if not keeping.chore_due(raw(conn), name, self._micros()):
                return False
        return self._writer.write(
            lambda conn: keeping.take_chore(raw(conn), name, every, self._micros())
        )

    def tidy(self) -> None:
        """Forget history past its time and fold counts, in small transactions."""
        now = self._micros()
        failed = now - self._failed_kept
        self._in_chunks(keeping.forget_tasks, "rota_done", now - self._done_kept)
        self._in_chunks(keeping.forget_tasks, "rota_failed", failed)
        self._in_chunks(keeping.forget_attempts, failed)
        self._in_chunks(keeping.forget_counts, failed)
        self._in_chunks(keeping.forget_decisions, failed)
        self._in_chunks(keeping.fold_counts, now - _HOUR)
        self._locks.sweep({view.id for view in self.nodes()})

    # Recurring tasks

    def put_recurring(self, definition: Definition) -> bool:
        return self._writer.write(lambda conn: recurring.put(conn, self._tables, definition))

    def get_recurring(self, recurring_id: str) -> Definition | None:
        with self._connections.reading() as conn:
            return recurring.get(conn, self._tables, recurring_id)

    def list_recurring(self) -> list[Definition]:
        with self._connections.reading() as conn:
            return recurring.listed(conn, self._tables)

    def remove_recurring(self, recurring_id: str) -> bool:
        return self._writer.write(lambda conn: recurring.remove(conn, self._tables, recurring_id))

    def due_recurring(self, within: float, limit: int) -> tuple[list[Definition], float | None]:
        with self._connections.reading() as conn:
            return recurring.due(conn, self._tables, within, limit, now=self._moment())

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Inserted | None]:
        def act(conn: Connection) -> list[Inserted | None]:
            return recurring.fire(
                conn,
                self._tables,
                fires,
                insert_children=lambda tasks: inserting.insert_tasks(
                    raw(conn), tasks, self._micros()
                ),
                now=self._moment(),
            )

        return self._writer.write(act)

    def decisions(self, recurring_id: str, limit: int) -> list[Decision]:
        with self._connections.reading() as conn:
            return recurring.decisions(conn, self._tables, recurring_id, limit)

    def _micros(self) -> int:
        return to_micros(self._clock.now())

    def _moment(self) -> Callable[[float], ColumnElement[datetime]]:
        """The clock stood still for one act, as the portable statements want it."""
        now = self._clock.now()
        return lambda ahead: literal(now + timedelta(seconds=ahead), Instant())

    def _in_chunks(self, forget: Callable[..., int], *what: object) -> None:
        for _ in range(_CHUNKS):
            gone = self._writer.write(lambda conn: forget(raw(conn), *what, _CHUNK))
            if gone < _CHUNK:
                return

    def _tell(self, sender: VersionSignals) -> None:
        with self._guard:
            others = [ear for ear in self._ears if ear is not sender]
        for ear in others:
            ear.hear()

    def _forget(self, ear: VersionSignals) -> None:
        with self._guard:
            self._ears.discard(ear)
