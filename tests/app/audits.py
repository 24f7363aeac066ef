"""Examine a database, and break what is in it past rota."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from rota.control.auditing import examine
from rota.core.audit import Finding, Flaw, Severity
from rota.core.clock import Clock, SystemClock
from rota.core.ports import Repository
from rota.core.task import Rescued
from rota.storage.chores import Chores
from rota.storage.memory import MemoryRepository
from rota.testing.manual import ManualKeeper
from tests.conftest import Database


class Alone:
    """A living node and nothing held, as far as the chores ask."""

    trusted = True

    def __init__(self, node: int = 4711) -> None:
        self.id = node

    def knows(self, batch: int) -> bool:
        return True


def lone_chores(
    repository: Repository,
    clock: Clock,
    alone: Any,
    *,
    on_rescued: Callable[[list[Rescued]], object] = lambda _: 0,
) -> Chores:
    """The chores of a node that nothing else of rota runs around."""
    return Chores(
        repository=repository,
        life=alone,
        holdings=alone,
        clock=clock,
        on_rescued=on_rescued,
        keeper=ManualKeeper(repository=repository, clock=clock),
    )


def examined(repository: Repository, **how: Any) -> list[Finding]:
    return examine(repository, clock=SystemClock(), settle=0.0, **how)


def look(repository: Repository, **how: Any) -> list[Finding]:
    """What is wrong in the tables."""
    wrong = {*Flaw, "rescued"}
    return [one for one in examined(repository, **how) if one.kind in wrong]


def trouble(repository: Repository, **how: Any) -> list[Finding]:
    """What is wrong at all."""
    return [one for one in examined(repository, **how) if one.severity is not Severity.NOTE]


def by_hand(database: Database, *statements: str) -> None:
    """Run SQL on the tables, past rota."""
    if database.kind == "sqlite":
        path = str(database.target).removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as conn, conn:
            for statement in statements:
                conn.execute(statement)
        return
    schema = database.options["schema"]
    with psycopg.connect(str(database.target), options=f"-c search_path={schema}") as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[call-overload]


def take_the_leases(database: Database, repository: Repository) -> None:
    if isinstance(repository, MemoryRepository):
        repository._book.leases.clear()
    else:
        by_hand(database, "delete from rota_lease")
