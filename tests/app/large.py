"""Works of each runner that answer texts of any size; a worker process imports this module."""

from __future__ import annotations

from rota import WorkRegistry

RUNNERS = ("coroutine", "thread", "process")

works = WorkRegistry()


@works.register("text.coroutine")
async def in_a_coroutine(size: int, pad: str = "") -> str:
    return "x" * (size + len(pad))


@works.register("text.thread")
def in_a_thread(size: int, pad: str = "") -> str:
    return "x" * (size + len(pad))


@works.register("text.process", runner="process")
def in_a_process(size: int, pad: str = "") -> str:
    return "x" * (size + len(pad))
