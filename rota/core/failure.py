"""An exception as it is stored: bounded, readable, never unpickled."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

#: A stored traceback keeps its last so many characters, where the cause stands.
TRACEBACK_LIMIT = 8_000
MESSAGE_LIMIT = 2_000


class RaisedElsewhere(Exception):
    """An exception of another process; ``stored`` is what ``to_json`` made of it there."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        super().__init__(stored["message"])
        self.stored = stored


def describe(error: BaseException) -> str:
    """One line: the exception's class and message."""
    if isinstance(error, RaisedElsewhere):
        return str(error)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not lose the failure
        message = "(its message could not be read)"
    name = type(error).__qualname__
    return clean(f"{name}: {message}" if message else name)[:MESSAGE_LIMIT]


def to_json(error: BaseException) -> str:
    """Class, message and traceback as JSON text, each bounded."""
    if isinstance(error, RaisedElsewhere):
        return json.dumps(error.stored)
    try:
        trace = "".join(traceback.format_exception(type(error), error, _from_the_work(error)))
    except Exception:  # noqa: BLE001 - see describe
        trace = ""
    return json.dumps(
        {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "message": describe(error),
            "traceback": clean(trace)[-TRACEBACK_LIMIT:],
        }
    )


def _from_the_work(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not rota's own; all of it if there is none."""
    found = error.__traceback__
    while found is not None and _is_ours(found):
        found = found.tb_next
    return found or error.__traceback__


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith("rota.")


def reason(given: object) -> str:
    """A reason as it is stored, whatever was given as one; empty stays empty."""
    try:
        return clean(str(given or ""))[:MESSAGE_LIMIT]
    except Exception:  # noqa: BLE001 - see describe
        return "(its reason could not be read)"


def noted(error: object) -> str | None:
    """An outcome's ``error`` as JSON text of an object, whatever somebody put there."""
    if error is None:
        return None
    if isinstance(error, BaseException):
        return to_json(error)
    if isinstance(error, str):
        try:
            if isinstance(json.loads(error), dict) and clean(error) == error:
                return error
        except ValueError:
            pass
    return json.dumps({"type": type(error).__qualname__, "message": reason(error)})


def clean(text: str) -> str:
    """Without what a database refuses: NUL and lone surrogates."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()
