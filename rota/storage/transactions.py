"""Take part in the caller's transaction: whose connection it is, and when it has committed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from rota.core.caller import run_where_called
from rota.errors import InvalidArgument

T = TypeVar("T")


async def run_in(connection: object, fn: Callable[[object], T]) -> T:
    """Call ``fn`` with the plain, synchronous connection behind what the caller gave.

    A ``Session`` and an ``AsyncSession`` lend their connection; asynchronous ones are
    entered by ``run_sync``; others are used in the thread that called.
    """
    given = connection
    kind = _kind(given)
    if kind == "async session":
        given = await given.connection()  # type: ignore[attr-defined]
        kind = "async connection"
    if kind == "async connection":
        result: T = await given.run_sync(fn)  # type: ignore[attr-defined]
        return result
    if kind == "session":
        return await run_where_called(lambda: fn(given.connection()))  # type: ignore[attr-defined]
    return await run_where_called(lambda: fn(given))


def after_commit(connection: object, callback: Callable[[], object]) -> bool:
    """Call back once the outermost transaction has committed; False if nobody can tell.

    Not called when it is rolled back, nor for a savepoint. SQLAlchemy has no event behind
    the COMMIT of a plain connection: there the callback comes as it begins, and must
    look again a little later. psycopg's own connections have none at all.
    """
    from sqlalchemy import event

    kind = _kind(connection)
    if kind in {"session", "async session"}:
        session: Any = getattr(connection, "sync_session", connection)
        _after_session(event, session, callback)
        return True
    if kind in {"connection", "async connection"}:
        plain: Any = getattr(connection, "sync_connection", connection)
        _at_commit(event, plain, callback)
        return True
    return False


def _after_session(event: Any, session: Any, callback: Callable[[], object]) -> None:
    def committed(session: Any) -> None:
        if session.in_nested_transaction():
            return
        forget()
        callback()

    def ended(session: Any, previous: Any) -> None:
        if not session.in_transaction() or previous.parent is None:
            forget()

    def forget() -> None:
        if event.contains(session, "after_commit", committed):
            event.remove(session, "after_commit", committed)
            event.remove(session, "after_soft_rollback", ended)

    event.listen(session, "after_commit", committed)
    event.listen(session, "after_soft_rollback", ended)


def _at_commit(event: Any, connection: Any, callback: Callable[[], object]) -> None:
    def committing(_: Any) -> None:
        forget()
        callback()

    def rolled_back(_: Any) -> None:
        forget()

    def forget() -> None:
        if event.contains(connection, "commit", committing):
            event.remove(connection, "commit", committing)
            event.remove(connection, "rollback", rolled_back)

    event.listen(connection, "commit", committing)
    event.listen(connection, "rollback", rolled_back)


def _kind(connection: object) -> str:
    """What was given, by its shape: nothing here imports what the caller does not use."""
    module = type(connection).__module__
    names = {item.__name__ for item in type(connection).__mro__}
    if "AsyncSession" in names or "async_scoped_session" in names:
        return "async session"
    if "AsyncConnection" in names and hasattr(connection, "run_sync"):
        return "async connection"
    if names & {"Session", "scoped_session"}:
        return "session"
    if "Connection" in names and not module.startswith(("sqlite3", "psycopg2")):
        if inspect.iscoroutinefunction(getattr(connection, "commit", None)):
            raise InvalidArgument(
                f"connection is psycopg's {type(connection).__name__}; give its synchronous "
                "Connection, or SQLAlchemy's AsyncConnection",
                field="connection",
            )
        return "connection" if module.startswith("sqlalchemy") else "driver"
    raise InvalidArgument(
        f"connection is a {module}.{type(connection).__qualname__}; give a SQLAlchemy "
        "Connection, Session, AsyncConnection or AsyncSession, or a psycopg Connection",
        field="connection",
    )
