"""When a recurring task fires next: pure functions of an instant."""

from rota.triggers.every import Every
from rota.triggers.trigger import Trigger, from_json

__all__ = ["Every", "Trigger", "from_json"]
