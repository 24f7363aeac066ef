"""Whose turn it is to keep the history's house, in which thread, and for how long."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from rota.core.archiving import Archive, ArchivedTask
from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.errors import StorageUnavailable
from rota.storage.chores import TIDY, Chores
from rota.storage.keeper import Keeper
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle
from tests.app.audits import Alone
from tests.storage.shelf import DAY, Shelf, end, made


class _Turns(Keeper):
    """Says which turns would begin."""

    def __init__(self, clock: Clock, repository: Repository, archive: Archive | None) -> None:
        super().__init__(repository=repository, clock=clock, archive=archive)
        self.begun: list[bool] = []

    def begin(self, *, archive: bool) -> None:
        self.begun.append(archive)


def test_of_several_nodes_one_at_a_time_archives_and_one_tidies() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    alone: Any = Alone()
    shelf = Shelf()
    keepers = [_Turns(clock, repository, archive) for archive in (None, None, shelf, shelf, None)]
    chores = [
        Chores(
            repository=repository,
            life=alone,
            holdings=alone,
            clock=clock,
            on_rescued=lambda _: 0,
            keeper=one,
        )
        for one in keepers
    ]
    for one in chores:
        one.tidy()
    # Nodes without an archive, however many, are not in the way of those that have one.
    assert [one.begun for one in keepers] == [[False], [], [True], [], []]
    clock.advance(TIDY / 2)
    for one in reversed(chores):
        one.tidy()
    assert [one.begun for one in keepers] == [[False], [], [True], [True], [False]]


def test_what_was_left_over_is_done_sooner() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    alone: Any = Alone()
    one = _Turns(clock, repository, None)
    chores = Chores(
        repository=repository,
        life=alone,
        holdings=alone,
        clock=clock,
        on_rescued=lambda _: 0,
        keeper=one,
    )
    assert chores.tidy() == TIDY
    one.behind = True
    assert chores.tidy() == TIDY / 3


def test_while_a_turn_is_on_no_other_begins() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    node = NodeHandle(repository)
    end(node, 1)
    begun, go_on = threading.Event(), threading.Event()
    asked = []

    def slow(batch: Sequence[ArchivedTask]) -> None:
        asked.append(batch)
        begun.set()
        go_on.wait(30)

    keeping = made(repository, slow, clock)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    assert begun.wait(30)
    keeping.begin(archive=True)
    go_on.set()
    keeping.join(30)
    assert len(asked) == 1
    assert "rota-keeper" not in {thread.name for thread in threading.enumerate()}
    end(node, 1)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    keeping.join(30)
    assert len(asked) == 2
    keeping.stop()
    end(node, 1)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)  # a chore's last word, after the shutdown has begun
    keeping.join(30)
    assert len(asked) == 2


def test_an_archive_that_does_not_answer_at_shutdown_is_left_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    end(NodeHandle(repository), 3)
    begun, go_on = threading.Event(), threading.Event()

    def stuck(batch: Sequence[ArchivedTask]) -> None:
        begun.set()
        go_on.wait(30)

    keeping = made(repository, stuck, clock)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    assert begun.wait(30)
    keeping.stop()
    keeping.join(0)
    assert "has not answered for 3 tasks at shutdown" in caplog.text
    go_on.set()
    keeping.join(30)


def test_a_turn_goes_on_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    old = end(NodeHandle(repository), 1)
    keeping = made(repository, None, clock)
    clock.advance(10 * DAY)
    tidy, asked = repository.tidy, []

    def away_at_first() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise StorageUnavailable("away")
        return tidy()

    monkeypatch.setattr(repository, "tidy", away_at_first)
    keeping.begin(archive=False)
    clock.block_until(1)
    clock.advance(1)
    keeping.join(30)
    assert repository.states(old) == {}
    assert not keeping.behind
