"""Read PostgreSQL's protocol as it passes, to know the moment a commit is sent."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_WRITES = re.compile(r"\b(insert|update|delete|merge)\b", re.IGNORECASE)
_COMMIT = re.compile(r"\bcommit\b\s*;?\s*\Z", re.IGNORECASE)


class Messages:
    """Cuts one direction of a connection into messages, whatever pieces it comes in.

    The client's first message, its startup, has no type; it is given as ``""``.
    """

    def __init__(self, *, startup: bool) -> None:
        self._startup = startup
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The messages that are complete with this piece: type and content."""
        self._rest += data
        while True:
            head = 0 if self._startup else 1
            if len(self._rest) < head + 4:
                return
            (size,) = struct.unpack_from("!I", self._rest, head)
            if len(self._rest) < head + size:
                return
            kind = self._rest[:head].decode("latin-1")
            content = self._rest[head + 4 : head + size]
            self._rest = self._rest[head + size :]
            self._startup = False
            yield kind, content


class Watch:
    """Follows both directions of one connection; tells when the client has sent a commit.

    That is the statement ``commit``, or the end of a statement that writes while no
    transaction is open: it commits by itself.
    """

    def __init__(self) -> None:
        self._client = Messages(startup=True)
        self._server = Messages(startup=False)
        self._statements: dict[bytes, bytes] = {}  #: prepared ones, by name
        self._pending = False
        self._idle = True
        self._failed = False

    def sent(self, data: bytes) -> bool:
        """Take in what the client sent; whether a commit is complete with it."""
        commits = False
        for kind, content in self._client.feed(data):
            match kind:
                case "Q":
                    commits |= self._commits(content.rstrip(b"\0"))
                case "P":
                    name, _, rest = content.partition(b"\0")
                    self._statements[name] = rest.partition(b"\0")[0]
                case "B":
                    name = content.split(b"\0", 2)[1]
                    self._pending |= self._commits(self._statements.get(name, b""))
                case "S":
                    commits |= self._pending
                    self._pending = False
                case _:
                    pass
        return commits

    def answered(self, data: bytes) -> bool | None:
        """Take in what the server said; whether all went well, once it is ready again."""
        well = None
        for kind, content in self._server.feed(data):
            if kind == "E":
                self._failed = True
            elif kind == "Z":
                self._idle = content == b"I"
                well, self._failed = not self._failed, False
        return well

    def _commits(self, statement: bytes) -> bool:
        text = statement.decode("utf-8", "replace")
        return bool(_COMMIT.search(text) or (self._idle and _WRITES.search(text)))
