"""``rota doctor``: look whether a database keeps the invariants, and mend what can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rota.cli import database, exits
from rota.cli.answers import answer
from rota.cli.options import Place, placed

if TYPE_CHECKING:
    from rota.core.audit import Finding


@click.command()
@placed
@click.option("--mend", is_flag=True, help="Put right what safely can be; nodes may run on.")
@click.option("--deep", is_flag=True, help="Read the whole SQLite file for damage, too.")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="How many rows of each table to look at.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=15.0,
    show_default=True,
    help="Seconds before what seems wrong is looked at again.",
)
@click.pass_context
def doctor(  # noqa: PLR0917 - one per option
    ctx: click.Context,
    url: str | None,
    schema: str | None,
    mend: bool,
    deep: bool,
    rows: int,
    settle: float,
    as_json: bool,
) -> None:
    """Check tables, nodes, clock and database; exit 1 if something is wrong still."""
    from rota.control.auditing import examine
    from rota.core.clock import SystemClock
    from rota.storage.open import open_repository

    place = Place(url, schema).named
    # First: opening an SQLite file would make or upgrade it.
    database.check(place, schema)
    clock = SystemClock()
    repository = open_repository(place, clock=clock, schema=schema)
    repository.open()
    try:
        findings = examine(repository, clock=clock, mend=mend, deep=deep, rows=rows, settle=settle)
    finally:
        repository.close()
    well = all(one.mended or one.severity == "note" for one in findings)
    verdict = "all is well" if well else "something needs a look"
    text = "\n".join([*map(_line, findings), verdict])
    answer({"well": well, "findings": findings}, text, as_json=as_json)
    if not well:
        ctx.exit(exits.FAILED)


def _line(one: Finding) -> str:
    mark = "mended" if one.mended else one.severity.value
    remedy = f"; {one.remedy}" if one.remedy else ""
    return f"{mark:8}{one.kind}: {one.detail}{remedy}"
