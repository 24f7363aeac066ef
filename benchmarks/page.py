"""The table of all figures, for the terminal and for the reference page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.targets import Target, targets

#: By name and database.
Figures = Mapping[tuple[str, str], Mapping[str, Any]]
_TEMPLATE = Path(__file__).with_name("page.md")
_DATABASES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "none": "none"}
_HEAD = """| figure | database | measured | least | most | must reach | aim | |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"""


class Cell(NamedTuple):
    """One figure and what it is judged by."""

    target: Target
    database: str
    value: float
    spread: tuple[float, float]


def table(figures: Figures, *, judged: bool = True) -> str:
    """Every figure that was measured, as Markdown; ``judged`` says whether it is enough."""
    return "\n".join([_HEAD, *(_row(cell, judged=judged) for cell in cells(figures))])


def short(figures: Figures) -> list[str]:
    """The figures that fall short of what they must reach."""
    return [
        f"{cell.target.label} ({_DATABASES[cell.database]})"
        for cell in cells(figures)
        if "short" in cell.target.verdict(cell.value)
    ]


def cells(figures: Figures) -> Iterator[Cell]:
    """What there is to show, row by row."""
    for target in targets():
        for database in target.databases:
            found = figures.get((target.benchmark, database), {})
            if target.key not in found:
                continue
            value = found[target.key]
            least, most = found.get("spread", {}).get(target.key, (value, value))
            yield Cell(target, database, value, (least, most))


def page(figures: Figures, *, failed: Sequence[str], day: date) -> str:
    """The reference page."""
    return _TEMPLATE.read_text().format(
        day=day.isoformat(),
        machine=_machine(figures),
        table=table(figures),
        failed=f"**Failed: {', '.join(failed)}.**\n\n" if failed else "",
        rounds=_rounds(figures),
    )


def _rounds(figures: Figures) -> str:
    """How many rounds there were of what."""
    names: dict[int, dict[str, None]] = {}
    for (name, _), told in figures.items():
        names.setdefault(told["rounds"], {})[f"`{name}`"] = None
    return "; ".join(f"{count} of {', '.join(names[count])}" for count in sorted(names)[::-1])


def _row(cell: Cell, *, judged: bool) -> str:
    target, unit = cell.target, cell.target.unit
    columns = (
        target.label,
        _DATABASES[cell.database],
        f"{_number(cell.value)}{unit}",
        *(_number(value) for value in cell.spread),
        _wanted(target.must, target),
        _wanted(target.aim, target),
        target.verdict(cell.value) if judged else "",
    )
    return "|".join(["", *(f" {text} " if text else " " for text in columns), ""])


def _wanted(value: float | None, target: Target) -> str:
    if value is None:
        return ""
    return f"{'≤' if target.less_is_better else '≥'} {_number(value)}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _machine(figures: Figures) -> str:
    told = list(figures.values())
    if not told:
        return ""
    on, versions = told[0]["machine"], told[0]["versions"]
    loads = [one["machine"]["load_before"] for one in told]
    where = f"{on['memory_gb']} GB, {on['system']}, databases on {on['filesystem']}"
    lines = [
        f"* Machine: {on['cpu']}, {on['cores']} cores for rota and the database, {where}.",
        f"* Load average before the rounds: {min(loads)} to {max(loads)}.",
        f"* Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}.",
    ]
    lines += [
        f"* {_DATABASES[place]}: {_settings(settings)}."
        for place, settings in {one["database"]: one["settings"] for one in told}.items()
        if settings
    ]
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in settings.items())
