"""The tables of the page on recurring tasks say what is decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rota import WorkRegistry
from tests.app.recurrences import *  # noqa: F403 - fixtures are found by name
from tests.app.recurrences import Gate, Stage, until

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "recurring.md"


def rows(table: str) -> list[tuple[str, str]]:
    """The rows of one table: the rules as they are written, and what the page says is decided."""
    found = re.search(rf"<!-- table: {table} -->\n\n((?:\|.*\n)+)", PAGE.read_text())
    assert found is not None
    lines = found.group(1).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [("" if said.startswith("*") else said.strip("`"), told) for said, told in cells]


def rules(said: str, stage: Stage) -> dict[str, Any]:
    return eval(f"dict({said})", {"at": stage.at})


def in_words(told: list[tuple[str, float, int]]) -> str:
    """Decisions as the page writes them."""
    return ", ".join(
        f"{decision} {second:g}" + (f" ({count})" if decision == "missed" else "")
        for decision, second, count in told
    )


@pytest.mark.parametrize(("said", "told"), rows("catchup"))
async def test_catch_up(
    memory_stage: Stage, works: WorkRegistry, note: Any, said: str, told: str
) -> None:
    stage = memory_stage
    given = rules(said, stage)
    if given.get("catchup") == "all":
        given["overlap"] = "allow"
    async with stage.scheduler(works, queues=[]) as client:
        beat = await client.add_recurring("beat", "note", stage.every(10), **given)
        stage.clock.advance(45)
        async with stage.scheduler(works):
            await stage.settle()
        assert in_words(await stage.told(beat)) == told


@pytest.mark.parametrize(("said", "told"), rows("overlap"))
async def test_overlap(memory_stage: Stage, works: WorkRegistry, said: str, told: str) -> None:
    stage, gate = memory_stage, Gate(works)
    async with stage.scheduler(works) as scheduler, gate:
        beat = await scheduler.add_recurring("beat", "hold", stage.every(10), **rules(said, stage))

        async def left() -> int:
            return await beat.outstanding()

        async def only_first() -> bool:
            return await left() == 1

        await stage.go(10)
        await gate.running()
        first = (await beat.children())[0].task
        gate.open()
        for _ in range(2):
            await stage.go(10)
            await until(only_first)
        stage.clock.advance(5)
        gate.let_go()
        await first.result(timeout=30)

        async def caught_up() -> bool:
            info = await beat.info()
            return info.next_fire_at == stage.at(40) and await left() == 0

        await until(caught_up)
        await stage.go(5)
        await stage.go(5)
        assert in_words(await stage.told(beat)) == told


@pytest.mark.parametrize(("said", "told"), rows("pause"))
async def test_pause(
    memory_stage: Stage, works: WorkRegistry, note: Any, said: str, told: str
) -> None:
    stage = memory_stage
    async with stage.scheduler(works) as scheduler:
        beat = await scheduler.add_recurring("beat", "note", stage.every(10), **rules(said, stage))
        await stage.go(10)
        stage.clock.advance(5)
        await beat.pause()
        await stage.go(30)
        await beat.resume()
        assert in_words(await stage.told(beat)) == told
        assert (await beat.info()).next_fire_at == stage.at(50)
