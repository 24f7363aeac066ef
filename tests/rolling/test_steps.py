"""Nodes of the code before a step and of its code share the database, while it is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rota.storage.schema import ledger
from rota.testing import history
from tests.processes.fleet import NodeProcess, with_unwritten
from tests.rolling.conftest import Pair, Site
from tests.rolling.trees import Code, CodeHistory, git, step_file

#: Six nodes start one after the other, each in seconds where the machine is busy.
pytestmark = pytest.mark.timeout(240)


def start(site: Site, name: str, code: Code, *queues: str, **more: Any) -> NodeProcess:
    """A node that serves what all do, its own queue, by which a test can choose it, and more."""
    served = ["default", name, *queues]
    return site.fleet.start(name, code=code.root, queues=served, **more)


def held(node: NodeProcess, count: int) -> list[str]:
    """Tasks that this node runs until they are released."""
    tasks: list[str] = node.ask("schedule", work="hold", count=count, options={"queue": node.name})
    node.wait_tasks("started", tasks)
    return tasks


def run_by(node: NodeProcess, asked: NodeProcess) -> list[str]:
    """Tasks that one node schedules and another one has run to their end."""
    tasks: list[str] = asked.ask("schedule", work="quick", count=6, options={"queue": node.name})
    node.wait_tasks("finished", tasks, state="done")
    return tasks


def assert_kept(site: Site, asked: NodeProcess, tasks: list[str]) -> None:
    """All ended well, each outcome was accepted once, and no statement failed anywhere."""
    events = site.fleet.history()
    noted = {event.task for event in events if isinstance(event, history.Accepted)}
    events = with_unwritten(events, asked.ask("info", ids=sorted(set(tasks) - noted)))
    ends = {one.task: one.outcome for one in events if isinstance(one, history.Accepted)}
    assert ends.keys() >= set(tasks)
    assert {ends[task] for task in tasks} == {"done"}
    assert history.check(events, complete=True) == []
    for log in site.fleet.directory.glob("*.log"):
        assert "in trouble" not in log.read_text(encoding="utf-8"), log.read_text(encoding="utf-8")


def test_work_goes_on_while_a_step_is_applied_and_then_on_both(pair: Pair, site: Site) -> None:
    if pair.new.compatible_from > pair.old.step:
        pytest.skip("the step says that the code before it cannot go on")
    site.upgrade(pair.old)
    old, other = (start(site, name, pair.old) for name in ("old", "other"))
    tasks = run_by(old, other) + run_by(other, old)
    across, left = held(other, 2), held(old, 2)
    waiting = old.ask("schedule", work="quick", count=6, options={"queue": "new"})
    stream = other.send("stream")

    site.upgrade(pair.new)

    new = start(site, "new", pair.new)
    new.wait_tasks("finished", waiting, state="done")
    tasks += run_by(old, new) + run_by(new, old) + run_by(other, new) + run_by(new, other)
    other.ask("enough")
    flowed = other.answer(stream)
    other.ask("release")
    other.wait_tasks("finished", across, state="done")

    # Whoever dies, the other code finds it out and takes over.
    taken = held(new, 2)
    new.kill()
    again = start(site, "again", pair.old, "new", open=True)
    site.fleet.wait_tasks("finished", taken, state="done")
    for node in (other, again):
        node.ask("shutdown")
        assert node.exit_code() == 0
    newer = start(site, "newer", pair.new, "old", open=True)
    old.kill()
    newer.wait_tasks("finished", left, state="done")

    tasks += waiting + flowed + across + taken + left + run_by(newer, newer)
    assert_kept(site, newer, tasks)


def test_a_breaking_step_ends_nodes_before_it_and_no_task(breaking: Pair, site: Site) -> None:
    site.upgrade(breaking.old)
    old, other = (start(site, name, breaking.old) for name in ("old", "other"))
    running, left = held(old, 2), held(other, 2)
    waiting = old.ask("schedule", work="quick", count=6, options={"queue": "new"})

    site.upgrade(breaking.new)

    for node in (old, other):
        node.wait("unfit", found=breaking.new.step, needed=breaking.old.step)
    refused = old.wait("answer", call=old.send("schedule", work="quick"))
    assert refused["error"] == "SchemaTooNew"
    new = start(site, "new", breaking.new, "old", "other", open=True)
    new.wait_tasks("finished", waiting, state="done")
    late = new.ask("schedule", work="quick", count=6, options={"queue": "old"})
    new.wait_tasks("finished", late, state="done")
    # What runs there is run to its end there, unless the process is ended before.
    old.ask("release")
    old.wait_tasks("finished", running, state="done")
    old.wait("stopped")
    assert old.exit_code() == 0
    assert "drains and stops: the database is at step" in old.log.read_text(encoding="utf-8")
    other.kill()
    new.wait_tasks("finished", left, state="done")

    assert_kept(site, new, [*running, *left, *waiting, *late, *run_by(new, new)])
    assert {line["task"] for line in old.all_told("started")} == set(running)


@pytest.mark.slow
def test_code_that_does_not_fit_is_refused_when_it_starts(breaking: Pair, site: Site) -> None:
    site.upgrade(breaking.old)
    if site.fleet.kind == "sqlite":
        start(site, "new", breaking.new)  # opening the file upgrades it
    else:
        early = site.fleet.launch("early", code=breaking.new.root)
        said = early.wait("failed", error="SchemaTooOld")["message"]
        assert f"this version of rota needs step {breaking.new.step}; run: rota db upgrade" in said
        site.upgrade(breaking.new)
        start(site, "new", breaking.new)
    old = site.fleet.launch("old", code=breaking.old.root)
    said = old.wait("failed", error="SchemaTooNew")["message"]
    assert f"install a version that knows step {breaking.new.step} or later" in said


@pytest.mark.slow
def test_of_several_upgrades_at_once_one_applies_the_step(widening: Pair, site: Site) -> None:
    site.upgrade(widening.old)
    step = widening.new.step
    at_once = [site.start_command(widening.new, "db", "upgrade", *site.place) for _ in range(4)]
    said = sorted(process.communicate(timeout=30)[0] for process in at_once)
    nothing = f"nothing to do; the database is at step {step}\n"
    assert said == [f"applied step {step}; the database is at step {step}\n", *[nothing] * 3]
    assert [process.returncode for process in at_once] == [0] * 4


@pytest.mark.slow
def test_a_step_that_breaks_off_leaves_nothing_and_nodes_go_on(broken: Pair, site: Site) -> None:
    site.upgrade(broken.old)
    old = start(site, "old", broken.old)
    running = held(old, 1)
    before = site.columns()
    said = site.command(broken.new, "db", "upgrade", status=1)
    assert "nonsense" in said
    assert site.columns() == before
    assert f"found   {broken.old.step}\n" in site.command(broken.old, "db", "status")
    old.ask("release")
    old.wait_tasks("finished", running, state="done")
    assert_kept(site, old, [*running, *run_by(old, old)])


class TestWrittenDown:
    """What each step says of itself."""

    def test_steps_are_numbered_and_each_names_the_code_it_serves(self) -> None:
        steps = ledger.STEPS
        assert [step.version for step in steps] == list(range(1, len(steps) + 1))
        for step in steps:
            assert 1 <= step.compatible_from <= step.version
            assert step.ddl.keys() == {"postgresql", "sqlite"}

    def test_no_step_that_was_released_is_changed(self, here: CodeHistory) -> None:
        changed = {tag: here.changed_since(tag) for tag in here.released()}
        assert not any(changed.values()), changed

    def test_a_step_that_was_changed_after_a_release_is_found(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        for step in (1, 2):
            path = tmp_path / step_file(step)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("VERSION = 1\n")
            git(tmp_path, "add", ".")
            git(tmp_path, "commit", "--quiet", "--message", "More")
            if step == 1:
                git(tmp_path, "tag", "v0.1.0")
        code = CodeHistory(tmp_path, tmp_path)
        assert (code.released(), code.changed_since("v0.1.0")) == (["v0.1.0"], [])
        (tmp_path / step_file(1)).write_text("VERSION = 2\n")
        assert code.changed_since("v0.1.0") == [step_file(1)]
        assert code.before(2) == "v0.1.0"
