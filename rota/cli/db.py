"""``rota db``: bring a database's schema up to date, tell how it stands, print the SQL."""

from __future__ import annotations

import json
from typing import Any

import click

from rota.cli import database, exits
from rota.cli.options import Place, placed
from rota.errors import InvalidArgument, SchemaMismatch


@click.group()
def db() -> None:
    """The database's tables: upgrade, status, sql."""


@db.command()
@placed
def upgrade(url: str | None, schema: str | None, as_json: bool) -> None:
    """Apply the steps the database lacks; safe to run twice, or by two at once."""
    url = Place(url, schema).named
    applied = database.upgrade(url, schema)
    now = database.version(url, schema)
    said = f"applied step {', '.join(map(str, applied))}" if applied else "nothing to do"
    _answer(as_json, f"{said}; the database is at step {now}", applied=applied, version=now)


@db.command()
@placed
@click.pass_context
def status(ctx: click.Context, url: str | None, schema: str | None, as_json: bool) -> None:
    """Show the schema's step found and the one needed; exit 5 if they do not fit."""
    from rota.storage.schema import ledger

    url = Place(url, schema).named
    found, needed = database.version(url, schema), ledger.newest()
    problem = None
    try:
        database.check(url, schema)
    except SchemaMismatch as error:
        problem = str(error)
    text = f"found   {found}\nneeded  {needed}\n{problem or 'this version of rota fits'}"
    _answer(as_json, text, found=found, needed=needed, fits=problem is None, problem=problem)
    if problem is not None:
        ctx.exit(exits.UNFIT)


@db.command()
@placed
@click.option("--from", "start", type=click.IntRange(0), default=0, help="The step it is at.")
@click.option("--to", "stop", type=click.IntRange(1), help="The step to reach; the newest.")
def sql(url: str | None, schema: str | None, as_json: bool, start: int, stop: int | None) -> None:
    """Print the SQL of an upgrade, as one transaction; the database is not asked."""
    from rota.storage.schema import ledger

    dialect = database.dialect_of(Place(url, schema).named)
    last = ledger.newest() if stop is None else stop
    if not start <= last <= ledger.newest():
        raise InvalidArgument(
            f"--from {start} --to {last} is no way through steps 1 to {ledger.newest()}; "
            "choose others",
            field="to",
        )
    statements = [
        f"{statement.rstrip(';')};"
        for statement in ledger.statements(start, last, dialect, schema=schema)
    ]
    text = "\n".join(["begin;", *(f"{statement}\n" for statement in statements), "commit;"])
    _answer(as_json, text, **{"from": start, "to": last, "statements": statements})


def _answer(as_json: bool, text: str, **facts: Any) -> None:
    click.echo(json.dumps(facts) if as_json else text)
