"""Reading a cron expression into six canonical fields, strictly."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from rota.errors import InvalidTrigger

SecondsSide = Literal["none", "first", "last"]

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Fields(NamedTuple):
    """The canonical text of each field; a five-field expression has second ``0``."""

    second: str
    minute: str
    hour: str
    day: str
    month: str
    weekday: str

    @property
    def hashed(self) -> bool:
        """Whether an ``H`` waits for a recurring id."""
        return any(term.startswith("H") for text in self for term in text.split(","))


class Field(NamedTuple):
    """What one field may hold; ``hashed_to`` is the highest value an ``H`` alone may pick."""

    name: str
    low: int
    high: int
    hashed_to: int
    names: dict[str, int] = {}  # noqa: RUF012 - a NamedTuple's default, never written


FIELDS = (
    Field("second", 0, 59, 59),
    Field("minute", 0, 59, 59),
    Field("hour", 0, 23, 23),
    # Every month has 28 days: an H beyond would leave months out.
    Field("day", 1, 31, 28),
    Field("month", 1, 12, 12, {name: number for number, name in enumerate(MONTHS, 1)}),
    Field("weekday", 0, 7, 6, {name: number for number, name in enumerate(WEEKDAYS)}),
)

_BLANK = re.compile(r"[ \t\r\n\f\v]+")
_HASH = re.compile(r"H(?:\((\d+)-(\d+)\))?", re.ASCII)
_NEAREST = re.compile(r"(?:(\d+)W|W(\d+))", re.ASCII)
_LAST_WEEKDAY = re.compile(r"(?:L(\w+)|(\w+)L)", re.ASCII)
_LEADING_ZERO = re.compile(r"\b0+(?=\d)", re.ASCII)


def read(expression: str, seconds: SecondsSide) -> Fields:
    """The checked fields of an expression; raises ``InvalidTrigger`` naming the field."""
    if not isinstance(expression, str):
        raise InvalidTrigger(
            f"expression must be text, not {type(expression).__name__}; "
            "write five fields such as '0 3 * * *'",
            field="expression",
        )
    parts = _split(expression, seconds)
    texts = []
    for field, part in zip(FIELDS, parts, strict=True):
        terms = [_Term(field, term, expression).canonical() for term in part.upper().split(",")]
        _check_together(field, terms, expression)
        texts.append(",".join(terms))
    return Fields(*texts)


def refusal(expression: str, fact: str, remedy: str) -> InvalidTrigger:
    return InvalidTrigger(f"cron expression {expression!r}: {fact}; {remedy}", field="expression")


def _split(expression: str, seconds: SecondsSide) -> list[str]:
    """Six texts, the second's first."""
    if seconds not in {"none", "first", "last"}:
        raise InvalidTrigger(
            f"seconds is {seconds!r}; write 'none', 'first' or 'last'", field="seconds"
        )
    text = expression.strip(" \t\r\n\f\v")
    if text.startswith("@"):
        text = _alias(text, expression)
    parts = _BLANK.split(text)
    wanted = 5 if seconds == "none" else 6
    if len(parts) == wanted == 6:
        return parts if seconds == "first" else [parts[-1], *parts[:-1]]
    if len(parts) == wanted:
        return ["0", *parts]
    if len(parts) == 6:
        raise InvalidTrigger(
            f"cron expression {expression!r} has six fields, and does not say on which side the "
            "seconds are; pass seconds='first' (as Quartz and Spring write it) or seconds='last' "
            "(as croniter does)",
            field="seconds",
        )
    raise refusal(
        expression,
        f"it has {len(parts) if text else 0} fields",
        "write minute, hour, day of month, month, day of week"
        + ("" if seconds == "none" else f", and the second {seconds}"),
    )


def _alias(text: str, expression: str) -> str:
    plain = ALIASES.get(text.lower())
    if plain is None:
        raise refusal(
            expression,
            f"{text} is not one of {', '.join(ALIASES)}",
            "for an interval use Every, for something at start schedule it there",
        )
    return plain


class _Term:
    """One part of a field's list."""

    def __init__(self, field: Field, text: str, expression: str) -> None:
        self.field, self.text, self.expression = field, text, expression

    def canonical(self) -> str:
        text = _LEADING_ZERO.sub("", self.text)
        body, slash, step = text.partition("/")
        if slash:
            self._check_step(step)
        if body.startswith("H"):
            self._check_hash(body, int(step) if slash else None)
        elif self._is_special(body):
            if slash:
                raise self._refuse("takes no step", "write it alone")
            return self._special(body)
        elif body == "?" and self.field.name in {"day", "weekday"} and not slash:
            return "*"
        elif body != "*":
            self._check_range(body, stepped=bool(slash))
        return body if step == "1" and body == "*" else text

    def _refuse(self, fact: str, remedy: str) -> InvalidTrigger:
        return refusal(self.expression, f"{self.text!r} as {self.field.name} {fact}", remedy)

    def _check_step(self, step: str) -> None:
        field = self.field
        size = 7 if field.name == "weekday" else field.high - field.low + 1
        if not (step.isascii() and step.isdigit()) or not 1 <= int(step) <= size:
            raise self._refuse(
                f"has a step that is not one of 1 to {size}",
                "for a longer interval use Every, or name the values",
            )

    def _check_hash(self, body: str, step: int | None) -> None:
        found = _HASH.fullmatch(body)
        if found is None:
            raise self._refuse("is not a form of H", "write H, H(0-29), H/15 or H(0-29)/10")
        low, high = self.field.low, self.field.hashed_to
        if found[1] is not None:
            low, high = int(found[1]), int(found[2])
            top = 6 if self.field.name == "weekday" else self.field.high
            if not self.field.low <= low < high <= top:
                raise self._refuse(
                    f"is not a range within {self.field.low} to {top}",
                    "write the smaller value first",
                )
        if step is not None and not 2 <= step <= high - low + 1:
            raise self._refuse(
                f"steps by {step} through {high - low + 1} values",
                f"take a step from 2 to {high - low + 1}, or H without one",
            )

    def _is_special(self, body: str) -> bool:
        if self.field.name == "day":
            return body in {"L", "LW"} or _NEAREST.fullmatch(body) is not None
        if self.field.name == "weekday":
            return "#" in body or _LAST_WEEKDAY.fullmatch(body) is not None
        return False

    def _special(self, body: str) -> str:
        if self.field.name == "day":
            return self._special_day(body)
        if found := _LAST_WEEKDAY.fullmatch(body):
            return f"L{self._number(found[1] or found[2]) % 7}"
        days, _, which = body.partition("#")
        if which not in {"1", "2", "3", "4", "5"}:
            raise self._refuse(
                "asks for a week that is not 1 to 5", "write 5#3, or L5 for the last"
            )
        self._check_range(days, stepped=False)
        return body

    def _special_day(self, body: str) -> str:
        found = _NEAREST.fullmatch(body)
        if found is None:
            return body
        return f"{self._number(found[1] or found[2])}W"

    def _check_range(self, body: str, *, stepped: bool) -> None:
        first, dash, last = body.partition("-")
        low = self._number(first)
        if not dash:
            return
        high = self._number(last)
        if self.field.name == "weekday" and high == 0 and low > 0:
            high = 7
        if low == high or (self.field.name == "weekday" and (low, high) == (7, 0)):
            raise self._refuse("is a range of one value", f"write {first}, or * for all")
        if low > high and stepped:
            raise self._refuse(
                "wraps round and has a step, which is read differently from cron to cron",
                "name the values",
            )

    def _number(self, text: str) -> int:
        field = self.field
        if text in field.names:
            return field.names[text]
        if text.isascii() and text.isdigit():
            if field.low <= int(text) <= field.high:
                return int(text)
            raise self._refuse(
                f"is out of range, {field.low} to {field.high}", "take a value within it"
            )
        if text == "R" or text.startswith("R("):
            raise self._refuse(
                "is drawn anew at every start", "use H, which the recurring id decides"
            )
        names = f" or {'|'.join(field.names)}" if field.names else ""
        raise self._refuse(f"is not {field.low} to {field.high}{names}", "see docs/howto/cron.md")


def _check_together(field: Field, terms: list[str], expression: str) -> None:
    """What each term may be, but not beside others."""
    if len(terms) == 1:
        return
    text = ",".join(terms)
    if "*" in terms:
        raise refusal(
            expression, f"{text!r} as {field.name} has a * in a list", "write * alone, or no *"
        )
    if field.name == "day" and "W" in text:
        raise refusal(
            expression, f"{text!r} as day has a W in a list", "use one recurring task for each"
        )
    picked = [term for term in terms if "#" in term or _LAST_WEEKDAY.fullmatch(term)]
    if field.name == "weekday" and 0 < len(picked) < len(terms):
        raise refusal(
            expression,
            f"{text!r} as weekday mixes every week with some weeks",
            "write each day with its #, or use one recurring task for each",
        )
