"""Tasks that tasks put in: fenced by the parent's token, and found again by their parent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ids import child_id, new_id
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Fence, Inserted, NewTask, Stored
from rota.errors import LeaseLost
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task, some_tasks

DAY = 86_400


def a_child(node: NodeHandle, parent: Claimed, **fields: object) -> NewTask:
    """A child under the token of its running parent."""
    fence = Fence(node.id, parent.batch, parent.id)
    return a_task(**{"parent": parent.id, "fence": fence, "queue": "children"} | fields)


class ChildrenContract(ContractBase):
    """``insert`` with ``fence``, ``children``, ``count_children``."""

    def test_a_running_task_puts_its_children_in(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        parent = node.claim_only()
        tasks = [a_child(node, parent) for _ in range(3)]
        assert repository.insert(tasks) == [
            Inserted(task.id, True, Stored.SCHEDULED) for task in tasks
        ]
        found = repository.get(tasks[0].id)
        assert found is not None
        assert found.parent == parent.id
        assert len(node.claim(queue="children")) == 3
        assert node.end(parent) is Stored.DONE

    def test_a_parent_that_was_asked_to_stop_is_still_the_holder(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        parent = node.claim_only()
        repository.cancel(parent.id, "stop")
        assert repository.insert([a_child(node, parent)])[0].created

    def test_a_task_that_does_not_work_has_no_children(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        waiting = self.put(repository, a_task())
        for parent in (waiting, new_id()):
            child = a_task(parent=parent, fence=Fence(node.id, 1, parent))
            _assert_refused(repository, [child], parent)

    def test_only_the_token_of_the_running_attempt_is_good_enough(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        _assert_refused(repository, [a_child(make_node(), first)], task_id)
        for kind in (Ending.RETRY, Ending.RELEASE, Ending.AGAIN):
            node.end(first, kind)
            _assert_refused(repository, [a_child(node, first)], task_id)
            second = node.claim_one(task_id)
            _assert_refused(repository, [a_child(node, first)], task_id)
            first = second
        node.end(first)
        _assert_refused(repository, [a_child(node, first)], task_id)

    def test_a_zombies_child_is_refused(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        parent = node.claim_only()
        self.lose(repository, clock, node)
        _assert_refused(repository, [a_child(node, parent)], task_id)
        NodeHandle(repository).claim_one(task_id)
        _assert_refused(repository, [a_child(node, parent)], task_id)

    def test_one_broken_fence_keeps_the_whole_call_out(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2))
        running, ended = node.claim()
        node.end(ended)
        tasks = [
            a_task(unique="k"),
            a_child(node, running, unique="p", period=60.0),
            a_child(node, ended),
            a_task(),
        ]
        _assert_refused(repository, tasks, ended.id)
        assert repository.find_key("k") is None
        assert repository.find_key("p") is None
        answers = repository.insert([task for task in tasks if task.parent != ended.id])
        assert [answer.created for answer in answers] == [True, True, True]

    def test_several_parents_put_children_in_with_one_call(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(5))
        tasks = [a_child(node, parent) for parent in reversed(node.claim())]
        assert all(answer.created for answer in repository.insert(tasks))

    def test_a_keyed_child_is_found_by_the_next_attempt(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        child = a_child(node, first, id=child_id(task_id, "step"), given_id=True)
        assert repository.insert([child]) == [Inserted(child.id, True, Stored.SCHEDULED)]
        node.end(first, Ending.RETRY)
        second = node.claim_one(task_id)
        again = child._replace(fence=Fence(node.id, second.batch, task_id))
        assert repository.insert([again]) == [Inserted(child.id, False, Stored.SCHEDULED)]
        node.end(node.claim_one(child.id))
        assert repository.insert([again]) == [Inserted(child.id, False, Stored.DONE)]
        assert repository.count_children(task_id) == {Stored.DONE: 1}

    def test_a_repeated_insert_recognises_its_own_children(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        child = a_child(node, node.claim_only())
        assert repository.insert([child], repeated=True)[0].created
        assert repository.insert([child], repeated=True) == [
            Inserted(child.id, False, Stored.SCHEDULED)
        ]

    def test_a_child_meets_a_taken_unique_key_like_any_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        parent = node.claim_only()
        holder = self.put(repository, a_task(unique="k"))
        answers = repository.insert([a_child(node, parent, unique="k")])
        assert answers == [Inserted(holder, False, Stored.SCHEDULED, True)]

    def test_children_are_listed_by_id_with_their_states(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        parent = node.claim_only()
        kinds = {
            "done": (Ending.DONE, Stored.DONE),
            "failed": (Ending.FAILED, Stored.FAILED),
            "cancelled": (Ending.CANCELLED, Stored.CANCELLED),
            "parked": (Ending.PARK, Stored.PARKED),
            "retried": (Ending.RETRY, Stored.SCHEDULED),
        }
        tasks = [a_child(node, parent, work=work) for work in (*kinds, "waiting", "working")]
        self.put(repository, *reversed(tasks))
        for task in tasks:
            if task.work in kinds:
                node.end(node.claim_one(task.id), kinds[task.work][0])
            elif task.work == "working":
                node.claim_one(task.id)
        rest = {"waiting": Stored.SCHEDULED, "working": Stored.WORKING}
        states = {work: state for work, (_, state) in kinds.items()} | rest
        assert repository.children(parent.id, 100) == sorted(
            (task.id, task.work, states[task.work]) for task in tasks
        )
        assert repository.count_children(parent.id) == {
            Stored.SCHEDULED: 2,
            Stored.WORKING: 1,
            Stored.PARKED: 1,
            Stored.DONE: 1,
            Stored.FAILED: 1,
            Stored.CANCELLED: 1,
        }

    def test_children_are_read_page_by_page(self, repository: Repository) -> None:
        parent = new_id()
        tasks = some_tasks(7, parent=parent)
        self.put(repository, *tasks)
        expected = sorted(task.id for task in tasks)
        pages, after = [], None
        while page := repository.children(parent, 3, after):
            pages.append([child for child, _, _ in page])
            after = pages[-1][-1]
        assert pages == [expected[:3], expected[3:6], expected[6:]]
        assert repository.children(parent, 3, expected[-1]) == []

    def test_a_task_has_its_own_children_only(self, repository: Repository) -> None:
        mine, other, nobody = new_id(), new_id(), new_id()
        child = self.put(repository, a_task(parent=mine), a_task(parent=other), a_task())
        grandchild = self.put(repository, a_task(parent=child))
        assert repository.children(mine, 10) == [(child, "demo", Stored.SCHEDULED)]
        assert repository.children(child, 10) == [(grandchild, "demo", Stored.SCHEDULED)]
        assert repository.children(nobody, 10) == []
        assert repository.count_children(nobody) == {}

    def test_children_go_with_their_history(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        parent = new_id()
        ended = self.put(repository, a_task(parent=parent))
        node.end(node.claim_one(ended))
        waiting = self.put(repository, a_task(parent=parent))
        clock.advance(10 * DAY)
        repository.tidy()
        assert repository.children(parent, 10) == [(waiting, "demo", Stored.SCHEDULED)]
        assert repository.count_children(parent) == {Stored.SCHEDULED: 1}


def _assert_refused(repository: Repository, tasks: list[NewTask], parent: str) -> None:
    with pytest.raises(LeaseLost) as met:
        repository.insert(tasks)
    assert met.value.task_id == parent
    assert repository.states([task.id for task in tasks]) == {}
