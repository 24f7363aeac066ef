"""Steps that were never released, for the rules that the first real ones will have to keep."""

from __future__ import annotations

from dataclasses import fields

from rota.storage.tables import Tables


def widened() -> dict[str, str]:
    """A column more, and one with a default, in every table; a new table and a new index.

    Whoever writes rows without naming columns, or reads all there are, is caught by it.
    """
    described = Tables.describe()
    tables = [getattr(described, field.name).name for field in fields(described)]
    script = "".join(
        f"alter table {{s}}{table} add column later text;\n"
        f"alter table {{s}}{table} add column later_n integer not null default 7;\n"
        for table in tables
    )
    script += (
        "create table {s}rota_later (id integer primary key, what text);\n"
        "create index rota_task_later on {s}rota_task (later_n) where state = 0;\n"
    )
    return {"postgresql": script, "sqlite": script}


def broken() -> dict[str, str]:
    """One that fails after it has changed something."""
    script = "alter table {s}rota_queue add column later text;\nnonsense;\n"
    return {"postgresql": script, "sqlite": script}
