"""Counts of what has ended are folded, so that they stay few, and none is lost."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from rota.core.finding import Count
from rota.core.task import Ending, Stored
from rota.storage.memory import MemoryRepository
from rota.storage.open import open_repository
from rota.storage.tables import Tables
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, some_tasks

DAY = 86_400.0


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_batches_become_minutes_and_minutes_hours(
    kind: str, request: pytest.FixtureRequest, tmp_path: object
) -> None:
    clock = FakeClock()
    options = {}
    url: str | None = None
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/rota.db"
    elif kind == "postgres":
        url = request.getfixturevalue("postgres_url")
        options = {"schema": request.getfixturevalue("postgres_schema")}
    repository = open_repository(url, clock=clock, **options)
    repository.open()
    try:
        node = NodeHandle(repository)
        for _ in range(6):
            repository.insert(some_tasks(6))
            for claimed in node.claim(6):
                node.end(claimed, Ending.DONE, ago=1.0)
            clock.advance(20.0 * 60)
        sizes = []
        for wait in (0.0, 2 * 3600.0, 3 * DAY, 40 * DAY):
            clock.advance(wait)
            if wait:
                repository.tidy()
            sizes.append(_rows(repository, options.get("schema")))
            if wait < 40 * DAY:
                counted = repository.counts_by("queue", None)
                assert counted == {"default": {Stored.DONE: Count(36)}}
    finally:
        repository.close()

    batches, minutes, hours, kept = sizes
    assert batches == (6 if kind == "memory" else 36)
    # A database's clock runs on meanwhile: a round may have crossed a minute.
    assert 6 <= minutes <= 12
    assert 2 <= hours <= 4
    assert kept == 0


def _rows(repository: object, schema: str | None) -> int:
    if isinstance(repository, MemoryRepository):
        return len(repository._book.tally)
    query = select(func.count()).select_from(Tables.describe(schema).tally)
    if schema is None:
        with repository._desk.reading() as conn:  # type: ignore[attr-defined]
            return int(conn.execute(query).scalar_one())
    return int(repository._look(lambda conn: conn.execute(query).scalar_one()))  # type: ignore[attr-defined]
