"""``rota recurring add``: have a work run again and again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rota.cli.answers import answer, moment
from rota.cli.client import ask
from rota.cli.inputs import given, instant_of, json_object, span_of
from rota.cli.options import Place, placed, with_app
from rota.cli.tasks_schedule import of_a_task, task_options
from rota.core.rulebook import RuleOptions

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.triggers import Trigger

_RULES = RuleOptions.__annotations__.keys()


@click.command()
@click.argument("recurring_id", metavar="ID")
@click.argument("work")
@click.option("--cron", help='By a cron expression, as "0 3 * * mon-fri".')
@click.option("--timezone", help="Whose clock the cron expression is read by; UTC.")
@click.option(
    "--seconds", type=click.Choice(["first", "last"]), help="Where cron's sixth field is."
)
@click.option("--every", type=span_of, help="At an interval, as 90, 15m, 2h.")
@click.option("--trigger", type=json_object, help="Any other trigger, in its stored form.")
@click.option("--catchup", type=click.Choice(["latest", "all", "none"]))
@click.option("--catchup-limit", type=click.IntRange(1))
@click.option("--misfire-grace-time", type=span_of, help="How late a fire time may be.")
@click.option("--overlap", type=click.Choice(["skip", "allow", "queue"]))
@click.option("--max-instances", type=click.IntRange(1))
@click.option("--start", type=instant_of, help="The first moment it may fire.")
@click.option("--end", type=instant_of, help="The last.")
@click.option("--max-runs", type=click.IntRange(1), help="Children at most.")
@click.option("--jitter", type=span_of, help="Each child runs up to so much later.")
@click.option("--version", type=click.IntRange(0), help="A lower one never replaces it.")
@of_a_task
@click.option("--keep-existing", is_flag=True, help="Leave one that exists as it is.")
@with_app
@placed
def add(  # noqa: PLR0917 - click passes them by name
    recurring_id: str,
    work: str,
    app: str | None,
    url: str | None,
    schema: str | None,
    as_json: bool,
    keep_existing: bool,
    **options: Any,
) -> None:
    """Have a work run again and again; adding it again changes what differs."""
    names = ("cron", "timezone", "seconds", "every", "trigger")
    trigger = _trigger(**{name: options.pop(name) for name in names})
    rules = given(**{name: options.pop(name) for name in _RULES})
    params, said = task_options(options)
    if app is None:
        said["allow_unknown"] = True

    async def put(scheduler: Scheduler) -> tuple[str, str, list[datetime]]:
        one = await scheduler.add_recurring(
            recurring_id,
            work,
            trigger,
            params,
            replace_existing=not keep_existing,
            **rules,
            **said,
        )
        # What stands there now, which may be another's: an older version, and one that is
        # kept, change nothing.
        stored = (await one.info()).trigger or trigger
        return str(one.put), stored.describe(), await one.next_fire_times(1)

    word, rule, times = ask(Place(url, schema, app), put)
    facts = {"id": recurring_id, "put": word, "rule": rule, "next": times}
    after = moment(times[0]) if times else "never"
    answer(facts, f"{word}: {rule}; next: {after}", as_json=as_json)


def _trigger(
    cron: str | None,
    timezone: str | None,
    seconds: Any,
    every: float | None,
    trigger: dict[str, Any] | None,
) -> Trigger:
    from rota.triggers import Cron, Every, from_json

    if [cron, every, trigger].count(None) != 2:
        raise click.UsageError("say when it fires; give one of --cron, --every, --trigger")
    if cron is not None:
        return Cron(cron, timezone or "UTC", seconds=seconds or "none")
    if timezone or seconds:
        raise click.UsageError("--timezone and --seconds belong to --cron; leave them out")
    if every is not None:
        return Every(every)
    return from_json(trigger or {})
