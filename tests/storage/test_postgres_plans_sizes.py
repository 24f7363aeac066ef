"""The statements of each task's way keep their plans at any size, whatever the statistics say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Along, Ending, Membership, Want
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ending, some_tasks
from tests.storage.explaining import BATCH, assert_by_index, recorder

pytestmark = pytest.mark.postgres

_TASKS = """insert into rota_task (id, queue, work, priority, run_at)
  select gen_random_uuid(), 'default', 'demo', 0, now() - n * interval '1 ms'
  from generate_series(1, %s) n"""
_BODIES = """insert into rota_body (id, params, options, created_at, due_at)
  select id, '{}', '{}', run_at, run_at from rota_task"""
_NO_MORE = "delete from rota_task where run_at < now() - interval '1 s'"


@pytest.mark.parametrize("rows", [0, 1_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("statistics", ["none", "of an empty table", "true", "of a full table"])
def test_a_tasks_way_goes_by_index(
    open_postgres: Callable[..., PostgresRepository],
    stranger: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    statistics: str,
) -> None:
    repository = open_postgres(FakeClock(), statement_timeout=300.0)
    stranger.execute("alter table rota_task set (autovacuum_enabled = off)")
    stranger.execute("alter table rota_body set (autovacuum_enabled = off)")
    if statistics == "of an empty table":
        stranger.execute("analyze rota_task, rota_body")
    stranger.execute(_TASKS, (rows,))
    stranger.execute(_BODIES)
    if statistics in {"true", "of a full table"}:
        stranger.execute("analyze rota_task, rota_body")
    if statistics == "of a full table":
        stranger.execute(_NO_MORE)
    stranger.commit()
    node = new_incarnation()
    repository.join(Membership(node, "n", "h", 1, 30.0))
    record = recorder(repository, monkeypatch)

    assert_by_index(record(lambda: repository.agenda(None)))
    assert_by_index(record(lambda: repository.glance(node, None)))
    assert_by_index(record(lambda: repository.glance(node, ())))
    assert_by_index(record(lambda: repository.insert(some_tasks(3 * BATCH))), touching=False)
    along = some_tasks(3 * BATCH)
    taken_along = Along(node, 1, frozenset(task.id for task in along[:BATCH]))
    inserting = record(partial(repository.insert, along, along=taken_along))
    assert_by_index(inserting, touching=False)
    wants = [Want("default", 0, BATCH)]
    assert_by_index(record(lambda: repository.claim(node, 2, wants, 1.0)))
    for batch, kind in ((500, Ending.DONE), (900, Ending.RETRY)):
        taken = repository.claim(node, batch, wants, 1.0)
        assert len(taken) == BATCH
        ends = [ending(claimed, kind) for claimed in taken]
        assert_by_index(record(partial(repository.finish, node, ends, [batch])))
