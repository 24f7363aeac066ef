"""The repository's protocol for audits: bounded looks along its tables, and fenced mending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rota.core.audit import Finding, Place, Stretch, Suspect, Walk


class AuditStore(Protocol):
    """Look for rows that break an invariant of the layout, and mend what may be mended."""

    def inspect(self, walk: Walk, after: Place | None, limit: int) -> Stretch:
        """Look at ``limit`` rows behind ``after``; those that break an invariant, one snapshot.

        A lease is not suspected of being empty while its node is gone: ``rescue`` takes it.
        """

    def inspect_again(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Those that break the same invariant still, in a snapshot of its own."""

    def mend(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Put right what can be without harming anybody; which.

        A task without an owner gets its gone node's lease back, or is added to the one that
        is left, so that the next ``rescue`` takes it like any other that was lost; an empty
        lease of a living node and a stray child row are deleted. Each only if it is still as
        it was found. The rest stays.
        """

    def condition(self, *, deep: bool = False) -> list[Finding]:
        """What the database says of its own state; ``deep`` reads all of it, which takes long."""
