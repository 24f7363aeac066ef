"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from rota.core.clock import Seconds, seconds
from rota.errors import InvalidArgument

#: Seconds to wait after this attempt (counted from 1).
BackoffFunction = Callable[[int], Seconds]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting: ``first · factor^(attempt-1)``, capped at ``max``, then jittered.

    All in seconds (or ``timedelta``). ``jitter="full"`` draws evenly from 0 to the
    wait (AWS Architecture Blog, "Exponential Backoff and Jitter", 2015);
    ``jitter="none"`` waits it exactly.

    >>> [Backoff(first=1, factor=2, max=5, jitter="none").delay(n) for n in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """

    first: Seconds = 1.0
    factor: float = 2.0
    max: Seconds = 600.0
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        seconds(self.first, "backoff.first")
        seconds(self.max, "backoff.max")
        if not isinstance(self.factor, (int, float)) or not 1 <= self.factor < float("inf"):
            raise InvalidArgument(
                f"backoff.factor is {self.factor!r}; it must be 1 or more", field="backoff.factor"
            )
        if self.jitter not in {"full", "none"}:
            raise InvalidArgument(
                f"backoff.jitter is {self.jitter!r}; it must be 'full' or 'none'",
                field="backoff.jitter",
            )

    def delay(self, attempt: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after this attempt, counted from 1; never overflows."""
        first, cap = seconds(self.first, "first"), seconds(self.max, "max")
        try:
            wait = min(cap, first * self.factor ** max(0, attempt - 1))
        except OverflowError:
            wait = cap
        if self.jitter == "full":
            return (rng or random).uniform(0.0, wait)  # type: ignore[union-attr, unused-ignore]
        return wait

    def to_json(self) -> dict[str, Any]:
        return {
            "first_seconds": seconds(self.first, "first"),
            "factor": float(self.factor),
            "max_seconds": seconds(self.max, "max"),
            "jitter": self.jitter,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        try:
            return cls(data["first_seconds"], data["factor"], data["max_seconds"], data["jitter"])
        except (KeyError, TypeError) as error:
            raise InvalidArgument(
                f"a stored backoff cannot be read ({type(error).__name__}: {error}); "
                "if a later version wrote it, upgrade rota here",
                field="backoff",
            ) from error
