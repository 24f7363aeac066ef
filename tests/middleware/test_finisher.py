"""Group commit on the execute side: order, lost replies, refusals, leases that are over."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from rota.core.duty import LONGEST_PAUSE
from rota.core.holdings import Holdings
from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending, Finish, Membership, Stored, Want
from rota.errors import DataRefused, StorageError, StorageUnavailable
from rota.middleware import finisher as finisher_module
from rota.middleware.finisher import UNSTORABLE, Finisher
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import some_tasks
from tests.middleware.parts import PATIENCE, WatchedRepository


class Picky(WatchedRepository):
    """Refuses results that contain "poison", as a database refuses what it cannot store."""

    stubborn = False  #: refuses these tasks whatever is written
    poisoned: frozenset[str] = frozenset()

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        if any(
            "poison" in (item.payload or "") or (self.stubborn and item.id in self.poisoned)
            for item in finishes
        ):
            self.finishes.append((node, list(finishes), list(over), repeated))
            raise DataRefused("a value cannot be stored")
        return super().finish(node, finishes, over, repeated=repeated)


class Written(NamedTuple):
    finish: Finish
    state: Stored | None


class Desk:
    """A finisher, and nodes that claim tasks for it to finish."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.repository = Picky(clock=clock)
        self.holdings = Holdings()
        self.written: list[Written] = []
        self.told: list[BaseException] = []
        self.finisher = Finisher(
            store=self.repository, clock=clock, holdings=self.holdings, on_written=self._written
        )
        self.node = self.join()

    def _written(self, _: int, finishes: Sequence[Finish], states: Sequence[Stored | None]) -> None:
        self.written += map(Written, finishes, states)
        if self.told:
            raise self.told.pop()

    def join(self) -> int:
        node = new_incarnation()
        self.repository.join(Membership(node, "node", "here", 1, 30.0))
        return node

    def claim(self, count: int, node: int | None = None) -> list[Claimed]:
        MemoryRepository.insert(self.repository, some_tasks(count))
        batch = self.holdings.reserve(count + 1)
        claimed = self.repository.claim(
            node or self.node, batch, [Want("default", 0, count)], look_ahead=0.0
        )
        assert len(claimed) == count
        self.holdings.add(claimed)
        return claimed

    def end(self, *claimed: Claimed, node: int | None = None, **fields: object) -> None:
        for item in claimed:
            finish = Finish(item.id, item.batch, item.attempt, Ending.DONE)
            self.finisher.put(node or self.node, finish._replace(**fields))  # type: ignore[arg-type]

    def run_dry(self) -> None:
        while self.finisher.step() == 0.0:
            pass

    def states(self, claimed: Sequence[Claimed]) -> list[Stored]:
        found = self.repository.states([item.id for item in claimed])
        return [found[item.id] for item in claimed]

    @property
    def sizes(self) -> list[int]:
        return [len(finishes) for _, finishes, _, _ in self.repository.finishes]

    @property
    def over(self) -> list[int]:
        return [batch for _, _, over, _ in self.repository.finishes for batch in over]


@pytest.fixture
def desk(fake_clock: FakeClock) -> Desk:
    return Desk(fake_clock)


def test_outcomes_that_are_ready_together_share_one_statement(desk: Desk) -> None:
    claimed = desk.claim(50)
    desk.end(*claimed)
    assert desk.finisher.unwritten == 50
    assert desk.finisher.step() > 0
    assert desk.sizes == [50]
    assert desk.states(claimed) == [Stored.DONE] * 50
    assert [item.state for item in desk.written] == [Stored.DONE] * 50
    assert (desk.finisher.unwritten, desk.finisher.accepted, desk.finisher.refused) == (0, 50, 0)


def test_groups_follow_the_order_of_arrival_and_lock_in_the_order_of_ids(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finisher_module, "GROUP_LIMIT", 4)
    claimed = desk.claim(10)
    desk.end(*reversed(claimed))
    desk.run_dry()
    written = [[item.id for item in finishes] for _, finishes, _, _ in desk.repository.finishes]
    arrived = [item.id for item in reversed(claimed)]
    assert [len(group) for group in written] == [4, 4, 2]
    assert written == [sorted(arrived[at : at + 4]) for at in (0, 4, 8)]


def test_outcomes_of_two_incarnations_never_share_a_statement(desk: Desk) -> None:
    first, second = desk.claim(3), []
    other = desk.join()
    second = desk.claim(3, node=other)
    for mine, theirs in zip(first, second, strict=True):
        desk.end(mine)
        desk.end(theirs, node=other)
    desk.run_dry()
    assert [node for node, *_ in desk.repository.finishes] == [desk.node, other] * 3
    assert desk.states([*first, *second]) == [Stored.DONE] * 6


def test_a_batch_is_over_once_with_its_last_task(desk: Desk) -> None:
    batches = [desk.claim(3) for _ in range(3)]
    numbers = [claimed[0].batch for claimed in batches]
    for position in range(3):
        assert desk.over == []
        desk.end(*(claimed[position] for claimed in batches))
        desk.run_dry()
    assert sorted(desk.over) == sorted(numbers)
    assert not any(desk.holdings.knows(batch) for batch in numbers)
    assert desk.repository.held(desk.node) == []


def test_a_batch_is_over_once_even_if_its_write_fails_and_is_halved(desk: Desk) -> None:
    claimed = desk.claim(4)
    desk.end(*claimed[:3])
    desk.end(claimed[3], payload='"poison"')
    desk.repository.fail_before.append(StorageUnavailable("away"))
    with pytest.raises(StorageUnavailable):
        desk.finisher.step()
    desk.run_dry()
    accepted = Counter(
        batch
        for node, finishes, over, _ in desk.repository.finishes
        for batch in over
        if not any("poison" in (item.payload or "") for item in finishes)
    )
    assert accepted == {claimed[0].batch: 1}
    assert desk.repository.held(desk.node) == []


@pytest.mark.parametrize("lost", ["write", "reply"])
@pytest.mark.parametrize("kind", [StorageUnavailable, StorageError, ValueError])
def test_what_could_not_be_written_is_kept_and_tried_again(
    desk: Desk, lost: str, kind: type[Exception]
) -> None:
    claimed = desk.claim(5)
    desk.end(*claimed)
    if lost == "write":
        desk.repository.fail_before.append(kind("away"))
    else:
        desk.repository.fail_after.append(kind("away"))
    with pytest.raises(kind):
        desk.finisher.step()
    assert desk.finisher.unwritten == 5
    assert desk.written == []
    assert not desk.finisher._empty.is_set()
    desk.run_dry()
    assert [repeated for *_, repeated in desk.repository.finishes] == [False, True]
    assert [item.state for item in desk.written] == [Stored.DONE] * 5
    assert (desk.finisher.accepted, desk.finisher.refused) == (5, 0)
    desk.end(*desk.claim(1))
    desk.run_dry()
    assert desk.repository.finishes[-1][3] is False


def test_outcomes_whose_lease_was_lost_are_counted_and_said(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = desk.claim(4)
    desk.repository.leave(desk.node)
    desk.repository.rescue(100)
    desk.end(*claimed)
    with caplog.at_level(logging.WARNING):
        desk.run_dry()
    assert (desk.finisher.accepted, desk.finisher.refused) == (0, 4)
    assert [item.state for item in desk.written] == [None] * 4
    assert "4 late outcome(s) were refused" in caplog.text
    assert desk.states(claimed) == [Stored.SCHEDULED] * 4


def test_a_result_the_database_refuses_fails_its_own_task_only(desk: Desk) -> None:
    claimed = desk.claim(20)
    for number, item in enumerate(claimed):
        desk.end(item, payload='"poison"' if number == 13 else '"fine"')
    desk.run_dry()
    states = desk.states(claimed)
    assert states.pop(13) is Stored.FAILED
    assert states == [Stored.DONE] * 19
    task = desk.repository.get(claimed[13].id)
    assert task is not None
    assert (task.reason, task.error, task.result) == (UNSTORABLE, None, None)
    assert Counter(item.finish.id for item in desk.written) == Counter(i.id for i in claimed)
    assert desk.finisher.accepted == 20


def test_halves_that_were_written_are_not_written_again(desk: Desk) -> None:
    claimed = desk.claim(4)
    desk.end(*claimed[:3])
    desk.end(claimed[3], payload='"poison"')
    desk.repository.fail_before += [None, StorageUnavailable("away")]
    with pytest.raises(StorageUnavailable):
        desk.finisher.step()
    assert desk.finisher.unwritten == 2
    desk.run_dry()
    ids = [item.finish.id for item in desk.written]
    assert sorted(ids) == sorted(item.id for item in claimed)
    assert desk.states(claimed) == [Stored.DONE] * 3 + [Stored.FAILED]


def test_one_that_cannot_be_written_at_all_does_not_stop_the_others(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = desk.claim(3)
    desk.repository.poisoned, desk.repository.stubborn = frozenset({claimed[1].id}), True
    desk.end(*claimed)
    desk.run_dry()
    after = desk.claim(1)
    desk.end(*after)
    desk.run_dry()
    assert desk.states([*claimed, *after]) == [
        Stored.DONE,
        Stored.WORKING,
        Stored.DONE,
        Stored.DONE,
    ]
    assert f"task {claimed[1].id} cannot be finished" in caplog.text
    # Its lease stands and this node does not know it any more: the reconciler gives it back.
    assert [batch for batch, _ in desk.repository.held(desk.node)] == [claimed[0].batch]
    assert not desk.holdings.knows(claimed[0].batch)
    desk.repository.drop_lease(desk.node, claimed[0].batch)
    assert desk.states([claimed[1]]) == [Stored.SCHEDULED]


def test_who_cannot_be_told_stops_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.told.append(RuntimeError("the loop is closed"))
    claimed = desk.claim(2)
    desk.end(claimed[0])
    desk.run_dry()
    desk.end(claimed[1])
    desk.run_dry()
    assert desk.states(claimed) == [Stored.DONE] * 2
    assert desk.sizes == [1, 1]
    assert "could not be told" in caplog.text


def test_how_long_ago_it_began_counts_to_the_write(desk: Desk, fake_clock: FakeClock) -> None:
    (item,) = desk.claim(1)
    desk.end(item, ago=2.0)
    fake_clock.advance(5)
    desk.run_dry()
    ((_, (finish,), _, _),) = desk.repository.finishes
    assert finish.ago == 7.0


def test_with_too_much_unwritten_it_says_it_is_full(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finisher_module, "FULL", 3)
    claimed = desk.claim(3)
    desk.end(*claimed[:2])
    assert not desk.finisher.full
    desk.end(claimed[2])
    assert desk.finisher.full
    desk.repository.fail_before.append(StorageUnavailable("away"))
    with pytest.raises(StorageUnavailable):
        desk.finisher.step()
    assert desk.finisher.full
    desk.run_dry()
    assert not desk.finisher.full


async def test_flush_waits_for_the_last_write(desk: Desk, fake_clock: FakeClock) -> None:
    finisher, repository = desk.finisher, desk.repository
    assert finisher.flush(0)
    claimed = desk.claim(2)
    repository.gate.clear()
    finisher.duty.start()
    desk.end(claimed[0])
    assert await asyncio.to_thread(repository.entered.acquire, timeout=PATIENCE)
    desk.end(claimed[1])
    flushed = asyncio.ensure_future(asyncio.to_thread(finisher.flush, 10.0))
    await asyncio.to_thread(fake_clock.block_until, 1)
    assert not flushed.done()
    repository.gate.set()
    assert await flushed is True
    assert desk.states(claimed) == [Stored.DONE] * 2
    finisher.duty.stop()
    assert await asyncio.to_thread(finisher.duty.join, PATIENCE)


async def test_flush_ends_when_its_time_is_over(desk: Desk, fake_clock: FakeClock) -> None:
    claimed = desk.claim(1)
    desk.repository.gate.clear()
    desk.finisher.duty.start()
    desk.end(*claimed)
    assert await asyncio.to_thread(desk.repository.entered.acquire, timeout=PATIENCE)
    flushed = asyncio.ensure_future(asyncio.to_thread(desk.finisher.flush, 10.0))
    await asyncio.to_thread(fake_clock.block_until, 1)
    fake_clock.advance(10)
    assert await flushed is False
    desk.repository.gate.set()
    desk.finisher.duty.stop()
    assert await asyncio.to_thread(desk.finisher.duty.join, PATIENCE)


async def test_many_threads_hand_over_and_nothing_is_lost(
    desk: Desk, fake_clock: FakeClock
) -> None:
    claimed = desk.claim(400)
    desk.repository.fail_before.append(StorageUnavailable("away"))
    desk.finisher.duty.start()
    threads = [
        threading.Thread(target=desk.end, args=tuple(claimed[at : at + 50]))
        for at in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE)
    await asyncio.to_thread(fake_clock.block_until, 1)  # it pauses after the error
    fake_clock.advance(LONGEST_PAUSE)
    assert await asyncio.to_thread(desk.finisher.flush, 60.0)
    assert desk.states(claimed) == [Stored.DONE] * 400
    assert Counter(item.finish.id for item in desk.written).most_common(1)[0][1] == 1
    assert desk.over == [claimed[0].batch]
    desk.finisher.duty.stop()
    assert await asyncio.to_thread(desk.finisher.duty.join, PATIENCE)
