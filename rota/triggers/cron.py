"""The cron trigger: an expression and the zone whose clock it is read by."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from rota.errors import InvalidTrigger
from rota.triggers.cron_fields import Fields, SecondsSide, read
from rota.triggers.cron_rule import wall_times
from rota.triggers.cron_spread import by_id, highest, spread
from rota.triggers.cron_wall import WallTimes
from rota.triggers.cron_words import describe
from rota.triggers.daylight import count_fires, next_fire, previous_fire
from rota.triggers.trigger import only_known, utc, zone_name


@dataclass(frozen=True, slots=True)
class Cron:
    """Whenever the clock of ``timezone`` shows a time that ``expression`` matches.

    Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday). Names,
    lists, ranges and steps; ``L`` and ``LW``, ``15W``, ``5#3``, ``L5``; ``H`` for a value
    decided by the recurring id; ``@daily`` and its kin. Six fields with ``seconds="first"``
    or ``"last"``; six without it are refused, since both sides are in use and the wrong one
    is a different, valid rule. Where clocks are changed: ``docs/explanation/daylight-saving.md``.

    The attributes are canonical: ``Cron(" @daily")`` equals ``Cron("0 0 * * *")``, and
    seconds given last are kept first. What cannot be right, or never fires, raises
    ``InvalidTrigger``.

    >>> Cron("0 3 * * *", "Europe/Paris").next(datetime(2026, 7, 1, 12, tzinfo=UTC))
    datetime.datetime(2026, 7, 2, 1, 0, tzinfo=datetime.timezone.utc)
    """

    expression: str
    timezone: str = "UTC"
    seconds: SecondsSide = field(default="none", kw_only=True)
    _fields: Fields = field(init=False, repr=False, compare=False)
    _times: WallTimes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = read(self.expression, self.seconds)
        six = self.seconds != "none"
        for name, value in {
            "expression": " ".join(fields if six else fields[1:]),
            "timezone": zone_name(self.timezone),
            "seconds": "first" if six else "none",
            "_fields": fields,
            "_times": wall_times(spread(fields, highest)),
        }.items():
            object.__setattr__(self, name, value)

    def next(self, after: datetime) -> datetime | None:
        """The first fire time later than ``after``; None from the year 9999 on.

        Raises ``InvalidTrigger`` while an ``H`` is not fixed by :meth:`spread`, as do
        ``previous`` and ``count``.
        """
        return next_fire(self._settled(), self.timezone, utc(after, "after"))

    def previous(self, until: datetime) -> datetime | None:
        return previous_fire(self._settled(), self.timezone, utc(until, "until"))

    def count(self, after: datetime, until: datetime) -> int:
        """How many fire times are later than ``after`` and not later than ``until``; exact."""
        return count_fires(self._settled(), self.timezone, utc(after, "after"), utc(until, "until"))

    def spread(self, by: str) -> Cron:
        """This rule with each ``H`` replaced by the value that ``by`` and the field decide."""
        if not self._fields.hashed:
            return self
        fields = spread(self._fields, by_id(by))
        six = self.seconds != "none"
        return Cron(" ".join(fields if six else fields[1:]), self.timezone, seconds=self.seconds)

    def to_json(self) -> dict[str, Any]:
        data = {"cron": self.expression, "timezone": self.timezone}
        return data if self.seconds == "none" else {**data, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The trigger of its stored form; raises ``InvalidTrigger`` for keys it does not know."""
        only_known(data, {"cron", "timezone", "seconds"})
        return cls(data["cron"], data.get("timezone", "UTC"), seconds=data.get("seconds", "none"))

    def describe(self) -> str:
        return f"{describe(self._fields)}, {self.timezone}"

    def _settled(self) -> WallTimes:
        if self._fields.hashed:
            raise InvalidTrigger(
                f"cron expression {self.expression!r} has an H that no id has fixed; "
                "call spread('the recurring id') first",
                field="expression",
            )
        return self._times
