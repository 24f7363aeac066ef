"""What a task carries about how it is to be run, resolved once and stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rota.core.backoff import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The resolved run options of one task; see :meth:`Scheduler.schedule` for each."""

    max_attempts: int | None = 1
    backoff: Backoff | None = None
    timeout: float | None = None
    max_rescues: int | None = 5
    store_result: bool = True

    def encode(self) -> str:
        """Compact JSON of what differs from the defaults."""
        data: dict[str, Any] = {}
        if self.max_attempts != 1:
            data["max_attempts"] = self.max_attempts
        if self.backoff is not None:
            data["backoff"] = self.backoff.to_json()
        if self.timeout is not None:
            data["timeout_seconds"] = self.timeout
        if self.max_rescues != 5:
            data["max_rescues"] = self.max_rescues
        if not self.store_result:
            data["store_result"] = False
        return json.dumps(data, separators=(",", ":"))


@lru_cache(maxsize=1024)
def decode_options(text: str) -> Options:
    """The options of stored JSON; cached, since most tasks of a work share one text.

    Keys this version does not know are passed over: a newer node may have written them.
    """
    data = json.loads(text)
    backoff = data.get("backoff")
    return Options(
        max_attempts=data.get("max_attempts", 1),
        backoff=Backoff.from_json(backoff) if backoff else None,
        timeout=data.get("timeout_seconds"),
        max_rescues=data.get("max_rescues", 5),
        store_result=data.get("store_result", True),
    )
