"""Every statement that takes tasks out of a lease has the fence in its own WHERE."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rota.core.task import Ending, Stored
from rota.storage.sqlite import SQLiteRepository
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.ending import Back, Leaving, Parked
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks

NOTHING = (None, None, None)
WAYS: dict[str, Callable[[Leaving, str], None]] = {
    "done": lambda leaving, task: leaving.end({task: NOTHING}, Stored.DONE, by=1),
    "failed": lambda leaving, task: leaving.end({task: NOTHING}, Stored.FAILED, by=None),
    "kept": lambda leaving, task: leaving.keep({task: NOTHING}, "retry"),
    "back": lambda leaving, task: leaving.put_back({task: Back(1, 1, 0)}),
    "parked": lambda leaving, task: leaving.park({task: Parked(1, 1, None)}),
}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "a.db", clock=FakeClock(), synchronous="OFF")
    made.open()
    yield made
    made.close()


def contents(path: Path) -> dict[str, list[Any]]:
    tables = ("rota_task", "rota_done", "rota_failed", "rota_attempt", "rota_tally")
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"select * from {table}").fetchall() for table in tables}


def leave(repository: SQLiteRepository, way: str, task: str, node: int, batch: int) -> None:
    def act(conn: Any) -> None:
        WAYS[way](Leaving(raw(conn), node, [batch], 5), task)

    repository._desk.write(act)


@pytest.mark.parametrize("way", WAYS)
def test_only_its_own_token_takes_a_task_out_of_its_lease(
    repository: SQLiteRepository, tmp_path: Path, way: str
) -> None:
    repository.insert(some_tasks(2))
    node, other = NodeHandle(repository), NodeHandle(repository)
    claimed, theirs = node.claim(1)[0], other.claim(1)[0]
    before = contents(tmp_path / "a.db")
    leave(repository, way, claimed.id, other.id, claimed.batch)
    leave(repository, way, theirs.id, node.id, theirs.batch)
    leave(repository, way, claimed.id, node.id, claimed.batch + 1)
    assert contents(tmp_path / "a.db") == before
    leave(repository, way, claimed.id, node.id, claimed.batch)
    assert contents(tmp_path / "a.db") != before


@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_does_not_work_is_left_alone(
    repository: SQLiteRepository, tmp_path: Path, way: str
) -> None:
    repository.insert([a_task()])
    node = NodeHandle(repository)
    claimed = node.claim_only()
    # Set aside, yet under a token that looks right.
    repository._desk.write(
        lambda conn: raw(conn).execute("update rota_task set state = 2 where id = ?", [claimed.id])
    )
    before = contents(tmp_path / "a.db")
    leave(repository, way, claimed.id, node.id, claimed.batch)
    assert contents(tmp_path / "a.db") == before


def test_an_older_row_with_its_id_keeps_no_task_from_ending(
    repository: SQLiteRepository, tmp_path: Path
) -> None:
    repository.insert(some_tasks(3))
    node = NodeHandle(repository)
    taken = node.claim()
    repository._desk.write(
        lambda conn: raw(conn).execute(
            "insert into rota_done (id, state, queue, work, priority, attempt, run_at, finished_at)"
            " values (?, 3, 'old', 'old', 0, 1, 0, 0)",
            [taken[1].id],
        )
    )
    assert node.finish(*(ending(claimed, Ending.DONE) for claimed in taken)) == [Stored.DONE] * 3
    found = contents(tmp_path / "a.db")
    assert found["rota_task"] == []
    assert {(row[0], row[2]) for row in found["rota_done"]} == {
        (claimed.id, "default") for claimed in taken
    }
