"""Where rota touches the machine: its threads, queues, locks, clocks and dice, taken over."""

from __future__ import annotations

import os
import queue
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import rota
import rota.core.ids
import rota.scheduler.dispatcher
import rota.storage.memory
import rota.storage.nodelife
from tests.simulation.turns import EmptyLine, Flag, Host, Line, Lock, Strand, Turns

_REPLACED: dict[str, ModuleType] = {
    "threading": threading,
    "queue": queue,
    "random": random,
    "secrets": secrets,
    "time": time,
}


class _Stand:
    """Stands in for a module; what it does not say is the module's own."""

    def __init__(self, module: ModuleType, **own: Any) -> None:
        self.__dict__.update(own)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class OrderedSet(dict[Any, None]):
    """A set in the order of arrival: sets of objects go by their addresses, which differ."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def update(self, items: Iterable[Any]) -> None:  # type: ignore[override]
        super().update(dict.fromkeys(items))


class Seams:
    """The places in rota's loaded modules; found once, filled for each seed."""

    def __init__(self) -> None:
        self._places = [
            (module, name)
            for where, module in sorted(sys.modules.items())
            if where.startswith("rota.") and not where.startswith(("rota.testing", "rota.cli"))
            for name, real in _REPLACED.items()
            if getattr(module, name, None) is real
        ]

    @contextmanager
    def taken_over(self, turns: Turns, rng: random.Random) -> Iterator[None]:
        """Have rota's threads, events, queues, dice and clocks be the simulation's."""
        stands = _stands(turns, rng)
        filled: list[tuple[Any, str, Any]] = [
            (module, name, stands[name]) for module, name in self._places
        ]
        filled += [
            (rota.core.ids, "os", _Stand(os, urandom=rng.randbytes)),
            (rota.storage.nodelife, "installed_version", lambda: "simulated"),
            (rota.scheduler.dispatcher, "set", OrderedSet),
        ]
        before = [(place, name, vars(place).get(name)) for place, name, _ in filled]
        for place, name, value in filled:
            setattr(place, name, value)
        try:
            yield
        finally:
            for place, name, value in before:
                if value is None:
                    delattr(place, name)
                else:
                    setattr(place, name, value)


def _stands(turns: Turns, rng: random.Random) -> dict[str, _Stand]:
    main = object()
    nobody = Host("nobody")

    def thread(
        target: Callable[..., object],
        name: str = "",
        daemon: bool = True,
        args: tuple[Any, ...] = (),
    ) -> Strand:
        """A thread of whoever makes it."""
        here = turns.current.host if turns.current is not None else _host_of_loop(nobody)
        return Strand(turns, here, (lambda: target(*args)) if args else target, name)

    def dice(seed: object = None) -> random.Random:
        return random.Random(rng.getrandbits(64))

    return {
        "threading": _Stand(
            threading,
            Thread=thread,
            Event=lambda: Flag(turns),
            Lock=lambda: Lock(turns),
            current_thread=lambda: turns.current or main,
        ),
        "queue": _Stand(queue, SimpleQueue=lambda: Line(turns), Empty=EmptyLine),
        "random": _Stand(random, Random=dice, uniform=rng.uniform, random=rng.random),
        "secrets": _Stand(secrets, randbits=rng.getrandbits),
        "time": _Stand(
            time,
            perf_counter=lambda: turns.now,
            monotonic=lambda: turns.now,
            time=lambda: turns.now,
            time_ns=lambda: int((1_767_225_600 + turns.now) * 1e9),
        ),
    }


def _host_of_loop(otherwise: Host) -> Host:
    import asyncio

    try:
        host: Host = asyncio.get_running_loop().host  # type: ignore[attr-defined]
    except RuntimeError:
        return otherwise
    return host
