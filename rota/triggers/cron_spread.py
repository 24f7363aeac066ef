"""``H`` in a cron expression, fixed by the recurring id as Jenkins does it."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from rota.triggers.cron_fields import FIELDS, Field, Fields

_HASH = re.compile(r"H(?:\((\d+)-(\d+)\))?(?:/(\d+))?", re.ASCII)

#: Given a field's name and how many choices there are: the choice, counted from 0.
Pick = Callable[[str, int], int]


def by_id(recurring: str) -> Pick:
    """The same choice for the same id and field, on every node and in every version."""

    def pick(field: str, choices: int) -> int:
        digest = blake2b(f"{recurring}\0{field}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % choices

    return pick


def highest(field: str, choices: int) -> int:  # noqa: ARG001 - a Pick
    """The latest choice: if that one can fire, all can."""
    return choices - 1


def spread(fields: Fields, pick: Pick) -> Fields:
    """The fields with every ``H`` replaced by plain numbers."""
    return Fields(
        *(
            ",".join(_settle(field, term, pick) for term in text.split(","))
            for field, text in zip(FIELDS, fields, strict=True)
        )
    )


def _settle(field: Field, term: str, pick: Pick) -> str:
    found = _HASH.fullmatch(term)
    if found is None:
        return term
    low = field.low if found[1] is None else int(found[1])
    high = field.hashed_to if found[2] is None else int(found[2])
    if found[3] is None:
        return str(low + pick(field.name, high - low + 1))
    step = int(found[3])
    first = low + pick(field.name, step)
    return f"{first}-{high}/{step}" if first + step <= high else str(first)
