"""Follow-ups: put in along with the outcome they follow, if that was accepted, and only then."""

from __future__ import annotations

from rota.core.options import FollowUp, Options
from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    PLAIN,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)


class FollowingContract(ContractBase):
    """``finish`` with ``follow``."""

    def test_what_follows_an_accepted_end_is_put_in_with_it(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.DONE, Ending.FAILED, Ending.CANCELLED):
            task_id = self.put(repository, a_task())
            follow = a_task(queue="next", params='{"n":2}', parent=task_id, meta='{"m":1}')
            assert node.end(node.claim_only(), kind, follow=follow) is Stored(int(kind))
            found = repository.get(follow.id)
            assert found is not None
            assert (found.state, found.params) == (TaskState.SCHEDULED, {"n": 2})
            assert (found.parent, found.meta, found.attempt) == (task_id, {"m": 1}, 0)
            claimed = node.claim_only(queue="next")
            assert claimed.id == follow.id
            assert node.end(claimed) is Stored.DONE

    def test_a_follow_up_may_wait(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        follow = a_task(delay=600)
        node.end(node.claim_only(), follow=follow)
        assert node.claim() == []
        clock.advance(700)
        node.beat()
        assert ids(node.claim()) == [follow.id]

    def test_nothing_follows_a_refused_outcome(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        node.end(first, Ending.RELEASE)
        second = node.claim_one(task_id)
        follow = a_task(unique="k")
        for kind in (Ending.DONE, Ending.FAILED, Ending.CANCELLED):
            assert node.end(first, kind, follow=follow) is None
        assert repository.get(follow.id) is None
        assert repository.find_key("k") is None
        node.end(second)
        assert node.end(second, follow=follow) is None
        assert repository.get(follow.id) is None

    def test_a_zombies_follow_up_is_refused_with_its_outcome(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        self.lose(repository, clock, node)
        follow = a_task()
        for repeated in (False, True):
            finish = ending(claimed, Ending.DONE, follow=follow)
            assert node.finish(finish, repeated=repeated) == [None]
            assert repository.get(follow.id) is None

    def test_nothing_follows_an_outcome_that_a_cancel_turned(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.RETRY, Ending.AGAIN, Ending.RELEASE, Ending.PARK):
            task_id = self.put(repository, a_task())
            claimed = node.claim_only()
            repository.cancel(task_id, "stop")
            follow = a_task()
            assert node.end(claimed, kind, follow=follow) is Stored.CANCELLED
            assert repository.get(follow.id) is None

    def test_what_follows_a_failure_follows_one_loss_too_many(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id, options = self.put(repository, a_task(options=_followed())), PLAIN
        node.claim_one(task_id)
        repository.leave(node.id)
        (rescued,) = repository.rescue(100)
        assert rescued.state is Stored.FAILED
        follow = rescued.follow
        assert follow is not None
        found = repository.get(follow.id)
        assert found is not None
        assert (found.work, found.params, found.queue) == ("mourn", {"n": 2}, "next")
        assert (found.priority, found.parent, found.attempt) == (3, task_id, 0)
        assert repository.count_children(task_id) == {Stored.SCHEDULED: 1}
        heir = NodeHandle(repository)
        assert heir.claim(queue="next", priority=3) == []
        clock.advance(700)
        heir.beat()
        claimed = heir.claim_only(queue="next", priority=3)
        assert (claimed.id, claimed.options) == (follow.id, options)
        assert repository.rescue(100) == []

    def test_nothing_follows_a_task_that_no_attempt_failed(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        options = _followed(max_rescues=1)
        back, stopped, dropped, cancelled, expired = tasks = [
            a_task(options=options, expires_in=60.0 if n == 4 else None) for n in range(5)
        ]
        self.put(repository, *tasks)
        for task in (back, stopped):
            node = NodeHandle(repository)
            node.claim_one(task.id)
            repository.leave(node.id)
        repository.cancel(stopped.id, "stop")
        answers = {one.id: (one.state, one.follow) for one in repository.rescue(100)}
        assert answers == {
            back.id: (Stored.SCHEDULED, None),
            stopped.id: (Stored.CANCELLED, None),
        }
        node = NodeHandle(repository)
        claimed = node.claim_one(dropped.id)
        repository.cancel(dropped.id, "stop")
        repository.drop_lease(node.id, claimed.batch)
        repository.cancel(cancelled.id, "stop")
        clock.advance(120)
        assert repository.expire(10) == [expired.id]
        assert [repository.count_children(task.id) for task in tasks] == [{}] * 5

    def test_a_task_that_ended_before_it_heard_of_its_cancel_has_its_follow_up(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.cancel(task_id, "stop")
        follow = a_task()
        assert node.end(claimed, follow=follow) is Stored.DONE
        assert self.state(repository, follow.id) is TaskState.SCHEDULED

    def test_in_one_call_each_outcome_has_its_own_follow_up(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(4))
        taken = node.claim()
        node.end(taken[1])
        follows = some_tasks(4)
        kinds = (Ending.DONE, Ending.DONE, Ending.FAILED, Ending.CANCELLED)
        answers = node.finish(
            *[
                ending(claimed, kind, follow=follow)
                for claimed, kind, follow in zip(taken, kinds, follows, strict=True)
            ]
        )
        assert answers == [Stored.DONE, None, Stored.FAILED, Stored.CANCELLED]
        put_in = {follows[0].id, follows[2].id, follows[3].id}
        assert set(repository.states(ids(follows))) == put_in

    def test_a_follow_up_that_meets_an_existing_task_does_not_harm_the_outcome(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(4))
        taken = node.claim()
        holder = self.put(repository, a_task(unique="k", delay=60, params='{"n":7}'))
        follows = [
            a_task(unique="k", on_conflict="raise"),
            a_task(unique="k", on_conflict="return"),
            a_task(id=holder, given_id=True),
            a_task(id=taken[0].id, given_id=True),
        ]
        answers = node.finish(
            *[
                ending(claimed, Ending.DONE, follow=follow)
                for claimed, follow in zip(taken, follows, strict=True)
            ]
        )
        assert answers == [Stored.DONE] * 4
        found = repository.get(holder)
        assert found is not None
        assert (found.state, found.params) == (TaskState.SCHEDULED, {"n": 7})
        assert repository.counts().get("scheduled") == 1

    def test_a_follow_up_may_take_the_unique_key_its_task_has_just_freed(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task(unique="k"))
        follow = a_task(unique="k")
        assert node.end(node.claim_only(), follow=follow) is Stored.DONE
        assert repository.find_key("k") == follow.id

    def test_two_outcomes_with_one_key_to_follow_make_one_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2))
        follows = some_tasks(2, unique="k")
        answers = node.finish(
            *[
                ending(claimed, Ending.DONE, follow=follow)
                for claimed, follow in zip(node.claim(), follows, strict=True)
            ]
        )
        assert answers == [Stored.DONE] * 2
        assert len(repository.states(ids(follows))) == 1

    def test_a_repeated_outcome_puts_its_follow_up_in_once(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        finish = ending(node.claim_only(), Ending.DONE, follow=a_task(queue="next"))
        assert node.finish(finish, repeated=True) == [Stored.DONE]
        assert node.finish(finish, repeated=True) == [Stored.DONE]
        claimed = node.claim_only(queue="next")
        assert node.end(claimed) is Stored.DONE
        assert node.finish(finish, repeated=True) == [Stored.DONE]
        assert self.state(repository, claimed.id) is TaskState.DONE
        assert node.claim(queue="next") == []


def _followed(*, max_rescues: int = 0) -> str:
    """Options with something to follow each way of ending."""
    follow = FollowUp(
        work="mourn", params='{"n":2}', queue="next", priority=3, delay=600.0, options=PLAIN
    )
    return Options(max_rescues=max_rescues, on_done=follow, on_failed=follow).encode()
