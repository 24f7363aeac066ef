"""Who runs when: one at a time, the next chosen by the seed, in a time of its own."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any, Protocol

import greenlet  # type: ignore[import-untyped, unused-ignore]


class Host:
    """One process of the simulated world, as far as its turns go."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.held: list[Actor] = []  #: whose turn came while it was frozen


class Actor(Protocol):
    """Something that takes turns: a thread, or an event loop."""

    host: Host
    queued: bool

    def step(self) -> None: ...


class Turns:
    """The seeded scheduler of interleavings, and the virtual clock.

    Time stands while anybody is ready, and then jumps to the next moment something is due.
    """

    def __init__(self, rng: random.Random) -> None:
        self.now = 0.0
        self.over = False
        self.current: Strand | None = None
        self.locks = 0  #: held by the strand that runs
        self.preemption = 0.0  #: how likely a thread loses its turn where it reads a clock
        self.tardiness = 0.0  #: how likely whoever is ready gets its turn later
        self.steps = 0
        self.failures: list[str] = []  #: errors nobody in rota caught
        self.rng = rng
        self.hub = greenlet.getcurrent()
        self.strands: list[Strand] = []
        self._draw = rng.random
        self._ready: list[Actor] = []
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = itertools.count()

    def ready(self, actor: Actor) -> None:
        """It wants a turn."""
        if not actor.queued:
            actor.queued = True
            self._ready.append(actor)

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Call at that moment, in nobody's turn."""
        heapq.heappush(self._agenda, (when, next(self._serial), call))

    def run(self, until: float) -> None:
        """Let everybody take turns up to that moment."""
        ready, agenda, draw = self._ready, self._agenda, self._draw
        while True:
            if ready:
                at = int(draw() * len(ready))
                actor = ready[at]
                ready[at] = ready[-1]
                ready.pop()
                self._turn(actor)
            elif agenda and agenda[0][0] <= until:
                when, _, call = heapq.heappop(agenda)
                if when > self.now:
                    self.now = when
                call()
            else:
                self.now = until
                return

    def _turn(self, actor: Actor) -> None:
        actor.queued = False
        host = actor.host
        if host.dead:
            return
        if host.frozen:
            host.held.append(actor)
        elif self.tardiness and self._draw() < self.tardiness:
            self.at(self.now + self._draw() * 0.05, lambda: self.ready(actor))
        else:
            self.steps += 1
            actor.step()

    def thaw(self, host: Host) -> None:
        """A stopped process goes on."""
        host.frozen = False
        held, host.held = host.held, []
        for actor in held:
            self.ready(actor)

    def block(self, flag: Flag | None, timeout: float | None) -> bool:
        """In a thread: give up the turn until the flag is set (True) or time is over (False)."""
        me = self.current
        if me is None:
            raise AssertionError("the event loop would have blocked")
        if self.over or me.host.dead:
            raise greenlet.GreenletExit
        if flag is not None and flag.is_set():
            return True
        me.turn += 1
        me.told = False
        if flag is not None:
            flag.waiting[me] = me.turn
        if timeout is not None:
            turn = me.turn
            self.at(self.now + timeout, lambda: me.resume(turn, told=False))
        self._give_up()
        return me.told

    def perhaps_yield(self) -> None:
        """A place where a thread may lose its turn."""
        me = self.current
        if me is None or self.locks or not self.preemption or self._draw() >= self.preemption:
            return
        if not self.over:
            self.ready(me)
            self._give_up()

    def _give_up(self) -> None:
        self.hub.switch()
        if self.over:
            raise greenlet.GreenletExit

    def end(self) -> None:
        """Tear all threads down, where they stand."""
        self.over = True
        for strand in self.strands:
            strand.tear()


class Strand:
    """A thread of rota's: its code as it is, with its turns from ``Turns``."""

    def __init__(self, turns: Turns, host: Host, target: Callable[[], object], name: str) -> None:
        self.host = host
        self.name = name
        self.queued = False
        self.turn = 0
        self.told = False
        self.ended = Flag(turns)
        self._turns = turns
        self._target = target
        self._greenlet: greenlet.greenlet | None = None

    @property
    def ident(self) -> int | None:
        return None if self._greenlet is None else 1

    def start(self) -> None:
        self._greenlet = greenlet.greenlet(self._run, self._turns.hub)
        self._turns.strands.append(self)
        self._turns.ready(self)

    def join(self, timeout: float | None = None) -> None:
        if self.is_alive():
            self._turns.block(self.ended, timeout)

    def is_alive(self) -> bool:
        return self._greenlet is not None and not self.ended.is_set()

    def resume(self, turn: int, *, told: bool) -> None:
        """What it waits for has come, unless that was long ago."""
        if turn == self.turn:
            self.turn += 1
            self.told = told
            self._turns.ready(self)

    def step(self) -> None:
        turns = self._turns
        if self._greenlet is not None:
            turns.current = self
            self._greenlet.switch()
            turns.current = None

    def tear(self) -> None:
        if self._greenlet and not self._greenlet.dead:
            self._turns.current = self
            self._greenlet.throw()
            self._turns.current = None

    def _run(self) -> None:
        try:
            self._target()
        except greenlet.GreenletExit:
            pass
        except Exception as error:
            self._turns.failures.append(f"{self.name} ended by {error!r}")
        finally:
            self.ended.set()


class Flag:
    """``threading.Event``, for strands."""

    __slots__ = ("_set", "_turns", "waiting")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._set = False
        self.waiting: dict[Strand, int] = {}

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        if self.waiting:
            waiting, self.waiting = self.waiting, {}
            for strand, turn in waiting.items():
                strand.resume(turn, told=True)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._turns.block(self, timeout)


class Lock:
    """``threading.Lock``: nobody loses a turn holding one, so there is nothing to wait for."""

    __slots__ = ("_turns",)

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> bool:
        self._turns.locks += 1
        return True

    def __exit__(self, *_: object) -> None:
        self._turns.locks -= 1


class Line:
    """``queue.SimpleQueue``, for strands."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._items: list[Any] = []
        self._filled = Flag(turns)

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._filled.set()

    def get(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._turns.now + timeout
        while not self._items:
            self._filled.clear()
            left = None if until is None else until - self._turns.now
            if not self._turns.block(self._filled, left) and left is not None:
                raise EmptyLine
        return self._items.pop(0)


class EmptyLine(Exception):
    """``queue.Empty``."""
