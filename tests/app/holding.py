"""A repository one of whose verbs gets no further until a test lets it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rota.core.ports import Repository
from rota.storage.open import open_repository
from tests.conftest import Database

PATIENCE = 20


def opened(database: Database) -> Repository:
    """One that a test may lay hands on."""
    if not isinstance(database.target, str):
        return database.target
    return open_repository(database.target, clock=database.clock, **database.options)


class Held:
    """One verb of a repository that gets no further until it is let go.

    With ``node`` only that node's calls, which name it first.
    """

    node: int | None = None

    def __init__(self, repository: Repository, verb: str) -> None:
        self._right: Callable[..., Any] = getattr(repository, verb)
        self._go = threading.Event()
        self._go.set()
        self.asked = threading.Semaphore(0)
        setattr(repository, verb, self)

    def __call__(self, *args: Any, **how: Any) -> Any:
        if self.node is not None and args[0] != self.node:
            return self._right(*args, **how)
        if not self._go.is_set():
            self.asked.release()
        assert self._go.wait(PATIENCE)
        return self._right(*args, **how)

    def hold(self) -> None:
        self._go.clear()

    def let_go(self) -> None:
        self._go.set()
