"""What a stored definition means to this version: parsed once, or the reason why it cannot be."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from rota.control.planning import run_time
from rota.core.codec import check_mapping, load
from rota.core.options import Options, decode_options
from rota.core.recurring import Definition, Fire, Rules
from rota.core.request import ScheduleRequest
from rota.core.rulebook import make_rules, said_of
from rota.triggers import Trigger, from_json

#: So many definitions are kept parsed; past that all are parsed anew.
KEPT = 20_000
#: Beside a task's own options: how long after its time a child may start.
EXPIRES = "expires_seconds"


class Unreadable(Exception):
    """A stored definition that this version cannot read, and why."""


class Reading(NamedTuple):
    """A definition's parsed parts; ``expires`` in seconds after each child's time."""

    version: int
    trigger: Trigger
    rules: Rules
    options: Options
    expires: float | None


class Reader:
    """Parses definitions, each version once; may be used by any thread."""

    def __init__(self) -> None:
        self._known: dict[str, Reading] = {}

    def read(self, definition: Definition) -> Reading:
        """The definition's parts; raises ``Unreadable``."""
        known = self._known.get(definition.id)
        if known is not None and known.version == definition.version:
            return known
        try:
            reading = parse(definition)
        except Exception as error:
            # Whatever one stored row does to its reader, it is that row's own trouble.
            reason = str(error) or type(error).__name__
            raise Unreadable(reason) from error
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[definition.id] = reading
        return reading


def parse(definition: Definition) -> Reading:
    """The definition's parts; raises whatever is wrong with it."""
    check_mapping(load(definition.params), "params")
    check_mapping(load(definition.meta) or {}, "meta")
    return Reading(
        definition.version,
        _trigger(definition.trigger).spread(definition.id),
        _rules(definition.rules),
        decode_options(definition.options),
        _expires(definition.options),
    )


# Cached, since many definitions share one text.


@lru_cache(maxsize=1024)
def _trigger(text: str) -> Trigger:
    return from_json(check_mapping(json.loads(text), "trigger"))


@lru_cache(maxsize=1024)
def _rules(text: str) -> Rules:
    return make_rules(**said_of(Rules.decode(text)))


@lru_cache(maxsize=1024)
def _expires(text: str) -> float | None:
    expires: float | None = check_mapping(json.loads(text), "options").get(EXPIRES)
    return expires


def options_text(options: Options, expires: float | None) -> str:
    """What a definition keeps of its children's options."""
    text = options.encode()
    if expires is None:
        return text
    return json.dumps({**json.loads(text), EXPIRES: expires}, separators=(",", ":"))


def child_request(
    definition: Definition, reading: Reading, fire: Fire, child: str
) -> ScheduleRequest:
    """The request that is to go through the chain for one fire time."""
    params: dict[str, Any] = load(definition.params)
    return ScheduleRequest(
        id=child,
        work=definition.work,
        params=params,
        queue=definition.queue,
        priority=definition.priority,
        at=None if fire.by_hand else run_time(definition.id, fire.fire_at, reading.rules.jitter),
        expires_in=reading.expires,
        options=reading.options,
        meta=load(definition.meta),
        recurring=definition.id,
        fire_at=fire.fire_at,
        rider=fire,
        on_conflict="return",
    )
