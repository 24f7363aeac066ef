"""Make task ids: UUIDv7, ordered by time, as strings."""

from __future__ import annotations

import os
import secrets
import time
import uuid

from rota.core.shown import shown
from rota.errors import InvalidArgument

#: A random hex digit with its upper two bits set to the variant's.
_VARIANT = {f"{digit:x}": f"{0x8 | digit & 0x3:x}" for digit in range(16)}
#: For so many ids at once the system is asked for randomness.
_DRAWN = 64
_NAMESPACE = uuid.UUID("8e7a1f0e-6f5f-5c7e-9a27-3b1d8f0c6a11")


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562, section 5.7) in its canonical text form.

    Millisecond time first, so ids sort roughly by when they were made and
    B-trees grow at one end; 74 random bits make them safe to choose on the client.
    """
    stamp = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10), "big")
    high = f"{stamp:012x}7{tail >> 68 & 0xFFF:03x}"
    low = f"{0x8000000000000000 | (tail & 0x3FFFFFFFFFFFFFFF):016x}"
    return f"{high[:8]}-{high[8:12]}-{high[12:]}-{low[:4]}-{low[4:]}"


class FreshIds:
    """Makes ids one by one as :func:`new_id` does, asking the system for randomness in bulk.

    Where a request for randomness costs 20 µs, that is most of an id. Belongs to one process: a
    forked child would make its parent's next ids.
    """

    def __init__(self) -> None:
        self._tails: list[str] = []

    def make(self) -> str:
        """A fresh id; from any thread."""
        try:
            tail = self._tails.pop()
        except IndexError:
            tail = self._draw()
        stamp = f"{time.time_ns() // 1_000_000:012x}"
        return f"{stamp[:8]}-{stamp[8:]}-7{tail[:3]}-{_VARIANT[tail[3]]}{tail[4:7]}-{tail[7:19]}"

    def _draw(self) -> str:
        drawn = os.urandom(10 * _DRAWN).hex()
        self._tails += [drawn[at : at + 20] for at in range(20, 20 * _DRAWN, 20)]
        return drawn[:20]


def new_ids(count: int) -> list[str]:
    """So many fresh ids in ascending order: made together, they stand side by side in a B-tree."""
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    head = f"{stamp[:8]}-{stamp[8:]}-7"
    tail = os.urandom(10 * count).hex()
    ids = [
        f"{head}{tail[at : at + 3]}-{_VARIANT[tail[at + 3]]}{tail[at + 4 : at + 7]}"
        f"-{tail[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]
    ids.sort()
    return ids


def derive_id(*parts: object) -> str:
    """A task id made from your own key, always the same for the same parts.

    >>> derive_id("order", 77) == derive_id("order", 77)
    True

    Use it where ``id=`` is to make a repeated schedule recognise itself.
    """
    name = "\x1f".join(str(part) for part in parts)
    return str(uuid.uuid5(_NAMESPACE, name))


def child_id(parent: str, key: str) -> str:
    """The id of a parent's child with this key, the same in every attempt of the parent."""
    return str(uuid.uuid5(uuid.UUID(parent), key))


def check_id(value: object) -> str:
    """The canonical text of a caller's id: a ``UUID`` or its string form."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise InvalidArgument(
        f"id {shown(value)} is not a UUID; make one from your own key with rota.derive_id(key)",
        field="id",
    )


def new_incarnation() -> int:
    """A random 63-bit number for one start of one node; never reused, so tokens never are."""
    return secrets.randbits(62) | 1 << 62
