"""JSON as rota stores it: strict, compact, and refused early when a database would refuse it."""

from __future__ import annotations

import json
import re
from typing import Any

from rota.errors import InvalidArgument, InvalidParams, PayloadTooLarge

#: What params, meta or a result may take as JSON text unless the scheduler says otherwise.
SIZE_LIMIT = 1_000_000

_UNSTORABLE = re.compile(r"\\u0000|\\ud[89a-f]", re.IGNORECASE)
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=True).encode


def dump(value: object, field: str, *, limit: int = SIZE_LIMIT) -> str:
    """The value as JSON text, or an error that names the field.

    Refused, because one such value would make a database refuse the whole group it
    travels in: NaN and infinities, NUL characters, lone surrogates, keys that are
    not strings, and objects JSON has no form for.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParams(
            f"{field} cannot be written as JSON ({error}); pass plain values, "
            "dates as ISO strings, or annotate the function's parameter with its type",
            field=field,
        ) from error
    if "\\u" in text and _UNSTORABLE.search(text):
        _refuse_unstorable(value, field)
    if len(text) > limit:
        raise PayloadTooLarge(
            f"{field} takes {len(text)} bytes as JSON, over the limit of {limit}; "
            "store it elsewhere and pass a reference",
            field=field,
            size=len(text),
            limit=limit,
        )
    return text


def load(text: str | None) -> Any:
    """The value of stored JSON text; None stays None. Raises ``InvalidArgument`` for damage."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"stored JSON cannot be read ({type(error).__name__}: {error}); "
            "restore its row from a backup, or delete it",
            field="stored",
        ) from error


def check_mapping(value: object, field: str) -> dict[str, Any]:
    """A mapping with string keys, as a dict."""
    if not isinstance(value, dict) or (value and not all(isinstance(key, str) for key in value)):
        raise InvalidArgument(
            f"{field} must be a dict with string keys, not {type(value).__name__}", field=field
        )
    return value


def _refuse_unstorable(value: object, path: str) -> None:
    """Find the string with a NUL or a lone surrogate and name the way to it."""
    match value:
        case str():
            if "\x00" in value:
                raise InvalidParams(
                    f"{path} contains a NUL character; remove it, databases refuse it", field=path
                )
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidParams(
                    f"{path} contains a lone surrogate (half a character); "
                    "decode the bytes with the right encoding",
                    field=path,
                ) from error
        case dict():
            for key, item in value.items():
                _refuse_unstorable(key, path)
                _refuse_unstorable(item, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                _refuse_unstorable(item, f"{path}[{index}]")
        case _:
            pass
