"""How a node is, for probes and people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One look at a node; all times in seconds.

    ``live``: its loop turns, and nothing has stood for ``stall_after``. ``ready``: besides,
    its lease is confirmed, it is not shutting down, its duties are not in trouble and the
    database answered.
    """

    live: bool
    ready: bool
    lease_age: float  #: since the last confirmed heartbeat
    loop_lag: float  #: how late the loop's last callback was
    last_claim_age: float
    unwritten: int  #: outcomes that wait to be written
    running: int
    overdue: int  #: runs past their timeout whose threads go on
    held: int  #: claimed and not started
    accepted: int  #: outcomes written since the start
    refused: int  #: outcomes refused since the start: their leases were lost
    backlog_age: float | None  #: how long the oldest due task of a served queue has waited
    troubles: tuple[str, ...] = ()  #: duties that keep failing, and why; what stands
