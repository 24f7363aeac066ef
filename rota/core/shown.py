"""A value as a message shows it: bounded, whatever it is."""

from __future__ import annotations

#: Characters of a value that a message shows.
_LONGEST = 120


def shown(value: object) -> str:
    """The value's ``repr``, cut where it gets long; a number Python will not write out is named.

    Source: Python's integer string conversion length limitation, ``sys.set_int_max_str_digits``.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - what is refused may be anything, also its repr
        return f"a value of type {type(value).__name__} that cannot be written out"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
