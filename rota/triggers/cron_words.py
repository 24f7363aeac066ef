"""A cron rule in plain words."""

from __future__ import annotations

import re

from rota.triggers.cron_fields import MONTHS, WEEKDAYS, Fields

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_TIMES_SPELLED_OUT = 6
_NAME = re.compile("|".join((*MONTHS, *WEEKDAYS)))


def describe(fields: Fields) -> str:
    """Words for the fields: the times of day, then the days, then the months."""
    month = _NAME.sub(lambda found: str(MONTHS.index(found[0]) + 1), fields.month)
    weekday = _NAME.sub(lambda found: str(WEEKDAYS.index(found[0])), fields.weekday)
    plain = fields._replace(month=month, weekday=weekday)
    return " ".join(part for part in (_times(plain), _days(plain), _months(plain)) if part)


def _times(fields: Fields) -> str:
    hours, minutes, seconds = (
        _listed(text) for text in (fields.hour, fields.minute, fields.second)
    )
    if 0 < len(hours) * len(minutes) * len(seconds) <= _TIMES_SPELLED_OUT:
        return "at " + _joined(
            [
                f"{hour:02}:{minute:02}" + (f":{second:02}" if fields.second != "0" else "")
                for hour in hours
                for minute in minutes
                for second in seconds
            ]
        )
    everywhere = fields.hour == "*"
    parts = [] if fields.second == "0" else [_unit(fields.second, "second")]
    if not (parts and fields.minute == "*" and everywhere and fields.second.startswith("*")):
        parts.append(_minute(fields.minute, everywhere))
    if not everywhere:
        parts.append(_unit(fields.hour, "hour"))
    return " of ".join(parts)


def _minute(text: str, everywhere: bool) -> str:
    if text == "0" and everywhere:
        return "every hour"
    words = _unit(text, "minute")
    return f"{words} of every hour" if everywhere and not text.startswith("*") else words


def _unit(text: str, unit: str) -> str:
    """``every 5 minutes``, ``every 7th minute``, ``minutes 0, 15 and 30``, ``hour 3``."""
    if text == "*":
        return f"every {unit}"
    if text.startswith("*/") and "," not in text:
        step = int(text[2:])
        even = unit != "hour" and 60 % step == 0
        return f"every {step} {unit}s" if even else f"every {_ordinal(text[2:])} {unit}"
    if text.startswith("H") and "," not in text:
        return f"{'an' if unit == 'hour' else 'a'} {unit} {_hashed(text)}"
    several = any(sign in text for sign in ",-/")
    return f"{unit}{'s' if several else ''} {_joined([_term(term) for term in text.split(',')])}"


def _term(term: str) -> str:
    if term.startswith("H"):
        return _hashed(term)
    bounds, _, step = term.partition("/")
    if bounds == "*":
        return f"every {_ordinal(step)}"
    low, dash, high = bounds.partition("-")
    words = f"{low} to {high}" if dash else low
    if not step:
        return words
    return f"{words} in steps of {step}" if dash else f"{low} and every {step} from there"


def _hashed(term: str) -> str:
    found = re.fullmatch(r"H(?:\((\d+)-(\d+)\))?(?:/(\d+))?", term)
    if found is None:
        return term
    within = f" from {found[1]} to {found[2]}" if found[1] else ""
    steps = f", then every {found[3]} from there" if found[3] else ""
    return f"chosen by id{within}{steps}"


def _days(fields: Fields) -> str:
    day, weekday = fields.day, fields.weekday
    if day == "*" and weekday == "*":
        return "" if fields.hour.startswith("*") else "every day"
    parts = []
    if day != "*":
        parts.append(_joined([_day(term) for term in day.split(",")]))
    if weekday != "*":
        parts.append(_joined([_weekday(term) for term in weekday.split(",")]))
    # A leading star makes both count, as in Vixie cron.
    both = day.startswith("*") or weekday.startswith("*")
    return "on " + (" if it is also " if both else " or on ").join(parts)


def _day(term: str) -> str:
    if term == "L":
        return "the last day of the month"
    if term == "LW":
        return "the last Monday to Friday of the month"
    if term.endswith("W"):
        return f"the Monday to Friday nearest the {_ordinal(term[:-1])}"
    if term.startswith("*/"):
        return f"every {_ordinal(term[2:])} day of the month from the 1st"
    if term.startswith("H"):
        return f"a day {_hashed(term)}"
    return "the " + re.sub(r"^\d+|(?<=-)\d+|(?<=to )\d+", lambda d: _ordinal(d[0]), _term(term))


def _weekday(term: str) -> str:
    if term.startswith("*/"):
        return f"every {_ordinal(term[2:])} weekday from Sunday"
    if term.startswith("H"):
        return f"a weekday {_hashed(term)}"
    if term.startswith("L"):
        return f"the last {_named(term[1:])}"
    days, hash_, week = term.partition("#")
    if hash_:
        return f"the {_ordinal(week)} {_named(days).replace(' to ', ' and each up to ')}"
    return _named(_term(days))


def _named(text: str) -> str:
    """The weekdays of ``1``, ``1-5`` and ``1 to 5``; a step stays a number."""
    return re.sub(
        r"^(\d)(?:(?:-| to )(\d))?",
        lambda found: (
            _WEEKDAYS[int(found[1]) % 7]
            + (f" to {_WEEKDAYS[int(found[2]) % 7]}" if found[2] else "")
        ),
        text,
    )


def _months(fields: Fields) -> str:
    if fields.month == "*":
        return ""
    if fields.month.startswith("*/"):
        return f"in every {_ordinal(fields.month[2:])} month from January"
    return "in " + _joined([_month(term) for term in fields.month.split(",")])


def _month(term: str) -> str:
    if term.startswith("H"):
        return f"a month {_hashed(term)}"
    return re.sub(r"^\d+|(?<=to )\d+", lambda found: _MONTHS[int(found[0]) - 1], _term(term))


def _listed(text: str) -> list[int]:
    """The values of a list of plain numbers; empty for anything else."""
    terms = text.split(",")
    return sorted({int(term) for term in terms}) if all(t.isdigit() for t in terms) else []


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _ordinal(text: str) -> str:
    number = int(text)
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else ending}"
