"""What an SQLite file is rid of now and then, and what must stay in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rota.core.options import Options
from rota.core.task import Ending, Stored
from rota.errors import InvalidArgument
from rota.storage.sqlite import SQLiteRepository, keeping, upkeep
from rota.storage.sqlite.connections import raw
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks

DAY = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository(tmp_path: Path, clock: FakeClock) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "a.db", clock=clock, synchronous="OFF")
    made.open()
    yield made
    made.close()


def rows(repository: SQLiteRepository, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(repository.path)) as look:
        return look.execute(query).fetchall()


def test_free_period_keys_go_however_many_are_between_them(
    repository: SQLiteRepository, clock: FakeClock
) -> None:
    periods = [(f"{number:05}", DAY if number % 3 else 1.0) for number in range(4000)]
    repository.insert([a_task(unique=key, period=period) for key, period in periods])
    clock.advance(2)
    repository.tidy()
    kept = rows(repository, "select key from rota_unique order by key")
    assert kept == [(key,) for key, period in periods if period == DAY]


def test_a_period_key_that_was_taken_again_meanwhile_stays(
    repository: SQLiteRepository, clock: FakeClock
) -> None:
    repository.insert([a_task(unique="k", period=1.0), a_task(unique="free", period=1.0)])
    clock.advance(2)
    now = repository._desk.micros()
    with repository._desk.reading() as conn:
        found = keeping.free_periods(raw(conn), "", now, 10)
    assert found == ["free", "k"]
    repository.insert([a_task(unique="k", period=60.0)])
    repository._desk.write(lambda conn: keeping.forget_periods(raw(conn), found, now))
    assert rows(repository, "select key from rota_unique") == [("k",)]


def test_numbers_of_forgotten_changes_are_not_used_again(
    repository: SQLiteRepository, clock: FakeClock
) -> None:
    repository.feed(on=True)
    repository.insert(some_tasks(3))
    _, cursor = repository.updated_since(None, 10)
    clock.advance(8 * DAY)
    repository.tidy()
    assert rows(repository, "select count(*) from rota_change") == [(0,)]
    new = repository.insert([a_task()])[0].id
    changes, _ = repository.updated_since(cursor, 10)
    assert [(change.task_id, change.state) for change in changes] == [(new, Stored.SCHEDULED)]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "3:4", "٣", "9" * 30])
def test_a_cursor_that_no_call_gave_is_refused(repository: SQLiteRepository, cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="no cursor of this feed") as refused:
        repository.updated_since(cursor, 10)
    assert refused.value.field == "cursor"


def test_replacing_a_task_replaces_its_options(repository: SQLiteRepository) -> None:
    held = repository.insert([a_task(unique="k")])[0].id
    options = Options(max_attempts=7).encode()
    repository.insert([a_task(unique="k", on_conflict="replace", options=options)])
    task = repository.get(held)
    assert task is not None
    assert task.max_attempts == 7
    assert NodeHandle(repository).claim_only().options == options


def test_much_history_goes_in_chunks_over_several_calls(
    repository: SQLiteRepository, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CHUNK", 10)
    monkeypatch.setattr(upkeep, "_CHUNKS", 2)
    node = NodeHandle(repository)
    repository.insert(some_tasks(70))
    node.finish(*(ending(claimed, Ending.DONE) for claimed in node.claim()))
    clock.advance(8 * DAY)
    left = []
    while repository.tidy():
        left += rows(repository, "select count(*) from rota_done")
    assert left == [(50,), (30,), (10,)]
    assert rows(repository, "select count(*) from rota_body") == [(0,)]


def test_an_archive_asked_for_meanwhile_ends_the_dropping(
    repository: SQLiteRepository, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CHUNK", 10)
    node = NodeHandle(repository)
    repository.insert(some_tasks(70))
    node.finish(*(ending(claimed, Ending.DONE) for claimed in node.claim()))
    clock.advance(8 * DAY)
    forget = keeping.forget_tasks
    gone = []

    def forget_some(*what: Any) -> int:
        gone.append(forget(*what))
        what[0].execute("insert or replace into rota_setting values ('archive', 'on')")
        return gone[-1]

    monkeypatch.setattr(keeping, "forget_tasks", forget_some)
    repository.tidy()
    assert gone == [10]
    assert rows(repository, "select count(*) from rota_done") == [(60,)]


def test_attempts_stay_while_a_task_of_their_time_waits_for_the_archive(
    repository: SQLiteRepository, clock: FakeClock
) -> None:
    repository.keep(archive=True)
    node = NodeHandle(repository)
    repository.insert(some_tasks(2))
    first, second = node.claim()
    node.end(first, Ending.RETRY, delay=90 * DAY)
    node.end(second, Ending.FAILED)
    clock.advance(40 * DAY)
    repository.tidy()
    assert len(repository.attempts(first.id)) == 1
    repository.delete_many([second.id])
    repository.tidy()
    assert repository.attempts(first.id) == []
