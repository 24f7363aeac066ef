"""Audits: what is sound is never suspected, however busy it is; what is left over is mended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rota.core.audit import Finding, Flaw
from rota.core.auditor import Auditor
from rota.core.ports import Repository
from rota.core.task import Ending
from rota.testing.conformance.recurring import a_definition, a_tick
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    some_tasks,
)


def audit(repository: Repository, *, mend: bool = False, rows: int = 500) -> list[Finding]:
    """One round, from end to end."""
    auditor = Auditor(repository)
    suspects = auditor.look(rows)
    while not auditor.between_rounds:
        suspects += auditor.look(rows)
    return auditor.confirm(suspects, mend=mend)


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


class AuditContract(ContractBase):
    """``inspect``, ``inspect_again``, ``mend``, ``condition``."""

    def test_tasks_in_every_state_are_sound(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        node, gone = make_node(), make_node()
        self.put(repository, *some_tasks(5))
        done, failed, parked, retried, _working = node.claim()
        node.finish(
            ending(done, Ending.DONE),
            ending(failed, Ending.FAILED),
            ending(parked, Ending.PARK),
            ending(retried, Ending.RETRY),
        )
        self.put(repository, a_task(queue="gone"), a_task(delay=60.0))
        gone.claim(queue="gone")
        repository.leave(gone.id)
        assert audit(repository) == []
        assert audit(repository, rows=1) == []

    def test_a_lease_without_tasks_is_found_and_removed(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        repository.finish(node.id, [ending(claimed, Ending.DONE)], ())
        (finding,) = audit(repository)
        assert (finding.kind, finding.mended) == (Flaw.EMPTY_LEASE, False)
        assert repository.held(node.id)
        (finding,) = audit(repository, mend=True, rows=1)
        assert (finding.kind, finding.mended) == (Flaw.EMPTY_LEASE, True)
        assert repository.held(node.id) == []

    def test_a_childs_row_outliving_both_ends_is_found_and_removed(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        now = repository.now()
        repository.put_recurring(a_definition(now))
        repository.fire([a_tick(now)])
        repository.remove_recurring("nightly")
        assert audit(repository, mend=True) == []
        (claimed,) = node.claim()
        node.end(claimed)
        assert kinds(audit(repository, rows=1)) == [Flaw.STRAY_CHILD]
        (finding,) = audit(repository, mend=True)
        assert finding.mended
        assert audit(repository) == []
        assert repository.outstanding("nightly") == 0

    def test_what_was_put_right_meanwhile_is_not_told(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        repository.finish(node.id, [ending(claimed, Ending.DONE)], ())
        auditor = Auditor(repository)
        suspects = auditor.look()
        assert [one.flaw for one in suspects] == [Flaw.EMPTY_LEASE]
        repository.drop_lease(node.id, claimed.batch)
        assert auditor.confirm(suspects, mend=True) == []
        assert repository.mend(suspects) == []

    def test_under_load_nothing_is_suspected(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        self.put(repository, *some_tasks(240))
        nodes = [make_node() for _ in range(3)]
        threads = [threading.Thread(target=_busy, args=(node,), daemon=True) for node in nodes]
        for thread in threads:
            thread.start()
        findings = []
        while any(thread.is_alive() for thread in threads):
            findings += audit(repository, rows=50)
        assert findings == []
        assert repository.counts()["working"] == 0

    def test_the_condition_can_be_asked_for(self, repository: Repository) -> None:
        assert all(one.severity == "note" for one in repository.condition())


def _busy(node: NodeHandle) -> None:
    """Claim, end, try again, and once go away with what is held; until nothing is left."""
    repository, rounds = node.repository, 0
    while taken := node.claim(20):
        rounds += 1
        if rounds == 2:
            repository.leave(node.id)
            while repository.rescue(10):
                pass
            node = NodeHandle(repository)
            continue
        how = Ending.RETRY if rounds % 3 == 0 else Ending.DONE
        node.finish(*(ending(claimed, how) for claimed in taken[::2]))
        node.finish(*(ending(claimed, Ending.DONE) for claimed in taken[1::2]))
