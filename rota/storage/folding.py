"""How the counts of what has ended are kept few: the older, the wider the stretch of one row."""

from __future__ import annotations

from typing import NamedTuple

_HOUR, _DAY = 3_600, 86_400

#: Counts are kept for so many days, however long the tasks are.
KEPT_DAYS = 30


class Fold(NamedTuple):
    """Rows older than ``after`` seconds become one per ``width`` seconds."""

    after: int
    width: int


#: What is asked for since an hour, a day or a week ago is off by a small part of that.
FOLDS = (
    Fold(120, 60),
    Fold(2 * _HOUR, 600),
    Fold(_DAY, _HOUR),
    Fold(8 * _DAY, _DAY),
)
