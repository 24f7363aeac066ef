"""Node processes: started, frozen only when fit, and never left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.cli import exits
from rota.cli.course import Course, Running
from rota.cli.fleet import Fleet
from rota.cli.mishaps import Mishaps
from rota.cli.nodelog import Entry
from rota.core.context import Token

LATER = 1e12


@pytest.fixture
def course() -> Course:
    return Course()


@pytest.fixture
def fleet(course: Course, tmp_path: Path) -> Iterator[Fleet]:
    url = f"sqlite:///{tmp_path / 'rota.db'}"
    fleet = Fleet(["one"], course=course, url=url, schema=None, directory=tmp_path)
    yield fleet
    fleet.destroy()
    assert all(member.process.returncode is not None for member in fleet)


async def test_a_node_that_cannot_start_says_why(course: Course, tmp_path: Path) -> None:
    fleet = Fleet(["one"], course=course, url="mysql://x", schema=None, directory=tmp_path)
    try:
        with pytest.raises(exits.DemoFailed, match=r"one ended with status 2 .*mysql://x"):
            await fleet.all_up(30)
    finally:
        fleet.destroy()


async def test_a_node_signs_off(course: Course, fleet: Fleet) -> None:
    await fleet.all_up(30)
    await fleet.dismiss()
    assert [member.process.returncode for member in fleet] == [0]
    assert course.ready.keys() == {"one"}


async def test_a_node_that_stops_the_others_from_writing_goes_on(
    course: Course, fleet: Fleet
) -> None:
    await fleet.all_up(30)
    token = Token(course.ready["one"], 1)
    course.follow("one", [Entry("started", 0.0, *token, "task"), Entry("refused", 0.0, *token)])
    course.follow("two", [
        Entry("took_back", LATER, tasks=("task",)), Entry("started", LATER, 9, 1, "task")
    ])  # fmt: skip
    states, answers = [], [False, True]

    async def others_write() -> bool:
        states.append(_state(fleet.members[0].process.pid))
        return answers.pop(0)

    async def still_held(running: list[Running]) -> list[Running]:
        return running

    mishaps = Mishaps(
        fleet=fleet, course=course, lease=3.0, still_held=still_held, others_write=others_write
    )
    frozen = await mishaps.freeze_one(30)
    assert states == ["T", "T"]
    assert mishaps.unfit_freezes == 1
    assert frozen.tasks == {"task"}
    assert _state(fleet.members[0].process.pid) != "T"
    killed = await mishaps.kill_one(30)
    assert killed.name == "one"
    assert fleet.members[0].process.returncode == -9
    with pytest.raises(exits.DemoFailed, match="no node had attempts running"):
        await mishaps.kill_one(0.05)


def _state(pid: int) -> str:
    """One letter, T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
