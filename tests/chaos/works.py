"""The works that run under chaos; each notes its effect on disk under its attempt's token."""

from __future__ import annotations

import asyncio
import os
import time

from rota import BlockingContext, Context, Retry, WorkRegistry
from tests.chaos.journal import Effect, Journal

#: Work ids and how often clients take them.
SHARES = {"step": 5, "plain": 3, "twice": 2}
#: The status of a process that poison has killed.
POISONED = 9
#: The attempt each ends in, however many nodes die of it.
ATTEMPTS = {"step": 1, "plain": 1, "twice": 2, "tick": 1}


def chaos_works(journal: Journal | None = None) -> WorkRegistry:
    """All of them; a client that only schedules needs no journal."""
    works = WorkRegistry()

    def note(ctx: Context | BlockingContext) -> None:
        assert journal is not None
        journal.effect(Effect(ctx.task_id, ctx.token, time.time()))

    @works.register("step")
    async def step(ctx: Context, pause: float) -> None:
        await asyncio.sleep(pause)
        note(ctx)

    @works.register("plain")
    def plain(ctx: BlockingContext, pause: float) -> None:
        ctx.wait(pause)
        note(ctx)

    @works.register("twice", max_attempts=None)
    async def twice(ctx: Context, pause: float) -> None:
        await asyncio.sleep(pause)
        note(ctx)
        if ctx.attempt == 1:
            raise Retry(after=0.2, reason="once is not enough")

    @works.register("tick")
    async def tick(ctx: Context) -> None:
        note(ctx)

    @works.register("poison")
    async def poison(ctx: Context) -> None:
        note(ctx)
        os._exit(POISONED)

    return works
