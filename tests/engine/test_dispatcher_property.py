"""The dispatcher under random operations, against what its counts and its order must be."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.parts import Floor, Probe, turns

LIMITS = {"narrow": 1, "middle": 2}
NUMBER = st.integers(0, 30)

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.integers(0, 3),
            st.integers(-1, 1),
            st.sampled_from(["narrow", "middle", "wide"]),
        ),
        st.tuples(st.just("end"), NUMBER),
        st.tuples(st.just("end, something lingers"), NUMBER),
        st.tuples(st.just("let go"), NUMBER),
        st.tuples(st.just("withdraw"), NUMBER),
        st.tuples(st.just("advance"), st.integers(0, 2)),
        st.tuples(st.just("take back"), st.integers(0, 2)),
        st.tuples(st.just("resize"), st.integers(1, 4)),
        st.tuples(st.just("permission"), st.booleans()),
    ),
    max_size=40,
)


class Model:
    """What the test did, and what must therefore be."""

    def __init__(self) -> None:
        self.floor = Floor(concurrency=2, limits=LIMITS)
        self.added: list[Probe] = []
        self.gone: set[Probe] = set()
        self.ended: set[Probe] = set()
        self.seen = 0

    @property
    def waiting(self) -> list[Probe]:
        return [p for p in self.added if p not in self.gone and p not in self.floor.started]

    @property
    def ripe(self) -> list[Probe]:
        now = self.floor.clock.monotonic()
        return [probe for probe in self.waiting if probe.due <= now]

    @property
    def running(self) -> list[Probe]:
        return [probe for probe in self.floor.started if probe not in self.ended]

    def do(self, verb: str, *how: int | str | bool) -> None:
        floor, dispatcher = self.floor, self.floor.dispatcher
        match verb, how:
            case "add", (int(wait), int(priority), str(queue)):
                name = str(len(self.added))
                self.added.append(floor.add(name, wait=wait, priority=priority, queue=queue))
            case "end", (int(n),) if n < len(floor.started):
                self._end(floor.started[n])
            case "end, something lingers", (int(n),) if n < len(floor.started):
                probe = floor.started[n]
                if not probe.gate.is_set():
                    probe.leaves = asyncio.get_running_loop().create_future()
                    probe.gate.set()
            case "let go", (int(n),) if n < len(floor.started):
                leaves = floor.started[n].leaves
                if leaves is not None and not leaves.done():
                    leaves.set_result(None)
                    self.ended.add(floor.started[n])
            case "withdraw", (int(n),) if n < len(self.added):
                probe = self.added[n]
                could = probe in self.waiting
                assert dispatcher.withdraw(probe) is could
                if could:
                    self.gone.add(probe)
            case "advance", (int(step),):
                floor.clock.advance(step)
            case "take back", (int(age),):
                limit = floor.clock.monotonic() - age
                late = set(dispatcher.overripe(age))
                assert late == {probe for probe in self.ripe if probe.ripe_at < limit}
                self.gone |= late  # type: ignore[arg-type]
            case "resize", (int(size),):
                dispatcher.concurrency = size
                dispatcher.wake()
            case "permission", (bool(allowed),):
                floor.allowed = allowed
                dispatcher.wake()

    def _end(self, probe: Probe) -> None:
        if not probe.gate.is_set():
            probe.gate.set()
            self.ended.add(probe)

    def check(self) -> None:
        dispatcher = self.floor.dispatcher
        overdue = [p for p in self.running if p.leaves is not None]
        assert dispatcher.received == len(self.added)
        assert dispatcher.held == len(self.waiting)
        assert dispatcher.ripe == len(self.ripe)
        assert dispatcher.running == len(self.running)
        assert dispatcher.overdue == len(overdue)
        assert dispatcher.freed == len(self.ended)
        by_queue = Counter(probe.queue for probe in self.running)
        assert all(by_queue[queue] <= limit for queue, limit in LIMITS.items())
        startable = [p for p in self.ripe if by_queue[p.queue] < LIMITS.get(p.queue, 99)]
        if self.floor.allowed and dispatcher.running < dispatcher.concurrency:
            assert startable == []
        fresh = self.floor.started[self.seen :]
        self.seen = len(self.floor.started)
        assert self.floor.allowed or not fresh
        wide = [(-p.priority, p.due, self.added.index(p)) for p in fresh if p.queue == "wide"]
        assert [item[:2] for item in wide] == sorted(item[:2] for item in wide)
        best = [(-p.priority, p.due) for p in startable]
        assert all(item[:2] <= other for item in wide for other in best)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_counts_limits_and_order_hold_whatever_happens(
    steps: list[tuple[str, *tuple[int | str | bool, ...]]],
) -> None:
    async def play() -> None:
        model = Model()
        for verb, *how in steps:
            model.do(verb, *how)
            await turns(8)
            model.check()

    asyncio.run(play())
