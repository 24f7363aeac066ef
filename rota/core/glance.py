"""What a claimer sees that looks whether there is anything to do at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rota.core.task import Lane


class Glance(NamedTuple):
    """How the database stood at one moment, as far as somebody may have to act on it.

    Times are seconds from that moment; None where there is nothing to wait for.
    """

    lanes: Sequence[Lane] = ()  #: as ``agenda`` tells them, of the queues that were asked for
    peers: bool = False  #: there are other nodes
    dead: bool = False  #: one of them may be dead: ``bury``
    lease_left: float | None = None  #: of the peers' leases, until the first one ends
    orphans: bool = False  #: there are leases without a node: ``rescue``
    mine: bool = False  #: the asking node has leases
    overdue: bool = False  #: something waits past its ``expires_at``: ``expire``
    parked: bool = False  #: something is parked
    paused_works: Collection[str] = frozenset()
    fires_in: float | None = None  #: until the first recurring task is due
    moment: float | None = None  #: that moment on the database's clock, in seconds since 1970
