"""The arguments of a command: text with named places that params fill, and nothing else."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import Any, NamedTuple

from rota.core.convert import Converter
from rota.core.convert.shape import Misfit
from rota.core.signature import Parameter, Signature
from rota.errors import InvalidArgument

#: What a param may be.
Value = str | int | float


class Template(NamedTuple):
    """One argument: pieces of text, each followed by a placeholder or nothing."""

    pieces: tuple[tuple[str, str | None], ...]

    def fill(self, values: Mapping[str, Value]) -> str:
        """The argument with its places filled."""
        return "".join(
            text + ("" if name is None else str(values[name])) for text, name in self.pieces
        )


def templates(args: object) -> tuple[Template, ...]:
    """Arguments as they were registered, taken apart; ``InvalidArgument`` names the wrong one."""
    if isinstance(args, str) or not isinstance(args, Sequence):
        raise InvalidArgument(
            f"args is {args!r}, and no shell will take it apart; pass a list, one item for "
            "each argument",
            field="args",
        )
    return tuple(_template(arg, f"args[{place}]") for place, arg in enumerate(args))


def _template(arg: object, field: str) -> Template:
    if not isinstance(arg, str) or "\0" in arg:
        raise InvalidArgument(f"{field} is {arg!r}; pass text without NUL", field=field)
    try:
        parsed = list(string.Formatter().parse(arg))
    except ValueError as error:
        raise InvalidArgument(
            f"{field} is {arg!r}: {error}; write braces that are meant as such twice",
            field=field,
        ) from error
    for _, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or not name.isidentifier() or iskeyword(name)):
            raise InvalidArgument(
                f"{field} is {arg!r}, and a placeholder is only a name, as in '{{database}}'; "
                "write braces that are meant as such twice",
                field=field,
            )
    pieces = tuple((text, name) for text, name, _, _ in parsed) or (("", None),)
    if all(name is None for _, name in pieces):  # doubled braces come in several pieces
        pieces = (("".join(text for text, _ in pieces), None),)
    return Template(pieces)


def risky(args: Sequence[Template]) -> frozenset[str]:
    """Placeholders whose value could be taken for an option."""
    found = set()
    for arg in args:
        if arg.pieces == (("--", None),):
            break
        for text, name in arg.pieces:
            if text:
                break
            if name:
                found.add(name)
    return frozenset(found)


def guarded(signature: Signature, names: frozenset[str]) -> Signature:
    """The signature with converters that refuse what looks like an option."""
    parameters = tuple(
        replace(one, converter=_no_option(one)) if one.name in names else one
        for one in signature.parameters
    )
    table = {one.name: (one.converter, one.converter.exact) for one in parameters}
    return replace(signature, parameters=parameters, _table=table)


def _no_option(parameter: Parameter) -> Converter:
    plain, name = parameter.converter, parameter.name

    def checked(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            form = convert(value)
            if str(form).startswith("-"):
                raise Misfit(
                    "begins with '-', so the program would take it for an option",
                    f"register the command with '--' or an option before it: '--', '{{{name}}}' "
                    f"or '--{name}={{{name}}}'",
                )
            return form

        return run

    encode, decode = checked(plain.encode), checked(plain.decode)
    return replace(plain, encode=encode, decode=decode, exact=frozenset())
