"""Examine a database once, from end to end: its tables, its nodes, its clock, its condition."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from rota.core.audit import Finding, Severity, Suspect
from rota.core.auditor import CHUNK, Auditor
from rota.core.clock import Clock
from rota.core.finding import NodeInfo
from rota.core.ports import Repository

#: Seconds between the two looks at what seems wrong; see `Auditor`.
SETTLE = 15.0
#: A clock that is further off shows tasks' times wrong by as much.
_CLOCK_LIMIT = 1.0
_RESCUE_LEASES = 100


def examine(
    repository: Repository,
    *,
    clock: Clock,
    mend: bool = False,
    deep: bool = False,
    rows: int = 1_000_000,
    settle: float = SETTLE,
) -> list[Finding]:
    """All there is to say: facts are notes, the rest is worth a look.

    At most ``rows`` rows of each table are walked. If something seems wrong, it is looked at
    again after ``settle`` seconds, and told only if it is wrong still. ``mend`` puts right what
    can be, safely beside living nodes.
    """
    findings = [
        _clocks(repository, clock),
        *(_node(node) for node in repository.node_infos()),
        *repository.condition(deep=deep),
    ]
    auditor = Auditor(repository)
    suspects: list[Suspect] = []
    for _ in range(0, max(1, rows), CHUNK):
        suspects += auditor.look()
        if auditor.between_rounds:
            break
    else:
        findings.append(_unfinished(rows))
    if suspects:
        clock.wait(threading.Event(), settle)
        wrong = auditor.confirm(suspects, mend=mend)
        findings += wrong
        if any(one.mended for one in wrong):
            findings += _rescued(repository)
    return findings


def _clocks(repository: Repository, clock: Clock) -> Finding:
    before = clock.now()
    told = repository.now()
    after = clock.now()
    # Wherever between the two the database looked at its clock, that much is sure.
    ahead = max((told - after).total_seconds(), (before - told).total_seconds(), 0.0)
    off = ahead > _CLOCK_LIMIT
    return Finding(
        kind="clock",
        severity=Severity.WARNING if off else Severity.NOTE,
        detail=f"this machine's clock and the database's differ by {ahead:.3f} s at least",
        remedy="let both follow one time service; tasks go by the database's" if off else "",
    )


def _node(node: NodeInfo) -> Finding:
    over = node.lease_left < 0
    return Finding(
        kind="node",
        severity=Severity.WARNING if over else Severity.NOTE,
        detail=(
            f"{node.name} ({node.id}) on {node.host}, process {node.pid}, since "
            f"{node.started_at:%Y-%m-%d %H:%M:%S}Z; last heartbeat {node.beat_age:.0f} s ago, "
            f"{node.tasks} tasks"
        ),
        remedy="its lease is over: any living node takes its tasks back" if over else "",
    )


def _unfinished(rows: int) -> Finding:
    return Finding(
        kind="bounded",
        severity=Severity.NOTE,
        detail=f"only the first {rows:,} rows of a table were looked at",
        remedy="say --rows with a higher number to look at more",
    )


def _rescued(repository: Repository) -> Iterator[Finding]:
    count = 0
    while batch := repository.rescue(_RESCUE_LEASES):
        count += len(batch)
    if count:
        yield Finding(
            kind="rescued",
            severity=Severity.NOTE,
            detail=f"{count} tasks of nodes that are gone wait again",
            mended=True,
        )
