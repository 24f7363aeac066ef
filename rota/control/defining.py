"""Make a recurring task's definition out of what was said, and refuse what cannot be."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from rota.control.planning import first_time, following_time
from rota.control.reading import Reading, options_text
from rota.core.codec import dump, load
from rota.core.names import check_key
from rota.core.options import Options
from rota.core.recurring import Definition, Rules
from rota.core.request import ScheduleRequest
from rota.errors import InvalidArgument, InvalidTrigger
from rota.triggers import Trigger

_NO_OPTION = {
    "id": "each child is a task with an id of its own; the first argument names the recurring task",
    "unique": "its children would shut each other out; use overlap= and max_instances=",
    "on_conflict": "its children meet nothing; use replace_existing= for the definition",
    "at": "its trigger says when; use start= for its first moment, or schedule() for one task",
    "delay": "its trigger says when; use start= for its first moment, jitter= to spread its runs",
    "connection": "it is stored at once; add it after your transaction has committed",
}


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a task that make no sense for a task's definition."""
    for name, remedy in _NO_OPTION.items():
        if options.get(name) is not None:
            raise InvalidArgument(f"a recurring task takes no {name}; {remedy}", field=name)
    if isinstance(options.get("expires"), datetime):
        raise InvalidArgument(
            "expires is an instant, which would be the same for every child; "
            "pass seconds after each fire time, or end= for the recurrence",
            field="expires",
        )


def check_trigger(trigger: object) -> Trigger:
    """A trigger; what is none is refused by name."""
    if isinstance(trigger, type) or not isinstance(trigger, Trigger):
        raise InvalidTrigger(
            f"trigger is {trigger!r}; pass a trigger, for example Every(60) or Cron('0 3 * * *')",
            field="trigger",
        )
    return trigger


def define(
    name: object, request: ScheduleRequest, trigger: object, rules: Rules, now: datetime
) -> Definition:
    """The definition with its first fire time, None if there is none (any more)."""
    recurring_id = check_key(name, "id")
    checked = check_trigger(trigger)
    spread = checked.spread(recurring_id)
    first = first_time(spread, rules, now)
    if first is not None and rules.jitter:
        _check_jitter(spread, rules, first)
    return Definition(
        id=recurring_id,
        work=request.work,
        params=dump(request.params, "params"),
        trigger=trigger_text(checked),
        options=options_text(request.options, request.expires_in),
        queue=request.queue,
        priority=request.priority,
        next_fire_at=first,
        rules=rules.encode(),
        meta=None if request.meta is None else dump(request.meta, "meta"),
    )


def trigger_text(trigger: Trigger) -> str:
    """The trigger's canonical JSON text: equal triggers have equal texts."""
    return json.dumps(trigger.to_json(), sort_keys=True, separators=(",", ":"))


def never_fires(name: str, trigger: Trigger, rules: Rules) -> InvalidTrigger:
    """The error for a definition that has no fire time ahead."""
    bounds = [
        f"{word} {when.isoformat()}"
        for word, when in (("from", rules.start), ("until", rules.end))
        if when is not None
    ]
    within = f" {' '.join(bounds)}" if bounds else ""
    return InvalidTrigger(
        f"the trigger of {name!r} ({trigger.describe()}) never fires from now on{within}; "
        "change it, or its start and end",
        field="trigger",
    )


def _check_jitter(trigger: Trigger, rules: Rules, first: datetime) -> None:
    second = following_time(trigger, rules, first)
    if second is not None and rules.jitter > (second - first).total_seconds():
        raise InvalidArgument(
            f"jitter is {rules.jitter:g} s and the fire times are "
            f"{(second - first).total_seconds():g} s apart, so children would overtake each "
            "other; make it shorter",
            field="jitter",
        )


def overlay(
    definition: Definition, reading: Reading, made: ScheduleRequest, given: Collection[str]
) -> ScheduleRequest:
    """The request for what is stored, with what was ``given`` taken from the one ``made``."""
    options = {field.name for field in fields(Options)} & set(given)
    return made.replace(
        options=replace(reading.options, **{name: getattr(made.options, name) for name in options}),
        queue=made.queue if "queue" in given else definition.queue,
        priority=made.priority if "priority" in given else definition.priority,
        expires_in=made.expires_in if "expires" in given else reading.expires,
        meta=made.meta if "meta" in given else load(definition.meta),
    )
