"""Cron by walking every minute: slow, simple, and written without the code it judges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
ZONES = (
    "America/New_York",
    "Europe/Paris",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Santiago",
    "Africa/Casablanca",
)


def values(text: str, low: int, high: int) -> set[int]:
    """The values of a field of plain numbers, ranges, steps and stars."""
    found: set[int] = set()
    for term in text.split(","):
        bounds, _, step = term.partition("/")
        if bounds == "*":
            first, last = low, high
        elif "-" in bounds:
            first, last = map(int, bounds.split("-"))
        else:
            first, last = int(bounds), high if step else int(bounds)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def walk(expression: str, zone: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """Every fire time in (since, until], both whole minutes, minute by minute."""
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = values(minute, 0, 59), values(hour, 0, 23)
    days, months = values(day, 1, 31), values(month, 1, 12)
    weekdays = {number % 7 for number in values(weekday, 0, 6)}
    either = not (day.startswith("*") or weekday.startswith("*"))
    fixed = not (minute.startswith("*") or hour.startswith("*"))

    def matches(wall: datetime) -> bool:
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        by_day, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return by_day or by_weekday if either else by_day and by_weekday

    moment = since.astimezone(UTC)
    shown = _shown(moment, zone)
    # What the clock has shown already, even if it was put back shortly before.
    latest = max(_shown(moment - n * MINUTE, zone) for n in range(180))
    while moment < until:
        moment += MINUTE
        before, shown = shown, _shown(moment, zone)
        if not fixed:
            if matches(shown):
                yield moment
        elif shown > latest:
            skipped = latest if shown - before > MINUTE else before
            passed = [skipped + n * MINUTE for n in range(1, (shown - skipped) // MINUTE + 1)]
            if any(matches(wall) for wall in passed):
                yield moment
        latest = max(latest, shown)


def _shown(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
