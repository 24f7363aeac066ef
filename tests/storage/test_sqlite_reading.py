"""Reads that fail leave their thread's connection fit for the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rota.core.clock import SystemClock
from rota.core.task import Ending
from rota.errors import StorageError
from rota.storage.sqlite import SQLiteRepository
from rota.testing.conformance.setting import NodeHandle, a_task, ending


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "rota.db", clock=SystemClock())
    made.open()
    yield made
    made.close()


def test_a_read_that_fails_midway_does_not_hold_its_thread_at_that_moment(
    repository: SQLiteRepository, tmp_path: Path
) -> None:
    """A statement that is left half read keeps the snapshot it has begun with."""
    node = NodeHandle(repository)
    repository.insert([task := a_task()])
    for _ in range(3):
        node.finish(ending(node.claim_only(), Ending.RETRY))
    with closing(sqlite3.connect(tmp_path / "rota.db")) as conn, conn:
        conn.execute("update rota_attempt set error = '{'")
    with pytest.raises(StorageError, match="is damaged") as caught:
        repository.attempts(task.id)
    repository.insert([later := a_task()])
    assert repository.get(later.id) is not None
    assert caught.tb is not None  # whoever logs the error has the half-read rows, too


def test_readers_that_failed_are_not_kept(repository: SQLiteRepository) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), repository._desk.reading():
            _ = 1 / 0
    with repository._desk.reading() as conn:
        assert conn.exec_driver_sql("select 1").scalar() == 1
    assert len(repository._connections._readers or []) == 1
