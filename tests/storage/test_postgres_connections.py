"""Connections break, hang and lack things: what the caller is told, and that it then goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import psycopg
import pytest

from rota.core.clock import SystemClock
from rota.core.ids import new_incarnation
from rota.core.task import Membership, Want
from rota.errors import (
    DataRefused,
    InvalidName,
    ReadOnlyDatabase,
    SchemaTooNew,
    SchemaTooOld,
    StorageUnavailable,
    UnsupportedUrl,
)
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.address import parse_url
from rota.testing.conformance.setting import a_task, some_tasks

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]


@pytest.fixture
def repository(open_postgres: Open) -> PostgresRepository:
    return open_postgres(SystemClock())


def pid_of(repository: PostgresRepository) -> int:
    """The server process of this thread's connection."""
    with repository._connections.session() as session:
        return int(session.rows("select pg_backend_pid()")[0][0])


def terminate(stranger: psycopg.Connection, pid: int) -> None:
    """End that server process, and return when it is gone."""
    row = stranger.execute("select pg_terminate_backend(%s, 10000)", (pid,)).fetchone()
    assert row == (True,)
    stranger.commit()


class TestBroken:
    def test_a_connection_killed_while_idle_is_made_anew_unnoticed(
        self, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        first = pid_of(repository)
        terminate(stranger, first)
        assert repository.insert([a_task()])[0].created
        assert pid_of(repository) != first

    def test_a_connection_killed_within_a_transaction_leaves_nothing(
        self, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        task = a_task()

        def insert_and_be_killed() -> None:
            with repository._connections.transaction() as session:
                repository._inserting.careful(session, [task], repeated=False)
                terminate(stranger, session.raw.info.backend_pid)

        with pytest.raises(StorageUnavailable):
            insert_and_be_killed()
        assert repository.states([task.id]) == {}
        assert repository.insert([task], repeated=True)[0].created

    def test_the_session_lock_is_taken_again_by_the_next_beat(
        self, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        node = new_incarnation()
        repository.join(Membership(node, "n", "h", 1, 30.0))
        terminate(stranger, pid_of(repository))
        with pytest.raises(StorageUnavailable):
            repository.beat(node, 30.0)
        assert repository.beat(node, 30.0)
        row = stranger.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = %s",
            (pid_of(repository),),
        ).fetchone()
        assert row == (1,)

    def test_every_thread_has_its_own_connection_and_dead_threads_keep_none(
        self, repository: PostgresRepository
    ) -> None:
        pids = [pid_of(repository)]
        for _ in range(2):
            thread = threading.Thread(target=lambda: pids.append(pid_of(repository)))
            thread.start()
            thread.join()
        assert len(set(pids)) == 3
        assert len(repository._connections._sessions) == 2

    def test_a_closed_repository_says_so_and_can_be_opened_again(
        self, repository: PostgresRepository
    ) -> None:
        repository.counts()
        repository.close()
        with pytest.raises(StorageUnavailable, match="closed"):
            repository.counts()
        repository.open()
        assert repository.insert([a_task()])[0].created


class TestHanging:
    def test_a_statement_held_up_too_long_is_unavailable(
        self, open_postgres: Open, stranger: psycopg.Connection
    ) -> None:
        repository = open_postgres(SystemClock(), statement_timeout=0.2)
        task = a_task()
        repository.insert([task])
        stranger.execute("select 1 from rota_task for update")
        with pytest.raises(StorageUnavailable, match="timeout"):
            repository.cancel(task.id, "stop")
        stranger.rollback()
        assert repository.cancel(task.id, "stop") is not None

    @pytest.mark.parametrize("how", ["abort_overdue", "close"])
    def test_a_waiting_thread_is_freed_from_another(
        self, open_postgres: Open, stranger: psycopg.Connection, how: str
    ) -> None:
        repository = open_postgres(SystemClock(), statement_timeout=60.0)
        task = a_task()
        repository.insert([task])
        stranger.execute("select 1 from rota_task for update")
        errors: list[Exception] = []

        def cancel() -> None:
            try:
                repository.cancel(task.id, "stop")
            except StorageUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=cancel)
        thread.start()
        blocked = "select count(*) from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
        me = stranger.info.backend_pid
        while stranger.execute(blocked, (me,)).fetchone() == (0,):
            stranger.execute("select pg_stat_clear_snapshot()")
        if how == "close":
            repository.close()
        else:
            assert repository.abort_overdue() == 0
            for session in repository._connections._sessions:
                if session.busy_since is not None:
                    session.busy_since -= 1000
            assert repository.abort_overdue() == 1
        thread.join(20)
        assert len(errors) == 1


class TestRefused:
    def test_an_unreachable_server_is_unavailable_and_no_password_is_shown(self) -> None:
        url = "postgresql://user:secret@127.0.0.1:1/nowhere"
        repository = PostgresRepository(url, clock=SystemClock())
        with pytest.raises(StorageUnavailable) as refused:
            repository.open()
        assert "127.0.0.1" in str(refused.value)
        assert "secret" not in str(refused.value)
        repository.close()

    def test_a_database_without_tables_names_the_command(
        self, postgres_url: str, empty_schema: str
    ) -> None:
        repository = PostgresRepository(postgres_url, clock=SystemClock(), schema=empty_schema)
        with pytest.raises(SchemaTooOld, match="rota db upgrade --url"):
            repository.open()
        with pytest.raises(SchemaTooOld, match="rota db upgrade --url"):
            repository.insert([a_task()])
        assert repository.upgrade() == [1]
        assert repository.upgrade() == []
        repository.open()
        assert repository.insert([a_task()])[0].created
        repository.close()

    def test_a_schema_of_the_future_is_refused(self, postgres_url: str, empty_schema: str) -> None:
        repository = PostgresRepository(postgres_url, clock=SystemClock(), schema=empty_schema)
        repository.upgrade()
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                f'insert into "{empty_schema}".rota_schema values (99, %s, now(), 99)', ("far",)
            )
        with pytest.raises(SchemaTooNew):
            repository.open()
        repository.close()

    def test_a_read_only_server_is_named_as_such(
        self, postgres_url: str, postgres_schema: str
    ) -> None:
        joint = "&" if "?" in postgres_url else "?"
        url = f"{postgres_url}{joint}options=-c%20default_transaction_read_only%3Don"
        repository = PostgresRepository(url, clock=SystemClock(), schema=postgres_schema)
        repository.open()
        with pytest.raises(ReadOnlyDatabase):
            repository.insert([a_task()])
        assert repository.counts()["scheduled"] == 0
        repository.close()

    def test_a_value_the_database_refuses_is_named_and_nothing_of_its_call_is_written(
        self, repository: PostgresRepository
    ) -> None:
        good = some_tasks(3)
        for bad in (a_task(meta="no json"), a_task(params="\x00"), a_task(priority=99_999)):
            with pytest.raises(DataRefused):
                repository.insert([*good, bad])
        assert repository.states([task.id for task in good]) == {}

    @pytest.mark.parametrize("url", ["mysql://h/d", "postgresql+asyncpg://h/d", "no url at all"])
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(UnsupportedUrl):
            PostgresRepository(url, clock=SystemClock())

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_the_usual_schemes_are_all_psycopg(self, scheme: str) -> None:
        assert parse_url(f"{scheme}://u@h:5432/d").drivername == "postgresql+psycopg"

    @pytest.mark.parametrize("schema", ['a"b', "a.b", "", "1a", "a;drop table x"])
    def test_a_schema_that_needs_quoting_is_refused(self, schema: str) -> None:
        with pytest.raises(InvalidName):
            PostgresRepository("postgresql://h/d", clock=SystemClock(), schema=schema)


def test_a_session_that_the_server_ended_is_noticed_without_a_statement(
    postgres_url: str, repository: PostgresRepository
) -> None:
    node = new_incarnation()
    repository.join(Membership(node, "n", "h", 1, 30.0))
    assert not repository.cut_off()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        terminate(admin, pid_of(repository))
    assert repository.cut_off()
    assert repository.cut_off()  # however often it is asked
    assert repository.beat(node, 30.0)
    assert not repository.cut_off()
    with repository._connections.session() as session:
        assert session.advisory == {node}
    assert len(repository._connections._sessions) == 1


def test_the_server_is_shared_by_schemas_that_do_not_see_each_other(
    postgres_url: str, empty_schema: str, repository: PostgresRepository
) -> None:
    other = PostgresRepository(postgres_url, clock=SystemClock(), schema=empty_schema)
    other.upgrade()
    other.open()
    repository.insert([a_task()])
    assert other.agenda(None) == []
    node = new_incarnation()
    other.join(Membership(node, "n", "h", os.getpid(), 30.0))
    assert other.claim(node, 1, [Want("default", 0, 5)], 0.0) == []
    assert repository.nodes() == []
    other.close()
