"""An exception as it is stored: bounded, readable, never unpickled."""

from __future__ import annotations

import json
import traceback

#: A stored traceback keeps its last so many characters, where the cause stands.
TRACEBACK_LIMIT = 8_000
MESSAGE_LIMIT = 2_000


def describe(error: BaseException) -> str:
    """One line: the exception's class and message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not lose the failure
        message = "(its message could not be read)"
    name = type(error).__qualname__
    return _clean(f"{name}: {message}" if message else name)[:MESSAGE_LIMIT]


def to_json(error: BaseException) -> str:
    """Class, message and traceback as JSON text, each bounded."""
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - see describe
        trace = ""
    return json.dumps(
        {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "message": describe(error),
            "traceback": _clean(trace)[-TRACEBACK_LIMIT:],
        }
    )


def _clean(text: str) -> str:
    """Without what a database refuses: NUL and lone surrogates."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()
