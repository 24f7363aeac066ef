"""The auditor: walks a bounded way, looks twice before it speaks, mends what may be mended."""

from __future__ import annotations

from collections.abc import Iterable

from rota.core.audit import Finding, Flaw, Place, Severity, Suspect, Walk
from rota.core.audit_store import AuditStore

CHUNK = 500
#: Told one by one up to here; the rest of a kind is one number.
TOLD = 20

_MENDS = frozenset({Flaw.OWNERLESS, Flaw.EMPTY_LEASE, Flaw.STRAY_CHILD})
_REMEDY = {
    Flaw.OWNERLESS: "run rota doctor --mend, or let a node do it, to make it claimable",
    Flaw.UNLEASED: "it ends as its node says; should the node stop first, run rota doctor --mend",
    Flaw.BODILESS: "restore the row from a backup, or cancel the task",
    Flaw.TWICE: "it has ended once already; cancel the task, unless it is meant to run again",
    Flaw.EMPTY_LEASE: "run rota doctor --mend to remove it; it does no harm",
    Flaw.STRAY_CHILD: "run rota doctor --mend to remove it; it does no harm",
}
_SEVERITY = {Flaw.EMPTY_LEASE: Severity.WARNING, Flaw.STRAY_CHILD: Severity.NOTE}


class Auditor:
    """Audits one repository in rounds; each ``look`` goes on where the one before stopped.

    Between ``look`` and ``confirm`` must lie longer than a node takes to reconcile its leases
    (some 12 s), since a lease may be empty for so long without anything being wrong.
    """

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._places: dict[Walk, Place | None] = {}

    @property
    def between_rounds(self) -> bool:
        """Whether every table has been walked to its end; the next look begins anew."""
        return not self._places

    def look(self, rows: int = CHUNK) -> list[Suspect]:
        """Walk on along each table by at most so many rows; what seems wrong."""
        suspects: list[Suspect] = []
        if self.between_rounds:
            self._places = dict.fromkeys(Walk)
        for walk, place in list(self._places.items()):
            stretch = self._store.inspect(walk, place, rows)
            suspects += stretch.suspects
            if stretch.place is None:
                del self._places[walk]
            else:
                self._places[walk] = stretch.place
        return suspects

    def confirm(self, suspects: Iterable[Suspect], *, mend: bool) -> list[Finding]:
        """Look once more at these and tell what is wrong still, mended if it could be."""
        wrong = self._store.inspect_again([*suspects])
        mended = self._store.mend([one for one in wrong if one.flaw in _MENDS]) if mend else []
        done = set(mended)
        return [
            finding
            for flaw in Flaw
            for finding in _told(flaw, [one for one in wrong if one.flaw is flaw], done)
        ]


def _told(flaw: Flaw, wrong: list[Suspect], mended: set[Suspect]) -> Iterable[Finding]:
    for one in wrong[:TOLD]:
        yield _finding(flaw, _detail(one), mended=one in mended)
    rest = wrong[TOLD:]
    if rest:
        yield _finding(flaw, f"and {len(rest)} more", mended=mended.issuperset(rest))


def _finding(flaw: Flaw, detail: str, *, mended: bool) -> Finding:
    return Finding(
        kind=flaw.value,
        severity=_SEVERITY.get(flaw, Severity.ERROR),
        detail=detail,
        remedy="" if mended else _REMEDY[flaw],
        mended=mended,
    )


def _detail(one: Suspect) -> str:
    if one.flaw is Flaw.OWNERLESS:
        return f"task {one.task} works under node {one.node}, which is gone, and no lease names it"
    if one.flaw is Flaw.UNLEASED:
        return f"task {one.task} works under node {one.node}, batch {one.batch}, without a lease"
    if one.flaw is Flaw.BODILESS:
        return f"task {one.task} is unfinished and its params are gone"
    if one.flaw is Flaw.TWICE:
        return f"task {one.task} is unfinished and in history, too"
    if one.flaw is Flaw.EMPTY_LEASE:
        return f"lease {one.batch} of node {one.node} holds no task any more"
    return f"a child {one.task} of the removed {one.recurring!r} has ended and is still counted"
