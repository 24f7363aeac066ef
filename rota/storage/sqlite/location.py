"""Turn a URL or path into a database file that SQLite can share between processes."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rota.errors import InvalidArgument, StorageError, UnsupportedUrl

#: File systems without the locks and shared memory that WAL needs between processes.
_NETWORK = ("nfs", "cifs", "smb", "afs", "ncpfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone")
_MOUNTS = "/proc/mounts"


def database_path(url_or_path: str | os.PathLike[str]) -> Path:
    """The absolute path a URL or path names; ``UnsupportedUrl`` for what is no file."""
    return Path(os.path.abspath(_file(os.fspath(url_or_path))))


def check_place(path: Path) -> None:
    """See that SQLite can share a file there.

    Raises ``UnsupportedUrl`` for a directory, ``InvalidArgument`` if the file's
    directory is missing, ``StorageError`` on a network file system.
    """
    if path.is_dir():
        raise UnsupportedUrl(f"{path} is a directory; name a file in it", field="url")
    if not path.parent.is_dir():
        raise InvalidArgument(
            f"the directory {path.parent} does not exist; create it, "
            "or correct the database's path",
            field="url",
        )
    refuse_network(path)


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Raise ``StorageError`` if the mount table says that the path is on another machine.

    ``mounts`` is text as in ``/proc/mounts``; None reads that file, where there is one.
    """
    kind = file_system(path, _read_mounts() if mounts is None else mounts)
    if kind.startswith(_NETWORK):
        raise StorageError(
            f"{path} is on a network file system ({kind}), where SQLite's locks are not "
            "reliable; use a local disk, or PostgreSQL for several machines"
        )


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system the path is on; empty if the mount table does not tell."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # The later of two mounts on one point is the one that is seen.
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _file(text: str) -> str:
    if "://" not in text:
        if text in {"", ":memory:"}:
            raise _no_file(text or "an empty path")
        return text
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise UnsupportedUrl(
            f"{text!r} is not a database URL; write sqlite:///relative.db or sqlite:////absolute.db",
            field="url",
        ) from error
    if url.drivername not in {"sqlite", "sqlite+pysqlite"} or url.host:
        raise UnsupportedUrl(
            f"{url.render_as_string()} is not a SQLite file; write sqlite:///relative.db or "
            "sqlite:////absolute.db",
            field="url",
        )
    if url.query:
        raise UnsupportedUrl(
            f"{text} has query parameters, which rota does not pass on; remove them", field="url"
        )
    if url.database in {None, "", ":memory:"}:
        raise _no_file(text)
    return str(url.database)


def _no_file(text: str) -> UnsupportedUrl:
    return UnsupportedUrl(
        f"{text} is a database in memory, which nodes cannot share; leave the URL out for memory, "
        "or name a file: sqlite:///rota.db",
        field="url",
    )


def _read_mounts() -> str:
    try:
        return Path(_MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
