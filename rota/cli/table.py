"""Tables fitted to the terminal: what is too wide is cut where that says least wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from rota.cli.answers import shown

_GAP = "  "
#: A column is not made narrower than this.
_LEAST = 8


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """The rows under their headers; the ``whole`` columns, and all in a pipe, are never cut."""
    cells = [["" if cell is None else shown(cell) for cell in row] for row in rows]
    most = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    room = terminal() if width is None else width
    widths = most if room is None else _fitted(headers, most, set(whole), room)
    return "\n".join(_line(row, widths) for row in [list(headers), *cells])


def terminal() -> int | None:
    """How many columns the terminal has; None for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fitted(headers: Sequence[str], most: list[int], whole: set[str], room: int) -> list[int]:
    widths = list(most)
    cuttable = [at for at, name in enumerate(headers) if name not in whole]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    while over > 0:
        widest = max(cuttable, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= max(_LEAST, len(headers[widest])):
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell if len(cell) <= width else f"{cell[: width - 1]}…"
        for cell, width in zip(row, widths, strict=True)
    ]
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)]
    return _GAP.join(padded).rstrip()
