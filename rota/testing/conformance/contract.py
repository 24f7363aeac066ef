"""All subjects in one class."""

from rota.testing.conformance.changing import ChangingContract
from rota.testing.conformance.claiming import ClaimingContract
from rota.testing.conformance.conflicts import ConflictContract
from rota.testing.conformance.finishing import FinishingContract
from rota.testing.conformance.inserting import InsertingContract
from rota.testing.conformance.keeping import KeepingContract
from rota.testing.conformance.lanes import LaneContract
from rota.testing.conformance.nodes import NodeContract
from rota.testing.conformance.parking import ParkingContract
from rota.testing.conformance.racing import RacingContract
from rota.testing.conformance.recurring import RecurringContract
from rota.testing.conformance.repeating import RepeatingContract
from rota.testing.conformance.rescuing import RescuingContract
from rota.testing.conformance.signals import SignalsContract


class RepositoryContract(
    InsertingContract,
    ConflictContract,
    ClaimingContract,
    LaneContract,
    ParkingContract,
    FinishingContract,
    RepeatingContract,
    NodeContract,
    RescuingContract,
    ChangingContract,
    KeepingContract,
    RecurringContract,
    SignalsContract,
    RacingContract,
):
    """Every promise of :class:`rota.core.ports.Repository`; provide ``open_repository``."""
