"""What SQLite is asked to open, and what is said when it cannot be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rota.core.clock import SystemClock
from rota.errors import (
    InvalidArgument,
    ReadOnlyDatabase,
    SchemaTooNew,
    StorageError,
    StorageUnavailable,
    UnsupportedUrl,
)
from rota.storage.sqlite import SQLiteRepository
from rota.storage.sqlite.location import database_path, file_system, refuse_network
from rota.testing.conformance.setting import a_task

MOUNTS = (
    "/dev/sda1 / ext4 rw 0 0\n"
    "server:/export /home/me/net\\040drive nfs4 rw 0 0\n"
    "//host/share /mnt/share cifs rw 0 0\n"
    "tmpfs /mnt/share/local tmpfs rw 0 0\n"
)


def a_repository(place: str | Path) -> SQLiteRepository:
    return SQLiteRepository(place, clock=SystemClock())


@pytest.mark.parametrize("place", ["sqlite://", "sqlite:///:memory:", ":memory:", ""])
def test_a_database_in_memory_is_refused_with_the_way_to_memory(place: str) -> None:
    with pytest.raises(UnsupportedUrl, match="leave the URL out for memory"):
        a_repository(place)


@pytest.mark.parametrize("url", ["postgresql://host/name", "sqlite:///a.db?mode=ro", "sqlite:x://"])
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedUrl):
        a_repository(url)


def test_urls_and_paths_name_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = tmp_path / "a.db"
    for place in ("sqlite:///a.db", f"sqlite:///{wanted}", "a.db", wanted):
        assert database_path(place) == wanted


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no/where does not exist; create it"):
        a_repository(tmp_path / "no" / "where" / "a.db").open()


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedUrl, match="is a directory"):
        a_repository(tmp_path).open()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, it is a text of some length. " * 100)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not an SQLite database; name another file"):
        a_repository(path).open()
    assert path.read_bytes() == before


def test_a_damaged_database_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    repository = a_repository(path)
    repository.open()
    repository.insert([a_task() for _ in range(200)])
    repository.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StorageError, match="damaged; restore it") as met:
        a_repository(path).open()
    assert not isinstance(met.value, StorageUnavailable)


def test_a_database_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("create table x (id integer)")
    connection.close()
    with path.open("r+b") as file:
        # A write version SQLite does not know makes the file read-only, for root, too.
        file.seek(18)
        file.write(b"\x03")
    with pytest.raises(ReadOnlyDatabase, match="let this user write"):
        a_repository(path).open()


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "a.db")
    repository.open()
    repository.close()
    connection = sqlite3.connect(tmp_path / "a.db")
    with connection:
        connection.execute("insert into rota_schema values (99, 'later', 0, 99)")
    connection.close()
    with pytest.raises(SchemaTooNew):
        repository.open()


def test_tables_that_vanished_are_said_to_be_missing(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "a.db")
    repository.open()
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("drop table rota_task")
    connection.close()
    with pytest.raises(StorageError, match="rota db upgrade"):
        repository.insert([a_task()])
    with pytest.raises(StorageError, match="rota db upgrade"):
        repository.counts()
    repository.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/rota.db", "ext4"),
        ("/home/me/net drive/rota.db", "nfs4"),
        ("/home/me/net drive2/rota.db", "ext4"),
        ("/mnt/share/rota.db", "cifs"),
        ("/mnt/share/local/rota.db", "tmpfs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_network_file_systems_are_refused_and_others_are_not() -> None:
    with pytest.raises(StorageError, match=r"network file system \(nfs4\).*PostgreSQL"):
        refuse_network(Path("/home/me/net drive/rota.db"), MOUNTS)
    refuse_network(Path("/mnt/share/local/rota.db"), MOUNTS)
    refuse_network(Path("/mnt/share/rota.db"), "")
