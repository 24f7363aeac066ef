"""The repository of the page, by the same suite as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rota.core.ports import Repository
from rota.core.task import Ending, Stored
from rota.testing import FakeClock
from rota.testing.conformance import RepositoryContract
from rota.testing.conformance.setting import NodeHandle, a_task, ending

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own-repository.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page's first program defines."""
    program = PAGE.read_text().split("```python\n")[1].split("```\n")[0]
    names: dict[str, Any] = {"__name__": "journal"}
    exec(compile(program, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reopen(
    page: dict[str, Any], clock: FakeClock, tmp_path: Path
) -> Iterator[Callable[[], Repository]]:
    """Opens the journal as a new process would."""
    opened = []

    def reopen() -> Any:
        opened.append(page["JournalRepository"](tmp_path / "journal", clock=clock, sync=False))
        opened[-1].open()
        return opened[-1]

    yield reopen
    for repository in opened:
        repository.close()


@pytest.mark.slow
class TestJournalRepository(RepositoryContract):
    @pytest.fixture
    def open_repository(self, reopen: Callable[[], Repository]) -> Callable[[], Repository]:
        repository = reopen()
        return lambda: repository


def test_the_journal_leads_to_the_same_state(
    reopen: Callable[[], Repository], clock: FakeClock, tmp_path: Path
) -> None:
    first = reopen()
    assert isinstance(first, Repository)
    node = NodeHandle(first)
    ended, waiting, kept = a_task(), a_task(delay=60.0), a_task(unique="k", meta='{"a": 1}')
    first.insert([ended])
    node.finish(ending(node.claim_only(), Ending.DONE, payload="7"))
    first.insert([waiting, kept])
    first.cancel(waiting.id, "not wanted")
    claimed = node.claim_only()
    with (tmp_path / "journal").open("ab") as journal:
        journal.write(b'[{"datetime": "20')  # torn by a crash

    second = reopen()

    assert second.states([ended.id, waiting.id, kept.id]) == {
        ended.id: Stored.DONE,
        waiting.id: Stored.CANCELLED,
        kept.id: Stored.WORKING,
    }
    assert [second.get(one) for one in (ended.id, waiting.id, kept.id)] == [
        first.get(one) for one in (ended.id, waiting.id, kept.id)
    ]
    assert second.finish(node.id, [ending(claimed, Ending.DONE)]) == [Stored.DONE]
    assert reopen().states([kept.id]) == {kept.id: Stored.DONE}
