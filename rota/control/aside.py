"""Definitions this node cannot fire at present: named once, passed over, tried again later."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import NamedTuple

from rota.core.clock import Clock

log: logging.Logger = logging.getLogger("rota.recurring")

#: They are tried again after about so many seconds, or when they change.
AGAIN = 60.0


class _Entry(NamedTuple):
    version: int
    until: float


class Aside:
    """Which definitions are passed over, each version of them told once."""

    def __init__(self, *, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._entries: dict[str, _Entry] = {}

    def put(self, recurring_id: str, version: int, reason: str) -> None:
        """Pass this definition over for a while."""
        known = self._entries.get(recurring_id)
        if known is None or known.version != version:
            log.warning(
                "recurring task %r is not fired here for the time being, others go on: %s",
                recurring_id,
                reason,
            )
        until = self._clock.monotonic() + AGAIN * self._rng.uniform(0.7, 1.0)
        self._entries[recurring_id] = _Entry(version, until)

    def ids(self) -> list[str]:
        """Those to pass over now."""
        now = self._clock.monotonic()
        forgotten = [name for name, one in self._entries.items() if one.until < now - AGAIN]
        for name in forgotten:
            del self._entries[name]
        return [name for name, one in self._entries.items() if one.until > now]

    def changed(self, recurring_ids: Sequence[str] | None) -> None:
        """These, or any (None), may have changed: look at them again now."""
        names = self._entries if recurring_ids is None else recurring_ids
        for name in list(names):
            known = self._entries.get(name)
            if known is not None:
                self._entries[name] = known._replace(until=self._clock.monotonic())
