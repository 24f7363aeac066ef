"""The asyncio face and the blocking ones have the same verbs, with the same parameters."""

from __future__ import annotations

import inspect
from typing import Any, get_overloads

import pytest

from rota import BackgroundScheduler, Context, Scheduler, TaskHandle, WorkRegistry
from rota.app.blocking import BlockingHandle, BlockingPulled
from rota.app.blocking_recurring import BlockingRecurring
from rota.app.settings import SchedulerOptions
from rota.background import Blocking
from rota.control.pulled import Pulled
from rota.control.recurrence import Recurring
from rota.core.context import BlockingContext
from rota.errors import LeaseLost
from tests.conftest import Database

#: What the face of a scheduler that others start and stop cannot have.
LIFE = {"start", "shutdown"}

PAIRS = [
    pytest.param(Scheduler, Blocking, {"blocking", *LIFE}, id="blocking"),
    pytest.param(Scheduler, BackgroundScheduler, {"blocking"}, id="background"),
    pytest.param(TaskHandle, BlockingHandle, set(), id="handle"),
    pytest.param(Pulled, BlockingPulled, set(), id="pulled"),
    pytest.param(Recurring, BlockingRecurring, set(), id="recurring"),
    pytest.param(Context, BlockingContext, set(), id="context"),
]


def public(cls: type[Any]) -> dict[str, Any]:
    return {
        name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")
    }


def shape(function: Any) -> list[list[tuple[str, Any, Any]]]:
    """Name, kind and default of each parameter, of each overload where a verb has some."""
    return [
        [(one.name, one.kind, one.default) for one in inspect.signature(form).parameters.values()]
        for form in get_overloads(function) or [function]
    ]


@pytest.mark.parametrize(("face", "blocking", "without"), PAIRS)
def test_the_blocking_face_has_every_verb(face: Any, blocking: Any, without: set[str]) -> None:
    assert public(face).keys() - without - public(blocking).keys() == set()


@pytest.mark.parametrize(("face", "blocking", "without"), PAIRS)
def test_a_verb_takes_the_same_and_says_what_it_does(
    face: Any, blocking: Any, without: set[str]
) -> None:
    there = public(blocking)
    for name, member in public(face).items():
        if name in without or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        other = there[name]
        if inspect.isfunction(member):
            assert shape(other) == shape(member), name
            assert not inspect.iscoroutinefunction(other), name
        else:
            assert (other.fset is None) == (member.fset is None), name
        assert inspect.getdoc(other), name


def test_the_scheduler_in_the_background_takes_what_the_other_takes() -> None:
    parameters = inspect.signature(Scheduler).parameters.values()
    options = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert SchedulerOptions.__annotations__.keys() == options


def test_threads_pull_watch_and_list_as_coroutines_do(
    database: Database, works: WorkRegistry
) -> None:
    options: Any = {"clock": database.clock, **database.options}
    with BackgroundScheduler(works, database.target, queues=[], **options) as scheduler:
        scheduler.feed(on=True)
        first = scheduler.schedule("w", {"n": 1}, allow_unknown=True, meta={"by": "me"})
        again = scheduler.schedule("w", {"n": 2}, allow_unknown=True, max_attempts=2)
        (pulled,) = scheduler.claim(["default"], wait=20)
        assert (pulled.id, pulled.work, pulled.queue) == (first.id, "w", "default")
        assert (pulled.attempt, pulled.params, pulled.meta) == (1, {"n": 1}, {"by": "me"})
        pulled.report({"half": True})
        pulled.done("well")
        assert first.result(timeout=20) == "well"
        report = first.report()
        assert report is not None
        assert report.data == {"half": True}
        with pytest.raises(LeaseLost):
            pulled.done("twice")
        (other,) = scheduler.claim(wait=20)
        other.release()
        (other,) = scheduler.claim(wait=20)
        other.fail("broken", retry=False)
        assert again.wait(timeout=20).reason == "broken"

        changes, cursor = scheduler.changes()
        assert {change.task_id for change in changes} == {first.id, again.id}
        assert scheduler.changes(cursor)[0] == []
        assert scheduler.list_recurring() == []
        assert scheduler.running
        assert scheduler.node > 0
        assert scheduler.works is works
