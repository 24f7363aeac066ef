"""Converters where a value is one of several: enums, literals, unions."""

from __future__ import annotations

from enum import Enum, Flag
from types import NoneType
from typing import TYPE_CHECKING, Any

from rota.core.convert.plain import plain
from rota.core.convert.shape import Converter, Misfit, NoForm

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCALARS = (NoneType, bool, int, float, str)


def enumerated(cls: type[Enum]) -> Converter:
    """A member by its value."""
    members = list(cls)
    for member in members:
        if not isinstance(member.value, _SCALARS):
            raise NoForm(
                f"{cls.__name__}.{member.name} has a value of type {type(member.value).__name__}",
                "give the enum's members str or int values",
            )
    table = {(type(member.value), member.value): member for member in members}
    shown = ", ".join(repr(member.value) for member in members[:12])

    def encode(value: Any) -> Any:
        if isinstance(value, cls):
            return value.value
        raise Misfit(
            f"must be a {cls.__name__}, not {type(value).__name__}",
            f"pass one of {', '.join(f'{cls.__name__}.{m.name}' for m in members[:12])}",
        )

    def decode(value: Any) -> Any:
        found = table.get((type(value), value)) if isinstance(value, _SCALARS) else None
        if found is not None:
            return found
        try:
            if type(value) in kinds:
                return cls(value)  # combined flags, and enums with a _missing_ of their own
        except (ValueError, TypeError):
            pass
        raise Misfit(f"is not a value of {cls.__name__}", f"pass one of {shown}")

    kinds = frozenset({int}) if issubclass(cls, Flag) else frozenset(kind for kind, _ in table)
    return Converter(cls.__name__, encode, decode, kinds, cls=cls)


def literal(values: Sequence[Any]) -> Converter:
    """Exactly these values; ``True`` is not 1."""
    out: dict[tuple[type, Any], Any] = {}
    back: dict[tuple[type, Any], Any] = {}
    for value in values:
        single = enumerated(type(value)) if isinstance(value, Enum) else plain(type(value))
        if single is None:
            raise NoForm(f"Literal[{value!r}] has no JSON form", "use str or int literals")
        form = single.encode(value)
        out[type(value), value] = form
        back[type(form), form] = value
    shown = ", ".join(repr(value) for value in values)
    name = f"Literal[{shown}]"

    def pick(table: dict[tuple[type, Any], Any], value: Any) -> Any:
        try:
            return table[type(value), value]
        except (KeyError, TypeError):
            raise Misfit(f"is not one of {shown}", "pass one of them") from None

    return Converter(
        name,
        lambda value: pick(out, value),
        lambda value: pick(back, value),
        frozenset(kind for kind, _ in back),
    )


def united(members: Sequence[Converter]) -> Converter:
    """The first member that fits.

    Where two members share a JSON type (``datetime | str``), each value is read back
    while it is encoded: one that would return as another type is refused, not changed.
    """
    records = [member.name for member in members if member.record]
    if len(records) > 1:
        raise NoForm(
            f"{' | '.join(records)} cannot be told apart in JSON",
            "use one of them, or a single class with a field that says which",
        )
    name = " | ".join(member.name for member in members)
    owners = _owners(members)
    classes = {member.cls: member for member in members if member.cls}
    exact = frozenset(kind for kind, owner in owners.items() if owner and kind in owner.exact)

    def encode(value: Any) -> Any:
        # An IntEnum is an int, too: its own class goes before the first that fits.
        own = classes.get(type(value))
        if own is not None:
            return checked(own, own.encode(value))
        for member in members:
            try:
                form = member.encode(value)
            except Misfit:
                continue
            return checked(member, form)
        raise _none_fits(name, value)

    def checked(member: Converter, form: Any) -> Any:
        if owners[type(form)] is None:
            _check_return(members, member, form)
        return form

    def decode(value: Any) -> Any:
        owner = owners.get(type(value))
        if owner is not None:
            return owner.decode(value)
        for member in members:
            try:
                return member.decode(value)
            except Misfit:
                continue
        raise _none_fits(name, value)

    kinds = frozenset[type]().union(*(member.kinds for member in members))
    return Converter(name, _quick(exact, encode), decode, kinds, exact, bool(records))


def _quick(exact: frozenset[type], encode: Any) -> Any:
    """An int for ``float | int`` stays an int: its own type goes before the first that fits."""

    def run(value: Any) -> Any:
        return value if type(value) in exact else encode(value)

    return run


def _owners(members: Sequence[Converter]) -> dict[type, Converter | None]:
    """Which member alone answers a JSON type; None where several do."""
    owners: dict[type, Converter | None] = {}
    for member in members:
        for kind in member.kinds:
            owners[kind] = None if kind in owners else member
    return owners


def _check_return(members: Sequence[Converter], sent: Converter, form: Any) -> None:
    for member in members:
        if member is sent:
            return
        try:
            member.decode(form)
        except Misfit:
            continue
        raise Misfit(
            f"is a {sent.name} that would come back as {member.name}",
            f"annotate the parameter as {sent.name} alone, or pass a {member.name}",
        )


def _none_fits(name: str, value: Any) -> Misfit:
    found = "None" if value is None else type(value).__name__
    return Misfit(f"must be {name}, and this {found} is none of them", f"pass {name}")
