"""Audit the tables: find rows that break an invariant, stretch by stretch, and mend them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Subquery,
    and_,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)

from rota.core.audit import Flaw, Place, Stretch, Suspect, Walk
from rota.core.task import Stored
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rota.storage.tables import Tables

#: Rows in one IN list; far below every database's limit on parameters.
_CHUNK = 500
_WORKING: ColumnElement[Any] = literal_column(str(Stored.WORKING.value))


def inspect(
    conn: Connection, tables: Tables, walk: Walk, after: Place | None, limit: int
) -> Stretch:
    """Look at the rows behind ``after``, in one statement."""
    return _LOOKS[walk](conn, tables, after, None, limit)


def inspect_again(conn: Connection, tables: Tables, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Those of the suspects that a new look finds again."""
    wrong: list[Suspect] = []
    for walk in Walk:
        mine = [one for one in suspects if one.flaw in walk.flaws]
        for chunk in _chunks(mine):
            again = set(_LOOKS[walk](conn, tables, None, chunk, len(chunk)).suspects)
            wrong += [one for one in chunk if one in again]
    return wrong


def mend(conn: Connection, tables: Tables, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Mend what is as it was found still; runs in the caller's transaction.

    No statement here changes a task: rescue does, by its own fenced one, when it finds the lease.
    """
    wrong = sorted(inspect_again(conn, tables, suspects), key=str)
    mended = _lease_anew(conn, tables, [one for one in wrong if one.flaw is Flaw.OWNERLESS])
    for one in wrong:
        if (one.flaw is Flaw.EMPTY_LEASE and _drop_empty(conn, tables, one)) or (
            one.flaw is Flaw.STRAY_CHILD and _drop_child(conn, tables, one)
        ):
            mended.append(one)
    return mended


def _look_at_tasks(
    conn: Connection,
    tables: Tables,
    after: Place | None,
    only: Sequence[Suspect] | None,
    limit: int,
) -> Stretch:
    task, body, node = tables.task, tables.body, tables.node
    some = select(task.c.id, task.c.state, task.c.node, task.c.batch).order_by(task.c.id)
    if only is not None:
        some = some.where(task.c.id.in_({one.task for one in only}))
    elif after is not None:
        some = some.where(task.c.id > after[0])
    page = some.limit(limit).subquery()
    ended = or_(*(exists().where(past.c.id == page.c.id) for past in (tables.done, tables.failed)))
    rows = conn.execute(
        select(
            page,
            exists().where(body.c.id == page.c.id).label("asked"),
            ended.label("ended"),
            and_(page.c.state == _WORKING, ~_named(conn, tables, page)).label("loose"),
            exists().where(node.c.id == page.c.node).label("lives"),
        ).order_by(page.c.id)
    ).all()
    suspects = []
    for row in rows:
        if row.loose:
            flaw = Flaw.UNLEASED if row.lives else Flaw.OWNERLESS
            suspects.append(Suspect(flaw, row.id, row.node or 0, row.batch or 0))
        if not row.asked:
            suspects.append(Suspect(Flaw.BODILESS, row.id))
        if row.ended:
            suspects.append(Suspect(Flaw.TWICE, row.id))
    return Stretch(suspects, (rows[-1].id,) if len(rows) == limit else None)


def _look_at_leases(
    conn: Connection,
    tables: Tables,
    after: Place | None,
    only: Sequence[Suspect] | None,
    limit: int,
) -> Stretch:
    lease, node = tables.lease, tables.node
    key = tuple_(lease.c.node, lease.c.batch)
    some = select(lease.c.node, lease.c.batch, lease.c.ids).order_by(lease.c.node, lease.c.batch)
    if only is not None:
        some = some.where(key.in_([(one.node, one.batch) for one in only]))
    elif after is not None:
        some = some.where(key > tuple_(*after))
    page = some.limit(limit).subquery()
    rows = conn.execute(
        select(
            page.c.node,
            page.c.batch,
            and_(
                exists().where(node.c.id == page.c.node), ~_holds_something(conn, tables, page)
            ).label("empty"),
        ).order_by(page.c.node, page.c.batch)
    ).all()
    suspects = [
        Suspect(Flaw.EMPTY_LEASE, node=row.node, batch=row.batch) for row in rows if row.empty
    ]
    return Stretch(suspects, (rows[-1].node, rows[-1].batch) if len(rows) == limit else None)


def _look_at_children(
    conn: Connection,
    tables: Tables,
    after: Place | None,
    only: Sequence[Suspect] | None,
    limit: int,
) -> Stretch:
    child, task, recurring = tables.child, tables.task, tables.recurring
    key = tuple_(child.c.recurring, child.c.task)
    some = select(child.c.recurring, child.c.task).order_by(child.c.recurring, child.c.task)
    if only is not None:
        some = some.where(key.in_([(one.recurring, one.task) for one in only]))
    elif after is not None:
        some = some.where(
            or_(
                child.c.recurring > after[0],
                and_(child.c.recurring == after[0], child.c.task > after[1]),
            )
        )
    page = some.limit(limit).subquery()
    stray = and_(
        ~exists().where(recurring.c.id == page.c.recurring),
        ~exists().where(task.c.id == page.c.task),
    )
    rows = conn.execute(
        select(page, stray.label("stray")).order_by(page.c.recurring, page.c.task)
    ).all()
    suspects = [
        Suspect(Flaw.STRAY_CHILD, row.task, recurring=row.recurring) for row in rows if row.stray
    ]
    return Stretch(suspects, (rows[-1].recurring, rows[-1].task) if len(rows) == limit else None)


_LOOKS = {
    Walk.TASKS: _look_at_tasks,
    Walk.LEASES: _look_at_leases,
    Walk.CHILDREN: _look_at_children,
}


def _named(conn: Connection, tables: Tables, page: Subquery) -> ColumnElement[bool]:
    """Whether a lease of the task's own token has it on its list."""
    lease = tables.lease
    if conn.dialect.name == "sqlite":
        # In the text: reading a list of a thousand for each of its thousand tasks is too much.
        listed: ColumnElement[Any] = func.instr(lease.c.ids, func.json_quote(page.c.id)) > 0
    else:
        listed = page.c.id == func.any(lease.c.ids)
    return exists().where(lease.c.node == page.c.node, lease.c.batch == page.c.batch, listed)


def _holds_something(conn: Connection, tables: Tables, page: Subquery) -> ColumnElement[bool]:
    """Whether one of the lease's tasks works under it."""
    task = tables.task
    held = (task.c.state == _WORKING, task.c.node == page.c.node, task.c.batch == page.c.batch)
    if conn.dialect.name == "sqlite":
        member = func.json_each(page.c.ids).table_valued("value")
        listed = select(task.c.id).select_from(member).join(task, task.c.id == member.c.value)
        return listed.where(*held).correlate(page).exists()
    return exists().where(task.c.id == func.any(page.c.ids), *held)


def _lease_anew(conn: Connection, tables: Tables, lost: Sequence[Suspect]) -> list[Suspect]:
    lists: defaultdict[tuple[int, int], list[Suspect]] = defaultdict(list)
    for one in lost:
        if one.node:
            lists[one.node, one.batch].append(one)
    mended: list[Suspect] = []
    key = [tables.lease.c.node, tables.lease.c.batch]
    for (node, batch), members in lists.items():
        ids: Any = [one.task for one in members]
        if conn.dialect.name == "sqlite":
            ids = json.dumps(ids)
        new = upserting(conn, tables.lease).values(node=node, batch=batch, ids=ids)
        # Where there is one, its list gets what it lacks: nobody claims under that token any more.
        added = {"ids": _both_lists(conn, tables, new)}
        conn.execute(new.on_conflict_do_update(index_elements=key, set_=added))
        mended += members
    return mended


def _both_lists(conn: Connection, tables: Tables, new: Any) -> ColumnElement[Any]:
    """What the lease names already, and what the new row names."""
    if conn.dialect.name == "sqlite":
        both = union_all(
            *(
                select(func.json_each(ids).table_valued("value").c.value)
                for ids in (tables.lease.c.ids, new.excluded.ids)
            )
        ).subquery()
        return select(func.json_group_array(both.c.value)).scalar_subquery()
    return func.array_cat(tables.lease.c.ids, new.excluded.ids)


def _drop_empty(conn: Connection, tables: Tables, one: Suspect) -> bool:
    """Batches are never reused, so that an empty lease stays empty."""
    lease = tables.lease
    gone = delete(lease).where(lease.c.node == one.node, lease.c.batch == one.batch)
    return bool(conn.execute(gone).rowcount)


def _drop_child(conn: Connection, tables: Tables, one: Suspect) -> bool:
    child = tables.child
    gone = delete(child).where(child.c.recurring == one.recurring, child.c.task == one.task)
    return bool(conn.execute(gone).rowcount)


def _chunks(suspects: Sequence[Suspect]) -> Iterator[Sequence[Suspect]]:
    for start in range(0, len(suspects), _CHUNK):
        yield suspects[start : start + _CHUNK]
