"""Run members under chaos and judge what they did: ``python -m tests.chaos.run``."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rota import Every, Scheduler
from rota.testing.history import Violation
from tests.chaos.faults import FileFaults, LineFaults, ProcessFaults, ServerFaults, Track
from tests.chaos.fleet import Fleet, Member
from tests.chaos.judge import Verdict, judge
from tests.chaos.works import chaos_works
from tests.chaos.world import PostgresWorld, SQLiteWorld, Standing, World, scratch

#: As short as they may be, so that short runs see many rescues.
OPTIONS: dict[str, Any] = {
    "lease": 3,
    "heartbeat": 1,
    "poll": 1,
    "start_timeout": 120,
    "defaults": {"max_rescues": None},
}
#: Intervals of the recurring tasks, in seconds.
INTERVALS = (1.0, 1.0, 1.5, 2.0, 3.0)
#: Losses while alone after which poison is given up.
RESCUES = 2
EACH: dict[str, Any] = {"catchup": "all", "catchup_limit": 1_000, "overlap": "allow"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done for how long.

    ``only`` are kinds of faults, None for all there are; ``once`` injects each once, for as
    long as that takes. ``poison`` tasks kill their process, each time.
    """

    seconds: float
    seed: str
    nodes: int = 4
    clients: int = 2
    rate: float = 100.0  #: tasks a second, of each client
    gap: tuple[float, float] = (0.5, 4.0)  #: seconds between the faults of one track
    drain: float = 90.0
    only: frozenset[str] | None = None
    once: bool = False
    poison: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was injected and what came of it."""

    verdict: Verdict
    injected: Counter[str]
    told: Counter[str]
    seconds: float
    drained: float
    troubles: list[str] = field(default_factory=list)  #: of the run, not of rota's promises
    missing: str = ""
    left: list[Standing] = field(default_factory=list)  #: when the drain's time was over

    @property
    def kept(self) -> bool:
        return not self.verdict.violations


async def run(world: World, directory: Path, plan: Plan) -> Outcome:
    """Members work while faults befall them; then all drains, signs off and is judged."""
    world.make()
    fleet = await make_fleet(world, directory, plan)
    began = time.monotonic()
    tracks = tracks_of(world, fleet, plan)
    try:
        recurring = await add_recurring(world)
        await fleet.start()
        poisoned = await add_poison(world, plan.poison)
        until = asyncio.get_running_loop().time() + plan.seconds
        async with asyncio.TaskGroup() as group:
            reviving = group.create_task(keep_alive(fleet))
            running = [
                group.create_task(track.run(until, gap=plan.gap, once=plan.once))
                for track in tracks.values()
            ]
            await asyncio.gather(*running)
            await fleet.revive()
            drain = time.monotonic()
            await finished(world, poisoned, plan.drain)
            await fleet.quieten(plan.drain)
            await stop_recurring(world, recurring)
            left = await drained(world, plan.drain)
            drain = time.monotonic() - drain
            reviving.cancel()
        rude = await fleet.dismiss()
        verdict = await asyncio.to_thread(judge, world, directory, poisoned=frozenset(poisoned))
    finally:
        await fleet.destroy()
    verdict.violations.extend(misdeeds(fleet, rude, poisoned=bool(poisoned)))
    return Outcome(
        verdict=verdict,
        injected=injected(world, tracks) + Counter({"killed by poison": fleet.poisoned}),
        told=fleet.told(),
        seconds=time.monotonic() - began,
        drained=drain,
        troubles=[trouble for track in tracks.values() for trouble in track.failed],
        missing=world.missing,
        left=left,
    )


async def make_fleet(world: World, directory: Path, plan: Plan) -> Fleet:
    members = []
    for client, kind, count in ((False, "node", plan.nodes), (True, "client", plan.clients)):
        for n in range(count):
            name = f"{kind}-{n}"
            config = {
                "client": client,
                "url": await world.url_for(name),
                "seed": plan.seed,
                "rate": plan.rate,
                "options": OPTIONS if client else {**OPTIONS, "concurrency": 50},
            }
            members.append(Member(name, config, directory))
    return Fleet(members)


def tracks_of(world: World, fleet: Fleet, plan: Plan) -> dict[str, Track]:
    """What runs side by side: one thing at a time befalls processes, lines, the database."""
    kinds: dict[str, Any] = {"processes": ProcessFaults(fleet, seed=plan.seed).all()}
    if isinstance(world, PostgresWorld):
        proxies = list(world.proxies.values())
        kinds["lines"] = LineFaults(proxies, seed=plan.seed).all()
        kinds["server"] = ServerFaults(world.url, world.server, seed=plan.seed).all()
    elif isinstance(world, SQLiteWorld):
        kinds["file"] = FileFaults(world.path, small_disk=world.small_disk).all()
    return {
        name: Track(
            name,
            {k: fault for k, fault in faults.items() if plan.only is None or k in plan.only},
            seed=plan.seed,
        )
        for name, faults in kinds.items()
    }


async def keep_alive(fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(0.3)
        await fleet.revive()


async def add_recurring(world: World) -> list[str]:
    """Each has its first fire time and interval in its name, for the judge."""
    begin = int(time.time()) + 2
    start = datetime.fromtimestamp(begin, UTC)
    names = [f"r{n}/{begin}/{interval:g}" for n, interval in enumerate(INTERVALS)]
    async with Scheduler(chaos_works(), world.url, queues=[], **OPTIONS) as scheduler:
        for name, interval in zip(names, INTERVALS, strict=True):
            await scheduler.add_recurring(
                name, "tick", Every(interval, anchor=start), start=start, **EACH
            )
    return names


async def add_poison(world: World, count: int) -> list[str]:
    async with Scheduler(chaos_works(), world.url, queues=[], **OPTIONS) as scheduler:
        return [(await scheduler.schedule("poison", max_rescues=RESCUES)).id for _ in range(count)]


async def finished(world: World, tasks: Sequence[str], patience: float) -> None:
    """Until none of these is unfinished, or for so long."""
    until = time.monotonic() + patience
    while time.monotonic() < until and {*tasks} & {*await asyncio.to_thread(world.unfinished)}:
        await asyncio.sleep(0.2)


async def stop_recurring(world: World, names: Sequence[str]) -> None:
    async with Scheduler(chaos_works(), world.url, queues=[], **OPTIONS) as scheduler:
        for name in names:
            await scheduler.recurring(name).pause()


async def drained(world: World, patience: float) -> list[Standing]:
    """Until nothing is unfinished, or for so long; what is left, while all processes live."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not await asyncio.to_thread(world.unfinished):
            return []
        await asyncio.sleep(0.2)
    return await asyncio.to_thread(world.standing)


def misdeeds(fleet: Fleet, rude: Sequence[str], *, poisoned: bool = False) -> list[Violation]:
    """What processes did that nobody did to them."""
    dead = [f"{fleet.poisoned} ended as by poison"] if fleet.poisoned and not poisoned else []
    return [
        *(Violation("ended_by_itself", "member", what) for what in fleet.ended_by_themselves),
        *(Violation("ended_by_itself", "member", what) for what in dead),
        *(Violation("rude", "member", what) for what in rude),
        *(Violation("forked", "member", what) for what in fleet.wrongs()),
    ]


def injected(world: World, tracks: dict[str, Track]) -> Counter[str]:
    total: Counter[str] = Counter()
    for track in tracks.values():
        total.update(track.counts)
    if isinstance(world, PostgresWorld):
        for proxy in world.proxies.values():
            total.update(proxy.counts)
    return total


def summary(name: str, plan: Plan, outcome: Outcome) -> str:
    """What is printed of a run."""
    lines = [
        f"{name}, seed {plan.seed}: {outcome.seconds:.0f} s, drained in {outcome.drained:.1f} s"
    ]
    lines += [f"  {kind:<32}{count:>6}" for kind, count in sorted(outcome.injected.items())]
    lines.append("  said by members: " + ", ".join(f"{k} {n}" for k, n in outcome.told.items()))
    if outcome.missing:
        lines.append(f"  not injected: {outcome.missing}")
    lines += [f"  not injected: {trouble}" for trouble in outcome.troubles]
    lines += outcome.verdict.lines()
    lines += [f"  BROKEN {one}" for one in outcome.verdict.violations[:20]]
    lines += [f"  LEFT {one.task}: {one}" for one in outcome.left[:20]]
    lines.append("  all promises kept" if outcome.kept else "  PROMISES BROKEN")
    return "\n".join(lines)


async def run_on(url: str, plan: Plan, directory: Path) -> Outcome:
    """On ``sqlite``, on ``postgresql`` (a server of ours), or on a server by its URL."""
    world: World
    if url == "sqlite":
        world = SQLiteWorld(directory)
    else:
        world = PostgresWorld(None if url == "postgresql" else url)
    try:
        return await run(world, directory, plan)
    finally:
        await world.close()


async def stoppable(running: Coroutine[Any, Any, Outcome]) -> Outcome:
    """SIGTERM ends everything that was started, as Ctrl-C does."""
    mine = asyncio.current_task()
    assert mine is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mine.cancel)
    return await running


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="on each database")
    parser.add_argument("--url", help="sqlite, postgresql, or a server's URL; else the first two")
    parser.add_argument("--seed", default=f"{random.SystemRandom().randrange(10**6)}")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rate", type=float, default=100.0, help="tasks a second per client")
    parser.add_argument("--gap", type=float, default=4.0, help="most seconds between two faults")
    parser.add_argument("--poison", type=int, default=0, help="so many, and no other faults")
    parser.add_argument("--keep", type=Path, help="keep journals and logs in this directory")
    given = parser.parse_args(arguments)
    plan = Plan(
        seconds=5.0 if given.poison else given.minutes * 60,
        seed=given.seed,
        nodes=given.nodes,
        rate=given.rate,
        gap=(min(0.5, given.gap), given.gap),
        only=frozenset() if given.poison else None,
        poison=given.poison,
    )
    kept = True
    for url in [given.url] if given.url else ["sqlite", "postgresql"]:
        name = url.partition(":")[0]
        say(f"{name}: {plan.seconds:g} s of chaos, seed {given.seed}")
        with scratch(given.keep and given.keep / name) as directory:
            outcome = asyncio.run(stoppable(run_on(url, plan, directory)))
        say(summary(name, plan, outcome))
        kept &= outcome.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
