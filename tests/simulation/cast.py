"""The works of the simulated world: each run ends as its task's plan says."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from rota import Again, BlockingContext, Cancel, Context, Fail, Release, Retry, WorkRegistry
from rota.core.backoff import Backoff
from rota.core.context import Facts, Token
from tests.simulation.ledger import Ledger
from tests.simulation.turns import Turns


class Stage(Protocol):
    """What a run sees of the process it is in."""

    ledger: Ledger
    turns: Turns

    def enters(self, context: Facts, plan: list[str]) -> str:
        """A run has begun; how it is to end."""

    def acts(self, task_id: str, token: Token) -> None:
        """It has done what it is there for."""

    def leaves(self, context: Facts) -> None: ...


def stage() -> Stage:
    """The process whose loop runs now."""
    found: Stage = asyncio.get_running_loop().host  # type: ignore[attr-defined]
    return found


def registry(*, everything: bool = True) -> WorkRegistry:
    """The works; without ``everything`` one of them is not known."""
    works = WorkRegistry()
    wait = Backoff(first=0.2, max=1.0)
    works.register("play", max_attempts=4, backoff=wait)(play)
    works.register("brief", max_attempts=2, backoff=wait, timeout=0.5)(play_briefly)
    works.register("thread", max_attempts=4, backoff=wait)(play_in_thread)
    if everything:
        works.register("rare", max_attempts=4, backoff=wait)(play_rarely)
    return works


async def play(ctx: Context, plan: list[str], lasts: float = 0.0) -> str:
    here = stage()
    act = here.enters(ctx, plan)
    try:
        if lasts:
            await asyncio.sleep(lasts)
        return await _act(ctx, act, here)
    finally:
        here.leaves(ctx)


async def play_briefly(ctx: Context, plan: list[str], lasts: float = 0.0) -> str:
    return await play(ctx, plan, lasts)


async def play_rarely(ctx: Context, plan: list[str], lasts: float = 0.0) -> str:
    return await play(ctx, plan, lasts)


def play_in_thread(ctx: BlockingContext, plan: list[str], lasts: float = 0.0) -> str:
    clock: Any = ctx._clock
    here = clock.stage()
    act = here.enters(ctx, plan)
    try:
        ctx.wait(lasts)
        return _outcome(ctx, act, here)
    finally:
        here.leaves(ctx)


async def _act(ctx: Context, act: str, here: Stage) -> str:
    if act == "spawn":
        child = await ctx.spawn("play", {"plan": ["done"], "lasts": 0.1}, key="child")
        if child.created:
            here.ledger.acknowledged(child.id)
    elif act == "report":
        await ctx.report({"half": True})
        await asyncio.sleep(0.05)
    elif act == "stubborn":
        try:
            await asyncio.sleep(1.0)
        except asyncio.CancelledError:
            act = "told to stop"
    return _outcome(ctx, act, here)


def _outcome(ctx: Facts, act: str, here: Stage) -> str:
    match act:
        case "retry":
            raise Retry(after=0.3)
        case "error":
            raise ValueError("as planned")
        case "again":
            raise Again(after=0.4)
        case "release":
            raise Release(after=0.2)
        case "fail":
            raise Fail("as planned")
        case "cancel":
            raise Cancel("as planned")
        case _:
            here.acts(ctx.task_id, ctx.token)
            return act
