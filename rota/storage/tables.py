"""The tables of step 1 as SQLAlchemy Core sees them, for reads and portable statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: The database's clock as an expression, so many seconds from now: ``now(0.0)`` is now.
#: A bound instant on SQLite, ``now() + make_interval(…)`` on PostgreSQL; typed `Instant`.
Now = Callable[[float], ColumnElement[datetime]]


def to_micros(value: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    return (value - EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime: ``timestamptz`` on PostgreSQL, integer microseconds elsewhere."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else from_micros(value)


class Id(TypeDecorator[str]):
    """A task id as canonical text: ``uuid`` on PostgreSQL, text elsewhere."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(String())


@dataclass(frozen=True, slots=True)
class Tables:
    """Every table of the layout; ``Tables.describe(schema)`` makes a set of its own."""

    task: Table
    body: Table
    lease: Table
    node: Table
    done: Table
    failed: Table
    attempt: Table
    recurring: Table
    decision: Table
    child: Table
    queue: Table
    unique: Table
    tally: Table
    chore: Table
    report: Table
    setting: Table
    change: Table

    @classmethod
    def describe(cls, schema: str | None = None) -> Self:
        """The tables in this PostgreSQL schema; None is the search path's, or SQLite's file."""
        data = MetaData(schema=schema)
        return cls(
            task=Table("rota_task", data, *_task()),
            body=Table("rota_body", data, *_body()),
            lease=Table("rota_lease", data, *_lease()),
            node=Table("rota_node", data, *_node()),
            done=Table("rota_done", data, *_history()),
            failed=Table("rota_failed", data, *_history()),
            attempt=Table("rota_attempt", data, *_attempt()),
            recurring=Table("rota_recurring", data, *_recurring()),
            decision=Table("rota_decision", data, *_decision()),
            child=Table("rota_child", data, *_child()),
            queue=Table("rota_queue", data, *_queue()),
            unique=Table("rota_unique", data, *_unique()),
            tally=Table("rota_tally", data, *_tally()),
            chore=Table("rota_chore", data, *_chore()),
            report=Table("rota_report", data, *_report()),
            setting=Table("rota_setting", data, *_setting()),
            change=Table("rota_change", data, *_change()),
        )


def _task() -> list[Column[Any]]:
    return [
        Column("id", Id, primary_key=True),
        Column("queue", Text, nullable=False),
        Column("work", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("state", Integer, nullable=False),
        Column("run_at", Instant, nullable=False),
        Column("expires_at", Instant),
        Column("node", BigInteger),
        Column("batch", BigInteger),
        Column("attempt", Integer, nullable=False),
        Column("losses", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("unique_key", Text),
        Column("cancel_reason", Text),
    ]


def _body() -> list[Column[Any]]:
    return [
        Column("id", Id, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("params", Text, nullable=False),
        Column("options", Text, nullable=False),
        Column("meta", Text().with_variant(postgresql.JSONB(), "postgresql")),
        Column("created_at", Instant, nullable=False),
        Column("due_at", Instant, nullable=False),
        Column("parent", Id),
        Column("recurring", Text),
        Column("fire_at", Instant),
    ]


def _lease() -> list[Column[Any]]:
    ids = Text().with_variant(postgresql.ARRAY(postgresql.UUID(as_uuid=False)), "postgresql")
    return [
        Column("node", BigInteger, primary_key=True),
        Column("batch", BigInteger, primary_key=True),
        Column("ids", ids, nullable=False),
        Column("deadline", Instant),
    ]


def _node() -> list[Column[Any]]:
    return [
        Column("id", BigInteger, primary_key=True),
        Column("name", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("started_at", Instant, nullable=False),
        Column("lease_seconds", Double, nullable=False),
        Column("lease_until", Instant, nullable=False),
        Column("version", Text, nullable=False),
    ]


def _history() -> list[Column[Any]]:
    return [
        Column("id", Id, nullable=False),
        Column("state", Integer, nullable=False),
        Column("queue", Text, nullable=False),
        Column("work", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("node", BigInteger),
        Column("batch", BigInteger),
        Column("run_at", Instant, nullable=False),
        Column("started_at", Instant),
        Column("finished_at", Instant, nullable=False),
        Column("reason", Text),
        Column("payload", Text),
    ]


def _attempt() -> list[Column[Any]]:
    return [
        Column("id", Id, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("node", BigInteger),
        Column("batch", BigInteger),
        Column("started_at", Instant),
        Column("finished_at", Instant, nullable=False),
        Column("reason", Text),
        Column("error", Text),
    ]


def _recurring() -> list[Column[Any]]:
    return [
        Column("id", Text, primary_key=True),
        Column("work", Text, nullable=False),
        Column("params", Text, nullable=False),
        Column("trigger", Text, nullable=False),
        Column("options", Text, nullable=False),
        Column("queue", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("rules", Text, nullable=False),
        Column("meta", Text),
        Column("next_fire_at", Instant),
        Column("due_at", Instant),
        Column("last_fire_at", Instant),
        Column("runs", BigInteger, nullable=False),
        Column("paused", Boolean, nullable=False),
        Column("version", Integer, nullable=False),
    ]


def _decision() -> list[Column[Any]]:
    return [
        Column("recurring", Text, primary_key=True),
        Column("fire_at", Instant, primary_key=True),
        Column("decision", Text, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("task", Id),
        Column("version", Integer, nullable=False),
        Column("decided_at", Instant, nullable=False),
    ]


def _child() -> list[Column[Any]]:
    return [
        Column("recurring", Text, primary_key=True),
        Column("task", Id, primary_key=True),
    ]


def _queue() -> list[Column[Any]]:
    return [
        Column("queue", Text, primary_key=True),
        Column("paused_at", Instant),
        Column("reason", Text),
    ]


def _unique() -> list[Column[Any]]:
    return [
        Column("key", Text, primary_key=True),
        Column("task", Id, nullable=False),
        Column("expires_at", Instant, nullable=False),
    ]


def _tally() -> list[Column[Any]]:
    return [
        Column("minute", Instant, nullable=False),
        Column("queue", Text, nullable=False),
        Column("work", Text, nullable=False),
        Column("state", Integer, nullable=False),
        Column("n", BigInteger, nullable=False),
        Column("seconds", Double, nullable=False),
    ]


def _chore() -> list[Column[Any]]:
    return [
        Column("name", Text, primary_key=True),
        Column("next_at", Instant, nullable=False),
    ]


def _report() -> list[Column[Any]]:
    return [
        Column("id", Id, primary_key=True),
        Column("attempt", Integer, nullable=False),
        Column("node", BigInteger, nullable=False),
        Column("batch", BigInteger, nullable=False),
        Column("n", BigInteger, nullable=False),
        Column("at", Instant, nullable=False),
        Column("data", Text, nullable=False),
    ]


def _setting() -> list[Column[Any]]:
    return [
        Column("name", Text, primary_key=True),
        Column("value", Text, nullable=False),
    ]


def _change() -> list[Column[Any]]:
    """Without PostgreSQL's ``xid``, which has a default and is only read there."""
    return [
        Column("n", BigInteger, primary_key=True),
        Column("id", Id, nullable=False),
        Column("state", Integer, nullable=False),
        Column("at", Instant, nullable=False),
    ]
