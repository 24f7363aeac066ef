"""Say in rota's errors what went wrong in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, StatementError

from rota.errors import (
    DataRefused,
    ReadOnlyDatabase,
    RotaError,
    SchemaTooOld,
    StorageError,
    StorageUnavailable,
)

_UNAVAILABLE = {
    "SQLITE_BUSY": "is locked by another program; end its transaction",
    "SQLITE_LOCKED": "is locked by another program; end its transaction",
    "SQLITE_FULL": "has no room left on its disk; free some",
    "SQLITE_IOERR": "cannot be read or written; look at the disk",
    "SQLITE_CANTOPEN": "cannot be opened; check that file and directory exist and may be written",
    "SQLITE_NOMEM": "ran out of memory; free some",
    "SQLITE_INTERRUPT": "was interrupted; try again",
    "SQLITE_PROTOCOL": "is locked by another program; try again",
}
_MISSING = ("no such table: rota_", "no such column: ", " has no column named ")
_BROKEN = {
    "SQLITE_CORRUPT": "is damaged; restore it from a backup, or repair it with sqlite3 .recover",
    "SQLITE_NOTADB": "is not an SQLite database; name another file",
    "SQLITE_FORMAT": "is not an SQLite database; name another file",
}


@contextmanager
def spoken_plainly() -> Iterator[None]:
    """Raise what the driver or SQLAlchemy raises inside as a ``RotaError``."""
    try:
        yield
    except RotaError:
        raise
    except (sqlite3.Error, sqlite3.Warning, StatementError) as error:
        raise translate(error) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise DataRefused(f"SQLite cannot store a value ({error}); correct the task") from error


def translate(error: BaseException) -> StorageError:
    """The rota error for an error of the driver, possibly wrapped by SQLAlchemy."""
    orig = error.orig if isinstance(error, StatementError) and error.orig else error
    name = getattr(orig, "sqlite_errorname", None) or ""
    for code, text in _UNAVAILABLE.items():
        if name.startswith(code):
            return StorageUnavailable(f"the database {text} ({orig})")
    for code, text in _BROKEN.items():
        if name.startswith(code):
            return StorageError(f"the file {text} ({orig})")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return ReadOnlyDatabase(
            f"the database can be read but not written ({orig}); "
            "let this user write the file and its directory"
        )
    if isinstance(orig, (sqlite3.IntegrityError, sqlite3.DataError, UnicodeEncodeError)) or (
        isinstance(orig, OverflowError) or name == "SQLITE_TOOBIG"
    ):
        return DataRefused(f"SQLite refused a row for its data ({orig}); correct the task")
    if any(said in str(orig) for said in _MISSING):
        return SchemaTooOld(
            f"the database lost a table or column of rota's ({orig}); run: rota db upgrade --url …",
            found=0,
            needed=1,
        )
    if isinstance(orig, sqlite3.ProgrammingError) and "closed" in str(orig).lower():
        return StorageUnavailable("the repository is closed; open it again")
    kind = "database" if isinstance(error, (DBAPIError, sqlite3.Error)) else "statement"
    return StorageError(f"the {kind} failed ({orig}); report this with the traceback")
