"""Write arrays the way that costs least on their way to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def uuids(ids: Iterable[str | None]) -> str:
    """The ids as a literal of type ``uuid[]``.

    psycopg would send text and have the server convert each; a literal is parsed at once.
    """
    return f"{{{','.join(task_id or 'NULL' for task_id in ids)}}}"


def whole(numbers: Iterable[int]) -> str:
    """Whole numbers as a literal array; psycopg would look at each one's size first."""
    return f"{{{','.join(map(str, numbers))}}}"


def reals(numbers: Iterable[float | None]) -> str:
    """Seconds as a literal array, to the microsecond."""
    parts = ["NULL" if number is None else f"{number:.6f}" for number in numbers]
    return f"{{{','.join(parts)}}}"


def texts(values: Sequence[str | None]) -> str:
    """Texts as a literal array; of nothing but null an empty one, which ``unnest`` fills up."""
    first = values[0] if values else None
    if values.count(first) == len(values):
        return "{}" if first is None else f"{{{','.join([_quoted(first)] * len(values))}}}"
    return f"{{{','.join(['NULL' if text is None else _quoted(text) for text in values])}}}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
