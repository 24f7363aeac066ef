"""Rows travel through SQLite as one JSON text; what comes back is what was put in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.task import Ending, Membership, Stored, Want
from rota.errors import DataRefused
from rota.storage.sqlite import SQLiteRepository, claiming
from rota.storage.sqlite.carrying import carry
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, ids, some_tasks

MOST, LEAST = 2**63 - 1, -(2**63)
LONG = '"' + "x" * (claiming._LONG + 1) + '"'
#: What JSON has to write in another way, what it need not, and what this code gives a meaning.
ODD = [
    "",
    '{"a":"b\\n\\u0000\\\\"}',
    "\x00",
    "a\x00\ue000\x00\ue001\ue000\ue001b\x00",
    "\\u0000",
    'tab\t quote" slash/ back\\ line\n unit\x1f',
    "between\x1ethem",
    "\x1e",
    "é ü 漢字 😀 \U0010ffff \u2028",
    LONG,
    LONG + "\x00\x1e",
    "0",
    "null",
]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "a.db", clock=FakeClock(), synchronous="OFF")
    made.open()
    yield made
    made.close()


@pytest.fixture
def node(repository: SQLiteRepository) -> NodeHandle:
    return NodeHandle(repository)


def test_odd_texts_come_out_of_a_claim_as_they_went_in(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    wanted = {
        task.id: task
        for number, text in enumerate(ODD)
        for task in (
            a_task(params=text),
            a_task(options=text),
            a_task(meta=text, recurring=f"r{number}", fire_at=repository.now()),
            a_task(params=text, options=ODD[number - 1], meta=ODD[number - 2]),
        )
    }
    # Many that are alike, and one that is like no other.
    repository.insert([*some_tasks(20, params=LONG), *some_tasks(20)])
    repository.insert([*wanted.values()])
    taken = {claimed.id: claimed for claimed in node.claim(1_000)}
    assert len(taken) == len(wanted) + 40
    for task in wanted.values():
        claimed = taken[task.id]
        assert (claimed.params, claimed.options, claimed.meta, claimed.recurring) == (
            task.params,
            task.options,
            task.meta,
            task.recurring,
        )


def test_odd_params_of_many_alike_go_in_as_they_are(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    tasks = [a_task(params=text) for text in ODD * 2]
    repository.insert(tasks)
    assert repository.bodies(ids(tasks)) == {task.id: task.params for task in tasks}
    assert {one.id: one.params for one in node.claim()} == {task.id: task.params for task in tasks}


def test_a_lazy_claim_reads_no_long_params_but_long_options(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    long, short = a_task(params=LONG, options=LONG, meta=LONG), a_task()
    repository.insert([long, short])
    taken = {claimed.id: claimed for claimed in node.claim(lazy=True)}
    assert [taken[task.id][6:8] for task in (long, short)] == [("", LONG), ("", short.options)]
    assert [taken[task.id].meta for task in (long, short)] == [LONG, None]


def test_a_claim_is_in_the_order_of_its_lane(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    tasks = [a_task(delay=-delay) for delay in (3, 1, 2)] + some_tasks(300)
    repository.insert(tasks)
    later = some_tasks(5)
    repository._clock.advance(1)  # type: ignore[attr-defined]
    repository.insert(later)
    assert ids(node.claim(1_000)) == sorted(ids(tasks)) + sorted(ids(later))


def test_odd_reasons_and_results_stand_in_history_as_they_were_said(
    repository: SQLiteRepository, node: NodeHandle, tmp_path: Path
) -> None:
    repository.insert(some_tasks(3 * len(ODD)))
    taken = node.claim(1_000)
    kinds = [Ending.DONE, Ending.FAILED, Ending.CANCELLED]
    said = {
        claimed.id: ending(claimed, kinds[n % 3], reason=text, payload=ODD[n // 3 - 1])
        for n, (claimed, text) in enumerate(
            zip(taken, [x for x in ODD for _ in kinds], strict=True)
        )
    }
    assert None not in node.finish(*said.values())
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        rows = connection.execute(
            "select id, reason, payload from rota_done union all"
            " select id, reason, payload from rota_failed"
        ).fetchall()
    # A cancelled task's reason may be another's, if it says nothing itself.
    assert {task_id: (reason or "", payload) for task_id, reason, payload in rows} == {
        task_id: (finish.reason, finish.payload) for task_id, finish in said.items()
    }


def test_odd_errors_and_params_of_attempts_that_go_on_are_kept(
    repository: SQLiteRepository, node: NodeHandle, tmp_path: Path
) -> None:
    repository.insert(some_tasks(len(ODD)))
    said = {
        claimed.id: ending(claimed, Ending.AGAIN, reason=text, payload=text, params=text)
        for claimed, text in zip(node.claim(), ODD, strict=True)
    }
    assert set(node.finish(*said.values())) == {Stored.SCHEDULED}
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        rows = connection.execute("select id, reason, error from rota_attempt").fetchall()
    assert {row[0]: row[1:] for row in rows} == {
        task_id: (finish.reason, finish.payload) for task_id, finish in said.items()
    }
    assert repository.bodies([*said]) == {task_id: one.params for task_id, one in said.items()}


@pytest.mark.parametrize("node_id", [MOST, LEAST])
def test_numbers_of_64_bits_are_exact(repository: SQLiteRepository, node_id: int) -> None:
    repository.join(Membership(node_id, "n", "h", 1, 30.0))
    repository.insert(some_tasks(3))
    first = repository.claim(node_id, MOST, [Want("default", 0, 2)], 0.0)
    (other,) = repository.claim(node_id, MOST - 1, [Want("default", 0, 2)], 0.0)
    assert {claimed.batch for claimed in first} == {MOST}
    # To the nearest float the two batches are one.
    stale = other._replace(batch=MOST)
    finishes = [ending(claimed, Ending.DONE) for claimed in (*first, stale)]
    answers = repository.finish(node_id, finishes, [MOST])
    assert answers == [Stored.DONE, Stored.DONE, None]
    task = repository.get(first[0].id)
    assert task is not None
    assert (task.node, task.batch) == (node_id, MOST)
    assert repository.held(node_id) == [(MOST - 1, [other.id])]


@pytest.mark.parametrize("field", ["params", "options", "meta"])
def test_a_lone_surrogate_refuses_all_that_are_written_with_it(
    repository: SQLiteRepository, field: str
) -> None:
    tasks = [*some_tasks(20), a_task(**{field: '"\ud800"'}), *some_tasks(20)]
    with pytest.raises(DataRefused):
        repository.insert(tasks)
    assert repository.states(ids(tasks)) == {}


def test_an_outcome_with_a_lone_surrogate_refuses_its_group(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    repository.insert(some_tasks(2))
    first, second = node.claim()
    bad = ending(second, Ending.FAILED, reason="\udfff")
    with pytest.raises(DataRefused):
        repository.finish(node.id, [ending(first, Ending.DONE), bad])
    assert set(repository.states([first.id, second.id]).values()) == {Stored.WORKING}


def test_one_id_twice_among_many_is_answered_as_met(repository: SQLiteRepository) -> None:
    task = a_task()
    answers = repository.insert([*some_tasks(20), task, *some_tasks(20), task])
    assert [answer.created for answer in answers] == [True] * 41 + [False]
    assert repository.counts()["scheduled"] == 41


def test_tasks_alike_but_for_one_field_each_keep_theirs(
    repository: SQLiteRepository, node: NodeHandle
) -> None:
    at = repository.now()
    groups = [
        some_tasks(10, **fields)
        for fields in (
            {},
            {"work": "other"},
            {"expires_in": 60.0},
            {"delay": 0.5},
            {"at": at, "fire_at": at, "recurring": "r"},
            {"meta": '{"a":1}'},
            {"options": '{"timeout":1.0}'},
            {"parent": a_task().id},
        )
    ]
    repository.insert([task for group in groups for task in group])
    taken = {one.id: one for one in node.claim(1_000, ahead=1_000, look_ahead=1.0)}
    for group in groups:
        for task in group:
            claimed = taken[task.id]
            assert (claimed.work, claimed.options, claimed.meta) == task[1:2] + task[5:6] + (
                task.meta,
            )
            assert (claimed.parent, claimed.recurring) == (task.parent, task.recurring)
            assert claimed.due_in == task.delay
            assert claimed.expires_in == task.expires_in
            assert (claimed.fire_at is None) == (task.fire_at is None)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]))))
def test_any_text_is_carried_exactly(texts: list[str]) -> None:
    rows = {str(number): (number, text) for number, text in enumerate(texts)}
    carried = carry(rows)
    with closing(sqlite3.connect(":memory:")) as connection:
        found = connection.execute(
            "select key, value->>0, replace(value->>1, ?, char(0)) from json_each(?)",
            (carried.nul, carried.text),
        ).fetchall()
    assert {key: tuple(row) for key, *row in found} == rows
