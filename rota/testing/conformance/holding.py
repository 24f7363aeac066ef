"""What a claim leaves for later: params unread, leases of their own, asking what is still held."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Stored
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    PLAIN,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    some_tasks,
)


class HoldingContract(ContractBase):
    """``claim`` with ``lazy`` and ``alone``, ``bodies``, ``still_mine``."""

    def test_a_lazy_claim_leaves_the_params_out_and_nothing_else(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task = a_task(params='{"n":7}', meta='{"m":1}', recurring="nightly", expires_in=3600.0)
        self.put(repository, task, a_task())
        taken = {claimed.id: claimed for claimed in node.claim(lazy=True)}
        assert [claimed.params for claimed in taken.values()] == ["", ""]
        claimed = taken[task.id]
        assert (claimed.work, claimed.options, claimed.attempt) == ("demo", PLAIN, 1)
        assert claimed.meta is not None
        assert claimed.recurring == "nightly"
        assert claimed.expires_in is not None
        assert repository.bodies([task.id]) == {task.id: '{"n":7}'}
        assert node.end(claimed) is Stored.DONE

    def test_an_eager_claim_after_a_lazy_one_has_the_params(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(params='{"n":7}'))
        node.end(node.claim_only(lazy=True), Ending.RELEASE)
        assert node.claim_one(task_id).params == '{"n":7}'

    def test_bodies_are_the_params_of_what_exists(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        odd = '{"text":"漢字 🦉"}'
        waiting, changed, again, done = (
            self.put(repository, a_task(params=params))
            for params in (odd, '{"n":1}', '{"n":1}', '{"n":4}')
        )
        repository.update(changed, {"params": '{"n":2}'}, None)
        node.end(node.claim_one(again), Ending.AGAIN, params='{"n":3}')
        node.end(node.claim_one(done))
        assert repository.bodies([done, new_id(), again, changed, waiting]) == {
            waiting: odd,
            changed: '{"n":2}',
            again: '{"n":3}',
            done: '{"n":4}',
        }
        assert repository.bodies([]) == {}

    def test_works_named_alone_get_leases_of_their_own(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        works = ("solo", "demo", "solo", "other", "demo")
        self.put(repository, *[a_task(work=work) for work in works])
        taken = node.claim(alone=["solo", "absent"])
        _assert_apart(taken, alone={"solo"})
        held = {batch: sorted(held_ids) for batch, held_ids in repository.held(node.id)}
        assert held == {
            batch: sorted(one.id for one in taken if one.batch == batch)
            for batch in {one.batch for one in taken}
        }
        assert node.finish(*[ending(one, Ending.DONE) for one in taken]) == [Stored.DONE] * 5
        assert repository.held(node.id) == []

    def test_lost_tasks_and_works_named_alone_are_all_apart(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2, work="solo"), *some_tasks(2))
        node.claim()
        repository.leave(node.id)
        repository.rescue(100)
        self.put(repository, *some_tasks(2, work="solo"), *some_tasks(2))
        taken = NodeHandle(repository).claim(8, alone=["solo"])
        apart = [one.batch for one in taken if one.losses or one.work == "solo"]
        together = {one.batch for one in taken} - set(apart)
        assert (len(taken), len(apart), len(set(apart)), len(together)) == (8, 6, 6, 1)
        assert max(apart) - min(together) <= 8

    def test_parked_works_named_alone_get_leases_of_their_own(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *[a_task(work=work) for work in ("solo", "demo", "solo", "demo")])
        node.finish(*[ending(one, Ending.PARK) for one in node.claim()])
        taken = node.claim_parked("solo", "demo", alone=["solo"])
        assert len(taken) == 4
        _assert_apart(taken, alone={"solo"})

    def test_one_lease_of_a_claim_is_lost_without_the_others(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task(work="solo"), a_task(work="demo"))
        taken = {one.work: one for one in node.claim(alone=["solo"])}
        assert repository.drop_lease(node.id, taken["solo"].batch) == 1
        assert node.end(taken["solo"]) is None
        assert node.end(taken["demo"]) is Stored.DONE

    def test_still_mine_names_what_works_under_the_node(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        other = make_node()
        self.put(repository, *some_tasks(5))
        kept, again, done, retried = node.claim(4)
        theirs = other.claim_only()
        node.end(done)
        node.end(retried, Ending.RETRY)
        node.end(again, Ending.RELEASE)
        node.claim_one(again.id)
        asked = [kept.id, again.id, done.id, retried.id, theirs.id, new_id()]
        assert repository.still_mine(node.id, asked) == {kept.id, again.id}
        assert repository.still_mine(other.id, asked) == {theirs.id}
        assert repository.still_mine(node.id, [kept.id]) == {kept.id}
        assert repository.still_mine(node.id, []) == set()

    def test_what_was_rescued_is_no_longer_mine(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        node.claim_only()
        clock.advance(node.lease * 10)
        assert repository.still_mine(node.id, [task_id]) == {task_id}
        self.lose(repository, clock, node)
        assert repository.still_mine(node.id, [task_id]) == set()
        heir = NodeHandle(repository)
        heir.claim_one(task_id)
        assert repository.still_mine(node.id, [task_id]) == set()


def _assert_apart(taken: list[Claimed], alone: set[str]) -> None:
    """Each of those works has a lease for itself, and all others share one."""
    for claimed in taken:
        company = {other.id for other in taken if other.batch == claimed.batch}
        shared = {other.id for other in taken if other.work not in alone}
        assert company == ({claimed.id} if claimed.work in alone else shared)
