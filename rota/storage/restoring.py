"""The first pass after a start: take back what earlier incarnations left, and say what it was."""

from __future__ import annotations

import threading

from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.storage.nodelife import NodeLife
from rota.storage.sync import REPORT_LIMIT, RestoreReport, Sync

#: A node whose process is seen to be gone has at most so long a lease left.
SUSPECT = 2.5


def restore(
    *,
    repository: Repository,
    life: NodeLife,
    sync: Sync,
    clock: Clock,
    works: list[str],
    wait: float,
) -> RestoreReport:
    """Bury and rescue; blocks for at most ``wait`` seconds on nodes about to be declared dead."""
    report = sync.report
    until = clock.monotonic() + wait
    pause = threading.Event()
    while True:
        report.buried += len(repository.bury(life.id, trusted=life.trusted))
        suspects = [
            node
            for node in repository.nodes()
            if node.id != life.id and node.lease_left < min(SUSPECT, node.lease)
        ]
        if not suspects or clock.monotonic() >= until:
            break
        clock.wait(pause, 0.2)
    sync.chores.rescue()
    for task_id, work in repository.strangers(works, REPORT_LIMIT):
        known = report.unknown.setdefault(work, [])
        if task_id not in known:
            known.append(task_id)
    report.waiting = sum(repository.counts().values())
    return report
