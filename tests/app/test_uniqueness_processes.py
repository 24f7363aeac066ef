"""A thousand concurrent schedules of one key, from four processes: one task, and everybody told.

Run as a script, this file is one of the processes: it says "ready", waits for a line, and
answers one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.task import Stored
from tests.conftest import Database

PROCESSES = 4
EACH = 250
KEY = "the one"
ROOT = Path(__file__).resolve().parents[2]

Answer = dict[str, Any]


@pytest.fixture
def contenders(durable: Database) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes, each connected and waiting for the word."""
    assert isinstance(durable.target, str)
    command = [sys.executable, "-m", "tests.app.test_uniqueness_processes", durable.target]
    started = [
        subprocess.Popen(
            [*command, str(durable.options.get("schema") or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(PROCESSES)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def race(contenders: list[subprocess.Popen[str]]) -> list[Answer]:
    """Let them all begin at once; what each call was answered."""
    for process in contenders:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in contenders:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers: list[Answer] = []
    for process in contenders:
        assert process.stdout is not None
        answers += json.loads(process.stdout.readline())
        assert process.wait(30) == 0
    return answers


def test_of_a_thousand_schedules_of_one_key_one_creates(
    durable: Database, contenders: list[subprocess.Popen[str]]
) -> None:
    repository = durable.repository()
    try:
        answers = race(contenders)
        assert len(answers) == PROCESSES * EACH
        assert Counter(answer["created"] for answer in answers) == {True: 1, False: 999}
        (task_id,) = {answer["id"] for answer in answers}
        assert repository.find_key(KEY) == task_id
        assert repository.states([task_id]) == {task_id: Stored.SCHEDULED}
        assert repository.counts() == {"scheduled": 1, "working": 0, "parked": 0}
        told = next(answer for answer in answers if answer["created"])
        found = repository.get(task_id)
        assert found is not None
        assert found.params == {"by": told["by"]}
    finally:
        repository.close()


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def contend(url: str, schema: str) -> list[Answer]:
    """Schedule all at once when told to."""
    works = WorkRegistry()

    @works.register("contend")
    async def contend(by: int) -> None: ...

    async with Scheduler(works, url, queues=[], schema=schema or None) as scheduler:
        tell("ready")
        await asyncio.to_thread(sys.stdin.readline)
        first = os.getpid() * 1000
        calls = [
            scheduler.schedule(
                contend.bind(first + n), unique=KEY, on_conflict="return", delay=3600
            )
            for n in range(EACH)
        ]
        handles = await asyncio.gather(*calls)
    return [
        {"id": handle.id, "created": handle.created, "by": first + n}
        for n, handle in enumerate(handles)
    ]


if __name__ == "__main__":
    tell(json.dumps(asyncio.run(contend(*sys.argv[1:]))))
