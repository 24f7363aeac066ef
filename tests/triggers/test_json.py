"""The canonical JSON of all triggers: small, equal for equals, refused by name if unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from rota.errors import InvalidTrigger
from rota.triggers import AllOf, AnyOf, Calendar, Cron, Every, Once, Trigger, from_json
from tests.triggers.rules import triggers

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def written(trigger: Trigger) -> str:
    return json.dumps(trigger.to_json(), sort_keys=True, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(triggers)
def test_what_is_stored_is_read_again(trigger: Trigger) -> None:
    text = written(trigger)

    again = from_json(json.loads(text))

    assert again == trigger
    assert type(again) is type(trigger)
    assert hash(again) == hash(trigger)
    assert written(again) == text


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (Every(60), '{"every_seconds": 60}'),
        (Every(0.25), '{"every_seconds": 0.25}'),
        (
            Every(60, anchor=NOON),
            '{"anchor": "2026-11-22T12:00:00+00:00", "every_seconds": 60}',
        ),
        (Once(NOON), '{"once": "2026-11-22T12:00:00+00:00"}'),
        (
            Calendar(months=1, at="03:00", timezone="Europe/Paris"),
            '{"at": "03:00", "calendar": {"months": 1}, "timezone": "Europe/Paris"}',
        ),
        (
            AnyOf(Once(NOON), Every(60)),
            '{"any_of": [{"every_seconds": 60}, {"once": "2026-11-22T12:00:00+00:00"}]}',
        ),
        (
            AllOf(Cron("0 3 * * *"), Every(60)),
            '{"all_of": [{"cron": "0 3 * * *", "timezone": "UTC"}, {"every_seconds": 60}]}',
        ),
    ],
)
def test_the_stored_form_does_not_change(trigger: Trigger, text: str) -> None:
    # It stands in databases: what changes here must still read the old form.
    assert written(trigger) == text
    assert from_json(json.loads(text)) == trigger


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"sunrise": "Paris"}, [], None, "every minute", 60),
        {"every_seconds": 60, "but_not": "on Sundays"},
        {"once": NOON.isoformat(), "twice": True},
        {"calendar": {"months": 1, "quarters": 1}, "at": "03:00", "timezone": "UTC"},
        {"calendar": {"months": 1}, "at": "03:00", "timezone": "UTC", "gap": "skip"},
        {"any_of": [{"sunrise": "Paris"}]},
        {"all_of": [{"every_seconds": 60}], "tolerance": 5},
        {"cron": "0 3 * * *", "timezone": "UTC", "dst": "skip"},
        {"apscheduler": "lunar"},
        {"apscheduler": ["cron"]},
        {"apscheduler": "interval", "seconds": 60, "start_date": NOON.isoformat(), "jitter": 5},
        {"apscheduler": "cron", "fields": {"fortnight": "1"}, "timezone": "UTC"},
    ],
    ids=repr,
)
def test_a_form_of_a_later_version_is_refused_by_name(data: Any) -> None:
    with pytest.raises(InvalidTrigger, match="upgrade rota to read it"):
        from_json(data)


@pytest.mark.parametrize(
    "data",
    [
        *({"every_seconds": wrong} for wrong in ("60", None, 0, True, [])),
        {"every_seconds": 60, "anchor": "2026-01-01T00:00:00"},
        *({"once": wrong} for wrong in (None, 5, "tomorrow", "2026-01-01T00:00:00")),
        *({"calendar": wrong, "at": "00:00"} for wrong in ({}, [], None, {"days": "1"})),
        {"calendar": {"days": 1}, "at": 3},
        {"calendar": {"days": 1}, "timezone": "Mars/Olympus"},
        {"calendar": {"days": 1}, "anchor": 5},
        *({"any_of": wrong} for wrong in (None, [], {}, "ab")),
        {"apscheduler": "interval"},
        {"apscheduler": "interval", "seconds": 60},
        {"apscheduler": "cron", "timezone": "UTC"},
        {"apscheduler": "cron", "fields": {"hour": "25"}, "timezone": "UTC"},
        {"apscheduler": "cron", "fields": {}, "timezone": "UTC+99"},
        {"apscheduler": "calendarinterval", "interval": {"days": 1}, "time": "noon"},
        {"apscheduler": "calendarinterval", "interval": 5, "time": "12:00:00"},
        {"apscheduler": "calendarinterval", "interval": {"days": 1}, "time": "12:00:00"},
    ],
    ids=repr,
)
def test_a_damaged_form_is_refused(data: Any) -> None:
    with pytest.raises(InvalidTrigger, match=r";|must be seconds"):
        from_json(data)
