"""Many values in one JSON text: a statement over all of them is one step of SQLite's.

A step lets go of the interpreter and has to ask for it again, and while the event loop is
busy that takes longer than the step. What is exact in Python stays exact: numbers of 64
bits, every character. A lone surrogate is refused when the text is bound, as ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode
#: So often the one, then the other, stands for NUL where there is one.
_AGAIN, _LAST = "\ue000", "\ue001"

Field = int | str | None


class Carried(NamedTuple):
    """Rows by id as one text; in their texts ``nul`` stands for NUL, which would end them."""

    text: str
    nul: str = ""


def carry(rows: Mapping[str, Sequence[Field] | Field]) -> Carried:
    """The rows for ``json_each``: their ids are keys, their fields values.

    Statements take texts out by ``replace(…, nul, char(0))``; by an empty ``nul`` SQLite
    replaces nothing.
    """
    text = _encode(rows)
    if "\\u0000" not in text:
        return Carried(text)
    nul = _AGAIN + _LAST
    while nul in text:
        nul = _AGAIN + nul
    return Carried(_encode({key: _without_nul(row, nul) for key, row in rows.items()}), nul)


def listed(values: Sequence[str] | Sequence[int]) -> str:
    """Ids or batches for ``json_each``."""
    return _encode(values)


def _without_nul(row: Sequence[Field] | Field, nul: str) -> Sequence[Field] | Field:
    if isinstance(row, str):
        return row.replace("\x00", nul)
    if row is None or isinstance(row, int):
        return row
    return [field.replace("\x00", nul) if isinstance(field, str) else field for field in row]
