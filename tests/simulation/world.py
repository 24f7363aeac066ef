"""A whole world from one seed: nodes on one database, their bad luck, and what came of it."""

from __future__ import annotations

import gc
import hashlib
import logging
import random
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rota import WorkRegistry
from rota.storage.memory import MemoryRepository
from rota.testing.history import Violation
from tests.simulation.cast import registry
from tests.simulation.faults import Weather
from tests.simulation.ledger import Ledger
from tests.simulation.loops import NodeClock
from tests.simulation.process import LEASE, Process, a_skew
from tests.simulation.seams import Seams
from tests.simulation.turns import Turns
from tests.simulation.verdict import judge, settled

#: After its faults a world has so many seconds to bring everything to its end.
PATIENCE = 90.0
#: Clients resume what they paused before the calm by then.
LONGEST_PAUSE = 4.0


@dataclass
class Result:
    """One seed's life."""

    seed: int
    violations: list[Violation]
    trace: list[str]
    count: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  #: virtual
    steps: int = 0

    fingerprint: str = ""  #: of the whole trace

    def shortened(self, lines: int) -> Result:
        """With the end of its trace only."""
        return replace(self, trace=self.trace[-lines:] if self.violations else [])


class World:
    """Made of a seed; ``live`` goes through its whole life."""

    def __init__(
        self, seed: int, turns: Turns, *, full: WorkRegistry, partial: WorkRegistry
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.turns = turns
        self.turns.preemption = self.rng.choice([0.0, 0.02, 0.1])
        self.turns.tardiness = self.rng.choice([0.0, 0.0, 0.02])
        self.weather = Weather(random.Random(self.rng.getrandbits(64)))
        self.shared = MemoryRepository(clock=NodeClock(self.turns))  # type: ignore[arg-type]
        self.ledger = Ledger(self.turns, self.shared)
        self.full, self.partial = full, partial
        self.tasks: dict[str, int] = {}
        self.runs: dict[str, int] = {}
        self.gone: list[Process] = []
        count = self.rng.choice([2, 3, 3, 4])
        self.settings = [self._settings() for _ in range(count)]
        self.processes = [self._process(at) for at in range(count)]

    def _settings(self) -> dict[str, Any]:
        return {
            "concurrency": self.rng.choice([2, 4, 8]),
            "queues": self.rng.choice([None, {"mail": None, "slow": 1, "default": None}]),
            "poll": self.rng.choice([1.0, 5.0]),
            "look_ahead": self.rng.choice([0.3, 1.0]),
            "start_timeout": self.rng.choice([3.0, 10.0]),
        }

    def _process(self, at: int) -> Process:
        process = Process(
            f"n{at}",
            turns=self.turns,
            shared=self.shared,
            weather=self.weather,
            ledger=self.ledger,
            works=self.full if at % 2 == 0 else self.partial,
            rng=random.Random(self.rng.getrandbits(64)),
            tasks=self.tasks,
            settings=self.settings[at],
        )
        process.client.busy = self.weather.bad
        if process.clock.skew:
            self.weather.count["clock skew"] += 1
            self.ledger.trace(f"n{at}", "clock skew", f"{process.clock.skew:+.3f} s")
        process.boot(self.runs)
        return process

    def live(self) -> None:
        """Through the faults, then through calm, until all has ended."""
        self._plan_incidents()
        self.turns.run(self.weather.until)
        self._lift()
        while self.turns.now < self.weather.until + PATIENCE:
            self.turns.run(self.turns.now + 1.0)
            self._restart_failed()
            if self.turns.now > self.weather.until + LONGEST_PAUSE:
                self._resume_left()
            if settled(self):
                break

    # --- incidents ------------------------------------------------------------------------

    def _plan_incidents(self) -> None:
        incidents = [
            self.crash, self.freeze, self.cut, self.outage, self.step_clock, self.stall,
            self.restart,
        ]  # fmt: skip
        for _ in range(self.rng.choice([0, 1, 2, 3, 5])):
            incident = self.rng.choice(incidents)
            at = self.rng.randrange(len(self.processes))
            when = self.rng.uniform(0.5, self.weather.until)
            self.turns.at(when, partial(incident, at))

    def _happens(self, what: str, at: int) -> None:
        self.weather.count[what] += 1
        self.ledger.trace(f"n{at}", "incident", what)

    def _later(self, wait: float, call: Any) -> None:
        self.turns.at(self.turns.now + wait, call)

    def crash(self, at: int) -> None:
        self._happens("crash", at)
        self.processes[at].crash()
        self._later(self.rng.uniform(0.1, 2 * LEASE), lambda: self.reboot(at))

    def reboot(self, at: int) -> None:
        """Again on, if it is off; what is leaving is waited for."""
        if self.processes[at].dead:
            self.gone.append(self.processes[at])
            self.processes[at] = self._process(at)
        elif self.processes[at].leaving:
            self._later(0.5, lambda: self.reboot(at))

    def freeze(self, at: int) -> None:
        process = self.processes[at]
        if not process.frozen:
            self._happens("pause", at)
            process.frozen = True
            self._later(self.rng.uniform(0.2, 3 * LEASE), lambda: self.turns.thaw(process))

    def cut(self, at: int) -> None:
        self._happens("connection loss", at)
        wait = self.rng.uniform(0.1, 2 * LEASE)
        self.processes[at].repository.link.cut_until = self.turns.now + wait

    def outage(self, at: int) -> None:
        self._happens("outage", at)
        self.weather.out_until = self.turns.now + self.rng.uniform(0.1, 2 * LEASE)

    def step_clock(self, at: int) -> None:
        self._happens("clock step", at)
        self.processes[at].clock.skew += a_skew(self.rng)

    def stall(self, at: int) -> None:
        self._happens("loop stall", at)
        self.processes[at].loop.stalled_until = self.turns.now + self.rng.uniform(0.2, 2 * LEASE)

    def restart(self, at: int) -> None:
        process = self.processes[at]
        if not process.up:
            return
        self._happens("restart", at)
        process.shut_down(self.rng.choice([0.0, 0.5, 5.0]))
        self._later(self.rng.uniform(0.5, 6.0), lambda: self.reboot(at))

    def _lift(self) -> None:
        """From now on all is well: everybody is up and reaches the database."""
        self.ledger.trace("world", "incident", "the faults end")
        self.weather.lift()
        self.turns.preemption = self.turns.tardiness = 0.0
        for at, process in enumerate(self.processes):
            process.repository.link.cut_until = 0.0
            process.loop.stalled_until = 0.0
            if process.frozen:
                self.turns.thaw(process)
            self.reboot(at)
        for process in self.processes:
            process.client.busy = False

    def _resume_left(self) -> None:
        """A queue stays paused when the process that paused it ends: somebody resumes it."""
        for queue in self.shared.paused_queues():
            self.ledger.saw_resume_queue(self.shared.resume_queue(queue), queue)

    def _restart_failed(self) -> None:
        """A start that came too early, while the database was away, is made again."""
        for at, process in enumerate(self.processes):
            if process.dead:
                self.reboot(at)

    def close(self) -> None:
        """Tear down what is left of it."""
        self.turns.end()
        for process in (*self.gone, *self.processes):
            process.dead = True
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # what nobody came to await
                process.loop.abandon()


class Simulator:
    """Lives through worlds, one after the other."""

    def __init__(self) -> None:
        self._seams = Seams()
        self._full, self._partial = registry(), registry(everything=False)
        self._log = logging.getLogger("rota")
        gc.collect()
        gc.freeze()

    def live(self, seed: int) -> Result:
        """The life of one seed, judged."""
        turns = Turns(random.Random(f"turns {seed}"))
        heard = _Heard(turns)
        propagate, self._log.propagate = self._log.propagate, False
        self._log.addHandler(heard)
        # Collected at a moment of our own: what is thrown away must not run in another world.
        gc.disable()
        try:
            with self._seams.taken_over(turns, random.Random(f"dice {seed}")):
                return self._live(seed, turns, heard)
        finally:
            gc.collect()
            gc.enable()
            self._log.removeHandler(heard)
            self._log.propagate = propagate

    def _live(self, seed: int, turns: Turns, heard: _Heard) -> Result:
        world = World(seed, turns, full=self._full, partial=self._partial)
        heard.ledger = world.ledger
        try:
            world.live()
            violations = judge(world)
        finally:
            world.close()
        trace = [f"{at:10.6f} {who:8} {what}: {how}" for at, who, what, how in world.ledger.traced]
        return Result(
            seed=seed,
            violations=violations,
            trace=trace,
            fingerprint=hashlib.sha256("\n".join(trace).encode()).hexdigest(),
            count=world.ledger.count,
            faults=world.weather.count,
            seconds=turns.now,
            steps=turns.steps,
        )


class _Heard(logging.Handler):
    """What rota logs in a world, in its trace; an error it did not expect is a violation."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(logging.WARNING)
        self.ledger: Ledger | None = None
        self._turns = turns

    def emit(self, record: logging.LogRecord) -> None:
        if self.ledger is None or self._turns.over:
            return
        text = record.getMessage()
        self.ledger.trace("log", record.levelname, text)
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.ledger.broken("error_logged", text, repr(record.exc_info[1]))
