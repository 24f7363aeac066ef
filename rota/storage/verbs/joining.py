"""Insert and finish inside the caller's own transaction, through whichever driver it has."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Text, cast, delete, literal, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from rota.core.task import Fence, Inserted, NewTask, Stored
from rota.errors import InvalidArgument, LeaseLost, StorageUnavailable
from rota.storage.verbs import feeding, looking
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rota.storage.tables import Now, Tables

_ROUNDS = 5


def joinable(connection: object, dialect: str) -> Connection:
    """The caller's connection, if it is SQLAlchemy's and of this dialect.

    Raises ``InvalidArgument`` that says what to pass instead.
    """
    if not isinstance(connection, Connection):
        kind = f"{type(connection).__module__.partition('.')[0]}'s {type(connection).__name__}"
        raise InvalidArgument(
            f"connection is {kind}, not a SQLAlchemy Connection; pass session.connection(), or "
            "with asyncio call through AsyncConnection.run_sync",
            field="connection",
        )
    if connection.dialect.name != dialect:
        raise InvalidArgument(
            f"connection goes to {connection.dialect.name}, but the tasks are in {dialect}; pass a "
            "connection to the database the scheduler was given",
            field="connection",
        )
    return connection


@contextmanager
def as_one(conn: Connection) -> Iterator[None]:
    """All that is written within, or nothing of it: a savepoint in the caller's transaction."""
    savepoint = conn.begin_nested()
    try:
        yield
    except BaseException:
        # A transaction that is gone took the savepoint with it; why it went is the news.
        with suppress(DBAPIError):
            savepoint.rollback()
        raise
    savepoint.commit()


def insert_joined(
    conn: Connection, tables: Tables, tasks: Sequence[NewTask], *, now: Now
) -> list[Inserted]:
    """Write what is not there yet, one by one; one answer each, in order.

    Raises ``LeaseLost`` for a fence that does not hold, before anything is written. After
    another error those before it are written, unless all of it is put into ``as_one``.
    """
    fences = {task.fence for task in tasks if task.fence is not None}
    for fence in sorted(fences, key=lambda fence: fence.task):
        _hold(conn, tables, fence)
    moment = _moment(conn, now)
    return [_insert_one(conn, tables, task, moment, now) for task in tasks]


def _hold(conn: Connection, tables: Tables, fence: Fence) -> None:
    """See that the parent still has its token, and keep it so until the transaction ends."""
    task = tables.task
    found = conn.execute(
        select(task.c.id)
        .where(task.c.id == fence.task, task.c.state == Stored.WORKING.value)
        .where(task.c.node == fence.node, task.c.batch == fence.batch)
        .with_for_update(read=True)
    )
    if found.first() is None:
        raise LeaseLost(fence.task)


def _moment(conn: Connection, now: Now) -> datetime:
    moment: datetime = conn.execute(select(now(0.0))).scalar_one()
    return moment


def _insert_one(
    conn: Connection, tables: Tables, task: NewTask, moment: datetime, now: Now
) -> Inserted:
    for _ in range(_ROUNDS):
        met = _met(conn, tables, task, moment)
        if met is None:
            _write_body(conn, tables, task, moment)
            feeding.note(conn, tables, [(task.id, Stored.SCHEDULED)], now=now)
            return Inserted(task.id, True, Stored.SCHEDULED)
        holder, by_key = met
        answer = _answer(conn, tables, task, holder, moment, by_key=by_key)
        if answer is not None:
            return answer
    raise StorageUnavailable("tasks with the same unique key kept coming and going; try again")


def _met(
    conn: Connection, tables: Tables, task: NewTask, moment: datetime
) -> tuple[str, bool] | None:
    """Write the row; else, nothing written, whom it met and whether by the unique key."""
    if not _enter(conn, tables, task, moment):
        by_id = select(tables.task.c.id).where(tables.task.c.id == task.id)
        if task.unique is None or conn.execute(by_id).first() is not None:
            return task.id, False
        by_key = select(tables.task.c.id).where(tables.task.c.unique_key == task.unique)
        return conn.execute(by_key).scalar() or "", True
    met: tuple[str, bool] | None = None
    # A statement of its own: it sees what was committed until the row was entered.
    if task.given_id and looking.finished_state(conn, tables, task.id) is not None:
        met = task.id, False
    elif task.unique is not None and task.period is not None:
        holder = _take_period(conn, tables, task, moment)
        met = None if holder is None else (holder, True)
    if met is not None:
        # No token: this very transaction entered the row.
        conn.execute(delete(tables.task).where(tables.task.c.id == task.id))
    return met


def _enter(conn: Connection, tables: Tables, task: NewTask, moment: datetime) -> bool:
    due = _due(task, moment)
    statement = upserting(conn, tables.task).values(
        id=task.id,
        queue=task.queue,
        work=task.work,
        priority=task.priority,
        state=Stored.SCHEDULED.value,
        run_at=max(due, moment),
        expires_at=_expires(task, due),
        attempt=0,
        losses=0,
        version=1,
        unique_key=None if task.period is not None else task.unique,
    )
    entered = conn.execute(statement.on_conflict_do_nothing().returning(tables.task.c.id))
    return entered.first() is not None


def _take_period(conn: Connection, tables: Tables, task: NewTask, moment: datetime) -> str | None:
    """Take the period key for this task; else whose it is."""
    period = tables.unique
    until = moment + timedelta(seconds=task.period or 0.0)
    statement = upserting(conn, period).values(key=task.unique, task=task.id, expires_at=until)
    taken = conn.execute(
        statement.on_conflict_do_update(
            index_elements=[period.c.key],
            set_={"task": task.id, "expires_at": until},
            where=period.c.expires_at <= moment,
        ).returning(period.c.key)
    )
    if taken.first() is not None:
        return None
    return conn.execute(select(period.c.task).where(period.c.key == task.unique)).scalar() or ""


def _answer(
    conn: Connection,
    tables: Tables,
    task: NewTask,
    holder: str,
    moment: datetime,
    *,
    by_key: bool,
) -> Inserted | None:
    """What exists, changed if that was asked for and it waits; None if it is gone by now."""
    if not holder:
        return None
    rows = tables.task
    state: int | None = conn.execute(
        select(rows.c.state).where(rows.c.id == holder).with_for_update()
    ).scalar()
    if state is not None:
        if task.on_conflict == "replace" and state != Stored.WORKING:
            _replace(conn, tables, holder, task, moment)
        return Inserted(holder, False, Stored(state), by_key and holder != task.id)
    final = looking.finished_state(conn, tables, holder)
    if by_key and task.period is not None:
        # The period outlasts the task, and may outlast its history.
        return Inserted(holder, False, final or Stored.DONE, holder != task.id)
    if by_key or final is None or not task.given_id:
        return None
    return Inserted(holder, False, final)


def _replace(
    conn: Connection, tables: Tables, holder: str, task: NewTask, moment: datetime
) -> None:
    """Let the waiting task be what the new one asks for; its id, key and attempts stay."""
    rows, body, due = tables.task, tables.body, _due(task, moment)
    # No token: the row is locked, and it waits.
    version = conn.execute(
        update(rows)
        .where(rows.c.id == holder, rows.c.state != Stored.WORKING.value)
        .values(
            queue=task.queue,
            priority=task.priority,
            run_at=max(due, moment),
            expires_at=_expires(task, due),
            version=rows.c.version + 1,
        )
        .returning(rows.c.version)
    ).scalar_one()
    asked = {"params": task.params, "options": task.options, "meta": _meta(conn, task.meta)}
    conn.execute(
        update(body).where(body.c.id == holder).values(**asked, due_at=due, version=version)
    )


def _write_body(conn: Connection, tables: Tables, task: NewTask, moment: datetime) -> None:
    """A body left over from a history that is being removed is not this task's any more."""
    body = tables.body
    values: dict[str, Any] = {
        "version": 1,
        "params": task.params,
        "options": task.options,
        "meta": _meta(conn, task.meta),
        "created_at": moment,
        "due_at": _due(task, moment),
        "parent": task.parent,
        "recurring": task.recurring,
        "fire_at": task.fire_at,
    }
    statement = upserting(conn, body).values(id=task.id, **values)
    new = {name: statement.excluded[name] for name in values}
    conn.execute(statement.on_conflict_do_update(index_elements=[body.c.id], set_=new))


def _meta(conn: Connection, meta: str | None) -> Any:
    """JSON text as it stands: PostgreSQL's column would take a string for a JSON string."""
    if meta is None or conn.dialect.name != "postgresql":
        return meta
    return cast(literal(meta, Text()), postgresql.JSONB)


def _due(task: NewTask, moment: datetime) -> datetime:
    return moment + timedelta(seconds=task.delay) if task.at is None else task.at


def _expires(task: NewTask, due: datetime) -> datetime | None:
    if task.expires_at is not None or task.expires_in is None:
        return task.expires_at
    return due + timedelta(seconds=task.expires_in)
