"""All subjects in one class."""

from rota.testing.conformance.along import AlongContract
from rota.testing.conformance.auditing import AuditContract
from rota.testing.conformance.changing import ChangingContract
from rota.testing.conformance.children import ChildrenContract
from rota.testing.conformance.claiming import ClaimingContract
from rota.testing.conformance.conflicts import ConflictContract
from rota.testing.conformance.crossing import CrossingContract
from rota.testing.conformance.feeding import FeedContract
from rota.testing.conformance.finding import FindingContract
from rota.testing.conformance.finishing import FinishingContract
from rota.testing.conformance.firing import FiringContract
from rota.testing.conformance.firing_races import FiringRaceContract
from rota.testing.conformance.following import FollowingContract
from rota.testing.conformance.glancing import GlanceContract
from rota.testing.conformance.holding import HoldingContract
from rota.testing.conformance.inserting import InsertingContract
from rota.testing.conformance.interleaving import InterleavingContract
from rota.testing.conformance.keeping import KeepingContract
from rota.testing.conformance.lanes import LaneContract
from rota.testing.conformance.matching import MatchingContract
from rota.testing.conformance.nodes import NodeContract
from rota.testing.conformance.overlapping import OverlapContract
from rota.testing.conformance.parking import ParkingContract
from rota.testing.conformance.parts import PartsContract
from rota.testing.conformance.periods import PeriodContract
from rota.testing.conformance.pulling import PullingContract
from rota.testing.conformance.pulling_parked import ParkedPullingContract
from rota.testing.conformance.racing import RacingContract
from rota.testing.conformance.recurring import RecurringContract
from rota.testing.conformance.repeating import RepeatingContract
from rota.testing.conformance.reporting import ReportingContract
from rota.testing.conformance.rescuing import RescuingContract
from rota.testing.conformance.signals import SignalsContract
from rota.testing.conformance.tombstones import TombstoneContract


class RepositoryContract(
    InsertingContract,
    PartsContract,
    AlongContract,
    ConflictContract,
    PeriodContract,
    ClaimingContract,
    LaneContract,
    ParkingContract,
    HoldingContract,
    PullingContract,
    ParkedPullingContract,
    FinishingContract,
    RepeatingContract,
    FollowingContract,
    ReportingContract,
    ChildrenContract,
    NodeContract,
    GlanceContract,
    RescuingContract,
    ChangingContract,
    TombstoneContract,
    KeepingContract,
    RecurringContract,
    FiringContract,
    OverlapContract,
    FeedContract,
    SignalsContract,
    RacingContract,
    FiringRaceContract,
    InterleavingContract,
    CrossingContract,
    FindingContract,
    MatchingContract,
    AuditContract,
):
    """Every promise of :class:`rota.core.ports.Repository`; provide ``open_repository``."""
