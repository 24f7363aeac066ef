"""A memory repository whose verbs fail on request, before or after they have done their work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rota.core.clock import SystemClock
from rota.errors import StorageUnavailable
from rota.storage.memory import MemoryRepository


class Faulty(MemoryRepository):
    """``fail["finish"] = 2`` has the next two calls of that verb raise, as an outage would."""

    def __init__(self, *verbs: str) -> None:
        super().__init__(clock=SystemClock())
        self.fail: Counter[str] = Counter()
        self.pass_first: Counter[str] = Counter()  #: so many calls go well before the failures
        self.calls: Counter[str] = Counter()
        for verb in verbs:
            setattr(self, verb, self._failing(verb, getattr(self, verb)))

    def _failing(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[verb] += 1
            if self.pass_first[verb] > 0:
                self.pass_first[verb] -= 1
            elif self.fail[verb] > 0:
                self.fail[verb] -= 1
                raise StorageUnavailable(f"{verb} failed on purpose; try again")
            return real(*args, **kwargs)

        return call
