"""What a cron expression may say, how it is kept, and what is refused with which words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rota.errors import InvalidTrigger
from rota.triggers import Trigger, from_json
from rota.triggers.cron import Cron


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("5-5 * * * *", "'5-5' as minute is a range of one value; write 5"),
        ("0 0 * * 7-0", "range of one value"),
        ("0 0 * * MON-1", "range of one value"),
        ("R * * * *", "drawn anew at every start; use H"),
        ("R(0-9) * * * *", "use H"),
        ("0 0 31 2 *", "no date has day 31, month 2"),
        ("0 0 31 4,6,9,11 *", "no date has day 31"),
        ("0 0 30-31 feb *", "no date has"),
        ("0 0 */31 * 1#2", "no date has"),
        ("0 0 H(29-31) 2 *", "no date has"),
        ("* * * *", "it has 4 fields; write minute, hour"),
        ("", "it has 0 fields"),
        ("0 0 1 1 * 0 2027", "it has 7 fields"),
        ("0 0\u00a0* * *", "it has 4 fields"),
        ("@reboot", "@reboot is not one of @yearly"),
        ("@every 5m", "for an interval use Every"),
        ("60 * * * *", "'60' as minute is out of range, 0 to 59"),
        ("0 24 * * *", "as hour is out of range"),
        ("0 0 0 * *", "as day is out of range, 1 to 31"),
        ("0 0 * 13 *", "as month is out of range"),
        ("0 0 * * 8", "as weekday is out of range"),
        ("*/90 * * * *", "step that is not one of 1 to 60; for a longer interval use Every"),
        ("*/0 * * * *", "step that is not"),
        ("*/ * * * *", "step that is not"),
        ("0 22-4/3 * * *", "wraps round and has a step"),
        ("*,5 * * * *", "has a * in a list"),
        ("1,,2 * * * *", "'' as minute is not 0 to 59"),
        ("-1 * * * *", "'-1' as minute is not"),
        ("1.5 * * * *", "'1.5' as minute is not"),
        ("\u0663 * * * *", "as minute is not 0 to 59"),
        ("? * * * *", "'?' as minute is not"),
        ("0 0 * * MONDAY", "'MONDAY' as weekday is not 0 to 7 or SUN"),
        ("0 0 * * L", "'L' as weekday is not"),
        ("0 0 L-3 * *", "'L-3' as day is not"),
        ("0 0 15W,20 * *", "has a W in a list"),
        ("0 0 * * 1,5#3", "mixes every week with some weeks"),
        ("0 0 * * 5#6", "week that is not 1 to 5"),
        ("0 0 * * 5L/2", "takes no step"),
        ("H(0-99) * * * *", "'H(0-99)' as minute is not a range within 0 to 59"),
        ("H(9-3) * * * *", "smaller value first"),
        ("H(0-9)/20 * * * *", "'H(0-9)/20' as minute steps by 20 through 10 values"),
        ("0 0 H/30 * *", "'H/30' as day steps by 30 through 28 values"),
        ("H/1 * * * *", "steps by 1"),
        ("HH * * * *", "is not a form of H"),
    ],
)
def test_a_wrong_expression_is_refused_with_a_remedy(expression: str, says: str) -> None:
    with pytest.raises(InvalidTrigger, match=re.escape(says)) as caught:
        Cron(expression)

    assert caught.value.field == "expression"
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"expression": "0 * * * * *"}, "seconds", "does not say on which side the seconds are"),
        ({"expression": "0 0 * * *", "seconds": "first"}, "expression", "it has 5 fields"),
        ({"expression": "@daily", "seconds": "last"}, "expression", "the second last"),
        ({"expression": "@daily", "seconds": "both"}, "seconds", "'none', 'first' or 'last'"),
        ({"expression": None}, "expression", "must be text, not NoneType"),
        ({"expression": "@daily", "timezone": "Mars/Olympus"}, "timezone", "not a known time zone"),
        ({"expression": "@daily", "timezone": ""}, "timezone", "not a known time zone"),
        ({"expression": "@daily", "timezone": "../etc"}, "timezone", "not a known time zone"),
        ({"expression": "@daily", "timezone": None}, "timezone", "has no IANA name"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidTrigger, match=re.escape(says)) as caught:
        Cron(**options)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  0\t03  * * * \n", "0 3 * * *"),
        ("@daily", "0 0 * * *"),
        ("@MIDNIGHT", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("*/1 * ? jan-Mar mon", "* * * JAN-MAR MON"),
        ("0 0 W15 * ?", "0 0 15W * *"),
        ("0 0 l * *", "0 0 L * *"),
        ("0 0 lw * *", "0 0 LW * *"),
        ("0 0 * * 5l", "0 0 * * L5"),
        ("0 0 * * Lfri,L7", "0 0 * * L5,L0"),
        ("h h(0-07) * * *", "H H(0-7) * * *"),
    ],
)
def test_one_spelling_is_kept(written: str, kept: str) -> None:
    assert Cron(written).expression == kept
    assert Cron(written) == Cron(kept)


def test_seconds_given_last_are_kept_first() -> None:
    last = Cron("*/5 9 * * mon 30", seconds="last")

    assert last == Cron("30 */5 9 * * MON", seconds="first")
    assert (last.expression, last.seconds) == ("30 */5 9 * * MON", "first")


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        (
            Cron("@daily", timezone="Europe/Paris"),
            {"cron": "0 0 * * *", "timezone": "Europe/Paris"},
        ),
        (Cron("H * * * *"), {"cron": "H * * * *", "timezone": "UTC"}),
        (
            Cron("* * * * * 5", seconds="last"),
            {"cron": "5 * * * * *", "timezone": "UTC", "seconds": "first"},
        ),
    ],
)
def test_json_goes_round(rule: Cron, data: dict[str, Any]) -> None:
    assert rule.to_json() == data
    assert from_json(data) == rule
    assert isinstance(rule, Trigger)


def test_a_stored_form_of_a_later_version_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="upgrade rota"):
        from_json({"cron": "0 0 * * *", "timezone": "UTC", "year": "2030"})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 3 * * *", "at 03:00 every day"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/7 * * * *", "every 7th minute"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "minute 5 of every hour"),
        ("0 */2 * * *", "minute 0 of every 2nd hour"),
        ("*/15 9-17 * * mon-fri", "every 15 minutes of hours 9 to 17 on Monday to Friday"),
        ("0 9,17 * * 1,5", "at 09:00 and 17:00 on Monday and Friday"),
        (
            "30 6 1,22 jan-mar,12 *",
            "at 06:30 on the 1st and the 22nd in January to March and December",
        ),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 LW * *", "at 00:00 on the last Monday to Friday of the month"),
        ("0 0 15W * *", "at 00:00 on the Monday to Friday nearest the 15th"),
        ("0 0 * * 5#3,7#1", "at 00:00 on the 3rd Friday and the 1st Sunday"),
        ("0 0 * * L5", "at 00:00 on the last Friday"),
        ("0 0 13 * 5", "at 00:00 on the 13th or on Friday"),
        ("0 0 */2 * 1", "at 00:00 on every 2nd day of the month from the 1st if it is also Monday"),
        ("H 2 * * *", "a minute chosen by id of hour 2 every day"),
        (
            "H(0-9)/5 * * * *",
            "a minute chosen by id from 0 to 9, then every 5 from there of every hour",
        ),
    ],
)
def test_a_rule_is_put_into_words(expression: str, words: str) -> None:
    assert Cron(expression, timezone="Europe/Paris").describe() == f"{words}, Europe/Paris"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * * *", "every second"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("5 * * * * *", "second 5 of every minute"),
        ("15 30 3 * * *", "at 03:30:15 every day"),
        ("0,30 */5 * * * *", "seconds 0 and 30 of every 5 minutes"),
    ],
)
def test_seconds_are_put_into_words(expression: str, words: str) -> None:
    assert Cron(expression, seconds="first").describe() == f"{words}, UTC"
