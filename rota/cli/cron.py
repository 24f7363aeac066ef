"""``rota cron``: what an expression means, in words and in times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from rota.cli.answers import answer
from rota.cli.inputs import instant_of
from rota.cli.options import with_json


@click.group()
def cron() -> None:
    """Cron expressions: explain."""


@cron.command()
@click.argument("expression")
@click.option("--timezone", default="UTC", show_default=True, help="Whose clock it is read by.")
@click.option("--seconds", type=click.Choice(["first", "last"]), help="Where the sixth field is.")
@click.option("--count", type=click.IntRange(1, 1_000), default=5, show_default=True)
@click.option("--after", type=instant_of, help="The times after this instant; now.")
@click.option("--id", "by", help="The recurring id that decides an H.")
@with_json
def explain(  # noqa: PLR0917 - click passes them by name
    expression: str,
    timezone: str,
    seconds: Any,
    count: int,
    after: datetime | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Say an expression in words, with its next times in its zone and in UTC."""
    from rota.triggers import Cron
    from rota.triggers.trigger import zone

    rule = Cron(expression, timezone, seconds=seconds or "none")
    if by is not None:
        rule = rule.spread(by)
    times: list[datetime] = []
    moment = rule.next(after or datetime.now(UTC))
    while moment is not None and len(times) < count:
        times.append(moment)
        moment = rule.next(moment)
    clock = zone(timezone)
    facts = {
        "expression": rule.expression,
        "timezone": rule.timezone,
        "words": rule.describe(),
        "next": times,
    }
    rows = [f"{one.astimezone(clock):%a %Y-%m-%d %H:%M:%S %Z}  {one:%H:%M:%SZ}" for one in times]
    answer(facts, "\n".join([rule.describe(), *rows]), as_json=as_json)
