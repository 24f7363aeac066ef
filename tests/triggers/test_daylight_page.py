"""Every row of the table in docs/explanation/daylight-saving.md is what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from rota.triggers.cron import Cron
from tests.triggers.cron_oracle import MINUTE, ZONES, walk

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "daylight-saving.md"
AROUND = timedelta(hours=3)

_ROW = re.compile(
    r"^\| (\S+) \| (\d{4}-\d\d-\d\d) (\d\d:\d\d) → (\d\d:\d\d) \| `(.+?)` \| (.*) \|$"
)


class Row(NamedTuple):
    """A change of a zone's clock, a rule, and the local times it fires at around it."""

    zone: str
    day: str
    shown: str
    then: str
    rule: str
    fires: str

    @property
    def change(self) -> datetime:
        """The first instant with the new offset."""
        wall = datetime.fromisoformat(f"{self.day} {self.shown}")
        before = (wall - MINUTE).replace(tzinfo=ZoneInfo(self.zone))
        return before.astimezone(UTC) + MINUTE

    @property
    def forward(self) -> bool:
        clock = ZoneInfo(self.zone)
        before, after = (self.change - MINUTE).astimezone(clock), self.change.astimezone(clock)
        return after.replace(tzinfo=None) - before.replace(tzinfo=None) > MINUTE


ROWS = [
    Row(*found.groups()) for line in PAGE.read_text().splitlines() if (found := _ROW.match(line))
]


def local(moment: datetime, zone: str) -> str:
    """``03:00-04``: the time of day and the offset, as the page writes them."""
    text = moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")[11:]
    return text.removesuffix(":00")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.zone} {row.day} {row.rule}")
def test_a_row_is_what_happens(row: Row) -> None:
    at = row.change.astimezone(ZoneInfo(row.zone))
    rule, since, until = Cron(row.rule, row.zone), row.change - AROUND, row.change + AROUND

    fires, moment = [], rule.next(since)
    while moment is not None and moment <= until:
        fires.append(moment)
        moment = rule.next(moment)

    assert at.strftime("%H:%M") == row.then
    assert (", ".join(local(one, row.zone) for one in fires) or "never") == row.fires
    assert fires == list(walk(row.rule, row.zone, since, until))


def test_every_zone_stands_in_the_table_with_both_changes_and_both_kinds_of_rule() -> None:
    shown = {(row.zone, row.forward, row.rule.startswith("*")) for row in ROWS}

    assert shown >= {
        (zone, forward, star)
        for zone in ZONES
        for forward in (True, False)
        for star in (True, False)
    }
