"""The auditor: each invariant is broken by hand, found, told, and mended where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rota.cli import main as entry
from rota.control.auditing import examine
from rota.core.audit import Flaw, Suspect, Walk
from rota.core.clock import SystemClock
from rota.core.task import Ending, Membership, Rescued, Stored
from rota.storage.chores import AUDIT, AUDIT_AGAIN
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending
from tests.app.audits import Alone, by_hand, lone_chores, look, take_the_leases
from tests.conftest import BACKENDS, Database


@pytest.fixture(params=BACKENDS)
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[..., Database],
    fake_clock: FakeClock,
) -> Iterator[Database]:
    """Each of the three, on a clock that only the test moves."""
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


def test_a_working_task_nobody_would_ever_rescue_is_made_claimable(database: Database) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task(), a_task()])
    claimed, _ = node.claim()
    repository.leave(node.id)
    take_the_leases(database, repository)
    assert repository.rescue(10) == []
    told = look(repository)
    assert [(one.kind, one.severity) for one in told] == [(Flaw.OWNERLESS, "error")] * 2
    assert set(repository.states([claimed.id]).values()) == {Stored.WORKING}
    told = look(repository, mend=True)
    assert [one.kind for one in told] == [Flaw.OWNERLESS, Flaw.OWNERLESS, "rescued"]
    assert all(one.mended for one in told)
    assert node.end(claimed) is None
    assert claimed.id in [one.id for one in NodeHandle(repository).claim()]
    assert look(repository) == []


def test_a_task_its_gone_nodes_lease_does_not_name_is_added_to_it(database: Database) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task() for _ in range(3)])
    kept, *left_out = node.claim()
    repository.leave(node.id)
    if isinstance(repository, MemoryRepository):
        repository._book.leases[node.id][kept.batch] = [kept.id]
    else:
        ids = f"json_array('{kept.id}')" if database.kind == "sqlite" else f"'{{{kept.id}}}'"
        by_hand(database, f"update rota_lease set ids = {ids}")
    told = look(repository)
    assert [one.kind for one in told] == [Flaw.OWNERLESS] * 2
    told = look(repository, mend=True)
    assert [(one.kind, one.mended) for one in told] == [
        (Flaw.OWNERLESS, True),
        (Flaw.OWNERLESS, True),
        ("rescued", True),
    ]
    again = {one.id for one in NodeHandle(repository).claim()}
    again |= {one.id for one in NodeHandle(repository).claim()}
    assert again == {kept.id, *(one.id for one in left_out)}
    assert look(repository) == []


def test_a_task_of_a_living_node_without_a_lease_is_told_and_left_alone(
    database: Database,
) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = node.claim_only()
    take_the_leases(database, repository)
    (told,) = look(repository, mend=True)
    assert (told.kind, told.severity, told.mended) == (Flaw.UNLEASED, "error", False)
    assert claimed.id in told.detail
    assert node.end(claimed) is Stored.DONE
    assert look(repository) == []


def test_a_task_without_its_body_is_told(durable: Database) -> None:
    repository = durable.repository()
    repository.insert([a_task(), lost := a_task()])
    by_hand(durable, f"delete from rota_body where id = '{lost.id}'")
    (told,) = look(repository, mend=True)
    assert (told.kind, told.severity, told.mended) == (Flaw.BODILESS, "error", False)
    assert lost.id in told.detail


def test_a_task_both_unfinished_and_finished_is_told(durable: Database) -> None:
    repository = durable.repository()
    node = NodeHandle(repository)
    repository.insert([a_task(), a_task()])
    done, failed = node.claim()
    node.finish(ending(done, Ending.DONE), ending(failed, Ending.FAILED))
    by_hand(
        durable,
        *(
            "insert into rota_task (id, queue, work, priority, run_at)"
            f" select id, queue, work, priority, run_at from {table}"
            for table in ("rota_done", "rota_failed")
        ),
    )
    told = look(repository, mend=True)
    assert [(one.kind, one.mended) for one in told] == [(Flaw.TWICE, False)] * 2


def test_what_is_many_is_told_by_number(database: Database) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task() for _ in range(30)])
    node.claim()
    take_the_leases(database, repository)
    told = look(repository)
    assert len(told) == 21
    assert told[-1].detail == "and 10 more"


def test_a_working_task_that_names_no_node_is_told_and_not_touched(durable: Database) -> None:
    repository = durable.repository()
    repository.insert([a_task()])
    NodeHandle(repository).claim_only()
    by_hand(durable, "update rota_task set node = null, batch = null", "delete from rota_lease")
    (told,) = look(repository, mend=True)
    assert (told.kind, told.mended) == (Flaw.OWNERLESS, False)


def test_a_bounded_look_says_where_it_stopped(database: Database) -> None:
    repository = database.repository()
    repository.insert([a_task() for _ in range(600)])
    notes = [one.kind for one in examine(repository, clock=SystemClock(), rows=500)]
    assert ("bounded" in notes) == (database.kind != "memory")
    assert "bounded" not in [one.kind for one in examine(repository, clock=SystemClock())]


def test_the_chore_looks_twice_mends_and_lets_rescue_take_it(
    frozen: Database, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    repository = frozen.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = node.claim_only()
    repository.leave(node.id)
    take_the_leases(frozen, repository)
    rescued: list[Rescued] = []
    alone = Alone()
    repository.join(Membership(alone.id, "alone", "host", 1, 30.0))
    chores = lone_chores(repository, fake_clock, alone, on_rescued=rescued.extend)
    fake_clock.advance(AUDIT * 1.2)
    chores.step()
    assert (rescued, caplog.records) == ([], [])
    fake_clock.advance(AUDIT_AGAIN * 1.2)
    chores.step()
    assert Flaw.OWNERLESS in caplog.text
    fake_clock.advance(1.0)
    chores.step()
    assert [one.id for one in rescued] == [claimed.id]


def test_a_lease_of_a_gone_node_is_no_suspect_and_ends_with_the_next_rescue(
    database: Database,
) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = node.claim_only()
    repository.finish(node.id, [ending(claimed, Ending.DONE)], ())
    repository.leave(node.id)
    assert look(repository, mend=True) == []
    assert repository.held(node.id) == [(claimed.batch, [claimed.id])]
    assert repository.rescue(10) == []
    assert repository.held(node.id) == []


def test_of_several_nodes_one_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    walked: list[Walk] = []
    inspect = repository.inspect
    monkeypatch.setattr(
        repository, "inspect", lambda walk, *rest: (walked.append(walk), inspect(walk, *rest))[1]
    )
    alone = Alone()
    several = [lone_chores(repository, clock, alone) for _ in range(3)]
    clock.advance(AUDIT * 1.2)
    for chores in several:
        chores.step()
    assert walked == [*Walk]


def test_the_command_finds_mends_and_answers_by_its_status(
    durable: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = durable.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    node.claim_only()
    repository.leave(node.id)
    by_hand(durable, "delete from rota_lease")
    command = ["doctor", "--url", str(durable.target), "--settle", "0"]
    if durable.kind == "postgres":
        command += ["--schema", durable.options["schema"]]
    assert entry.run(command) == 1
    assert f"error   {Flaw.OWNERLESS}: " in capsys.readouterr().out
    assert entry.run([*command, "--mend"]) == 0
    assert "mended  rescued: 1 tasks" in capsys.readouterr().out
    assert entry.run([*command, "--json", "--deep"]) == 0
    assert '"well": true' in capsys.readouterr().out


def test_the_command_makes_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "none.db"
    assert entry.run(["doctor", "--url", f"sqlite:///{file}"]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert not file.exists()


def test_nothing_is_mended_that_was_not_found() -> None:
    repository = MemoryRepository(clock=FakeClock())
    made_up = [Suspect(flaw, "x", 1, 1, "r") for flaw in Flaw]
    assert repository.inspect_again(made_up) == []
    assert repository.mend(made_up) == []
