"""The memory repository against the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Stored, Want
from rota.errors import InvalidArgument
from rota.storage.memory import MemoryRepository
from rota.testing import FakeClock
from rota.testing.conformance import RepositoryContract
from rota.testing.conformance.recurring import a_definition, a_tick
from rota.testing.conformance.setting import NodeHandle, a_task, ending


class TestMemoryRepository(RepositoryContract):
    @pytest.fixture
    def open_repository(self, clock: FakeClock) -> Callable[[], Repository]:
        repository = MemoryRepository(clock=clock)
        return lambda: repository


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryRepository:
    return MemoryRepository(clock=clock)


def test_it_is_a_repository(memory: MemoryRepository) -> None:
    assert isinstance(memory, Repository)


def test_it_has_no_transaction_to_put_tasks_into(memory: MemoryRepository) -> None:
    task = a_task()
    with pytest.raises(InvalidArgument, match="no transactions") as met:
        memory.insert_in(object(), [task])
    assert met.value.field == "connection"
    assert memory.get(task.id) is None


def test_it_has_no_transaction_to_write_outcomes_into(memory: MemoryRepository) -> None:
    memory.insert([a_task()])
    node = NodeHandle(memory)
    claimed = node.claim_only()
    with pytest.raises(InvalidArgument, match="no transactions") as met:
        memory.finish_in(object(), node.id, ending(claimed, Ending.DONE))
    assert met.value.field == "connection"
    assert memory.states([claimed.id]) == {claimed.id: Stored.WORKING}


def test_what_has_ended_leaves_nothing_behind(clock: FakeClock) -> None:
    """Children, owners of pulled claims, keys come and go; the book must not grow by them."""
    memory = MemoryRepository(clock=clock)
    node = NodeHandle(memory)
    memory.feed(on=True)
    memory.insert([a_task(parent=new_id(), unique="k", period=60.0), a_task(), a_task()])
    first, second = node.claim(2)
    (pulled,) = memory.claim_until(4711, 1, [Want("default", 0, 1)], 60.0)
    memory.report(node.id, first.id, first.batch, 1, "1")
    memory.cancel(second.id, "stop")
    memory.cancel(pulled.id, "stop")
    node.finish(ending(first, Ending.DONE), ending(second, Ending.RETRY))
    memory.drop_lease(4711, 1)
    memory.put_recurring(a_definition(memory.now()))
    memory.fire([a_tick(memory.now())])
    memory.remove_recurring("nightly")
    for claimed in node.claim():
        node.end(claimed)
    clock.advance(40 * 86_400)
    memory.tidy()
    book = memory._book
    parts = [
        "rows",
        "attempts",
        "reports",
        "children",
        "periods",
        "leases",
        "deadlines",
        "asked",
        "lanes",
        "keys",
        "definitions",
        "decisions",
        "offspring",
        "outstanding",
    ]
    assert {part: len(getattr(book, part)) for part in parts} == dict.fromkeys(parts, 0)
    assert memory.updated_since(None, 10)[0] == []
