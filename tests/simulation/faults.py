"""A repository that fails: one process's way to the shared database, and the weather on it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rota.core.task import Lane
from rota.errors import RotaError, StorageUnavailable
from rota.storage.memory import MemoryRepository
from rota.storage.memory.signals import MemorySignals
from tests.simulation.ledger import Ledger
from tests.simulation.turns import Flag, Host, Turns


class Weather:
    """How bad it is: rates of each kind of fault, drawn anew for each seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bad = True
        self.until = rng.uniform(6.0, 14.0)  #: from then on nothing fails
        self.latency = rng.choice([0.0002, 0.001, 0.005])
        self.before = rng.choice([0.0, 0.0, 0.01, 0.04])
        self.after = rng.choice([0.0, 0.0, 0.01, 0.04])
        self.slow = rng.choice([0.0, 0.0, 0.005, 0.02])
        self.deaf = rng.choice([0.0, 0.2, 1.0])
        self.out_until = 0.0  #: of the database, for everybody
        self.count: Counter[str] = Counter()

    def lift(self) -> None:
        """From now on nothing fails any more."""
        self.bad = False
        self.before = self.after = self.slow = self.deaf = self.out_until = 0.0

    def delay(self) -> float:
        draw = self.rng.random()
        if self.slow and self.rng.random() < self.slow:
            self.count["delay"] += 1
            return draw * draw * 5.0
        return draw * self.latency


class Link:
    """One process's connection to the database."""

    def __init__(self) -> None:
        self.cut_until = 0.0

    def down(self, now: float) -> bool:
        return now < self.cut_until


class _Statement:
    """One statement on its way there, in the database, and its answer on its way back."""

    __slots__ = ("answered", "error", "late", "name", "run", "value", "way")

    def __init__(self, way: FaultyRepository, name: str, run: Callable[[], Any]) -> None:
        self.way = way
        self.name = name
        self.run = run
        self.value: Any = None
        self.error: Exception | None = None
        self.late: Exception | None = None
        self.answered = Flag(way.turns)

    def arrive(self) -> None:
        """In the database, whatever has become of who sent it."""
        way, weather = self.way, self.way.weather
        fate = "-"
        if way.cut():
            self.error, fate = StorageUnavailable("simulated: no connection"), "cut"
        elif weather.before and weather.rng.random() < weather.before:
            weather.count["error before commit"] += 1
            self.error, fate = StorageUnavailable("simulated: failed before the commit"), "before"
        else:
            try:
                self.value = self.run()
            except RotaError as error:
                self.error, fate = error, type(error).__name__
            if weather.after and weather.rng.random() < weather.after:
                weather.count["error after commit"] += 1
                self.late, fate = (
                    StorageUnavailable("simulated: the reply was lost"),
                    fate + " lost",
                )
        way.ledger.trace(way.host.name, self.name, fate)
        way.turns.at(way.turns.now + weather.delay(), self.reply)

    def reply(self) -> None:
        if self.late is None and self.error is None and self.way.cut():
            self.way.weather.count["connection lost with the reply"] += 1
            self.late = StorageUnavailable("simulated: the connection was lost")
        self.answered.set()


class FaultyRepository:
    """One process's view of the shared memory repository."""

    durable = False
    embedded = False

    def __init__(
        self,
        *,
        shared: MemoryRepository,
        turns: Turns,
        host: Host,
        weather: Weather,
        ledger: Ledger,
    ) -> None:
        self.shared = shared
        self.turns = turns
        self.host = host
        self.weather = weather
        self.ledger = ledger
        self.link = Link()
        self.ears: list[MemorySignals] = []

    def cut(self) -> bool:
        now = self.turns.now
        return now < self.weather.out_until or self.link.down(now)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def abort_overdue(self) -> int:
        return 0

    def cut_off(self) -> bool:
        return False  # no lock goes with a connection here

    def signals(self, node: int) -> FaultySignals:
        ear = self.shared.signals(node)
        self.ears.append(ear)
        return FaultySignals(ear, self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.shared, name)
        saw = getattr(self.ledger, f"saw_{name}", None)

        def verb(*args: Any, **kwargs: Any) -> Any:
            if saw is None:
                return self._send(name, lambda: method(*args, **kwargs))

            def run() -> Any:
                value = method(*args, **kwargs)
                saw(value, *args, **kwargs)
                return value

            return self._send(name, run)

        setattr(self, name, verb)
        return verb

    def _send(self, name: str, run: Callable[[], Any]) -> Any:
        turns = self.turns
        if turns.over or self.host.dead:
            raise StorageUnavailable("simulated: this process is gone")
        if turns.current is None:
            raise AssertionError(f"{name} was sent on the event loop, which it would block")
        if turns.locks:
            raise AssertionError(f"{name} was sent by a thread that holds a lock")
        statement = _Statement(self, name, run)
        turns.at(turns.now + self.weather.delay(), statement.arrive)
        turns.block(statement.answered, None)
        error = statement.late or statement.error
        if error is not None:
            raise error
        return statement.value


class FaultySignals:
    """A process's ear: what is said may be lost, and nobody hears while the connection is cut."""

    def __init__(self, ear: MemorySignals, way: FaultyRepository) -> None:
        self._ear = ear
        self._way = way

    @property
    def hears(self) -> bool:
        return not self._way.cut()

    def announce(
        self, *, lanes: Sequence[Lane] = (), tasks: Sequence[str] = (), everything: bool = False
    ) -> None:
        weather = self._way.weather
        if weather.deaf and weather.rng.random() < weather.deaf:
            weather.count["notification lost"] += 1
        elif not self._way.cut() and not self._way.host.dead:
            self._ear.announce(lanes=lanes, tasks=tasks, everything=everything)

    def wait(self, timeout: float) -> Any:
        if self._way.cut():
            raise StorageUnavailable("simulated: the listener has no connection")
        return self._ear.wait(timeout)

    def interrupt(self) -> None:
        self._ear.interrupt()

    def close(self) -> None:
        self._ear.close()
