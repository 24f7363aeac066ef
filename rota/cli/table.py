"""Tables fitted to the terminal: what does not fit is said shorter, left out, or cut."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rota.cli.answers import shown

_GAP = "  "
#: A column is not made narrower than this.
_LEAST = 8
#: What a column says that says nothing.
_NOTHING = frozenset({"", "0"})


class Column:
    """A column's header and cells, and how wide it is to be."""

    def __init__(self, header: str, cells: Iterable[object]) -> None:
        self.header = header
        self.cells: list[str] = ["" if cell is None else shown(cell) for cell in cells]
        self.fit()

    def fit(self) -> None:
        """As wide as the widest of its cells."""
        self.width: int = max(map(extent, (self.header, *self.cells)))

    @property
    def least(self) -> int:
        """How narrow it can be made."""
        return min(self.width, max(_LEAST, extent(self.header)))

    @property
    def says_nothing(self) -> bool:
        return _NOTHING.issuperset(self.cells)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: Sequence[str] = (),
    instants: Sequence[str] = (),
    spare: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """The rows under their headers; in a pipe all of them, on a terminal what fits its width.

    ``whole`` columns are never cut. ``instants`` are said shorter and not cut. ``spare``
    columns are left out, the first named first, before others could only be cut to nothing.
    """
    cells = zip(*rows, strict=True) if rows else [()] * len(headers)
    columns = [Column(*both) for both in zip(headers, cells, strict=True)]
    room = terminal() if width is None else width
    if room is not None:
        columns = _fitted(columns, room, {*whole, *instants}, instants, spare)
    lines = [_line(columns, [column.header for column in columns])]
    lines += [_line(columns, cells) for cells in zip(*(one.cells for one in columns), strict=True)]
    return "\n".join(lines)


def terminal() -> int | None:
    """How many columns the terminal has; None for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fitted(
    columns: list[Column], room: int, whole: set[str], instants: Sequence[str], spare: Sequence[str]
) -> list[Column]:
    if _over(columns, room) > 0:
        columns = [one for one in columns if one.header not in spare or not one.says_nothing]
    if _over(columns, room) > 0:
        for column in columns:
            if column.header in instants:
                column.cells = [_shorter(cell) for cell in column.cells]
                column.fit()
    for name in spare:
        cut = sum(one.width - one.least for one in columns if one.header not in whole)
        if _over(columns, room) <= cut:
            break
        columns = [one for one in columns if one.header != name]
    cuttable = [one for one in columns if one.header not in whole]
    for _ in range(max(0, _over(columns, room))):
        widest = max(cuttable, key=lambda one: one.width - one.least, default=None)
        if widest is None or widest.width <= widest.least:
            break
        widest.width -= 1
    return columns


def _over(columns: Sequence[Column], room: int) -> int:
    """By how much they are too wide."""
    return sum(one.width for one in columns) + len(_GAP) * (len(columns) - 1) - room


def _shorter(moment: str) -> str:
    """The time of an instant that is today, else its date."""
    date, _, time = moment.partition(" ")
    return time if time and date == f"{datetime.now(UTC):%Y-%m-%d}" else date


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    fitted = [cut(cell, column.width) for column, cell in zip(columns, cells, strict=True)]
    padded = [
        cell + " " * (column.width - extent(cell))
        for column, cell in zip(columns, fitted, strict=True)
    ]
    return _GAP.join(padded).rstrip()


def extent(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_extent_of, text))


def _extent_of(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """The text, or what of it fits so many columns, with a sign that there was more.

    >>> cut("a long note", 8), cut("short", 8)
    ('a long …', 'short')
    """
    if extent(text) <= width:
        return text
    kept, left = "", width - 1
    for char in text:
        left -= _extent_of(char)
        if left < 0:
            break
        kept += char
    return f"{kept}…" if width > 0 else ""
