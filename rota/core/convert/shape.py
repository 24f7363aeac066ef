"""What a converter is, and the two ways it says no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import Any

from rota.errors import InvalidParams

Convert = Callable[[Any], Any]

#: The types ``json.loads`` answers.
JSON_TYPES: frozenset[type] = frozenset({NoneType, bool, int, float, str, list, dict})

NOTHING: frozenset[type] = frozenset()


class Misfit(Exception):  # becomes an InvalidParams at the parameter's edge
    """A value does not fit; the containers around it add their step to the path on its way out."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy
        self._steps: list[str] = []

    def under(self, step: str) -> Misfit:
        """The same misfit, seen from one container further out."""
        self._steps.append(step)
        return self

    def error(self, path: str) -> InvalidParams:
        """What the caller gets to see."""
        field = path + "".join(reversed(self._steps))
        return InvalidParams(f"{field} {self.fact}; {self.remedy}", field=field)


class NoForm(Exception):  # becomes an InvalidArgument at registration
    """A type that rota cannot turn into JSON and back."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}; {remedy}")
        self.fact = fact
        self.remedy = remedy


@dataclass(frozen=True, slots=True, eq=False)
class Converter:
    """Two functions for one annotation.

    ``encode`` and ``decode`` raise :class:`Misfit`; ``to_json`` and ``from_json`` know
    the path and raise ``InvalidParams``. ``kinds`` are the JSON types ``encode`` answers.
    A value whose type is in ``exact`` is its own JSON form, so neither need be called.
    ``record`` says that the JSON form is an object with field names of its own; ``cls`` is
    the class whose instances it takes, where that is only one.
    """

    name: str
    encode: Convert
    decode: Convert
    kinds: frozenset[type]
    exact: frozenset[type] = NOTHING
    record: bool = False
    cls: type | None = None

    def to_json(self, value: Any, path: str) -> Any:
        """The JSON form of a Python value; ``InvalidParams`` names the path to what misfits."""
        try:
            return self.encode(value)
        except Misfit as misfit:
            raise misfit.error(path) from misfit.__cause__
        except RecursionError as error:
            raise _too_deep().error(path) from error

    def from_json(self, value: Any, path: str) -> Any:
        """The Python value of a JSON form; ``InvalidParams`` names the path to what misfits."""
        try:
            return self.decode(value)
        except Misfit as misfit:
            raise misfit.error(path) from misfit.__cause__
        except RecursionError as error:
            raise _too_deep().error(path) from error


def wrong(value: object, wanted: str, remedy: str = "") -> Misfit:
    """The misfit of a value of the wrong type; never shows the value, which may be a secret."""
    found = "None" if value is None else type(value).__name__
    return Misfit(f"must be {wanted}, not {found}", remedy or f"pass {wanted}")


def _too_deep() -> Misfit:
    return Misfit("is nested too deeply, or contains itself", "pass a flatter value")
