"""Recurring tasks through the public face: added, fired, changed, paused, ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from rota import Cancel, WorkRegistry
from rota.core.recurring import Put
from rota.errors import RecurringNotFound
from tests.app.recurrences import *  # noqa: F403 - fixtures are found by name
from tests.app.recurrences import Gate, Stage, until


async def test_each_fire_time_makes_one_child(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(60), {"n": 7}, queue="q")
        assert beat.put is Put.CREATED
        assert await beat.next_fire_times(2) == [stage.at(60), stage.at(120)]
        for second in (60, 120, 180):
            await stage.go(60)
            children = await beat.children()
            assert children[0].fire_at == stage.at(second)
            assert await children[0].task.result(timeout=30) == 7
        assert note == [("beat", stage.at(second), 7) for second in (60, 120, 180)]
        children = await beat.children()
        assert len({child.task.id for child in children}) == len(children) == 3
        assert {(child.version, child.state) for child in await beat.children()} == {(1, "done")}
        assert await stage.told(beat) == [("fired", second, 1) for second in (60, 120, 180)]
        info = await beat.info()
        assert (info.id, info.work, info.params, info.queue) == ("beat", "note", {"n": 7}, "q")
        assert (info.next_fire_at, info.last_fire_at) == (stage.at(240), stage.at(180))
        assert (info.runs, info.version, info.paused, info.broken) == (3, 1, False, None)
        assert info.trigger == stage.every(60)
        assert [one.id for one in await scheduler.list_recurring()] == ["beat"]
        assert await scheduler.list_recurring(after="beat") == []
        assert await beat.children(1, before=stage.at(180)) == [children[1]]
        assert [one.fire_at for one in await beat.decisions(1)] == [stage.at(180)]


async def test_the_options_are_those_of_the_children(stage: Stage, works: WorkRegistry) -> None:
    async with stage.scheduler(works, queues=["other"]) as scheduler:
        beat = await scheduler.add_recurring(
            "beat",
            "elsewhere",
            stage.every(60),
            {"n": 1},
            allow_unknown=True,
            queue="mail",
            priority=4,
            max_attempts=3,
            expires=20,
            meta={"by": "me"},
            timeout=9,
        )
        await stage.go(60)
        (child,) = await beat.children()
        task = await child.task.info()
        assert (task.work, task.queue, task.priority, task.params) == (
            "elsewhere",
            "mail",
            4,
            {"n": 1},
        )
        assert (task.max_attempts, task.meta, task.recurring) == (3, {"by": "me"}, "beat")
        assert task.expires_at == stage.at(80)
        assert (task.fire_at, task.due_at) == (stage.at(60), stage.at(60))
        assert await beat.outstanding() == 1


async def test_adding_again_changes_what_differs_and_keeps_the_rhythm(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(60))
        await stage.go(90)
        await _all_ended(beat)

        async def again(**changes: Any) -> tuple[Put | None, float | None]:
            said = {"trigger": stage.every(60), **changes}
            trigger = said.pop("trigger")
            beat = await scheduler.add_recurring("beat", "note", trigger, **said)
            following = (await beat.info()).next_fire_at
            assert following is not None
            return beat.put, round((following - stage.zero).total_seconds())

        assert await again() == (Put.SAME, 120)
        assert await again(params={"n": 2}) == (Put.CHANGED, 120)
        assert await again(params={"n": 2}, catchup="all") == (Put.CHANGED, 120)
        assert await again(replace_existing=False) == (Put.EXISTS, 120)
        assert await again(trigger=stage.every(80)) == (Put.CHANGED, 160)
        assert await again(trigger=stage.every(80), version=2) == (Put.CHANGED, 160)
        assert await again(trigger=stage.every(80), version=1) == (Put.OLDER, 160)
        info = await scheduler.recurring("beat").info()
        assert (info.version, info.params) == (5, {})
        await stage.go(80)
        assert (await scheduler.recurring("beat").children())[0].version == 5


async def test_change_keeps_what_is_not_given(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works, queues=["other"]) as scheduler:
        beat = await scheduler.add_recurring(
            "beat",
            "note",
            stage.every(60),
            {"n": 1},
            max_attempts=3,
            expires=50,
            queue="q",
            jitter=2,
            overlap="queue",
            max_instances=2,
            version=3,
        )
        assert await beat.change(params={"n": 5}, timeout=7) is Put.CHANGED
        info = await beat.info()
        assert info.rules is not None
        assert (info.params, info.queue, info.next_fire_at) == ({"n": 5}, "q", stage.at(60))
        assert (info.rules.jitter, info.rules.max_instances, info.rules.version) == (2, 2, 3)
        assert await beat.change(overlap="allow", priority=9) is Put.CHANGED
        assert await beat.change(trigger=stage.every(45)) is Put.CHANGED
        await stage.go(50)
        task = await (await beat.children())[0].task.info()
        assert (task.params, task.priority, task.max_attempts) == ({"n": 5}, 9, 3)
        assert task.expires_at is not None
        assert task.expires_at - task.due_at == timedelta(seconds=50)


async def test_paused_it_fires_nothing_and_resumed_it_misses_what_passed(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:
        rules: Any = {"catchup": "all", "overlap": "allow"}
        beat = await scheduler.add_recurring("beat", "note", stage.every(60), **rules)
        await stage.go(60)
        assert [await beat.pause(), await beat.pause()] == [True, False]
        await stage.go(200)
        assert (await beat.info()).paused
        assert await scheduler.recurring("beat").next_fire_times(1) == [stage.at(300)]
        again = await scheduler.add_recurring("beat", "note", stage.every(60), **rules)
        assert again.put is Put.SAME
        assert [await beat.resume(), await beat.resume()] == [True, False]
        assert await stage.told(beat) == [("fired", 60, 1), ("missed", 120, 3)]
        await stage.go(60)
        assert (await stage.told(beat))[2:] == [("fired", 300, 1)]


async def test_triggered_by_hand_it_makes_a_child_whatever_its_rules_say(
    stage: Stage, works: WorkRegistry
) -> None:
    gate = Gate(works)
    async with stage.scheduler(works) as scheduler, gate:
        beat = await scheduler.add_recurring("beat", "hold", stage.every(60), jitter=50)
        first = await beat.trigger_now()
        await gate.running()
        await beat.pause()
        second = await beat.trigger_now()
        await gate.running()
        assert {child.task.id for child in await beat.children()} == {first.id, second.id}
        assert await beat.outstanding() == 2
        await beat.resume()
        await stage.go(60)
        assert [one[0] for one in await stage.told(beat)][-1] == "skipped"
        info = await beat.info()
        assert (info.runs, info.next_fire_at) == (0, stage.at(120))
        gate.let_go(2)
        await first.result(timeout=30)
        await second.result(timeout=30)


async def test_removed_it_is_gone_and_its_decisions_stay(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(60))
        await stage.go(60)
        await beat.remove()
        await stage.go(300)
        assert await stage.told(beat) == [("fired", 60, 1)]
        for verb in (
            beat.info,
            beat.pause,
            beat.resume,
            beat.remove,
            beat.trigger_now,
            beat.next_fire_times,
            beat.change,
        ):
            with pytest.raises(RecurringNotFound):
                await verb()


async def test_a_child_may_end_its_recurrence(stage: Stage, works: WorkRegistry) -> None:
    @works.register("last")
    async def last() -> None:
        raise Cancel("that was all", recurring=True)

    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "last", stage.every(60))
        await stage.go(60)
        task = await (await beat.children())[0].task.wait(timeout=30)
        assert (task.status, task.reason) == ("cancelled", "that was all")
        assert (await beat.info()).next_fire_at is None
        await stage.go(600)
        assert await stage.told(beat) == [("fired", 60, 1)]
        assert await beat.next_fire_times() == []


async def test_it_ends_after_so_many_runs_or_at_its_end(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:
        thrice = await scheduler.add_recurring("thrice", "note", stage.every(60), max_runs=3)
        till = await scheduler.add_recurring(
            "till", "note", stage.every(60), start=stage.at(70), end=stage.at(180)
        )
        assert await thrice.next_fire_times() == [stage.at(n) for n in (60, 120, 180)]
        for _ in range(6):
            await stage.go(60)
            for beat in (thrice, till):
                for child in await beat.children():
                    await child.task.wait(timeout=30)
        assert await stage.told(thrice) == [("fired", second, 1) for second in (60, 120, 180)]
        assert await stage.told(till) == [("fired", second, 1) for second in (120, 180)]
        assert {one.next_fire_at for one in await scheduler.list_recurring()} == {None}
        again = await scheduler.add_recurring("thrice", "note", stage.every(60), max_runs=3)
        assert again.put is Put.SAME


async def test_jitter_moves_the_run_and_not_the_fire_time(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works, queues=["other"]) as scheduler:
        for name in ("a", "b", "c"):
            await scheduler.add_recurring(name, "note", stage.every(60), jitter=30)
        await stage.go(60)
        due = set()
        for name in ("a", "b", "c"):
            (child,) = await scheduler.recurring(name).children()
            task = await child.task.info()
            assert task.fire_at == stage.at(60)
            assert stage.at(60) <= task.due_at <= stage.at(90)
            due.add(task.due_at)
        assert len(due) == 3


async def test_overlap_skip_passes_over_while_a_child_is_unfinished(
    stage: Stage, works: WorkRegistry
) -> None:
    gate = Gate(works)
    async with stage.scheduler(works) as scheduler, gate:
        beat = await scheduler.add_recurring("beat", "hold", stage.every(60), max_instances=2)
        for _ in range(3):
            await stage.go(60)
        await gate.running(2)
        assert await beat.outstanding() == 2
        gate.let_go(2)
        await _all_ended(beat)
        await stage.go(60)
        assert [one[:2] for one in await stage.told(beat)] == [
            ("fired", 60),
            ("fired", 120),
            ("skipped", 180),
            ("fired", 240),
        ]
        gate.let_go()


async def test_overlap_allow_makes_a_child_each_time(stage: Stage, works: WorkRegistry) -> None:
    gate = Gate(works)
    async with stage.scheduler(works) as scheduler, gate:
        beat = await scheduler.add_recurring("beat", "hold", stage.every(60), overlap="allow")
        for _ in range(3):
            await stage.go(60)
        await gate.running(3)
        assert await beat.outstanding() == 3
        gate.let_go(3)
        await _all_ended(beat)


@pytest.mark.parametrize(
    ("catchup", "told"),
    [
        ("latest", [("fired", 60, 1), ("missed", 120, 2), ("fired", 240, 1)]),
        ("all", [("fired", 60, 1), ("fired", 120, 1), ("fired", 180, 1), ("fired", 240, 1)]),
    ],
)
async def test_overlap_queue_waits_for_the_childs_end(
    stage: Stage, works: WorkRegistry, catchup: Any, told: list[tuple[str, float, int]]
) -> None:
    gate = Gate(works)
    async with stage.scheduler(works) as scheduler, gate:
        beat = await scheduler.add_recurring(
            "beat", "hold", stage.every(60), overlap="queue", catchup=catchup
        )
        await stage.go(60)
        await gate.running()
        for _ in range(3):
            await stage.go(60)
        fired = [one for one in await stage.told(beat) if one[0] == "fired"]
        assert fired == [("fired", 60, 1)]
        # The clock stands still: it is the child's end that lets the next one fire.
        for _ in range(len([one for one in told if one[0] == "fired"]) - 1):
            gate.let_go()
            await gate.running()
            assert await beat.outstanding() == 1
        decided = await stage.told(beat)
        assert _merged(decided) == _merged(told)
        gate.let_go()
        await _all_ended(beat)


def _merged(told: list[tuple[str, float, int]]) -> tuple[list[float], int]:
    """What fired, and how many were missed: a waiting tick may be told in several parts."""
    fired = [second for decision, second, _ in told if decision == "fired"]
    return fired, sum(count for decision, _, count in told if decision == "missed")


async def test_two_schedulers_make_one_child_per_fire_time(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as first, stage.scheduler(works) as second:
        for n in range(20):
            await first.add_recurring(f"r{n}", "note", stage.every(60), overlap="allow")
        for _ in range(5):
            await stage.go(60)
        for n in range(20):
            beat = second.recurring(f"r{n}")
            assert await stage.told(beat) == [("fired", 60 * (k + 1), 1) for k in range(5)]
            assert len(await beat.children()) == 5


async def test_a_week_of_seconds_is_made_up_for_in_a_handful_of_calls(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    week = 7 * 86_400
    async with stage.scheduler(works, queues=[]) as client:
        beat = await client.add_recurring("beat", "note", stage.every(1))
        every = await client.add_recurring(
            "every", "note", stage.every(1), catchup="all", catchup_limit=5, overlap="allow"
        )
        stage.clock.advance(week + 0.5)
        async with stage.scheduler(works):
            await stage.settle()
        told = await stage.told(beat)
        assert [one[0] for one in told][:2] == ["missed", "fired"]
        assert sum(one[2] for one in told) >= week
        assert len(told) <= 20
        told = await stage.told(every)
        assert [one[0] for one in told][:6] == ["missed", *["fired"] * 5]
        assert sum(one[2] for one in told) >= week
        assert len(told) <= 40


async def test_threads_say_the_same_of_recurring_tasks(
    stage: Stage, works: WorkRegistry, note: list[tuple[Any, ...]]
) -> None:
    async with stage.scheduler(works) as scheduler:

        def say() -> None:
            blocking = scheduler.blocking
            beat = blocking.add_recurring("beat", "note", stage.every(60), {"n": 3}, jitter=1)
            assert (beat.put, beat) == (Put.CREATED, blocking.recurring("beat"))
            assert beat.next_fire_times(1) == [stage.at(60)]
            assert beat.trigger_now().result(timeout=30) == 3
            assert beat.pause()
            assert beat.resume()
            assert beat.change(priority=2) is Put.CHANGED
            assert beat.info().priority == 2
            assert [one.decision for one in beat.decisions()] == ["triggered"]
            assert [child.task.result(30) for child in beat.children()] == [3]
            assert beat.outstanding() == 0
            assert [one.id for one in blocking.list_recurring()] == ["beat"]
            beat.remove()

        await asyncio.to_thread(say)


async def _all_ended(beat: Any) -> None:
    async def none_left() -> bool:
        return await beat.outstanding() == 0

    await until(none_left)
