"""What becomes of a stored definition when another is put under its id."""

from __future__ import annotations

from rota.core.recurring import Definition, Put, Rules

#: What a definition says; the rest is the row's own.
CONTENT = ("work", "params", "trigger", "options", "rules", "queue", "priority", "meta")


def founded(definition: Definition) -> Definition:
    """The definition as a new row."""
    return definition._replace(
        last_fire_at=None, paused=False, version=1, due_at=definition.next_fire_at, runs=0
    )


def restated(known: Definition, given: Definition, *, replace: bool) -> tuple[Put, Definition]:
    """What is answered, and the row as it stands then."""
    if not replace:
        return Put.EXISTS, known
    if all(getattr(known, name) == getattr(given, name) for name in CONTENT):
        return Put.SAME, known
    before, after = _read(known.rules), Rules.decode(given.rules)
    if before is not None and before.version > after.version:
        return Put.OLDER, known
    changed = known._replace(
        version=known.version + 1, **{name: getattr(given, name) for name in CONTENT}
    )
    if known.trigger != given.trigger or before is None or _bounds(before) != _bounds(after):
        changed = changed._replace(next_fire_at=given.next_fire_at, due_at=given.next_fire_at)
    return Put.CHANGED, changed


def _read(rules: str) -> Rules | None:
    """None for what this code cannot read: it does not stand in the way of what it can."""
    try:
        return Rules.decode(rules)
    except (ValueError, TypeError):
        return None


def _bounds(rules: Rules) -> tuple[object, ...]:
    return rules.start, rules.end, rules.max_runs
