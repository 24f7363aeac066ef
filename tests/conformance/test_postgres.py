"""The PostgreSQL repository keeps every promise of the repository."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ports import Repository
from rota.storage.postgres.connections import Connections, Session
from rota.testing.clock import FakeClock
from rota.testing.conformance import RepositoryContract
from rota.testing.conformance.claiming import ClaimingContract
from rota.testing.conformance.conflicts import ConflictContract
from rota.testing.conformance.feeding import FeedContract
from rota.testing.conformance.finishing import FinishingContract
from rota.testing.conformance.firing import FiringContract
from rota.testing.conformance.following import FollowingContract
from rota.testing.conformance.glancing import GlanceContract
from rota.testing.conformance.periods import PeriodContract
from rota.testing.conformance.pulling import PullingContract
from rota.testing.conformance.reporting import ReportingContract
from rota.testing.conformance.rescuing import RescuingContract

pytestmark = pytest.mark.postgres


class TestPostgres(RepositoryContract):
    @pytest.fixture
    def open_repository(
        self, clock: FakeClock, open_postgres: Callable[..., Repository]
    ) -> Callable[[], Repository]:
        return lambda: open_postgres(clock)


class TestPostgresBehindAPooler(
    ConflictContract,
    ClaimingContract,
    FinishingContract,
    FollowingContract,
    RescuingContract,
    FiringContract,
    PeriodContract,
    PullingContract,
    ReportingContract,
    FeedContract,
    GlanceContract,
):
    """The same without session locks, LISTEN or settings of a session.

    After each transaction the session forgets what it knows, as if it were another one.
    """

    @pytest.fixture
    def open_repository(
        self,
        clock: FakeClock,
        open_postgres: Callable[..., Repository],
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[[], Repository]:
        settle = Connections._settle

        def forget(connections: Connections, session: Session) -> None:
            if session.usable:
                session.raw.execute("discard all")
            settle(connections, session)

        monkeypatch.setattr(Connections, "_settle", forget)
        return lambda: open_postgres(clock, poll_only=True)
