"""Take part in the caller's transaction: whose connection it is, and when it has committed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rota.core.answer import Answer
from rota.core.caller import calling_thread
from rota.errors import InvalidArgument

log: logging.Logger = logging.getLogger("rota.storage")

T = TypeVar("T")

#: Where a session or connection keeps who is to be told of its commit.
_KEPT = "rota_after_commit"
_GIVE = (
    "give a SQLAlchemy Connection, Session, AsyncConnection or AsyncSession, or a psycopg "
    "Connection"
)


async def run_in(connection: object, fn: Callable[[object], T]) -> T:
    """Call ``fn`` with the plain, synchronous connection behind what the caller gave.

    A ``Session`` and an ``AsyncSession`` lend their connection; asynchronous ones are
    entered by ``run_sync``. A synchronous one is used in the thread of the blocking verb,
    and for a coroutine in a thread of its own, since it may wait for other transactions;
    SQLite's, which may belong to one thread and waits for nobody once it may write, here.
    """
    kind = _kind(connection)
    given: Any = connection
    if kind == "async session":
        given = await given.connection()
        kind = "async connection"
    if kind == "async connection":
        result: T = await given.run_sync(fn)
        return result
    caller = calling_thread()
    if caller is not None:
        return await caller.run(lambda: fn(_plain(given, kind)))
    given = _unscoped(given)
    if _is_sqlite(given, kind):
        return fn(_plain(given, kind))
    return await _run_apart(given, kind, fn)


def after_commit(connection: object, callback: Callable[[], object]) -> bool:
    """Call back once the outermost transaction has committed; False if nobody can tell.

    Not called when it is rolled back, nor for a savepoint. SQLAlchemy has no event behind
    the COMMIT of a plain connection: there the callback comes as it begins, and must
    look again a little later. psycopg's own connections have none at all. The callback's
    errors are logged: the commit is the caller's.
    """
    kind = _kind(connection)
    if kind == "driver":
        return False
    caller = calling_thread()
    if caller is None:
        _listen(connection, kind, callback)
    else:
        caller.post(lambda: _listen(connection, kind, callback))
    return True


class _Told:
    """Who is to be told of one transaction's commit.

    SQLAlchemy's listeners cannot be removed while they are called, so they stay for the
    life of their session or connection, and this is emptied instead.
    """

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], object]] = []

    def committed(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.debug("nobody could be told of a commit", exc_info=True)

    def forget(self) -> None:
        self.callbacks = []


def _listen(connection: Any, kind: str, callback: Callable[[], object]) -> None:
    if kind in {"connection", "async connection"}:
        _told_of_connection(getattr(connection, "sync_connection", connection), callback)
        return
    session = _unscoped(connection)
    session = getattr(session, "sync_session", session)
    _told_of_session(session, callback)
    if hasattr(session.bind, "in_transaction"):
        # Bound to a connection, whose own transaction may be the outermost.
        _told_of_connection(session.bind, callback)


def _told_of_session(session: Any, callback: Callable[[], object]) -> None:
    from sqlalchemy import event

    told = session.info.get(_KEPT)
    if told is None:
        told = session.info[_KEPT] = _Told()

        def committed(session: Any) -> None:
            if not session.in_nested_transaction():
                told.committed()

        def ended(_: Any, transaction: Any) -> None:
            if transaction.parent is None:
                told.forget()

        event.listen(session, "after_commit", committed)
        event.listen(session, "after_transaction_end", ended)
    told.callbacks.append(callback)


def _told_of_connection(connection: Any, callback: Callable[[], object]) -> None:
    from sqlalchemy import event

    told = connection.get_execution_options().get(_KEPT)
    if told is None:
        told = _Told()
        connection.execution_options(**{_KEPT: told})
        event.listen(connection, "commit", lambda _: told.committed())
        event.listen(connection, "rollback", lambda _: told.forget())
    told.callbacks.append(callback)


def _unscoped(given: Any) -> Any:
    """The session of this thread (or asyncio task) behind a scoped one."""
    registry = getattr(given, "registry", None)
    return registry() if callable(registry) else given


def _plain(given: Any, kind: str) -> object:
    return given.connection() if kind == "session" else given


def _is_sqlite(given: Any, kind: str) -> bool:
    if kind == "driver":
        return False
    try:
        engine = given.get_bind() if kind == "session" else given
    except Exception:  # noqa: BLE001 - several databases: which one only the statement says
        return True
    return bool(engine.dialect.name == "sqlite")


async def _run_apart(given: Any, kind: str, fn: Callable[[object], T]) -> T:
    """Call it in a thread of its own: a statement that waits must hold up only its caller.

    A caller that is cancelled gets its connection back once the statement has been ended.
    """
    answer: Answer[T] = Answer()
    used: list[Any] = []

    def call() -> T:
        used.append(_plain(given, kind))
        return fn(used[0])

    where = contextvars.copy_context()
    threading.Thread(
        target=where.run, args=(answer.call, call), name="rota-guest", daemon=True
    ).start()
    try:
        return await asyncio.shield(answer.future)
    except asyncio.CancelledError:
        threading.Thread(target=_interrupt, args=(used,), name="rota-guest", daemon=True).start()
        await asyncio.wait([answer.future])
        answer.future.exception()
        raise


def _interrupt(used: list[Any]) -> None:
    """End the statement under way, as far as its driver can; it may have ended already."""
    with contextlib.suppress(Exception):
        driver = used[0]
        if not hasattr(driver, "cancel"):
            driver = driver.connection.driver_connection
        driver.cancel()


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
    if inspect.iscoroutinefunction(getattr(connection, "commit", None)):
        raise InvalidArgument(
            f"connection is {module.partition('.')[0]}'s {type(connection).__name__}; rota joins "
            "asynchronous transactions through SQLAlchemy only: give its AsyncConnection or "
            "AsyncSession, or psycopg's synchronous Connection",
            field="connection",
        )
    if "Connection" in names and module.startswith("sqlalchemy"):
        return "connection"
    if "Connection" in names and "BaseConnection" in names and hasattr(connection, "pgconn"):
        return "driver"
    raise InvalidArgument(
        f"connection is a {module}.{type(connection).__qualname__}; {_GIVE}", field="connection"
    )
