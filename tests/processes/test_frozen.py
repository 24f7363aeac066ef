"""A node stands still past its lease: another takes over, and the thawed zombie changes nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rota.testing import history
from tests.processes.fleet import Fleet, NodeProcess


@pytest.mark.parametrize("how", ["stopped", "GIL held"])
def test_a_thawed_zombies_outcome_is_refused_and_it_lives_again(fleet: Fleet, how: str) -> None:
    zombie = fleet.start("zombie")
    was = zombie.ask("node")
    (task,) = zombie.ask("schedule", work="hold")
    old = zombie.wait("started", task=task)
    other = fleet.start("other")
    thaw = FREEZES[how](fleet, zombie)

    back = other.wait("took_back")
    new = other.wait("started", task=task)
    zombie.send("release")  # it finds this, and its own death, when it thaws
    thaw()
    assert zombie.wait("died")["node"] == was
    refused = zombie.wait("finished", task=task)
    other.ask("release")
    accepted = other.wait("finished", task=task)

    assert back["tasks"] == [task]
    assert old["token"] != new["token"]
    assert (refused["token"], refused["state"]) == (old["token"], None)
    assert (accepted["token"], accepted["state"]) == (new["token"], "done")

    # Alone again, it works under its new name.
    other.ask("shutdown")
    assert other.exit_code() == 0
    (again,) = zombie.ask("schedule", work="quick")
    ran = zombie.wait("finished", task=again, state="done")
    assert ran["token"][0] == zombie.ask("node") != was
    assert history.check(fleet.history(), complete=True, effects=True) == []
    endings = [one for one in fleet.history() if isinstance(one, history.Accepted)]
    assert sorted(one.task for one in endings) == sorted([task, again])


def stop(fleet: Fleet, node: NodeProcess) -> Callable[[], object]:
    """SIGSTOP; what lets it go on."""

    def go_on() -> None:
        node.signal(signal.SIGCONT)

    def freeze() -> Callable[[], object]:
        node.signal(signal.SIGSTOP)
        return go_on

    return _at_a_good_moment(fleet, freeze)


def hold_gil(fleet: Fleet, node: NodeProcess) -> Callable[[], object]:
    """Have a C call keep every thread out, the heartbeat's, too; what ends it."""
    pipe = fleet.directory / "gil"
    os.mkfifo(pipe)

    def go_on() -> None:
        pipe.open("w").close()

    def freeze() -> Callable[[], object]:
        node.send("hold_gil", pipe=str(pipe))
        node.wait("holds")
        return go_on

    return _at_a_good_moment(fleet, freeze)


FREEZES = {"stopped": stop, "GIL held": hold_gil}


def _at_a_good_moment(
    fleet: Fleet, freeze: Callable[[], Callable[[], object]]
) -> Callable[[], object]:
    """When it holds no lock on the file, which would freeze everybody."""
    for _ in range(100):
        go_on = freeze()
        if fleet.kind != "sqlite" or _unlocked(Path(fleet.url.removeprefix("sqlite:///"))):
            return go_on
        go_on()
    raise AssertionError("the node held a lock whenever it was frozen")


def _unlocked(database: Path) -> bool:
    """Whether nobody who is stopped holds the queue's lock or is in a transaction."""
    try:
        with _locked_soon(database):
            return True
    except (BlockingIOError, sqlite3.OperationalError):
        return False


@contextmanager
def _locked_soon(database: Path) -> Iterator[None]:
    connection = sqlite3.connect(database, timeout=1.0, isolation_level=None)
    turn = os.open(database.with_name(f"{database.name}-rota") / "queue.lock", os.O_RDWR)
    try:
        connection.execute("begin immediate")
        connection.execute("rollback")
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(turn)
        connection.close()
