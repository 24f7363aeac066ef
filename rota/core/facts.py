"""Tasks and attempts as JSON with the API's names, for the command line and the archive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from rota.core.task import Attempt, Task


def plain(value: Any) -> Any:
    """The value as JSON can hold it: ISO instants, seconds, objects by their fields' names."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {
                field.name: plain(getattr(value, field.name))
                for field in fields(value)
                if not field.name.startswith("_")
            }
        case _:
            return value


def task_facts(task: Task) -> dict[str, Any]:
    """A task's fields and its status."""
    return {**plain(task), "status": task.status}


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    """An attempt's fields but for the task's id."""
    facts: dict[str, Any] = plain(attempt)
    del facts["task_id"]
    return facts
