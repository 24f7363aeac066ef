"""Definitions of recurring tasks: keep them, find what is due, look at what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    delete,
    func,
    literal,
    select,
    text,
    tuple_,
    update,
)

from rota.core.recurring import Child, Decision, Definition, Fire, Put
from rota.core.task import Stored
from rota.errors import StorageUnavailable
from rota.storage.deciding import Entry
from rota.storage.restating import CONTENT, founded, restated
from rota.storage.tables import Instant
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from rota.storage.tables import Now, Tables

_ROUNDS = 5
#: As the partial index spells it, so that both databases see that it fits.
_ALIVE = "next_fire_at is not null and not paused"
_MADE = ("fired", "triggered")


def put(conn: Connection, tables: Tables, definition: Definition, *, replace: bool) -> Put:
    """Insert, or change what is there as :func:`restated` says.

    Runs in the caller's transaction; of two that insert at once the second one changes.
    """
    table = tables.recurring
    new = upserting(conn, table).values(founded(definition)._asdict())
    for _ in range(_ROUNDS):
        if conn.execute(new.on_conflict_do_nothing(index_elements=[table.c.id])).rowcount:
            return Put.CREATED
        known = _locked(conn, tables, definition.id)
        if known is not None:
            answer, changed = restated(known, definition, replace=replace)
            if answer is Put.CHANGED:
                names = (*CONTENT, "version", "next_fire_at", "due_at")
                values = {name: getattr(changed, name) for name in names}
                conn.execute(update(table).where(table.c.id == known.id).values(values))
            return answer
    raise StorageUnavailable(f"recurring task {definition.id!r} kept coming and going; try again")


def get(conn: Connection, tables: Tables, recurring_id: str) -> Definition | None:
    """The stored definition."""
    table = tables.recurring
    row = conn.execute(select(table).where(table.c.id == recurring_id)).first()
    return None if row is None else _definition(row)


def listed(conn: Connection, tables: Tables, limit: int, after: str | None) -> list[Definition]:
    """Definitions by id, those after ``after``."""
    table = tables.recurring
    query = select(table).where(table.c.id > (after or "")).order_by(table.c.id).limit(limit)
    return [_definition(row) for row in conn.execute(query)]


def remove(conn: Connection, tables: Tables, recurring_id: str) -> bool:
    """Forget the definition; its children and decisions stay."""
    table = tables.recurring
    return bool(conn.execute(delete(table).where(table.c.id == recurring_id)).rowcount)


def pause(conn: Connection, tables: Tables, recurring_id: str) -> bool | None:
    """Mark it paused; False if it was, None if there is none."""
    table = tables.recurring
    known = _locked(conn, tables, recurring_id)
    if known is None:
        return None
    if not known.paused:
        conn.execute(update(table).where(table.c.id == recurring_id).values(paused=True))
    return not known.paused


def resume(
    conn: Connection,
    tables: Tables,
    recurring_id: str,
    *,
    expected: datetime | None,
    following: datetime | None,
    missed: Fire | None,
    now: Now,
) -> bool:
    """Unpause and go on with ``following``, unless it has changed since it was looked at."""
    table = tables.recurring
    known = _locked(conn, tables, recurring_id)
    if known is None or not known.paused or known.next_fire_at != expected:
        return False
    if missed is not None and missed.version not in {None, known.version}:
        return False
    conn.execute(
        update(table)
        .where(table.c.id == recurring_id)
        .values(paused=False, next_fire_at=following, due_at=following)
    )
    if missed is not None:
        _record(conn, tables, Entry.of(missed, missed.decision, missed.task, known.version), now)
    return True


def due(
    conn: Connection,
    tables: Tables,
    within: float,
    limit: int,
    *,
    but: Sequence[str],
    now: Now,
) -> tuple[list[Definition], float | None]:
    """Definitions due within so many seconds, and in how many the next after them is."""
    table = tables.recurring
    alive = and_(text(_ALIVE), *([table.c.id.not_in(but)] if but else []))
    order = (table.c.due_at, table.c.id)
    rows = conn.execute(
        select(table).where(alive, table.c.due_at <= now(within)).order_by(*order).limit(limit)
    ).all()
    query = select(table.c.due_at, now(0.0).label("now")).where(alive).order_by(*order).limit(1)
    if rows:
        # From the last one on, not by an offset: others may have moved on in between.
        query = query.where(tuple_(*order) > _place(rows[-1]))
    after = conn.execute(query).first()
    wait = None if after is None else max(0.0, (after.due_at - after.now).total_seconds())
    return [_definition(row) for row in rows], wait


def look_again(conn: Connection, tables: Tables, recurring_ids: Sequence[str]) -> None:
    """Let those whose ticks wait for a child be due now."""
    table = tables.recurring
    # In one order everywhere, so that two of these cannot wait for each other.
    waiting = (
        select(table.c.id)
        .where(table.c.id.in_(sorted(set(recurring_ids))), table.c.due_at > table.c.next_fire_at)
        .order_by(table.c.id)
        .with_for_update()
    )
    found = conn.execute(waiting).scalars().all()
    if found:
        conn.execute(update(table).where(table.c.id.in_(found)).values(due_at=table.c.next_fire_at))


def children_of(
    conn: Connection, tables: Tables, recurring_id: str, limit: int, before: datetime | None
) -> list[Child]:
    """Children, newest fire time first, those of fire times before ``before``."""
    rows = conn.execute(_children(tables, recurring_id, limit, before))
    return [Child(row.id, row.fire_at, row.version, Stored(row.state)) for row in rows]


def _children(
    tables: Tables, recurring_id: str, limit: int, before: datetime | None
) -> Select[Any]:
    body, decision = tables.body, tables.decision
    states = (tables.task, tables.done, tables.failed)
    state = func.coalesce(
        *(select(one.c.state).where(one.c.id == body.c.id).scalar_subquery() for one in states)
    )
    version = (
        select(decision.c.version)
        .where(decision.c.recurring == body.c.recurring, decision.c.fire_at == body.c.fire_at)
        .where(decision.c.decision.in_(_MADE), decision.c.task == body.c.id)
        .limit(1)
        .scalar_subquery()
    )
    # What has a body but no row is being removed with its history.
    query = (
        select(body.c.id, body.c.fire_at, version.label("version"), state.label("state"))
        .where(body.c.recurring == recurring_id, body.c.fire_at.is_not(None), state.is_not(None))
        .order_by(body.c.fire_at.desc(), body.c.id.desc())
        .limit(limit)
    )
    return query if before is None else query.where(body.c.fire_at < before)


def decisions(
    conn: Connection, tables: Tables, recurring_id: str, limit: int, before: datetime | None
) -> list[Decision]:
    """What was decided per fire time, newest first, for those before ``before``."""
    table = tables.decision
    query = (
        select(table)
        .where(table.c.recurring == recurring_id)
        .order_by(table.c.fire_at.desc(), table.c.decision.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(table.c.fire_at < before)
    return [
        Decision(
            recurring=row.recurring,
            fire_at=row.fire_at,
            decision=row.decision,
            count=row.n,
            task=row.task,
            decided_at=row.decided_at,
            version=row.version,
        )
        for row in conn.execute(query)
    ]


def _record(conn: Connection, tables: Tables, entry: Entry, now: Now) -> None:
    table = tables.decision
    statement = upserting(conn, table).values(
        recurring=entry.recurring,
        fire_at=entry.fire_at,
        decision=entry.decision,
        n=entry.count,
        task=entry.task,
        version=entry.version,
        decided_at=now(0.0),
    )
    new = {name: statement.excluded[name] for name in ("task", "version", "decided_at")}
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.recurring, table.c.fire_at, table.c.decision],
            set_={"n": table.c.n + statement.excluded.n, **new},
        )
    )


def _locked(conn: Connection, tables: Tables, recurring_id: str) -> Definition | None:
    table = tables.recurring
    query = select(table).where(table.c.id == recurring_id).with_for_update()
    row = conn.execute(query).first()
    return None if row is None else _definition(row)


def _place(row: Row[Any]) -> ColumnElement[Any]:
    return tuple_(literal(row.due_at, Instant()), literal(row.id, Text()))


def _definition(row: Row[Any]) -> Definition:
    found = Definition(**{name: getattr(row, name) for name in Definition._fields})
    # What has ended is due no more; ``end_recurring`` says the first only.
    return found if found.next_fire_at is not None else found._replace(due_at=None)
