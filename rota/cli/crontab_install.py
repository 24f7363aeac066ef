"""Make a crontab's lines the recurring tasks of its name, no more and no fewer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rota.cli.crontab_file import Entry
from rota.cli.crontab_work import LINE, QUEUE

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.core.recurring import Catchup

#: A fire time that nobody saw for so long is missed, as cron has it when it is down.
GRACE = 60
_PAGE = 1_000


class Installed(NamedTuple):
    """The ids of the lines, in their order, and of those that were removed."""

    lines: dict[str, Entry]
    removed: list[str]


async def install(
    scheduler: Scheduler, entries: Sequence[Entry], *, name: str, catchup: Catchup = "none"
) -> Installed:
    """Add each line, and remove those of the same name that stand in the file no more."""
    lines = named(entries, name)
    for recurring_id, entry in lines.items():
        await scheduler.add_recurring(
            recurring_id,
            LINE,
            entry.rule,
            {
                "command": entry.command,
                "stdin": entry.stdin,
                "env": entry.env,
                "user": entry.user,
            },
            queue=QUEUE,
            catchup=catchup,
            misfire_grace_time=GRACE,
            overlap="allow",
            allow_unknown=True,
        )
    gone = [one for one in await _stored(scheduler, prefix(name)) if one not in lines]
    for recurring_id in gone:
        await scheduler.recurring(recurring_id).remove()
    return Installed(lines, gone)


def named(entries: Sequence[Entry], name: str) -> dict[str, Entry]:
    """The lines by their recurring ids: the same on every host that has the same line."""
    seen: Counter[str] = Counter()
    lines: dict[str, Entry] = {}
    for entry in entries:
        said = (entry.rule.expression, entry.user or "", entry.command, entry.stdin)
        digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:10]
        seen[digest] += 1
        again = f"-{seen[digest]}" if seen[digest] > 1 else ""
        recurring_id = f"{prefix(name)}{digest}{again}"
        lines[recurring_id] = entry._replace(rule=entry.rule.spread(recurring_id))
    return lines


def prefix(name: str) -> str:
    """What the ids of a crontab's lines begin with."""
    return f"crontab:{name}:"


async def _stored(scheduler: Scheduler, beginning: str) -> list[str]:
    found: list[str] = []
    after: str | None = beginning
    while after is not None:
        page = await scheduler.list_recurring(_PAGE, after=after)
        mine = [one.id for one in page if one.id.startswith(beginning)]
        found += mine
        after = page[-1].id if len(page) == _PAGE and len(mine) == _PAGE else None
    return found
