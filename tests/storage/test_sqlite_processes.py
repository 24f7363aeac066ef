"""Several processes on one file: no overlap, and a dead one is noticed at once.

Run as a script, this file is such a process.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rota.core.clock import SystemClock
from rota.core.ids import new_incarnation
from rota.core.task import Ending, Finish, Membership, Stored, Want
from rota.errors import ForkedScheduler
from rota.storage.sqlite import SQLiteRepository
from rota.testing.conformance.setting import NodeHandle, a_task, ids, some_tasks

Start = Callable[..., subprocess.Popen[str]]
PATIENCE = 30.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start this file as a process on the test's database."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "a.db", clock=SystemClock(), statement_timeout=PATIENCE)
    made.open()
    yield made
    made.close()


def first_line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)


def a_witness(repository: SQLiteRepository, host: str = "here") -> int:
    node = new_incarnation()
    repository.join(Membership(node, "witness", host, os.getpid(), 3600.0))
    return node


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_that_insert_and_claim_at_once_never_share_a_task(
    repository: SQLiteRepository, start: Start, tmp_path: Path, count: int
) -> None:
    """One reader stays where it began, all the time."""
    repository.insert(some_tasks(200))
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as reader:
        reader.execute("begin")
        seen = reader.execute("select count(*) from rota_task").fetchone()
        processes = [start("drain") for _ in range(count)]
        shares = [first_line(process) for process in processes]
        assert [process.wait(PATIENCE) for process in processes] == [0] * count
        assert reader.execute("select count(*) from rota_task").fetchone() == seen == (200,)
    done = [task_id for share in shares for task_id in share]
    assert len(done) == len(set(done)) == 200 + count * 300
    assert set(repository.states(done).values()) == {Stored.DONE}
    assert repository.counts() == {"scheduled": 0, "working": 0, "parked": 0}
    assert repository.nodes() == []


def test_a_killed_process_is_buried_at_once_whatever_its_lease(
    repository: SQLiteRepository, start: Start, tmp_path: Path
) -> None:
    repository.insert(some_tasks(3))
    witness = a_witness(repository)
    child = start("hold", "here")
    told = first_line(child)
    assert len(told["held"]) == 3
    assert repository.bury(witness, trusted=False) == []
    kill(child)
    assert repository.bury(witness, trusted=False) == [told["node"]]
    assert sorted(ids(repository.rescue(10))) == sorted(told["held"])
    assert not (tmp_path / "a.db-rota" / f"node-{told['node']}.lock").exists()
    claimed = repository.claim(witness, 1, [Want("default", 0, 10)], 0.0)
    assert sorted(ids(claimed)) == sorted(told["held"])


def test_a_stopped_process_is_not_dead(repository: SQLiteRepository, start: Start) -> None:
    witness = a_witness(repository)
    child = start("hold", "here")
    first_line(child)
    child.send_signal(signal.SIGSTOP)
    assert repository.bury(witness, trusted=True) == []
    assert len(repository.nodes()) == 2


def test_of_another_hosts_process_a_free_lock_proves_nothing(
    repository: SQLiteRepository, start: Start
) -> None:
    witness = a_witness(repository)
    child = start("hold", "elsewhere")
    first_line(child)
    kill(child)
    assert repository.bury(witness, trusted=True) == []


def test_a_missing_lock_file_proves_nothing(
    repository: SQLiteRepository, start: Start, tmp_path: Path
) -> None:
    witness = a_witness(repository)
    child = start("hold", "here")
    told = first_line(child)
    (tmp_path / "a.db-rota" / f"node-{told['node']}.lock").unlink()
    assert repository.bury(witness, trusted=True) == []


def test_a_forked_child_does_not_keep_its_dead_parent_alive(
    repository: SQLiteRepository, start: Start
) -> None:
    witness = a_witness(repository)
    parent = start("fork")
    told = first_line(parent)
    try:
        kill(parent)
        os.kill(told["child"], 0)
        assert repository.bury(witness, trusted=False) == [told["node"]]
    finally:
        os.kill(told["child"], signal.SIGKILL)


def test_a_repository_refuses_to_write_in_a_forked_child(start: Start) -> None:
    assert first_line(start("forked-write")) == "ForkedScheduler"


def test_in_one_process_a_closed_repositorys_node_is_dead_and_an_open_ones_is_not(
    repository: SQLiteRepository, tmp_path: Path
) -> None:
    closing = SQLiteRepository(tmp_path / "a.db", clock=SystemClock())
    closing.open()
    witness, other = NodeHandle(repository), NodeHandle(closing)
    sharing = NodeHandle(repository)
    assert repository.bury(witness.id, trusted=False) == []
    closing.close()
    assert repository.bury(witness.id, trusted=False) == [other.id]
    assert sharing.beat()


def test_tidy_sweeps_away_lock_files_nobody_needs(
    repository: SQLiteRepository, tmp_path: Path
) -> None:
    living = NodeHandle(repository)
    stray = tmp_path / "a.db-rota" / "node-123.lock"
    stray.touch()
    repository.tidy()
    assert not stray.exists()
    assert (tmp_path / "a.db-rota" / f"node-{living.id}.lock").exists()


def test_processes_that_open_a_new_file_at_once_all_succeed(start: Start) -> None:
    processes = [start("open") for _ in range(4)]
    assert [first_line(process) for process in processes] == [1] * 4


def _open_and_join(host: str) -> tuple[SQLiteRepository, int]:
    repository = SQLiteRepository("a.db", clock=SystemClock(), statement_timeout=PATIENCE)
    repository.open()
    node = new_incarnation()
    repository.join(Membership(node, "child", host, os.getpid(), 3600.0))
    return repository, node


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _drain() -> None:
    """Insert 300 tasks, then claim and finish whatever there is; tell what was done."""
    repository, node = _open_and_join("here")
    for _ in range(6):
        repository.insert(some_tasks(50))
    done: list[str] = []
    batch = 0
    while lanes := repository.agenda(None):
        batch += 100
        wants = [Want(lane.queue, lane.priority, 20) for lane in lanes]
        taken = repository.claim(node, batch, wants, 0.0)
        finishes = [Finish(one.id, one.batch, one.attempt, Ending.DONE) for one in taken]
        answers = repository.finish(node, finishes, [batch])
        assert answers == [Stored.DONE] * len(taken)
        done += ids(taken)
    repository.leave(node)
    repository.close()
    _tell(done)


def _hold(host: str) -> None:
    """Join, claim everything, say so, and stay until killed."""
    repository, node = _open_and_join(host)
    taken = repository.claim(node, 1, [Want("default", 0, 100)], 0.0)
    _tell({"node": node, "held": ids(taken)})
    signal.pause()


def _fork() -> None:
    """Join, fork a child that outlives us, say so, and stay until killed."""
    _, node = _open_and_join("here")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"forked")
        signal.pause()
    os.read(read, 6)
    _tell({"node": node, "child": child})
    signal.pause()


def _forked_write() -> None:
    """Tell what a write in a forked child raises."""
    repository, _ = _open_and_join("here")
    child = os.fork()
    if child == 0:
        try:
            repository.insert([a_task()])
        except ForkedScheduler as error:
            _tell(type(error).__name__)
        os._exit(0)
    os.waitpid(child, 0)


def _open() -> None:
    """Open, and tell that it went well by the count of what was inserted."""
    repository, _ = _open_and_join("here")
    _tell(len(repository.insert([a_task()])))


if __name__ == "__main__":
    _acts: dict[str, Callable[..., None]] = {
        "drain": _drain,
        "hold": _hold,
        "fork": _fork,
        "forked-write": _forked_write,
        "open": _open,
    }
    _acts[sys.argv[1]](*sys.argv[2:])
