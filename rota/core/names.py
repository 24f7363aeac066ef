"""What a queue, a work id and a key may be called."""

from __future__ import annotations

import re

from rota.core.shown import shown
from rota.errors import InvalidArgument, InvalidName

_QUEUE = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,62}")
_WORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-/]{0,199}")

PRIORITY_MIN, PRIORITY_MAX = -100, 100


def check_queue(value: object) -> str:
    """A queue name: lower-case letters, digits, ``_ . -``, at most 63 characters."""
    if isinstance(value, str) and _QUEUE.fullmatch(value):
        return value
    raise InvalidName(
        f"queue {shown(value)} is not a queue name; use 1 to 63 of a-z 0-9 _ . - "
        "and begin with a letter or digit",
        field="queue",
    )


def check_work(value: object) -> str:
    """A work id: letters, digits, ``_ . : - /``, at most 200 characters."""
    if isinstance(value, str) and _WORK.fullmatch(value):
        return value
    raise InvalidName(
        f"work id {shown(value)} is not usable; use 1 to 200 of A-Z a-z 0-9 _ . : - / "
        "and begin with a letter, digit or _",
        field="work",
    )


def check_key(value: object, field: str) -> str:
    """A key of the caller's: any text of 1 to 200 characters that a database can store."""
    if isinstance(value, str) and 0 < len(value) <= 200 and "\x00" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise InvalidName(f"{field} {shown(value)} must be text of 1 to 200 characters", field=field)


def check_priority(value: object) -> int:
    """A priority: a whole number from -100 to 100, higher first."""
    if type(value) is int and PRIORITY_MIN <= value <= PRIORITY_MAX:
        return value
    raise InvalidArgument(
        f"priority {shown(value)} must be a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}, "
        "higher first",
        field="priority",
    )
