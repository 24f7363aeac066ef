"""Audits: the PostgreSQL repository's ``AuditStore``."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.audit import Finding, Place, Stretch, Suspect, Walk
from rota.storage.postgres import condition
from rota.storage.postgres.parts import Parts
from rota.storage.verbs import auditing


class PostgresAuditing(Parts):
    """A look is one statement, hence one snapshot; mending is one transaction."""

    def inspect(self, walk: Walk, after: Place | None, limit: int) -> Stretch:
        """Look at rows behind ``after``."""
        return self._look(lambda conn: auditing.inspect(conn, self._tables, walk, after, limit))

    def inspect_again(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Those that are wrong still."""
        return self._look(lambda conn: auditing.inspect_again(conn, self._tables, suspects))

    def mend(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Put right what can be; which."""
        if not suspects:
            return []
        return self._change(lambda conn: auditing.mend(conn, self._tables, suspects))

    def condition(self, *, deep: bool = False) -> list[Finding]:  # noqa: ARG002 - none is slow
        """What pins old rows, how far vacuum is behind, whether nodes listen, the schema."""
        with self._connections.session() as session:
            return condition.findings(session, schema=self._schema)
