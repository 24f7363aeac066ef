"""What the commands do to a database as a whole: upgrade it, ask its version, drop a schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from rota.core.clock import SystemClock
from rota.errors import NotFound
from rota.storage.open import open_repository

if TYPE_CHECKING:
    from sqlalchemy import Connection

Dialect = Literal["sqlite", "postgresql"]
#: Seconds a server gets to answer.
PATIENCE = 5


def dialect_of(url: str) -> Dialect:
    """Which database the URL names; raises what is wrong with it as ``open_repository`` does."""
    open_repository(url, clock=SystemClock())
    return "sqlite" if url.lower().startswith("sqlite:") else "postgresql"


def upgrade(url: str, schema: str | None) -> list[int]:
    """Apply the steps the database lacks; their numbers."""
    if dialect_of(url) == "sqlite":
        from rota.storage.sqlite import SQLiteRepository

        return SQLiteRepository(url, clock=SystemClock()).upgrade()
    from rota.storage.postgres import PostgresRepository

    repository = PostgresRepository(url, clock=SystemClock(), schema=schema)
    try:
        return repository.upgrade()
    finally:
        repository.close()


def version(url: str, schema: str | None) -> int:
    """The step the database is at, 0 if it has none; ``NotFound`` for a missing file."""
    from rota.storage.schema import ledger

    with connected(url) as conn:
        return ledger.current(conn, schema=schema)


def check(url: str, schema: str | None) -> None:
    """Raise ``SchemaTooOld`` or ``SchemaTooNew`` unless this code can work with the database."""
    from rota.storage.schema import ledger

    shown = url
    if dialect_of(url) == "postgresql":
        from rota.storage.postgres import address

        shown = address.shown(address.parse_url(url))
    with connected(url) as conn:
        ledger.check(conn, url=shown, schema=schema)


def drop_schema(url: str, schema: str) -> None:
    """Drop a PostgreSQL schema with everything in it."""
    from sqlalchemy.schema import DropSchema

    with connected(url) as conn:
        conn.execute(DropSchema(schema, cascade=True, if_exists=True))
        conn.commit()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection that changes nothing by being opened; errors come out as rota's."""
    if dialect_of(url) == "sqlite":
        with _sqlite(url) as conn:
            yield conn
    else:
        with _postgres(url) as conn:
            yield conn


@contextmanager
def _sqlite(url: str) -> Iterator[Connection]:
    from sqlalchemy import NullPool, create_engine

    from rota.storage.sqlite.faults import spoken_plainly
    from rota.storage.sqlite.location import check_place, database_path

    path = database_path(url)
    check_place(path)
    if not path.exists():
        raise NotFound(f"{path} does not exist; run: rota db upgrade --url {url}")
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", poolclass=NullPool
    )
    with spoken_plainly(), engine.connect() as conn:
        yield conn


@contextmanager
def _postgres(url: str) -> Iterator[Connection]:
    import psycopg
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import DBAPIError

    from rota.storage.postgres.address import parse_url
    from rota.storage.postgres.refusals import translated

    address = parse_url(url)
    engine = create_engine(address, poolclass=NullPool, connect_args={"connect_timeout": PATIENCE})
    try:
        with engine.connect() as conn:
            yield conn
    except (DBAPIError, psycopg.Error) as error:
        raise translated(error, address) from error
