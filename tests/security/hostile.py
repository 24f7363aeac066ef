"""Strings that break what is not careful."""

from __future__ import annotations

#: A database keeps these exactly; written in escapes, so that editors show what they are.
STORABLE = [
    "'; drop table rota_task; --",
    '" or 1=1 --',
    "%s %(offset)s %% {s} {now} $1 :x ? \\",
    "caf\u00e9",
    "cafe\u0301",
    "\u202e\u05d0\u05d1 abc \u202c",
    "\u2028\u2029\ufeff",
    "\x01\x1b[2J\x7f\t\r\n",
    "\U0001f600\U0010ffff",
    "../../etc/passwd",
    "$(touch /tmp/x) `id` && rm -rf / | cat",
    " ",
]
#: These none can keep.
UNSTORABLE = ["\x00", "a\x00b", "\ud800", "x\udfffy", "\ude00\ud83d"]


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value
