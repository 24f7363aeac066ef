"""From checked cron fields to the wall times they mean; croniter expands the fields."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rota.triggers.cron_days import LAST, DayFields, Days
from rota.triggers.cron_fields import Fields, refusal
from rota.triggers.cron_wall import WallTimes

#: croniter's order of fields, and what ``*`` stands for in each.
_WHOLE = (range(60), range(24), range(1, 32), range(1, 13), range(7), range(60))


@lru_cache(maxsize=16_384)
def wall_times(fields: Fields) -> WallTimes:
    """The wall times of fields without ``H``; refused with ``InvalidTrigger`` if there are none.

    A day of month and a day of week that are both restricted mean either, as in Vixie
    cron; one that begins with ``*`` does not count as restricted, even if it has a step.
    """
    (minutes, hours, days, months, weekdays, seconds), weeks = _expand(fields)
    nearest = _nearest(fields.day)
    rule = WallTimes(
        hours=hours,
        minutes=minutes,
        seconds=seconds,
        days=_days(
            DayFields(
                months=frozenset(months),
                days=frozenset(() if nearest else days),
                last_day="L" in fields.day.split(","),
                nearest=nearest,
                weekdays=frozenset(weekdays).difference(day for day, _ in weeks),
                weeks=weeks,
                either=not (fields.day.startswith("*") or fields.weekday.startswith("*")),
            )
        ),
        fixed=not (fields.minute.startswith("*") or fields.hour.startswith("*")),
    )
    if not rule.days.ever():
        raise refusal(
            " ".join(fields[1:]),
            f"no date has day {fields.day}, month {fields.month} and weekday {fields.weekday}",
            "take a day the month has, or L for its last",
        )
    return rule


@lru_cache(maxsize=2_048)
def _days(fields: DayFields) -> Days:
    """One for all rules of the same days, since each remembers its months."""
    return Days(fields)


def _nearest(day: str) -> int | None:
    if day == "LW":
        return 31
    return int(day[:-1]) if day.endswith("W") else None


def _expand(fields: Fields) -> tuple[list[tuple[int, ...]], frozenset[tuple[int, int]]]:
    """Each field's values in croniter's order, and the weekdays of some weeks only."""
    from croniter import CroniterError, croniter

    # croniter answers W outside of what `expand` returns; that one is ours.
    day = "*" if fields.day.endswith("W") else fields.day
    text = f"{fields.minute} {fields.hour} {day} {fields.month} {fields.weekday} {fields.second}"
    try:
        expanded, picked = croniter.expand(text)
    except CroniterError as error:
        raise refusal(
            " ".join(fields), f"croniter says {error}", "see docs/howto/cron.md"
        ) from None
    weeks = frozenset(
        (weekday, LAST if which == "l" else which)
        for weekday, whiches in picked.items()
        for which in whiches
    )
    return [_numbers(found, whole) for found, whole in zip(expanded, _WHOLE, strict=True)], weeks


def _numbers(found: list[Any], whole: range) -> tuple[int, ...]:
    if found == ["*"]:
        return tuple(whole)
    return tuple(sorted(value for value in found if isinstance(value, int)))
