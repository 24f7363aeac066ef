"""Write arrays the way that costs least on their way to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable


def uuids(ids: Iterable[str | None]) -> str:
    """The ids as a literal of type ``uuid[]``.

    psycopg would send text and have the server convert each; a literal is parsed at once.
    """
    return f"{{{','.join(task_id or 'NULL' for task_id in ids)}}}"


def whole(numbers: Iterable[int]) -> str:
    """Whole numbers as a literal array; psycopg would look at each one's size first."""
    return f"{{{','.join(map(str, numbers))}}}"
