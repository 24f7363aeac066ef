"""The days of a calendar rule: from a first one on, so many months or days apart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple


class Step(NamedTuple):
    """From one day of a rule to the next: months first (same day of month), then days."""

    months: int
    days: int


class Days(NamedTuple):
    """The days of a rule: ``first``, and what ``step`` reaches from it.

    A month without the day (the 31st, 29 February) is passed over. Months and days together
    depend on every day before, so they are walked from the first.
    """

    first: date
    step: Step

    def rising(self, since: date) -> Iterator[date]:
        """The days from ``since`` on; ends with the calendar."""
        if self.step.months and self.step.days:
            yield from (day for day in self._walk() if day >= since)
            return
        number = max(0, self._number(since))
        while not self._beyond(number):
            day = self._day(number)
            number += 1
            if day is not None and day >= since:
                yield day

    def falling(self, until: date) -> Iterator[date]:
        """The days up to ``until``, the last one first."""
        if self.step.months and self.step.days:
            passed = []
            for day in self._walk():
                if day > until:
                    break
                passed.append(day)
            yield from reversed(passed)
            return
        for number in range(self._number(until) + 1, -1, -1):
            found = None if self._beyond(number) else self._day(number)
            if found is not None and found <= until:
                yield found

    def _number(self, day: date) -> int:
        """The number of the last step not beyond the day's month (or the day)."""
        if self.step.months:
            apart = (day.year - self.first.year) * 12 + day.month - self.first.month
            return apart // self.step.months
        return (day - self.first).days // self.step.days

    def _beyond(self, number: int) -> bool:
        if self.step.months:
            return _year(self.first, number * self.step.months) > date.max.year
        return number * self.step.days > (date.max - self.first).days

    def _day(self, number: int) -> date | None:
        if self.step.months:
            return months_later(self.first, number * self.step.months)
        return self.first + timedelta(days=number * self.step.days)

    def _walk(self) -> Iterator[date]:
        day = self.first
        while True:
            yield day
            month = _same_day(day, self.step.months)
            if month is None or (date.max - month).days < self.step.days:
                return
            day = month + timedelta(days=self.step.days)


def _same_day(day: date, months: int) -> date | None:
    """The same day of the month so many months later, or twice as many, and so on."""
    ahead = months
    while _year(day, ahead) <= date.max.year:
        later = months_later(day, ahead)
        if later is not None:
            return later
        ahead += months
    return None


def _year(day: date, months: int) -> int:
    return day.year + (day.month - 1 + months) // 12


def months_later(day: date, months: int) -> date | None:
    """The same day of a later month; None where that month has no such day."""
    years, month = divmod(day.month - 1 + months, 12)
    try:
        return date(day.year + years, month + 1, day.day)
    except ValueError:
        return None
