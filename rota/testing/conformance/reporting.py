"""Progress reports: the newest is kept, fenced by the token, and says that a task can run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Stored
from rota.errors import LeaseLost
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import SLACK, ContractBase, NodeHandle, a_task

DAY = 86_400


class ReportingContract(ContractBase):
    """``report`` and ``reported``."""

    def test_a_report_is_read_back_as_it_was_given(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        assert repository.reported(task_id) is None
        claimed = node.claim_only()
        data = '{"done":[1,2.5,null],"text":"漢字 🦉"}'
        assert repository.report(node.id, task_id, claimed.batch, 1, data) is True
        found = repository.reported(task_id)
        assert found is not None
        assert (found.task_id, found.attempt, found.n, found.data) == (task_id, 1, 1, data)
        assert found.at.utcoffset() == timedelta(0)
        assert abs(found.at - repository.now()) < timedelta(seconds=SLACK)

    def test_a_report_leaves_its_task_working(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        before = repository.get(task_id)
        repository.report(node.id, task_id, claimed.batch, 1, "1")
        assert repository.get(task_id) == before
        assert node.end(claimed) is Stored.DONE

    def test_a_newer_report_takes_the_place_of_the_older(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        for n in (1, 2, 7):
            assert repository.report(node.id, task_id, claimed.batch, n, str(n)) is True
        _assert_newest(repository, task_id, n=7, data="7")

    def test_a_report_from_the_past_changes_nothing_and_says_so(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.report(node.id, task_id, claimed.batch, 5, '"five"')
        assert repository.report(node.id, task_id, claimed.batch, 4, '"four"') is False
        assert repository.report(node.id, task_id, claimed.batch, 5, '"again"') is False
        _assert_newest(repository, task_id, n=5, data='"five"')

    def test_a_new_attempt_counts_its_reports_anew(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        repository.report(node.id, task_id, first.batch, 9, '"first"')
        node.end(first, Ending.RETRY)
        second = node.claim_one(task_id)
        _assert_newest(repository, task_id, n=9, data='"first"')
        assert repository.report(node.id, task_id, second.batch, 1, '"second"') is True
        _assert_newest(repository, task_id, n=1, data='"second"')
        found = repository.reported(task_id)
        assert found is not None
        assert found.attempt == 2

    def test_only_the_holders_report_counts(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id = self.put(repository, a_task())
        other = make_node()
        _assert_refused(repository, node.id, task_id, batch=1)
        _assert_refused(repository, node.id, new_id(), batch=1)
        first = node.claim_only()
        _assert_refused(repository, other.id, task_id, batch=first.batch)
        _assert_refused(repository, node.id, task_id, batch=first.batch + 1000)
        node.end(first, Ending.RELEASE)
        _assert_refused(repository, node.id, task_id, batch=first.batch)
        second = node.claim_one(task_id)
        _assert_refused(repository, node.id, task_id, batch=first.batch)
        assert repository.reported(task_id) is None
        node.end(second)
        _assert_refused(repository, node.id, task_id, batch=second.batch)
        assert repository.reported(task_id) is None

    def test_a_zombies_report_is_refused_after_the_rescue(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.report(node.id, task_id, claimed.batch, 1, '"alive"')
        self.lose(repository, clock, node)
        _assert_refused(repository, node.id, task_id, batch=claimed.batch)
        heir = NodeHandle(repository)
        heir.claim_one(task_id)
        _assert_refused(repository, node.id, task_id, batch=claimed.batch)
        _assert_newest(repository, task_id, n=1, data='"alive"')

    def test_the_last_report_outlives_the_task_as_long_as_its_history(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.report(node.id, task_id, claimed.batch, 3, "3")
        node.end(claimed)
        repository.tidy()
        _assert_newest(repository, task_id, n=3, data="3")
        clock.advance(10 * DAY)
        repository.tidy()
        assert repository.get(task_id) is None
        assert repository.reported(task_id) is None

    def test_a_report_sets_several_losses_back_to_one(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(options=Options(max_rescues=3).encode()))
        for _ in range(3):
            _lose_running(repository, task_id, report=False)
        for _ in range(5):
            # Each loss after a report is the second in a row, and three would be allowed.
            _lose_running(repository, task_id, report=True)
            assert _losses(repository, task_id) == 2
        claimed, node = _claim_alone(repository, task_id)
        assert claimed.losses == 2
        repository.report(node.id, task_id, claimed.batch, 1, "1")
        assert _losses(repository, task_id) == 1

    def test_a_report_does_not_raise_or_clear_the_losses(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.report(node.id, task_id, claimed.batch, 1, "1")
        assert _losses(repository, task_id) == 0
        node.end(claimed, Ending.RELEASE)
        _lose_running(repository, task_id, report=False)
        claimed, heir = _claim_alone(repository, task_id)
        repository.report(heir.id, task_id, claimed.batch, 1, "1")
        assert _losses(repository, task_id) == 1


def _claim_alone(repository: Repository, task_id: str) -> tuple[Claimed, NodeHandle]:
    node = NodeHandle(repository)
    return node.claim_one(task_id), node


def _lose_running(repository: Repository, task_id: str, *, report: bool) -> None:
    """Lose it on a node that is gone, after a report or without one."""
    claimed, node = _claim_alone(repository, task_id)
    if report:
        assert repository.report(node.id, task_id, claimed.batch, 1, "1")
    repository.leave(node.id)
    (rescued,) = repository.rescue(100)
    assert (rescued.id, rescued.lost) == (task_id, False)


def _losses(repository: Repository, task_id: str) -> int:
    found = repository.get(task_id)
    assert found is not None
    return found.losses


def _assert_refused(repository: Repository, node: int, task_id: str, *, batch: int) -> None:
    with pytest.raises(LeaseLost) as met:
        repository.report(node, task_id, batch, 100, '"refused"')
    assert met.value.task_id == task_id


def _assert_newest(repository: Repository, task_id: str, *, n: int, data: str) -> None:
    found = repository.reported(task_id)
    assert found is not None
    assert (found.task_id, found.n, found.data) == (task_id, n, data)
