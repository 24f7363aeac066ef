"""Every verb of a scheduler with some text in each place that takes text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from rota import Every, Fail, Scheduler, TaskFilter, WorkRegistry
from rota.core.ids import new_id
from rota.errors import RotaError


def book() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("echo")
    async def echo(text: str) -> str:
        return text

    @works.register("fail")
    async def fail(text: str) -> None:
        raise Fail(text)

    @works.register("break")
    async def broken(text: str) -> None:
        raise RuntimeError(text)

    @works.register("any")
    async def anything(value: Any) -> None: ...

    return works


def verbs() -> Iterator[str]:
    for name, verb in inspect.getmembers(Scheduler, inspect.iscoroutinefunction):
        if not name.startswith("_") and name not in {"start", "shutdown", "restore", "flush"}:
            taken = [str(one.annotation) for one in inspect.signature(verb).parameters.values()]
            if any("str" in one or "object" in one or "Any" in one for one in taken):
                yield name


def calls(name: str, text: str) -> Iterator[dict[str, Any]]:
    """The verb with hostile text in each of its parameters that takes some, one at a time."""
    parameters = inspect.signature(getattr(Scheduler, name)).parameters
    plain: dict[str, Any] = {
        "task_id": new_id(),
        "work": "echo",
        "params": {"text": "x"},
        "queue": "default",
        "recurring_id": "r",
        "trigger": Every(60),
        "where": TaskFilter(work="echo"),
        "tasks": [("echo", {"text": "x"})],
        "by": "queue",
    }
    needed = {
        one: plain[one]
        for one, it in parameters.items()
        if it.default is inspect.Parameter.empty
        and it.kind in {it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY}
        and one != "self"
    }
    for one, it in parameters.items():
        if any(kind in str(it.annotation) for kind in ("str", "object", "Any")) and one != "self":
            match one:
                case "queues":
                    yield {**needed, one: [text]}
                case "params":
                    yield {**needed, one: {text: text}}
                case "tasks":
                    yield {**needed, one: [(text, {"text": text})]}
                case "filters":
                    yield from ({**needed, key: text} for key in ("work", "queue", "parent"))
                    yield {**needed, "meta": {text: text}}
                    yield {**needed, "recurring": text}
                case "changes":
                    yield from ({**needed, key: text} for key in ("queue", "params", "at"))
                case "options":
                    yield from ({**needed, key: text} for key in ("queue", "id", "unique"))
                case _:
                    yield {**needed, one: text}
    if "where" in needed:
        for field in ("work", "queue", "recurring", "parent"):
            try:
                yield {**needed, "where": TaskFilter(**{field: text})}
            except RotaError:
                continue
