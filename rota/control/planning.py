"""What is to be decided about a recurring task's fire times: pure, without lists of the missed."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple

from rota.core.recurring import Definition, Fire, Rules
from rota.triggers import Trigger

#: A tick of catch-up ``none`` fires if it is not later than this. Some lateness there always
#: is; this much is a lease, so that a tick survives the death of the node that was to fire it.
GRACE_OF_NONE = 30.0
#: So many ticks of one definition are fired in one pass; the rest come in the next.
AT_ONCE = 100
_INSTANT = timedelta(microseconds=1)


class Missed(NamedTuple):
    """What a resumed definition passes over, and where it goes on."""

    fire: Fire | None
    following: datetime | None


def plan(definition: Definition, trigger: Trigger, rules: Rules, now: datetime) -> list[Fire]:
    """The decisions on all fire times from ``next_fire_at`` to ``now``, in order.

    Each follows the one before it. At most ``AT_ONCE`` of them fire; with overlap
    ``queue`` as many as there may be instances, since the others would only wait. What
    comes after those is left undecided. Empty if nothing is due, or if the definition's
    next time is past its end.
    """
    first = definition.next_fire_at
    until = _horizon(rules, now)
    if first is None or first > until:
        return []
    newest = max(first, trigger.previous(until) or first)
    begin = _begin(trigger, rules, first, newest, now)
    if begin is None:
        following = following_time(trigger, rules, newest)
        return [_missed(definition, trigger, first, newest, following)]
    ticks: list[Fire] = []
    if begin > first:
        before = begin - _INSTANT
        ticks.append(_missed(definition, trigger, first, before, begin))
    room = min(AT_ONCE, rules.max_instances) if rules.overlap == "queue" else AT_ONCE
    tick: datetime | None = begin
    while tick is not None and tick <= until and room:
        following = following_time(trigger, rules, tick)
        ticks.append(_fired(definition, rules, tick, following))
        tick, room = following, room - 1
    return ticks


def pass_over(definition: Definition, trigger: Trigger, rules: Rules, now: datetime) -> Missed:
    """What came due and was not decided, as missed, for a definition that is resumed now."""
    first = definition.next_fire_at
    until = _horizon(rules, now)
    if first is None or first > until:
        return Missed(None, first)
    newest = max(first, trigger.previous(until) or first)
    following = following_time(trigger, rules, newest)
    return Missed(_missed(definition, trigger, first, newest, following), following)


def first_time(trigger: Trigger, rules: Rules, now: datetime) -> datetime | None:
    """The first fire time later than ``now`` and within the rules' start and end."""
    after = now
    if rules.start is not None:
        after = max(now, rules.start - _INSTANT)
    return following_time(trigger, rules, after)


def following_time(trigger: Trigger, rules: Rules, after: datetime) -> datetime | None:
    """The next fire time, None past the rules' end."""
    following = trigger.next(after)
    if following is None or (rules.end is not None and following > rules.end):
        return None
    return following


def upcoming(
    definition: Definition, trigger: Trigger, rules: Rules, now: datetime, count: int
) -> list[datetime]:
    """The next ``count`` fire times that are not decided, fewer if it ends before.

    Those of a paused definition are the ones it would have if it were resumed now.
    """
    tick = definition.next_fire_at
    if definition.paused and tick is not None and tick <= now:
        tick = following_time(trigger, rules, now)
    if rules.max_runs is not None:
        count = min(count, rules.max_runs - definition.runs)
    times: list[datetime] = []
    while tick is not None and len(times) < count:
        times.append(tick)
        tick = following_time(trigger, rules, tick)
    return times


def run_time(recurring_id: str, fire_at: datetime, jitter: float) -> datetime:
    """When the child of a fire time is to run: up to ``jitter`` seconds later.

    The offset is a hash of both, so that every node and every retry agrees.
    """
    if not jitter:
        return fire_at
    name = f"{recurring_id}\x1f{fire_at.isoformat()}".encode()
    part = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64
    return fire_at + timedelta(seconds=part * jitter)


def _horizon(rules: Rules, now: datetime) -> datetime:
    return now if rules.end is None else min(now, rules.end)


def _begin(
    trigger: Trigger, rules: Rules, first: datetime, newest: datetime, now: datetime
) -> datetime | None:
    """The oldest of the due ticks that is to fire; None if all are too late."""
    grace = rules.misfire_grace
    if grace is None and rules.catchup == "none":
        grace = GRACE_OF_NONE
    oldest = first if grace is None else max(first, now - timedelta(seconds=grace))
    if newest < oldest:
        return None
    if rules.catchup != "all":
        return newest
    if oldest == first and trigger.count(first, newest) < rules.catchup_limit:
        return first
    begin = newest
    for _ in range(rules.catchup_limit - 1):
        earlier = trigger.previous(begin - _INSTANT)
        if earlier is None or earlier < oldest:
            break
        begin = earlier
    return begin


def _missed(
    definition: Definition,
    trigger: Trigger,
    first: datetime,
    until: datetime,
    following: datetime | None,
) -> Fire:
    """All fire times from ``first`` to ``until``, told under the first of them."""
    return Fire(
        recurring=definition.id,
        expected=first,
        following=following,
        fire_at=first,
        decision="missed",
        count=1 + trigger.count(first, until),
        version=definition.version,
    )


def _fired(
    definition: Definition, rules: Rules, tick: datetime, following: datetime | None
) -> Fire:
    return Fire(
        recurring=definition.id,
        expected=tick,
        following=following,
        fire_at=tick,
        version=definition.version,
        overlap=rules.overlap,
        max_instances=rules.max_instances,
        max_runs=rules.max_runs,
    )
